"""Webhooks that the providers send: signatures, validation, deauthorization, channels, Pub/Sub."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from customhouse_sandbox.google.hooks import PUSH
from customhouse_sandbox.outgoing import Outgoing, send
from customhouse_sandbox.zoom.hooks import DEAUTHORIZED, EVENTS, VALIDATION
from tests.receivers import Answer, Received, Recorder, recorder, status
from tests.sandboxes import Peer

pytestmark = pytest.mark.anyio


@pytest.fixture
async def listener() -> AsyncIterator[Recorder]:
    async with recorder() as listener:
        yield listener


def digest(peer: Peer, text: bytes) -> str:
    return hmac.new(peer.application.webhook_secret.encode(), text, hashlib.sha256).hexdigest()


def genuine(peer: Peer, got: Received) -> bool:
    timestamp = got.headers["x-zm-request-timestamp"]
    return got.headers["x-zm-signature"] == f"v0={digest(peer, f'v0:{timestamp}:'.encode() + got.body)}"


@pytest.mark.parametrize("event", sorted(set(EVENTS) - {VALIDATION}))
async def test_every_zoom_event_is_signed_over_its_raw_body_and_names_the_account(zoom: Peer, listener: Recorder, event: str) -> None:
    assert zoom.sandbox.notify("zoom", "ada", event, url=listener.url("/zoom?x=1")) == 1
    (got,) = await listener.wait_for(1)
    said = json.loads(got.body)
    assert genuine(zoom, got)
    assert (got.path, said["event"]) == ("/zoom?x=1", event)
    assert said["payload"]["account_id"] == zoom.realm.people["ada"].organisation
    (delivery,) = await zoom.sandbox.delivered(1)
    assert (delivery.status, delivery.accepted) == (204, True)


@pytest.mark.parametrize(("fact", "digits"), [("seconds", 10), ("milliseconds", 13)])
async def test_the_timestamp_has_the_unit_that_its_fact_says(zoom: Peer, listener: Recorder, fact: str, digits: int) -> None:
    zoom.sandbox.set_fact("zoom", "timestamp_unit", fact)
    zoom.sandbox.notify("zoom", "ada", "meeting.ended", url=listener.url())
    (got,) = await listener.wait_for(1)
    assert len(got.headers["x-zm-request-timestamp"]) == digits
    assert genuine(zoom, got)


async def test_a_finished_recording_comes_with_a_token_for_its_files(zoom: Peer, listener: Recorder) -> None:
    zoom.sandbox.notify("zoom", "ada", "recording.completed", url=listener.url())
    (got,) = await listener.wait_for(1)
    said = json.loads(got.body)
    for file in said["payload"]["object"]["recording_files"]:
        assert (await zoom.get(file["download_url"], said["download_token"])).status_code == 302


async def test_a_repeated_webhook_has_the_same_bytes(zoom: Peer, listener: Recorder) -> None:
    assert zoom.sandbox.notify("zoom", "ada", "meeting.ended", url=listener.url(), times=3) == 3
    got = await listener.wait_for(3)
    assert len({(one.body, one.headers["x-zm-signature"]) for one in got}) == 1


@pytest.mark.parametrize(("fact", "signed"), [("yes", True), ("no", False)])
async def test_an_endpoint_is_validated_by_the_secret_that_it_shares(zoom: Peer, listener: Recorder, fact: str, signed: bool) -> None:
    zoom.sandbox.set_fact("zoom", "url_validation_signed", fact)

    def prove(got: Received) -> bytes:
        plain = json.loads(got.body)["payload"]["plainToken"]
        return status(200, body=json.dumps({"plainToken": plain, "encryptedToken": digest(zoom, plain.encode())}).encode())

    answers: tuple[Answer, ...] = (prove, status(200, body=b"{}"), status(200, body=b"nonsense"), status(500))
    for count, answer in enumerate(answers, 1):
        listener.answer = answer
        zoom.sandbox.notify("zoom", "ada", VALIDATION, url=listener.url())
        await zoom.sandbox.delivered(count)
    assert [delivery.accepted for delivery in zoom.sandbox.deliveries] == [True, False, False, False]
    assert ("x-zm-signature" in listener.received[0].headers) is signed


async def test_a_person_who_removes_the_application_is_told_to_it_once(zoom: Peer, listener: Recorder) -> None:
    zoom.realm.change("zoom", webhook_url=listener.url())
    await zoom.connect()
    assert zoom.sandbox.withdraw("zoom", "ada") == 1
    (got,) = await listener.wait_for(1)
    assert genuine(zoom, got)
    said = json.loads(got.body)
    ada = zoom.realm.people["ada"]
    assert said["event"] == DEAUTHORIZED
    assert {"account_id": ada.organisation, "user_id": ada.id, "client_id": zoom.application.id}.items() <= said["payload"].items()
    assert zoom.sandbox.withdraw("zoom", "ada") == 0
    await zoom.sandbox.delivered(1)
    assert zoom.sandbox.outbox.empty()


async def test_an_application_in_development_is_told_nothing(zoom: Peer, listener: Recorder) -> None:
    zoom.realm.change("zoom", webhook_url=listener.url(), testing=True)
    await zoom.connect()
    assert zoom.sandbox.withdraw("zoom", "ada") == 1
    assert zoom.sandbox.notify("zoom", "ada", DEAUTHORIZED) == 0


async def test_nobody_at_the_other_end_is_a_delivery_that_failed(zoom: Peer, listener: Recorder) -> None:
    listener.answer = b""
    zoom.sandbox.notify("zoom", "ada", "meeting.ended", url="http://127.0.0.1:1/")
    listener.answer = b"not http at all\r\n\r\n"
    zoom.sandbox.notify("zoom", "ada", "meeting.ended", url=listener.url())
    deliveries = await zoom.sandbox.delivered(2)
    assert [(delivery.status, delivery.accepted) for delivery in deliveries] == [(0, False), (0, False)]


async def test_an_answer_that_does_not_come_is_waited_for_as_long_as_the_webhook_says(listener: Recorder) -> None:
    never = asyncio.Event()

    async def silent(_got: Received) -> bytes:
        await never.wait()
        return status(204)

    listener.answer = silent
    assert await send(Outgoing("zoom", "meeting.ended", listener.url(), (), b"", seconds=0.2)) == (0, b"", "")
    never.set()


@pytest.mark.parametrize(
    "url", ["", "https://127.0.0.1:1/", "http://example.com:80/", "http://127.0.0.1/", "http://a@127.0.0.1:1/", "http://127.0.0.1:x/"]
)
async def test_nothing_is_sent_away_from_this_machine(zoom: Peer, gmail: Peer, url: str) -> None:
    with pytest.raises(ValueError, match=r"127\.0\.0\.1"):
        zoom.sandbox.notify("zoom", "ada", "meeting.ended", url=url)
    with pytest.raises(ValueError, match=r"127\.0\.0\.1"):
        gmail.sandbox.notify("gmail", "ada", PUSH, url=url)


async def test_what_does_not_exist_is_not_sent(zoom: Peer, gmail: Peer, listener: Recorder) -> None:
    for application, person, event in (("zoom", "ada", "moon.rise"), ("zoom", "nobody", "meeting.ended"), ("gmail", "ada", "moon")):
        with pytest.raises(ValueError, match=r"."):
            zoom.sandbox.notify(application, person, event, url=listener.url())
    with pytest.raises(ValueError, match="times"):
        zoom.sandbox.notify("zoom", "ada", "meeting.ended", url=listener.url(), times=0)


async def test_a_webhook_is_ordered_and_looked_at_over_http(zoom: Peer, listener: Recorder) -> None:
    url = f"{zoom.sandbox.base}/_sandbox/webhooks"
    order = {"application": "zoom", "person": "ada", "event": "meeting.ended", "url": listener.url()}
    assert (await zoom.browser.post(url, json=order)).json() == {"sending": 1}
    await zoom.sandbox.delivered(1)
    assert [row["accepted"] for row in (await zoom.browser.get(url)).json()["data"]] == [True]
    for wrong in ({"times": "x"}, {"url": 1}, {"url": "https://example.com/"}):
        assert (await zoom.browser.post(url, json=order | wrong)).status_code == 400


WATCH = "/calendar/v3/calendars/primary/events/watch"


def wish(listener: Recorder, **changes: object) -> dict[str, object]:
    return {"id": "channel-1", "type": "web_hook", "address": listener.url("/calendar"), "token": "a-secret-of-ours", **changes}


async def test_a_channel_says_sync_at_once_and_then_counts_upwards(calendar: Peer, listener: Recorder) -> None:
    access = (await calendar.connect())["access_token"]
    made = (await calendar.call("POST", WATCH, access, wish(listener))).json()
    calendar.sandbox.notify("google-calendar", "ada", "exists", times=1)
    calendar.sandbox.notify("google-calendar", "ada", "exists", times=1)
    got = await listener.wait_for(3)
    assert [one.headers["x-goog-resource-state"] for one in got] == ["sync", "exists", "exists"]
    numbers = [int(one.headers["x-goog-message-number"]) for one in got]
    assert numbers[0] == 1
    assert numbers == sorted(set(numbers))
    assert {one.headers["x-goog-channel-token"] for one in got} == {"a-secret-of-ours"}
    assert {(one.headers["x-goog-channel-id"], one.headers["x-goog-resource-id"]) for one in got} == {("channel-1", made["resourceId"])}
    assert {one.body for one in got} == {b""}


async def test_a_change_is_told_to_the_channels_of_that_person_only(calendar: Peer, listener: Recorder) -> None:
    ada, grace = [(await calendar.connect(login))["access_token"] for login in ("ada", "grace")]
    await calendar.call("POST", WATCH, ada, wish(listener))
    await calendar.call("POST", WATCH, grace, wish(listener, id="channel-2"))
    event = {"summary": "New", "start": {"date": "2030-01-01"}, "end": {"date": "2030-01-02"}}
    assert (await calendar.call("POST", WATCH.removesuffix("/watch"), grace, event)).status_code == 200
    got = await listener.wait_for(3)
    assert [(one.headers["x-goog-channel-id"], one.headers["x-goog-resource-state"]) for one in got][2] == ("channel-2", "exists")


async def test_a_stopped_channel_is_silent(calendar: Peer, listener: Recorder) -> None:
    access = (await calendar.connect())["access_token"]
    made = (await calendar.call("POST", WATCH, access, wish(listener))).json()
    stop = "/calendar/v3/channels/stop"
    assert (await calendar.call("POST", stop, access, {"id": "channel-1", "resourceId": "other"})).status_code == 404
    stranger = (await calendar.connect("grace"))["access_token"]
    assert (await calendar.call("POST", stop, stranger, {"id": "channel-1", "resourceId": made["resourceId"]})).status_code == 404
    assert (await calendar.call("POST", stop, access, {"id": "channel-1", "resourceId": made["resourceId"]})).status_code == 204
    assert calendar.sandbox.notify("google-calendar", "ada", "exists") == 0


@pytest.mark.parametrize("fact", ["yes", "no"])
async def test_a_channel_ends_with_its_grant_where_the_fact_says_so(calendar: Peer, listener: Recorder, fact: str) -> None:
    calendar.sandbox.set_fact("google", "channels_end_with_grant", fact)
    reply = await calendar.connect()
    await calendar.call("POST", WATCH, reply["access_token"], wish(listener))
    await calendar.revoke(reply["access_token"])
    assert calendar.sandbox.notify("google-calendar", "ada", "exists") == (0 if fact == "yes" else 1)


@pytest.mark.parametrize("fact", ["yes", "no"])
async def test_an_owned_scope_stops_a_channel_where_the_fact_says_so(calendar: Peer, listener: Recorder, fact: str) -> None:
    calendar.sandbox.set_fact("google", "owned_scope_stops_channels", fact)
    access = (await calendar.connect(scope="https://www.googleapis.com/auth/calendar.events.owned"))["access_token"]
    made = (await calendar.call("POST", WATCH, access, wish(listener))).json()
    answer = await calendar.call("POST", "/calendar/v3/channels/stop", access, {"id": "channel-1", "resourceId": made["resourceId"]})
    assert answer.status_code == (204 if fact == "yes" else 403)


async def test_a_channel_ends_in_time(calendar: Peer, listener: Recorder) -> None:
    access = (await calendar.connect())["access_token"]
    soon = str(int((calendar.sandbox.clock.now() + 60) * 1000))
    assert (await calendar.call("POST", WATCH, access, wish(listener, expiration=soon))).status_code == 200
    assert calendar.sandbox.notify("google-calendar", "ada", "exists") == 1
    calendar.sandbox.clock.advance(61)
    assert calendar.sandbox.notify("google-calendar", "ada", "exists") == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": ""},
        {"id": "x" * 65},
        {"type": "mail"},
        {"address": "https://example.com/"},
        {"address": 1},
        {"token": "x" * 257},
        {"expiration": "1"},
    ],
)
async def test_a_channel_that_cannot_be_is_refused(calendar: Peer, listener: Recorder, wrong: dict[str, object]) -> None:
    access = (await calendar.connect())["access_token"]
    assert (await calendar.call("POST", WATCH, access, wish(listener, **wrong))).status_code in {400, 401}
    assert calendar.sandbox.notify("google-calendar", "ada", "exists") == 0


async def test_a_channels_id_is_taken_once(calendar: Peer, listener: Recorder) -> None:
    access = (await calendar.connect())["access_token"]
    assert (await calendar.call("POST", WATCH, access, wish(listener))).status_code == 200
    again = await calendar.call("POST", WATCH, access, wish(listener))
    assert again.json()["error"]["errors"][0]["reason"] == "channelIdNotUnique"


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


async def test_gmails_push_carries_a_token_of_googles_for_our_address(gmail: Peer, listener: Recorder) -> None:
    gmail.sandbox.notify("gmail", "ada", PUSH, url=listener.url("/gmail"))
    (got,) = await listener.wait_for(1)
    key = (await gmail.browser.get(f"{gmail.realm.base}/oauth2/v3/certs")).json()["keys"][0]
    public = rsa.RSAPublicNumbers(int.from_bytes(decoded(key["e"])), int.from_bytes(decoded(key["n"]))).public_key()
    head, claims, signature = got.headers["authorization"].removeprefix("Bearer ").split(".")
    public.verify(decoded(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256())
    said = json.loads(decoded(claims))
    assert (said["aud"], said["iss"], said["email_verified"]) == (listener.url("/gmail"), "https://accounts.google.com", True)
    message = json.loads(got.body)["message"]
    assert json.loads(base64.b64decode(message["data"]))["emailAddress"] == "ada@example.com"
    assert message["messageId"]
