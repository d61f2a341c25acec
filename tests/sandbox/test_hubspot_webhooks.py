"""HubSpot's webhooks: signed over method, address, body and time; several portals in one body."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import pytest

from customhouse_sandbox.hubspot.hooks import ESCAPES, EVENTS
from customhouse_sandbox.outgoing import Outgoing
from customhouse_sandbox.sandbox import Sandbox

URL = "http://127.0.0.1:9/hooks/hubspot"


@pytest.fixture
def sandbox() -> Sandbox:
    sandbox = Sandbox()
    sandbox.open(1)
    return sandbox


def made(sandbox: Sandbox, event: str = "contact.creation", url: str = URL) -> Outgoing:
    assert sandbox.notify("hubspot", "ada", event, url=url) == 1
    return sandbox.outbox.get_nowait()


def verified(sandbox: Sandbox, outgoing: Outgoing, uri: str) -> bool:
    headers = dict(outgoing.headers)
    text = f"POST{uri}".encode() + outgoing.body + headers["X-HubSpot-Request-Timestamp"].encode()
    digest = hmac.new(sandbox.realms["hubspot"].applications["hubspot"].secret.encode(), text, hashlib.sha256).digest()
    return hmac.compare_digest(base64.b64encode(digest).decode(), headers["X-HubSpot-Signature-v3"])


def test_an_event_is_signed_with_the_applications_secret_and_a_time_in_milliseconds(sandbox: Sandbox) -> None:
    outgoing = made(sandbox)
    assert verified(sandbox, outgoing, URL)
    assert not verified(sandbox, outgoing, f"{URL}/")
    stamp = int(dict(outgoing.headers)["X-HubSpot-Request-Timestamp"])
    assert abs(stamp - sandbox.clock.now() * 1000) < 60_000
    said = json.loads(outgoing.body)
    assert (said[0]["portalId"], said[0]["subscriptionType"], said[0]["attemptNumber"]) == (4_800_001, "contact.creation", 0)


def test_the_older_signature_goes_with_it(sandbox: Sandbox) -> None:
    outgoing = made(sandbox)
    secret = sandbox.realms["hubspot"].applications["hubspot"].secret.encode()
    headers = dict(outgoing.headers)
    assert headers["X-HubSpot-Signature-Version"] == "v1"
    assert headers["X-HubSpot-Signature"] == hashlib.sha256(secret + outgoing.body).hexdigest()


@pytest.mark.parametrize(
    ("fact", "signed"),
    [
        ("upper_case", "http://127.0.0.1:9/h?a=:/%20%26%2f%3D%25&b=;"),
        ("any_case", "http://127.0.0.1:9/h?a=:/%20%26/%3D%25&b=;"),
        ("none", "http://127.0.0.1:9/h?a=%3A%2F%20%26%2f%3D%25&b=%3B"),
    ],
)
def test_the_escapes_that_its_fact_says_are_decoded_before_signing(sandbox: Sandbox, fact: str, signed: str) -> None:
    sandbox.set_fact("hubspot", "uri_decoding", fact)
    url = "http://127.0.0.1:9/h?a=%3A%2F%20%26%2f%3D%25&b=%3B"
    outgoing = made(sandbox, url=url)
    assert outgoing.url == url
    assert verified(sandbox, outgoing, signed)


def test_exactly_twelve_escapes_are_decoded() -> None:
    assert "".join(ESCAPES) == "%3A%2F%3F%40%21%24%27%28%29%2A%2C%3B"
    assert "".join(ESCAPES.values()) == ":/?@!$'()*,;"


def test_one_body_can_hold_events_of_several_portals(sandbox: Sandbox) -> None:
    said = json.loads(made(sandbox, "every_portal:contact.propertyChange").body)
    assert [one["portalId"] for one in said] == [4_800_001, 4_800_002]
    assert len({one["eventId"] for one in said}) == 1
    assert len({one["objectId"] for one in said}) == 2


def test_a_retry_says_which_one_it_is_and_is_signed_anew(sandbox: Sandbox) -> None:
    assert sandbox.notify("hubspot", "ada", "contact.deletion", url=URL, times=3) == 3
    attempts = [sandbox.outbox.get_nowait() for _ in range(3)]
    assert [json.loads(one.body)[0]["attemptNumber"] for one in attempts] == [0, 1, 2]
    assert all(verified(sandbox, one, URL) for one in attempts)


@pytest.mark.parametrize("event", EVENTS)
def test_each_event_that_can_be_ordered_names_its_object(sandbox: Sandbox, event: str) -> None:
    said = json.loads(made(sandbox, event).body)[0]
    assert said["objectId"] > 0
    assert ("objectTypeId" in said) is event.startswith("object.")


@pytest.mark.parametrize("event", ["contact.nothing", "app.uninstalled", "some_portals:contact.creation", ""])
def test_an_event_that_there_is_not_is_refused(sandbox: Sandbox, event: str) -> None:
    with pytest.raises(ValueError, match="HubSpot's events here are"):
        sandbox.notify("hubspot", "ada", event, url=URL)
