#!/usr/bin/env python3
"""The unmodified Google client against a Watchpost server.

Opens, notifies and stops channels through google-api-python-client, receives with its own
`notification_from_headers`, and checks that every mistake comes back as its `HttpError` with the reason that
Google documents. Prints one line per check and exits 0, or prints what failed and exits 1.

The server must be allowed to deliver to this machine's loopback (WATCHPOST_EGRESS_ALLOW=127.0.0.0/8).

    .cache/venv/bin/python tests/acceptance/google_client.py --server http://127.0.0.1:PORT \\
        --token JWT --other-token JWT --foreign-token JWT
"""

import argparse
import datetime
import json
import sys
import threading
import traceback
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httplib2
from google.api_core.client_options import ClientOptions
from google.oauth2.credentials import Credentials
from googleapiclient.channel import Channel, new_webhook_channel, notification_from_headers
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError

PATIENCE_SECONDS = 30
EVENTS = "calendar/v3/calendars/primary/events"


class Failed(Exception):
    """A check that did not hold."""


def check(label, holds, detail=""):
    if not holds:
        raise Failed(f"{label}: {detail}" if detail != "" else label)
    print(f"ok    {label}", flush=True)


class Delivered:
    """One request that the receiver accepted, as Google's client read it."""

    def __init__(self, notification, headers, body):
        self.number = notification.message_number
        self.state = notification.state
        self.resource_id = notification.resource_id
        self.uri = notification.resource_uri
        self.headers = headers
        self.body = body

    def __repr__(self):
        return f"#{self.number} {self.state} {self.uri} {self.body!r}"


class Receiver:
    """Takes notifications for the channels it was told of, with the client's own parser."""

    def __init__(self):
        self.changed = threading.Condition()
        self.channels = {}
        self.delivered = {}
        self.refused = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver.take(dict(self.headers.items()), body)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server.server_address[1]}/notifications?from=google"

    def expect(self, channel):
        """Before watch, since the sync message may come before its answer."""
        with self.changed:
            self.channels[channel.id] = channel
            self.delivered[channel.id] = []

    def take(self, headers, body):
        with self.changed:
            try:
                names = {name.lower(): value for name, value in headers.items()}
                channel = self.channels[names["x-goog-channel-id"]]
                notification = notification_from_headers(channel, headers)
                delivered = Delivered(notification, names, body)
                self.delivered[channel.id].append(delivered)
                status = 200
            except Exception as error:
                self.refused.append(f"{error!r} for {headers}")
                status = 500
            self.changed.notify_all()
            return status

    def wait(self, what, condition):
        with self.changed:
            if not self.changed.wait_for(lambda: self.refused or condition(), PATIENCE_SECONDS):
                raise Failed(f"waited {PATIENCE_SECONDS} s for {what}; delivered: {self.delivered}")
            if self.refused:
                raise Failed(f"while waiting for {what}, the client refused: {self.refused}")

    def wait_for(self, channel, number):
        """The notification of this number, once the channel has had it."""
        have = self.delivered[channel.id]
        self.wait(
            f"notification #{number} of {channel.id}",
            lambda: any(delivered.number == number for delivered in have),
        )
        return next(delivered for delivered in have if delivered.number == number)


class Api:
    """The client's services against one server with one token."""

    def __init__(self, server, token):
        self.server = server.rstrip("/")
        self.token = token
        self.calendar = self._build("calendar", "v3", "/calendar/v3/")
        self.drive = self._build("drive", "v3", "/drive/v3/")
        self.directory = self._build("admin", "directory_v1", "/")
        self.reports = self._build("admin", "reports_v1", "/")

    def _build(self, name, version, path):
        return build(
            name,
            version,
            static_discovery=True,
            cache_discovery=False,
            client_options=ClientOptions(api_endpoint=self.server + path),
            credentials=Credentials(token=self.token),
        )

    def post(self, path, body, headers=None):
        """A plain request, for what the client cannot send; its failure is the client's HttpError."""
        uri = self.server + path
        sent = {"content-type": "application/json"}
        if self.token:
            sent["authorization"] = f"Bearer {self.token}"
        sent.update(headers or {})
        response, content = httplib2.Http(timeout=PATIENCE_SECONDS).request(uri, "POST", body, sent)
        if response.status >= 400:
            raise HttpError(response, content, uri=uri)
        return response, content

    def publish(self, **event):
        response, content = self.post("/v1/events", json.dumps(event))
        events = json.loads(content)["events"]
        if response.status != 200 or len(events) != 1:
            raise Failed(f"publish answered {response.status} {content!r}")
        return events[0]


