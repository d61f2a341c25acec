"""The signing side: what we send is what the specification, the vectors and the peers say."""

from __future__ import annotations

import base64
import copy
import hashlib
import hmac
import json
import pickle
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks.webhooks
import svix.webhooks
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from customhouse.crypto.signatures import Algorithm, Profile, SigningKey, new_secret, shown, sign, signer
from customhouse.errors import Unsignable
from customhouse.types import Secret

VECTORS = Path(__file__).parents[3] / "vectors" / "signatures"
SIGNED = sorted(path for path in VECTORS.glob("*.json") if "sign" in json.loads(path.read_text()))

EVENT_ID = "evt_01kaz3v9xyf4c8r2m6n0p5q7st"
NOW = 1_795_339_800
BODY = b'{"event_id":"evt_1"}'


def shared_key(key_id: str = "key_1") -> SigningKey:
    return SigningKey(key_id, new_secret(Algorithm.V1))


def pair_key(key_id: str = "key_1") -> SigningKey:
    return SigningKey(key_id, new_secret(Algorithm.V1A))


@pytest.mark.parametrize("path", SIGNED, ids=lambda path: path.stem)
def test_what_we_sign_is_what_the_vector_says(path: Path) -> None:
    vector: dict[str, Any] = json.loads(path.read_text())
    given_keys = [SigningKey(key["key_id"], Secret(key["secret"].encode())) for key in vector["sign"]["keys"]]
    headers = sign(
        Profile(vector["sign"]["profile"]),
        given_keys,
        event_id=vector["sign"]["event_id"],
        timestamp=vector["sign"]["timestamp"],
        body=base64.b64decode(vector["body_base64"]),
        header_prefix=vector["header_prefix"],
    )
    assert headers == dict(vector["headers"])


def test_both_profiles_and_both_algorithms_have_a_signed_vector() -> None:
    kinds = {
        (vector["sign"]["profile"], key["secret"].partition("_")[0])
        for vector in (json.loads(path.read_text()) for path in SIGNED)
        for key in vector["sign"]["keys"]
    }
    assert kinds == {("queast-v1", "whsec"), ("standard-webhooks", "whsec"), ("standard-webhooks", "whsk")}


def test_the_committed_vectors_are_what_their_script_makes() -> None:
    run = subprocess.run([sys.executable, VECTORS / "make.py", "--check"], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, ""), run.stdout


@settings(derandomize=True, max_examples=100, deadline=None)
@given(raw=st.binary(min_size=24, max_size=64), body=st.binary(max_size=5000), timestamp=st.integers(1, 10**12 - 1))
def test_a_prepared_signer_computes_plain_hmac_sha256(raw: bytes, body: bytes, timestamp: int) -> None:
    text = b"whsec_" + base64.b64encode(raw)
    keys = [SigningKey("key_1", Secret(text))]
    ours = signer(Profile.QUEAST_V1, keys).headers(EVENT_ID, timestamp, body)["X-Queast-Signature"]
    assert ours == "v1=" + hmac.digest(text, b"%d." % timestamp + body, "sha256").hex()
    theirs = signer(Profile.STANDARD_WEBHOOKS, keys).headers(EVENT_ID, timestamp, body)["webhook-signature"]
    content = f"{EVENT_ID}.{timestamp}.".encode() + body
    assert theirs == "v1," + base64.b64encode(hmac.digest(raw, content, hashlib.sha256)).decode()


def test_one_signer_signs_many_messages_without_remembering_the_one_before() -> None:
    prepared = signer(Profile.QUEAST_V1, [shared_key()])
    first = prepared.headers(EVENT_ID, NOW, BODY)
    assert prepared.headers(EVENT_ID, NOW, BODY + b" ") != first
    assert prepared.headers(EVENT_ID, NOW, BODY) == first


def test_queast_v1_is_signed_by_the_active_key_alone() -> None:
    active, previous = shared_key("key_2"), shared_key("key_1")
    headers = sign(Profile.QUEAST_V1, [active, previous], event_id=EVENT_ID, timestamp=NOW, body=BODY)
    assert headers == sign(Profile.QUEAST_V1, [active], event_id=EVENT_ID, timestamp=NOW, body=BODY)
    assert headers["X-Queast-Signature-Key-Id"] == "key_2"


def test_standard_webhooks_carries_one_signature_per_key_the_active_one_first() -> None:
    active, previous = pair_key("key_2"), shared_key("key_1")

    def entries(*keys: SigningKey) -> list[str]:
        return sign(Profile.STANDARD_WEBHOOKS, keys, event_id=EVENT_ID, timestamp=NOW, body=BODY)["webhook-signature"].split(" ")

    assert entries(active, previous) == [*entries(active), *entries(previous)]
    assert [entry.partition(",")[0] for entry in entries(active, previous)] == ["v1a", "v1"]


@pytest.mark.parametrize("webhook", [standardwebhooks.webhooks.Webhook, svix.webhooks.Webhook], ids=["standardwebhooks", "svix"])
def test_the_peers_verify_what_we_sign(webhook: Any) -> None:
    active, previous = shared_key("key_2"), shared_key("key_1")
    headers = sign(Profile.STANDARD_WEBHOOKS, [active, previous], event_id=EVENT_ID, timestamp=int(time.time()), body=BODY)
    for key in (active, previous):
        webhook(shown(key.secret)).verify(BODY, headers)
    with pytest.raises(standardwebhooks.webhooks.WebhookVerificationError):
        webhook(shown(new_secret(Algorithm.V1))).verify(BODY, headers)


