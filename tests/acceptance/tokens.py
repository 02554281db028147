#!/usr/bin/env python3
"""Tokens of notifications that a Watchpost server has sent, verified by PyJWT with the keys that the server publishes.

Reads a JSON list from its input, each with a `kind`, `headers`, the `body` in base64, the address of the key set in
`jwks` and, where the channel names one, its `audience`. Every one must verify as it is, and must not once anything that
it says was changed. Prints one line per message and exits 0, or prints what did not hold and exits 1.

    .cache/venv/bin/python tests/acceptance/tokens.py < messages.json
"""

import base64
import hashlib
import json

import jwt
from messages import check_all


class Disbelieved(Exception):
    """The token holds, but is not of this notification."""


def believe(keys, token, headers, body, audience):
    """The claims of a notification's token, once they are those of this notification."""
    key = keys.get_signing_key_from_jwt(token)
    claims = jwt.decode(token, key, algorithms=["EdDSA"], **({"audience": audience} if audience else {}))
    state = headers.get("x-goog-resource-state") or json.loads(body)["data"]["state"]
    shown = {
        "jti": headers["webhook-id"],
        "iat": int(headers["webhook-timestamp"]),
        "number": int(headers["watchpost-message"]),
        "state": state,
        "bodySha256": hashlib.sha256(body).hexdigest(),
        "eventId": headers.get("watchpost-event-id"),
        "notice": headers.get("watchpost-notice"),
    }
    for name, value in shown.items():
        if claims.get(name) != value:
            raise Disbelieved(f"{name}: {claims.get(name)} is not {value}")
    return claims


def with_claim(token, name, value):
    """The token with one claim changed under its old signature."""
    head, claims, signature = token.split(".")
    said = json.loads(base64.urlsafe_b64decode(claims + "=="))
    said[name] = value
    changed = base64.urlsafe_b64encode(json.dumps(said).encode()).rstrip(b"=").decode()
    return ".".join([head, changed, signature])


def tampered(token, headers, body):
    """The same notification with one thing changed, and what that is."""
    yield "id", token, {**headers, "webhook-id": headers["webhook-id"] + "0"}, body
    yield "timestamp", token, {**headers, "webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1)}, body
    yield "number", token, {**headers, "watchpost-message": str(int(headers["watchpost-message"]) + 1)}, body
    yield "body", token, headers, body + b" "
    if "x-goog-resource-state" in headers:
        yield "state", token, {**headers, "x-goog-resource-state": "other"}, body
    yield "claim", with_claim(token, "number", 99), {**headers, "watchpost-message": "99"}, body


def check(message):
    keys = jwt.PyJWKClient(message["jwks"])
    headers, body, audience = message["headers"], message["body"], message.get("audience")
    token = headers["authorization"].removeprefix("Bearer ") if audience else headers["watchpost-token"]
    claims = believe(keys, token, headers, body, audience)
    assert claims["channel"] == message["channel"], claims
    if audience:
        try:
            believe(keys, token, headers, body, "https://somebody.else.example")
        except jwt.InvalidAudienceError:
            pass
        else:
            raise AssertionError("a token for somebody else verifies")
    changes = []
    for change, token, headers, body in tampered(token, headers, body):
        try:
            believe(keys, token, headers, body, audience)
        except (Disbelieved, jwt.InvalidSignatureError):
            changes.append(change)
        else:
            raise AssertionError(f"a changed {change} is believed")
    return changes


if __name__ == "__main__":
    check_all(check)