def in_days(days):
    now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    return now + datetime.timedelta(days=days)


def plain_channel(receiver, **changes):
    """A body written by hand, for what `new_webhook_channel` would not write; None leaves a field out."""
    body = {"id": str(uuid.uuid4()), "type": "web_hook", "address": receiver.address}
    body.update(changes)
    return {name: value for name, value in body.items() if value is not None}


def watched(receiver, request, **channel_options):
    """Opens a channel through `request(body)` and returns it, updated, with the answer."""
    channel = new_webhook_channel(receiver.address, **channel_options)
    receiver.expect(channel)
    answer = request(channel.body()).execute()
    channel.update(answer)
    return channel, answer


def kinds_of_channels(api):
    """label, watch, stop, the event to publish, the state it arrives with, whether with a body."""
    calendar, drive = api.calendar, api.drive
    directory, reports = api.directory, api.reports
    exists = {"state": None, "arrives": "exists", "data": None}
    user = {"kind": "admin#directory#user", "id": "1", "primaryEmail": "liz@example.com"}
    activity = {"kind": "admin#reports#activity", "events": [{"name": "CREATE_USER"}]}
    return [
        {
            "label": "calendar events",
            "watch": lambda body: calendar.events().watch(calendarId="primary", body=body),
            "stop": calendar.channels().stop,
            "resource": EVENTS,
            "name": "calendar.event.updated",
            **exists,
        },
        {
            "label": "calendar events of a named calendar",
            "watch": lambda body: calendar.events().watch(
                calendarId="a b@group.calendar.google.com", body=body
            ),
            "stop": calendar.channels().stop,
            "resource": "calendar/v3/calendars/a%20b%40group.calendar.google.com/events",
            "name": "calendar.event.created",
            **exists,
        },
        {
            "label": "calendarList",
            "watch": lambda body: calendar.calendarList().watch(body=body),
            "stop": calendar.channels().stop,
            "resource": "calendar/v3/users/me/calendarList",
            "name": "calendar.list.updated",
            **exists,
        },
        {
            "label": "calendar acl",
            "watch": lambda body: calendar.acl().watch(calendarId="primary", body=body),
            "stop": calendar.channels().stop,
            "resource": "calendar/v3/calendars/primary/acl",
            "name": "calendar.acl.updated",
            **exists,
        },
        {
            "label": "calendar settings",
            "watch": lambda body: calendar.settings().watch(body=body),
            "stop": calendar.channels().stop,
            "resource": "calendar/v3/users/me/settings",
            "name": "calendar.setting.updated",
            **exists,
        },
        {
            "label": "drive changes",
            "watch": lambda body: drive.changes().watch(pageToken="1", body=body),
            "stop": drive.channels().stop,
            "resource": "drive/v3/changes",
            "name": "drive.change.recorded",
            "state": "change",
            "arrives": "change",
            "data": None,
        },
        {
            "label": "drive files",
            "watch": lambda body: drive.files().watch(fileId="F1", supportsAllDrives=True, body=body),
            "stop": drive.channels().stop,
            "resource": "drive/v3/files/F1",
            "name": "drive.file.updated",
            "state": "update",
            "arrives": "update",
            "data": None,
        },
        {
            "label": "directory users",
            "watch": lambda body: directory.users().watch(
                customer="my_customer", event="add", body=body
            ),
            "stop": directory.channels().stop,
            "resource": "admin/directory/v1/users",
            "name": "admin.user.added",
            "state": "add",
            "arrives": "add",
            "data": user,
        },
        {
            "label": "reports activities",
            "watch": lambda body: reports.activities().watch(
                userKey="all", applicationName="admin", body=body
            ),
            "stop": reports.channels().stop,
            "resource": "admin/reports/v1/activity/users/all/applications/admin",
            "name": "admin.activity.recorded",
            "state": "CREATE_USER",
            "arrives": "CREATE_USER",
            "data": activity,
        },
    ]


def check_answer(label, channel, answer, requested_expiration):
    check(f"{label}: the answer is a channel", answer.get("kind") == "api#channel", answer)
    check(f"{label}: the id is the client's own", answer["id"] == channel.id, answer)
    check(
        f"{label}: the expiration is a string of milliseconds",
        isinstance(answer.get("expiration"), str) and answer["expiration"].isdigit(),
        answer,
    )
    if requested_expiration:
        off = abs(int(answer["expiration"]) - requested_expiration)
        check(f"{label}: the expiration is the requested one", off < 1000, (answer, requested_expiration))
    check(f"{label}: the resource id is opaque", len(answer.get("resourceId", "")) == 27, answer)
    check(f"{label}: the resource has a URI", answer.get("resourceUri", "").startswith("http"), answer)
    only = {"kind", "id", "resourceId", "resourceUri", "token", "expiration"}
    check(f"{label}: nothing that Google would not send", set(answer) <= only, answer)