@pytest.mark.parametrize("webhook", [standardwebhooks.webhooks.Webhook, svix.webhooks.Webhook], ids=["standardwebhooks", "svix"])
def test_the_peers_sign_the_very_same_text(webhook: Any) -> None:
    key = shared_key()
    headers = sign(Profile.STANDARD_WEBHOOKS, [key], event_id=EVENT_ID, timestamp=NOW, body=BODY)
    moment = datetime.fromtimestamp(NOW, UTC)
    assert headers["webhook-signature"] == webhook(shown(key.secret)).sign(EVENT_ID, moment, BODY.decode())


def test_the_public_half_that_the_customer_gets_verifies_v1a() -> None:
    key = pair_key()
    headers = sign(Profile.STANDARD_WEBHOOKS, [key], event_id=EVENT_ID, timestamp=NOW, body=BODY)
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(shown(key.secret).removeprefix("whpk_")))
    signature = base64.b64decode(headers["webhook-signature"].removeprefix("v1a,"))
    public.verify(signature, f"{EVENT_ID}.{NOW}.".encode() + BODY)
    assert len(signature) == 64


def test_a_shared_secret_is_shown_as_it_is_and_a_private_key_never() -> None:
    shared, private = new_secret(Algorithm.V1), new_secret(Algorithm.V1A)
    assert shown(shared).encode() == shared.reveal()
    assert len(base64.b64decode(shown(shared).removeprefix("whsec_"))) == 32
    assert shown(private).startswith("whpk_")
    assert private.reveal().removeprefix(b"whsk_") not in shown(private).encode()


def test_no_two_new_secrets_are_the_same() -> None:
    assert len({new_secret(algorithm).reveal() for algorithm in Algorithm for _ in range(50)}) == 100


@pytest.mark.parametrize("profile", list(Profile))
def test_without_a_key_nothing_is_signed(profile: Profile) -> None:
    with pytest.raises(Unsignable):
        signer(profile, [])


@pytest.mark.parametrize("profile", list(Profile))
def test_more_signatures_than_a_receiver_looks_at_are_refused(profile: Profile) -> None:
    with pytest.raises(Unsignable):
        signer(profile, [shared_key()] * 9)


@pytest.mark.parametrize("keys", [[pair_key()], [shared_key(), pair_key()]], ids=["active", "previous"])
def test_a_pair_does_not_sign_queast_v1(keys: list[SigningKey]) -> None:
    with pytest.raises(Unsignable):
        signer(Profile.QUEAST_V1, keys)


@pytest.mark.parametrize("profile", list(Profile))
@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"whsec_",
        b"whsec_AAAA",
        b"whsec_not base64 at all, but long enough....",
        b"whsk_",
        b"whsk_" + base64.b64encode(bytes(31)),
        b"whsk_" + base64.b64encode(bytes(64)),
        b"whpk_" + base64.b64encode(bytes(32)),
        base64.b64encode(bytes(32)),
        b"\xff\xfe",
        b"whsec_" + base64.b64encode(bytes(65)),
    ],
)
def test_a_key_that_is_none_is_refused_without_being_shown(profile: Profile, text: bytes) -> None:
    with pytest.raises(Unsignable) as refused:
        signer(profile, [SigningKey("key_1", Secret(text))])
    with pytest.raises(Unsignable):
        shown(Secret(text))
    assert len(text) < 10 or text[-8:].decode("latin-1") not in str(refused.value)


@pytest.mark.parametrize("key_id", ["", "key 1", "key\r\nX-Evil: 1", "ключ", "k" * 129])
def test_a_key_id_that_cannot_stand_in_a_header_is_refused(key_id: str) -> None:
    with pytest.raises(Unsignable):
        signer(Profile.QUEAST_V1, [SigningKey(key_id, new_secret(Algorithm.V1))])


@pytest.mark.parametrize("prefix", ["", "X Queast", "X-Queast:", "X-Queast\r\n", "webhook", "Webhook", "-X", "Ä"])
def test_a_header_prefix_that_is_none_is_refused(prefix: str) -> None:
    with pytest.raises(Unsignable):
        signer(Profile.QUEAST_V1, [shared_key()], prefix)


@pytest.mark.parametrize("event_id", ["", "evt.1", "evt 1", "evt_1\r\nX-Evil: 1", "é", "e" * 65])
def test_an_event_id_that_could_be_read_in_two_ways_is_refused(event_id: str) -> None:
    with pytest.raises(Unsignable):
        signer(Profile.STANDARD_WEBHOOKS, [shared_key()]).headers(event_id, NOW, BODY)


@pytest.mark.parametrize("profile", list(Profile))
@pytest.mark.parametrize("timestamp", [0, -1, 10**12, True, 1.5, "1795339800"])
def test_a_timestamp_that_is_none_is_refused(profile: Profile, timestamp: Any) -> None:
    with pytest.raises(Unsignable):
        signer(profile, [shared_key()]).headers(EVENT_ID, timestamp, BODY)


@pytest.mark.parametrize("profile", list(Profile))
def test_a_signer_gives_its_key_to_neither_repr_nor_pickle(profile: Profile) -> None:
    key = shared_key()
    prepared = signer(profile, [key])
    assert shown(key.secret)[6:] not in repr(prepared) + repr(key)
    for spill in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            spill(prepared)
