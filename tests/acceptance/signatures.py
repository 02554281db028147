#!/usr/bin/env python3
"""Notifications that a Watchpost server has sent, verified by code that is not ours, with its default arguments.

Reads a JSON list from its input, each with a `kind`, `headers`, the `body` in base64 and the `secret` of its channel.
Every one must verify as it is, and must not once anything that is signed was changed. Prints one line per message and
exits 0, or prints what did not hold and exits 1.

    .cache/venv/bin/python tests/acceptance/signatures.py < messages.json
"""

import json

from messages import check_all
from standardwebhooks import Webhook, WebhookVerificationError


def tampered(message):
    """The same message with one thing changed, and what that is."""
    headers, body = message["headers"], message["body"]
    prefix, number = headers["webhook-id"].rsplit("_", 1)
    yield "number", {**headers, "webhook-id": f"{prefix}_{int(number) + 1}"}, body
    yield "id", {**headers, "webhook-id": headers["webhook-id"].replace("_", "_0", 1)}, body
    yield "timestamp", {**headers, "webhook-timestamp": str(int(headers["webhook-timestamp"]) - 1)}, body
    yield "body", headers, body[:-1] + b" }"
    data = json.loads(body)
    if "state" in data["data"]:
        data["data"]["state"] = "other"
        yield "state", headers, json.dumps(data, separators=(",", ":")).encode()


def check(message):
    webhook = Webhook(message["secret"])
    said = webhook.verify(message["body"], message["headers"])
    assert said == json.loads(message["body"]), said
    changes = []
    for change, headers, body in tampered(message):
        try:
            webhook.verify(body, headers)
        except WebhookVerificationError:
            changes.append(change)
        else:
            raise AssertionError(f"a changed {change} verifies")
    return changes


if __name__ == "__main__":
    check_all(check)
