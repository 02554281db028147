"""What has been sent, read from this process's input and checked one message after the other."""

import base64
import json
import sys


def check_all(check):
    """Prints for each message what `check` has changed in it without being believed; raises where it was."""
    messages = json.load(sys.stdin)
    for message in messages:
        message["body"] = base64.b64decode(message["body"])
        print(f"{message['kind']}: verifies, and not with another {', '.join(check(message))}")
    assert messages, "there is nothing to verify"
    print("all checks passed")
