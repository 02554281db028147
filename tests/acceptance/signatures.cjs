// Notifications that a Watchpost server has sent, verified by the JavaScript package of Standard Webhooks with its
// default arguments. Reads what `signatures.py` reads, and says what it says.
//
//     node tests/acceptance/signatures.cjs < messages.json
"use strict";

const assert = require("node:assert");
const { readFileSync } = require("node:fs");
const { createRequire } = require("node:module");
const path = require("node:path");

const load = createRequire(path.join(__dirname, "../../.cache/node/package.json"));
const { Webhook, WebhookVerificationError } = load("standardwebhooks");

function tampered({ headers, body }) {
  const id = headers["webhook-id"];
  const timestamp = String(Number(headers["webhook-timestamp"]) - 1);
  const changes = [
    ["number", { ...headers, "webhook-id": id.replace(/\d+$/, (number) => String(Number(number) + 1)) }, body],
    ["id", { ...headers, "webhook-id": id.replace("_", "_0") }, body],
    ["timestamp", { ...headers, "webhook-timestamp": timestamp }, body],
    ["body", headers, body.slice(0, -1) + " }"],
  ];
  const data = JSON.parse(body);
  if ("state" in data.data) {
    data.data.state = "other";
    changes.push(["state", headers, JSON.stringify(data)]);
  }
  return changes;
}

const messages = JSON.parse(readFileSync(0, "utf8"));
assert(messages.length > 0, "there is nothing to verify");
for (const message of messages) {
  message.body = Buffer.from(message.body, "base64").toString("utf8");
  const webhook = new Webhook(message.secret);
  assert.deepStrictEqual(webhook.verify(message.body, message.headers), JSON.parse(message.body));
  const changes = tampered(message);
  for (const [change, headers, body] of changes) {
    assert.throws(() => webhook.verify(body, headers), WebhookVerificationError, `a changed ${change} verifies`);
  }
  console.log(`${message.kind}: verifies, and not with another ${changes.map(([change]) => change).join(", ")}`);
}
console.log("all checks passed");