def check_story(api, receiver, kind):
    """watch, sync, change, stop."""
    label = kind["label"]
    token = f"kind={label}"
    channel, answer = watched(receiver, kind["watch"], token=token)
    check_answer(label, channel, answer, None)
    check(f"{label}: the token comes back", answer.get("token") == token, answer)

    sync = receiver.wait_for(channel, 1)
    check(f"{label}: the sync message is number 1", sync.state == "sync", sync)
    check(f"{label}: the sync message is empty", sync.body == b"", sync)
    check(f"{label}: its resource is the watched one", sync.resource_id == channel.resource_id, sync)
    check(f"{label}: its URI is the answer's", sync.uri == channel.resource_uri, sync)
    check(f"{label}: it carries the token", sync.headers.get("x-goog-channel-token") == token, sync.headers)
    expires = datetime.datetime.strptime(
        sync.headers["x-goog-channel-expiration"], "%a, %d %b %Y %H:%M:%S GMT"
    ).replace(tzinfo=datetime.timezone.utc)
    check(
        f"{label}: it carries the expiration as a date",
        int(expires.timestamp()) == int(answer["expiration"]) // 1000,
        sync.headers,
    )

    event = {"resource": kind["resource"], "name": kind["name"]}
    event.update({key: kind[key] for key in ("state", "data") if kind[key] is not None})
    published = api.publish(**event)
    check(f"{label}: the event is of the same resource", published["resourceId"] == channel.resource_id, published)
    change = receiver.wait_for(channel, 2)
    check(f"{label}: the change arrives as {kind['arrives']}", change.state == kind["arrives"], change)
    if kind["data"] is None:
        check(f"{label}: the change has no body", change.body == b"", change)
    else:
        check(f"{label}: the change has its body", json.loads(change.body) == kind["data"], change)

    stopped = kind["stop"](body=channel.body()).execute()
    check(f"{label}: stop answers with nothing", stopped == "", stopped)
    expect_error(f"{label}: stopped is stopped", kind["stop"](body=channel.body()).execute, 404, "notFound")
    return channel


def expect_error(label, call, status, reason):
    try:
        answer = call()
    except HttpError as error:
        details = error.error_details
        found = details[0].get("reason") if isinstance(details, list) and details else details
        check(
            f"{label} -> {status} {reason}",
            error.status_code == status and found == reason,
            f"{error.status_code} {error.content!r}",
        )
        check(f"{label}: the error says why", bool(error.reason), error.content)
        envelope = json.loads(error.content)["error"]
        check(f"{label}: the envelope repeats the status", envelope.get("code") == status, envelope)
        return
    raise Failed(f"{label}: expected {status} {reason}, got {answer!r}")


def check_mistakes(api, receiver):
    def watch(body):
        return api.calendar.events().watch(calendarId="primary", body=body).execute

    taken = plain_channel(receiver)
    holder = Channel(taken["type"], taken["id"], None, taken["address"])
    receiver.expect(holder)
    holder.update(watch(taken)())
    expect_error("a duplicate id", watch(taken), 400, "channelIdNotUnique")
    expect_error(
        "a duplicate id for another resource",
        api.calendar.settings().watch(body=taken).execute,
        400,
        "channelIdNotUnique",
    )
    api.calendar.channels().stop(body=holder.body()).execute()
    expect_error("the id of a stopped channel", watch(taken), 400, "channelIdNotUnique")
    expect_error(
        "an http address",
        watch(plain_channel(receiver, address="http://receiver.example.com/notifications")),
        400,
        "push.webhookUrlNotHttps",
    )
    for field in ("id", "type", "address"):
        expect_error(f"no {field}", watch(plain_channel(receiver, **{field: None})), 400, "required")
    expect_error("an id of 65 characters", watch(plain_channel(receiver, id="i" * 65)), 400, "invalid")
    expect_error("a token of 257 characters", watch(plain_channel(receiver, token="t" * 257)), 400, "invalid")
    for label, body in (("cut off", '{"id": "x", '), ("not JSON at all", "id=x")):
        expect_error(
            f"a body that is {label}", lambda body=body: api.post(f"/{EVENTS}/watch", body), 400, "parseError"
        )

    longest = plain_channel(receiver, id=(uuid.uuid4().hex * 2)[:64], token="t" * 256)
    channel = Channel(longest["type"], longest["id"], longest["token"], longest["address"])
    receiver.expect(channel)
    channel.update(watch(longest)())
    sync = receiver.wait_for(channel, 1)
    check(
        "an id of 64 and a token of 256 characters are fine",
        sync.headers["x-goog-channel-token"] == longest["token"],
        sync.headers,
    )
    api.calendar.channels().stop(body=channel.body()).execute()


