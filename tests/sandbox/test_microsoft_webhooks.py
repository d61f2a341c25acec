"""Graph's change notifications: addresses that prove themselves, thin and encrypted content, the lifecycle of a subscription."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from customhouse_sandbox import End
from customhouse_sandbox.clock import rfc3339
from customhouse_sandbox.microsoft.chats import chats
from customhouse_sandbox.microsoft.directory import WORKS
from customhouse_sandbox.microsoft.hooks import LIFECYCLE, PUBLISHER
from customhouse_sandbox.microsoft.meetings import meetings
from tests.receivers import Received, Recorder, recorder, status
from tests.sandbox.test_microsoft_oauth import verified
from tests.sandboxes import Peer

pytestmark = pytest.mark.anyio
PATH = "/v1.0/subscriptions"
KEY = rsa.generate_private_key(65537, 2048)


def proving(got: Received) -> bytes:
    """Answer a validation as Graph wants it, and everything else with 202."""
    token = parse_qs(urlsplit(got.path).query).get("validationToken", [""])[0]
    return status(200, "content-type: text/plain; charset=utf-8", body=token.encode()) if token else status(202)


@pytest.fixture
async def listener() -> AsyncIterator[Recorder]:
    async with recorder() as listener:
        listener.answer = proving
        yield listener


@pytest.fixture
async def access(teams: Peer) -> str:
    return (await teams.connect())["access_token"]


def certificate(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey = KEY) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "notifications")])
    begin = datetime(2020, 1, 1, tzinfo=UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    signed = made.not_valid_before(begin).not_valid_after(begin + timedelta(days=36_500)).sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.DER)


def wish(teams: Peer, listener: Recorder, **changes: Any) -> dict[str, Any]:
    said = {
        "changeType": "created",
        "notificationUrl": listener.url("/graph"),
        "lifecycleNotificationUrl": listener.url("/lifecycle"),
        "resource": f"users/{teams.realm.people['ada'].id}/onlineMeetings/getAllRecordings",
        "expirationDateTime": rfc3339(teams.sandbox.clock.now() + 3000),
        "clientState": "a-secret-of-ours",
        **changes,
    }
    return {name: value for name, value in said.items() if value is not None}


async def subscribe(teams: Peer, access: str, said: dict[str, Any]) -> dict[str, Any]:
    answer = await teams.call("POST", PATH, access, said)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_both_addresses_prove_themselves_before_there_is_a_subscription(teams: Peer, listener: Recorder, access: str) -> None:
    made = await subscribe(teams, access, wish(teams, listener, notificationUrl=listener.url("/graph?x=1")))
    asked = listener.received
    assert [urlsplit(one.path).path for one in asked] == ["/graph", "/lifecycle"]
    assert parse_qs(urlsplit(asked[0].path).query)["x"] == ["1"]
    assert {(one.body, one.headers["content-type"]) for one in asked} == {(b"", "text/plain; charset=utf-8")}
    assert (made["resource"], made["applicationId"], made["clientState"]) == (wish(teams, listener)["resource"], teams.application.id, None)
    assert [row["id"] for row in (await teams.get(PATH, access)).json()["value"]] == [made["id"]]
    assert (await teams.get(f"{PATH}/{made['id']}", access)).json()["id"] == made["id"]


WRONG: dict[str, Callable[[bytes], bytes]] = {
    "another status": lambda token: status(202, "content-type: text/plain", body=token),
    "another token": lambda token: status(200, "content-type: text/plain", body=token + b" "),
    "still escaped": lambda token: status(200, "content-type: text/plain", body=token.replace(b" ", b"%20")),
    "another type": lambda token: status(200, "content-type: application/json", body=token),
    "no type": lambda token: status(200, body=token),
}


@pytest.mark.parametrize("answer", WRONG.values(), ids=WRONG.keys())
@pytest.mark.parametrize("place", ["/graph", "/lifecycle"])
async def test_an_address_that_does_not_prove_itself_makes_no_subscription(
    teams: Peer, listener: Recorder, access: str, answer: Callable[[bytes], bytes], place: str
) -> None:
    def answering(got: Received) -> bytes:
        parts = urlsplit(got.path)
        return answer(parse_qs(parts.query)["validationToken"][0].encode()) if parts.path == place else proving(got)

    listener.answer = answering
    refused = await teams.call("POST", PATH, access, wish(teams, listener))
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "ValidationError")
    assert (await teams.get(PATH, access)).json()["value"] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"changeType": None},
        {"changeType": "updated"},
        {"changeType": 1},
        {"resource": None},
        {"resource": "users/x/messages"},
        {"notificationUrl": None},
        {"notificationUrl": "https://example.com/"},
        {"lifecycleNotificationUrl": "https://example.com/"},
        {"lifecycleNotificationUrl": 1},
        {"clientState": "x" * 129},
        {"clientState": 1},
        {"expirationDateTime": None},
        {"expirationDateTime": "soon"},
        {"expirationDateTime": "2030-01-01T00:00:00"},
        {"expirationDateTime": "2020-01-01T00:00:00Z"},
        {"expirationDateTime": "2090-01-01T00:00:00Z"},
        {"includeResourceData": True},
        {"includeResourceData": True, "encryptionCertificateId": "one", "encryptionCertificate": "x"},
        {"includeResourceData": True, "encryptionCertificateId": "one", "encryptionCertificate": base64.b64encode(b"x").decode()},
        {"includeResourceData": True, "encryptionCertificateId": "", "encryptionCertificate": base64.b64encode(certificate()).decode()},
        {"includeResourceData": "yes", "encryptionCertificateId": "a", "encryptionCertificate": base64.b64encode(certificate()).decode()},
    ],
)
async def test_a_subscription_out_of_order_is_refused_and_nobody_is_asked(
    teams: Peer, listener: Recorder, access: str, wrong: dict[str, Any]
) -> None:
    answer = await teams.call("POST", PATH, access, wish(teams, listener, **wrong))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "ValidationError")
    assert listener.received == []


@pytest.mark.parametrize("key", [rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP256R1())], ids=["short", "curve"])
async def test_a_certificate_with_an_unfit_key_is_refused(
    teams: Peer, listener: Recorder, access: str, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
) -> None:
    shown = base64.b64encode(certificate(key)).decode()
    said = wish(teams, listener, includeResourceData=True, encryptionCertificateId="one", encryptionCertificate=shown)
    assert (await teams.call("POST", PATH, access, said)).status_code == 400


@pytest.mark.parametrize("minutes", ["4320", "60"])
async def test_a_subscription_lives_as_long_as_its_fact_says(teams: Peer, listener: Recorder, access: str, minutes: str) -> None:
    teams.sandbox.set_fact("microsoft", "subscription_minutes", minutes)
    now = teams.sandbox.clock.now()
    longer = wish(teams, listener, expirationDateTime=rfc3339(now + int(minutes) * 60 + 60))
    assert (await teams.call("POST", PATH, access, longer)).status_code == 400
    made = await subscribe(teams, access, wish(teams, listener, expirationDateTime=rfc3339(now + int(minutes) * 60 - 60)))
    teams.sandbox.clock.advance(int(minutes) * 60)
    again = (await teams.connect())["access_token"]
    assert (await teams.get(f"{PATH}/{made['id']}", again)).status_code == 404
    assert teams.sandbox.notify("microsoft-teams", "ada", "callRecording.created") == 0


async def test_more_than_an_hour_needs_an_address_for_the_lifecycle(teams: Peer, listener: Recorder, access: str) -> None:
    now = teams.sandbox.clock.now()
    alone = wish(teams, listener, lifecycleNotificationUrl=None, expirationDateTime=rfc3339(now + 3700))
    answer = await teams.call("POST", PATH, access, alone)
    assert (answer.status_code, "lifecycleNotificationUrl" in answer.json()["error"]["message"]) == (400, True)
    made = await subscribe(teams, access, wish(teams, listener, lifecycleNotificationUrl=None))
    change = {"lifecycleNotificationUrl": listener.url("/lifecycle")}
    assert (await teams.call("PATCH", f"{PATH}/{made['id']}", access, change)).status_code == 400, "it cannot be added later"
    longer = {"expirationDateTime": rfc3339(now + 7200)}
    assert (await teams.call("PATCH", f"{PATH}/{made['id']}", access, longer)).status_code == 400
    assert teams.sandbox.notify("microsoft-teams", "ada", "reauthorizationRequired") == 0, "there is nowhere to tell it"


@pytest.mark.parametrize(
    ("resource", "status_"),
    [
        ("communications/onlineMeetings/getAllRecordings", 403),
        ("users/somebody/onlineMeetings/getAllRecordings", 403),
        ("chats/19:nothing@thread.v2/messages", 403),
        ("communications/onlineMeetings/nothing/recordings", 404),
    ],
)
async def test_what_may_not_be_watched(teams: Peer, listener: Recorder, access: str, resource: str, status_: int) -> None:
    assert (await teams.call("POST", PATH, access, wish(teams, listener, resource=resource))).status_code == status_
    assert listener.received == []


async def test_a_thin_notification_has_the_secret_and_no_content(teams: Peer, listener: Recorder, access: str) -> None:
    ada = teams.realm.people["ada"]
    named = await subscribe(teams, access, wish(teams, listener, resource=f"/users('{ada.id}')/onlineMeetings/getAllTranscripts"))
    made = await subscribe(teams, access, wish(teams, listener))
    assert teams.sandbox.notify("microsoft-teams", "ada", "callRecording.created") == 1
    (got,) = [one for one in await listener.wait_for(5) if one.body]
    said = json.loads(got.body)
    assert set(said) == {"value"}
    (item,) = said["value"]
    meeting = next(one for one in reversed(meetings(teams.realm, ada)) if one.recordings)
    assert (item["subscriptionId"], item["tenantId"], item["clientState"]) == (made["id"], WORKS.id, "a-secret-of-ours")
    assert (item["changeType"], item["resourceData"]["id"]) == ("created", meeting.recordings[-1].id)
    assert item["resource"] == f"users('{ada.id}')/onlineMeetings('{meeting.id}')/recordings('{meeting.recordings[-1].id}')"
    assert not {"encryptedContent", "id"} & set(item)
    assert named["id"] != made["id"]
    assert (await teams.sandbox.delivered(5))[-1].accepted


async def test_subscriptions_to_one_address_come_in_one_request(teams: Peer, listener: Recorder, access: str) -> None:
    meeting = next(one for one in reversed(meetings(teams.realm, teams.realm.people["ada"])) if one.recordings)
    for resource in (None, "me/onlineMeetings/getAllRecordings", f"communications/onlineMeetings/{meeting.id}/recordings"):
        await subscribe(teams, access, wish(teams, listener, **({"resource": resource} if resource else {})))
    await subscribe(teams, access, wish(teams, listener, notificationUrl=listener.url("/other")))
    assert teams.sandbox.notify("microsoft-teams", "ada", "callRecording.created") == 2
    got = [one for one in await listener.wait_for(10) if one.body]
    assert {one.path: len(json.loads(one.body)["value"]) for one in got} == {"/graph": 3, "/other": 1}


@pytest.mark.parametrize("ids", ["absent", "present"])
async def test_each_change_has_an_id_where_the_fact_says_so(teams: Peer, listener: Recorder, access: str, ids: str) -> None:
    teams.sandbox.set_fact("microsoft", "item_ids", ids)
    await subscribe(teams, access, wish(teams, listener))
    teams.sandbox.notify("microsoft-teams", "ada", "callRecording.created", times=2)
    first, second = [one.body for one in (await listener.wait_for(4))[2:]]
    assert first == second, "a retry is the same one"
    assert ("id" in json.loads(first)["value"][0]) is (ids == "present")


def opened(content: dict[str, str]) -> dict[str, Any]:
    """Open encrypted content in the documented order: the key, then the signature, and only then the text."""
    key = KEY.decrypt(base64.b64decode(content["dataKey"]), padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None))
    data = base64.b64decode(content["data"])
    assert base64.b64decode(content["dataSignature"]) == hmac.new(key, data, hashlib.sha256).digest()
    cipher = Cipher(algorithms.AES(key), modes.CBC(key[:16])).decryptor()
    padded = cipher.update(data) + cipher.finalize()
    unpadder = PKCS7(128).unpadder()
    said: dict[str, Any] = json.loads(unpadder.update(padded) + unpadder.finalize())
    return said


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_encrypted_content_opens_with_the_certificates_key_and_comes_with_a_token_that_verifies(
    teams: Peer, listener: Recorder, access: str, version: str
) -> None:
    teams.sandbox.set_fact("microsoft", "validation_tokens", version)
    der = certificate()
    shown = {"includeResourceData": True, "encryptionCertificateId": "one", "encryptionCertificate": base64.b64encode(der).decode()}
    made = await subscribe(teams, access, wish(teams, listener, **shown))
    assert (made["includeResourceData"], made["encryptionCertificateId"]) == (True, "one")
    teams.sandbox.notify("microsoft-teams", "ada", "callRecording.created")
    said = json.loads((await listener.wait_for(3))[2].body)
    content = said["value"][0]["encryptedContent"]
    assert content["encryptionCertificateId"] == "one"
    assert content["encryptionCertificateThumbprint"] == hashlib.sha1(der).hexdigest().upper()
    assert opened(content)["id"] == said["value"][0]["resourceData"]["id"]
    (token,) = said["validationTokens"]
    if version == "v1":
        claims = await verified(teams, token, "/common/.well-known/openid-configuration")
        assert (claims["appid"], claims["iss"]) == (PUBLISHER, f"https://sts.windows.net/{WORKS.id}/")
    else:
        claims = await verified(teams, token, "/common/v2.0/.well-known/openid-configuration")
        assert (claims["azp"], claims["iss"]) == (PUBLISHER, f"https://login.microsoftonline.com/{WORKS.id}/v2.0")
    assert (claims["aud"], claims["tid"]) == (teams.application.id, WORKS.id)
    assert claims["exp"] > teams.sandbox.clock.now()


async def test_a_message_is_told_to_whoever_may_read_the_chat(teams: Peer, listener: Recorder) -> None:
    access = (await teams.connect(scope="User.Read Chat.Read ChatMessage.Send"))["access_token"]
    chat = chats(teams.realm, teams.realm.people["ada"])[0].id
    await subscribe(teams, access, wish(teams, listener, resource=f"/chats/{chat}/messages", changeType="created,updated"))
    assert teams.sandbox.notify("microsoft-teams", "ada", "chatMessage.created") == 0, "there is none"
    sent = (await teams.call("POST", f"/v1.0/chats/{chat}/messages", access, {"body": {"content": "Hello"}})).json()
    assert teams.sandbox.notify("microsoft-teams", "ada", "chatMessage.created") == 1
    (item,) = json.loads((await listener.wait_for(3))[2].body)["value"]
    assert (item["resourceData"]["id"], item["resource"]) == (sent["id"], f"chats('{chat}')/messages('{sent['id']}')")


async def test_a_subscription_is_renewed_moved_and_deleted_by_whoever_made_it(teams: Peer, listener: Recorder, access: str) -> None:
    made = await subscribe(teams, access, wish(teams, listener))
    path = f"{PATH}/{made['id']}"
    end = rfc3339(teams.sandbox.clock.now() + 7200)
    renewed = await teams.call("PATCH", path, access, {"expirationDateTime": end})
    assert (renewed.status_code, renewed.json()["expirationDateTime"]) == (200, end)
    moved = await teams.call("PATCH", path, access, {"notificationUrl": listener.url("/elsewhere")})
    assert (moved.status_code, urlsplit(listener.received[-1].path).path) == (200, "/elsewhere")
    listener.answer = status(404)
    assert (await teams.call("PATCH", path, access, {"notificationUrl": listener.url("/nowhere")})).status_code == 400
    assert (await teams.get(path, access)).json()["notificationUrl"] == listener.url("/elsewhere")
    for wrong in ({}, {"resource": "x"}, {"notificationUrl": "x"}, {"expirationDateTime": "x"}, {"encryptionCertificateId": "x"}):
        assert (await teams.call("PATCH", path, access, wrong)).status_code == 400
    stranger = (await teams.connect("grace"))["access_token"]
    for method in ("GET", "PATCH", "DELETE"):
        assert (await teams.call(method, path, stranger, {"expirationDateTime": end})).status_code == 404
    assert (await teams.call("POST", f"{path}/reauthorize", stranger)).status_code == 404
    assert (await teams.call("DELETE", path, access)).status_code == 204
    assert (await teams.get(path, access)).status_code == 404
    assert teams.sandbox.notify("microsoft-teams", "ada", "callRecording.created") == 0


async def test_a_certificate_is_changed_for_the_next_content(teams: Peer, listener: Recorder, access: str) -> None:
    shown = {"encryptionCertificateId": "one", "encryptionCertificate": base64.b64encode(certificate()).decode()}
    made = await subscribe(teams, access, wish(teams, listener, includeResourceData=True, **shown))
    changed = await teams.call("PATCH", f"{PATH}/{made['id']}", access, shown | {"encryptionCertificateId": "two"})
    assert changed.json()["encryptionCertificateId"] == "two"
    thin = await subscribe(teams, access, wish(teams, listener))
    assert (await teams.call("PATCH", f"{PATH}/{thin['id']}", access, shown)).status_code == 400


@pytest.mark.parametrize("event", LIFECYCLE)
async def test_events_of_the_lifecycle_go_to_their_own_address(teams: Peer, listener: Recorder, access: str, event: str) -> None:
    made = await subscribe(teams, access, wish(teams, listener))
    assert teams.sandbox.notify("microsoft-teams", "ada", event) == 1
    got = (await listener.wait_for(3))[2]
    (item,) = json.loads(got.body)["value"]
    assert got.path == "/lifecycle"
    assert (item["lifecycleEvent"], item["subscriptionId"], item["clientState"]) == (event, made["id"], "a-secret-of-ours")
    assert not {"resource", "resourceData", "changeType"} & set(item)
    assert teams.sandbox.notify("microsoft-teams", "ada", "callRecording.created") == (0 if event == "subscriptionRemoved" else 1)


async def test_a_subscription_is_reauthorized_with_a_token_that_may_still_read(teams: Peer, listener: Recorder, access: str) -> None:
    made = await subscribe(teams, access, wish(teams, listener))
    path = f"{PATH}/{made['id']}/reauthorize"
    blind = (await teams.connect(scope="User.Read"))["access_token"]
    assert (await teams.call("POST", path, blind)).status_code == 403
    assert (await teams.call("POST", path, access)).status_code == 204


@pytest.mark.parametrize("told", ["reauthorizationRequired", "subscriptionRemoved", "nothing"])
@pytest.mark.parametrize("ends", ["yes", "no"])
async def test_the_end_of_a_consent_is_heard_as_the_facts_say(teams: Peer, listener: Recorder, access: str, told: str, ends: str) -> None:
    teams.sandbox.set_fact("microsoft", "withdrawal_told", told)
    teams.sandbox.set_fact("microsoft", "subscriptions_end_with_grant", ends)
    await subscribe(teams, access, wish(teams, listener))
    assert teams.sandbox.withdraw("microsoft-teams", "ada", End.ADMIN) == 1
    if told != "nothing":
        (item,) = json.loads((await listener.wait_for(3))[2].body)["value"]
        assert item["lifecycleEvent"] == told
    speaks = ends == "no" and told != "subscriptionRemoved"
    assert teams.sandbox.notify("microsoft-teams", "ada", "callRecording.created") == (1 if speaks else 0)


async def test_an_event_that_there_is_not_and_an_address_elsewhere(teams: Peer, listener: Recorder, access: str) -> None:
    with pytest.raises(ValueError, match="events here"):
        teams.sandbox.notify("microsoft-teams", "ada", "moon.rise")
    await subscribe(teams, access, wish(teams, listener))
    with pytest.raises(ValueError, match=r"127\.0\.0\.1"):
        teams.sandbox.notify("microsoft-teams", "ada", "callRecording.created", url="https://example.com/")


async def test_a_handshake_that_is_lost_still_has_its_effect(teams: Peer, listener: Recorder, access: str) -> None:
    from customhouse_sandbox import FaultKind, Operation

    teams.sandbox.order("microsoft-teams", FaultKind.LOST, Operation.API)
    with pytest.raises(httpx.TransportError):
        await teams.call("POST", PATH, access, wish(teams, listener))
    assert len((await teams.get(PATH, access)).json()["value"]) == 1