def check_stop(api, other, foreign, receiver):
    def stop(who, body):
        return who.calendar.channels().stop(body=body).execute

    unknown = {"id": str(uuid.uuid4()), "resourceId": "A" * 27}
    expect_error("stopping an unknown channel", stop(api, unknown), 404, "notFound")

    channel, _ = watched(
        receiver, lambda body: api.calendar.events().watch(calendarId="primary", body=body)
    )
    receiver.wait_for(channel, 1)
    wrong = {"id": channel.id, "resourceId": "A" * 27}
    expect_error("stopping with another resource's id", stop(api, wrong), 404, "notFound")
    expect_error(
        "stopping another subject's channel", stop(other, channel.body()), 403, "stopChannelCallerNotOwner"
    )
    expect_error("stopping another project's channel", stop(foreign, channel.body()), 404, "notFound")
    return channel


def check_credentials(api, receiver):
    body = json.dumps(plain_channel(receiver))
    path = f"/{EVENTS}/watch"
    anonymous = Api.__new__(Api)
    anonymous.server, anonymous.token = api.server, None
    expect_error("no credentials", lambda: anonymous.post(path, body), 401, "required")
    anonymous.token = "nonsense"
    expect_error("bad credentials", lambda: anonymous.post(path, body), 401, "authError")


def check_expiration(api, receiver):
    def watch(body):
        return api.calendar.events().watch(calendarId="primary", body=body)

    asked = in_days(2)
    asked_ms = int(asked.replace(tzinfo=datetime.timezone.utc).timestamp() * 1000)
    channel, answer = watched(receiver, watch, expiration=asked)
    check_answer("an expiration of the client's float", channel, answer, asked_ms)
    api.calendar.channels().stop(body=channel.body()).execute()

    channel, answer = watched(receiver, watch, params={"ttl": "3600"})
    check_answer("a time to live", channel, answer, None)
    left = int(answer["expiration"]) / 1000 - datetime.datetime.now(datetime.timezone.utc).timestamp()
    check("a time to live of an hour is an hour", 3300 < left <= 3600, left)
    api.calendar.channels().stop(body=channel.body()).execute()


def run(arguments):
    receiver = Receiver()
    api = Api(arguments.server, arguments.token)
    other = Api(arguments.server, arguments.other_token)
    foreign = Api(arguments.server, arguments.foreign_token)

    stopped = [check_story(api, receiver, kind) for kind in kinds_of_channels(api)]
    counts = {channel.id: len(receiver.delivered[channel.id]) for channel in stopped}
    check_expiration(api, receiver)
    check_mistakes(api, receiver)
    check_credentials(api, receiver)
    witness = check_stop(api, other, foreign, receiver)

    # What another project publishes under the same name must not arrive; what we publish must, in order, at
    # the witness alone. The witness is how we know that there was time for it.
    foreign.publish(resource=EVENTS, name="calendar.event.updated", state="not_exists")
    for number in (2, 3, 4):
        api.publish(resource=EVENTS, name="calendar.event.updated")
        receiver.wait_for(witness, number)
    had = receiver.delivered[witness.id]
    check(
        "changes arrive in order, once, and none of another project",
        [(delivered.number, delivered.state) for delivered in had]
        == [(1, "sync"), (2, "exists"), (3, "exists"), (4, "exists")],
        had,
    )
    check(
        "stopped channels stay silent",
        all(len(receiver.delivered[channel]) == count for channel, count in counts.items()),
        receiver.delivered,
    )
    api.calendar.channels().stop(body=witness.body()).execute()
    check("the client accepted every notification", not receiver.refused, receiver.refused)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", required=True, help="http://127.0.0.1:PORT")
    parser.add_argument("--token", required=True, help="scopes `channels events`")
    parser.add_argument("--other-token", required=True, help="another subject of the same project, `channels`")
    parser.add_argument("--foreign-token", required=True, help="another project, `channels events`")
    try:
        run(parser.parse_args())
    except Failed as failed:
        print(f"FAILED  {failed}", flush=True)
        return 1
    except Exception:
        print(f"FAILED  {traceback.format_exc()}", flush=True)
        return 1
    print("all checks passed", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
