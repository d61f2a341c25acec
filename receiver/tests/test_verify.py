"""Whatever arrives is genuine, or one typed refusal."""

from __future__ import annotations

import base64
import json
import pickle
import sys
import time
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any, Optional, Union

import pytest
import standardwebhooks.webhooks
import svix.webhooks
from hypothesis import example, given, settings
from hypothesis import strategies as st

from customhouse_receiver import Event, MemoryReplayCache, Reason, Receiver, WebhookRejected, testing

NOW = 1_795_339_800
PROFILES = ["queast-v1", "standard-webhooks"]
SUITE = settings(derandomize=True, max_examples=150, deadline=None)

NAMES = st.sampled_from(
    [
        "X-Queast-Timestamp",
        "x-queast-signature",
        "X-QUEAST-SIGNATURE-KEY-ID",
        "webhook-id",
        "Webhook-Timestamp",
        "webhook-signature",
        "Content-Type",
    ]
)
SHAPED = st.sampled_from(
    [str(NOW), "0", "-1", "١٢٣٤٥٦٧٨٩٠", f"{NOW} ", "9" * 5000, "v1=", "v1=" + "0" * 64, "v1=" + "ä" * 64, "v1,", ",", " ", "v1," + "A" * 44]
)
VALUES = st.one_of(SHAPED, st.text(), st.binary(), st.sampled_from(["evt_test", "key_1"]))
ANY_NAME = st.one_of(NAMES, NAMES.map(str.encode), st.text(), st.binary())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def receiver(secrets: Optional[dict[str, str]] = None, **options: Any) -> Receiver:
    return Receiver(secrets or {"key_1": testing.SECRET}, **{"replay": MemoryReplayCache(), "clock": lambda: NOW, **options})


def attempt(headers: Any, body: Any, **options: Any) -> Union[Event, WebhookRejected]:
    """Anything but an event or the one refusal fails the test."""
    try:
        return receiver(**options).verify(headers, body)
    except WebhookRejected as rejected:
        refused = rejected
    assert isinstance(refused.reason, Reason)
    assert 400 <= refused.http_status < 600
    assert refused.retryable == (refused.retry_after is not None)
    return refused


def reason(headers: Any, body: Any, **options: Any) -> Optional[Reason]:
    return getattr(attempt(headers, body, **options), "reason", None)


@SUITE
@given(headers=st.lists(st.tuples(ANY_NAME, VALUES), max_size=8), body=st.binary(max_size=300) | st.just(testing.body()))
def test_any_bytes_under_any_headers_are_refused_by_type(headers: list[tuple[Any, Any]], body: bytes) -> None:
    assert isinstance(attempt(headers, body), WebhookRejected)


@SUITE
@given(headers=st.dictionaries(ANY_NAME, VALUES | st.none() | st.integers() | st.lists(st.text())), body=st.binary(max_size=50))
def test_values_that_no_framework_should_pass_are_refused_by_type(headers: dict[Any, Any], body: bytes) -> None:
    assert isinstance(attempt(headers, body), WebhookRejected)


@pytest.mark.parametrize("headers", [None, 7, "X-Queast-Signature", [1, 2], [("a",)], [("a", "b", "c")], [(None, None)], object()])
def test_what_is_no_collection_of_headers_is_refused_by_type(headers: Any) -> None:
    assert reason(headers, b"{}") in {Reason.MALFORMED_HEADER, Reason.MISSING_HEADER}


@SUITE
@given(body=st.binary(max_size=200))
@example(b"\xef\xbb\xbf{}")
@example(b"[" * 50_000)
@example(b'{"schema_version":' * 5_000)
@example(b'{"a":' + b"9" * 5_000 + b"}")
@pytest.mark.parametrize("profile", PROFILES)
def test_genuinely_signed_rubbish_is_an_unreadable_envelope(profile: str, body: bytes) -> None:
    assert reason(testing.headers(body, NOW, profile=profile), body) is Reason.ENVELOPE_MALFORMED


@SUITE
@given(changes=st.dictionaries(st.sampled_from(sorted(testing.envelope())) | st.text(), JSON, max_size=4))
def test_a_signed_envelope_of_any_values_is_an_event_or_a_refusal_after_the_signature(changes: dict[str, Any]) -> None:
    body = json.dumps({**testing.envelope(), **changes}).encode()
    result = attempt(testing.headers(body, NOW), body)
    if isinstance(result, WebhookRejected):
        assert result.reason in {Reason.ENVELOPE_MALFORMED, Reason.SCHEMA_VERSION_UNKNOWN}
    else:
        assert json.dumps(result.envelope).encode() == body
        assert repr(result).isprintable()


@SUITE
@given(data=st.dictionaries(st.text(), JSON, max_size=3), offset=st.integers(-300, 300))
@pytest.mark.parametrize("profile", PROFILES)
def test_what_is_genuine_and_fresh_passes(profile: str, data: dict[str, Any], offset: int) -> None:
    body = json.dumps(testing.envelope(added_later=1), ensure_ascii=True).encode()
    event = attempt(testing.headers(body, NOW + offset, profile=profile), body)
    assert isinstance(event, Event)
    assert (event.event_id, event.profile, event.timestamp, event.duplicate) == ("evt_test", profile, NOW + offset, False)


@SUITE
@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
@pytest.mark.parametrize("profile", PROFILES)
def test_a_genuine_body_with_one_bit_changed_is_refused(profile: str, at: int, bit: int) -> None:
    body = testing.body()
    changed = bytearray(body)
    changed[at % len(body)] ^= 1 << bit
    assert reason(testing.headers(body, NOW, profile=profile), bytes(changed)) is Reason.SIGNATURE_MISMATCH


@SUITE
@given(which=st.integers(0, 2), at=st.integers(0, 200), char=st.characters())
@pytest.mark.parametrize("profile", PROFILES)
def test_a_genuine_request_with_one_signed_header_changed_is_refused(profile: str, which: int, at: int, char: str) -> None:
    body = testing.body()
    headers = testing.headers(body, NOW, profile=profile)
    name = [name for name in headers if not name.endswith("Key-Id")][which % (2 if profile == "queast-v1" else 3)]
    value = headers[name]
    place = at % len(value)
    changed = value[:place] + char + value[place + 1 :]
    # Only the very text of the sender passes.
    assert isinstance(attempt({**headers, name: changed}, body), Event) == (changed == value)


@SUITE
@given(cut=st.integers(0, 99))
@pytest.mark.parametrize("profile", PROFILES)
def test_a_truncated_signature_is_refused(profile: str, cut: int) -> None:
    """W1 (CVE-2024-21491): a prefix of the right signature is not the right signature."""
    body = testing.body()
    headers = testing.headers(body, NOW, profile=profile)
    name = next(name for name in headers if name.lower().endswith("signature"))
    shorter = headers[name][: cut % len(headers[name])]
    assert isinstance(attempt({**headers, name: shorter}, body), WebhookRejected)


@SUITE
@given(offset=st.integers(301, 10**9))
@pytest.mark.parametrize("side", [-1, 1])
def test_a_time_beyond_the_tolerance_is_refused_on_both_sides(side: int, offset: int) -> None:
    body = testing.body()
    timestamp = NOW + side * offset
    assert reason(testing.headers(body, timestamp), body) is Reason.TIMESTAMP_OUTSIDE_TOLERANCE


def test_a_clock_that_says_nothing_lets_nothing_in() -> None:
    body = testing.body()
    assert reason(testing.headers(body, NOW), body, clock=lambda: float("nan")) is Reason.TIMESTAMP_OUTSIDE_TOLERANCE


@pytest.mark.parametrize("profile", PROFILES)
def test_headers_may_come_in_every_shape_that_frameworks_use(profile: str) -> None:
    body = testing.body()
    plain = testing.headers(body, NOW, profile=profile)
    wire = [(name.lower().encode(), value.encode()) for name, value in plain.items()]
    shapes: Iterable[Any] = [
        plain,
        dict(wire),
        wire,
        iter(wire),
        list(plain.items()),
        {name.upper(): value for name, value in plain.items()},
    ]
    assert [isinstance(attempt(shape, body), Event) for shape in shapes] == [True] * 6


@pytest.mark.parametrize("profile", PROFILES)
def test_a_repeated_signature_header_is_refused_even_when_both_say_the_same(profile: str) -> None:
    body = testing.body()
    pairs = list(testing.headers(body, NOW, profile=profile).items())
    for name, value in pairs:
        assert reason([*pairs, (name.upper(), value)], body) is Reason.REPEATED_HEADER


@pytest.mark.parametrize("profile", PROFILES)
def test_headers_of_both_profiles_are_refused_whichever_of_them_is_genuine(profile: str) -> None:
    body = testing.body()
    genuine = testing.headers(body, NOW, profile=profile)
    others = testing.headers(body, NOW, profile=next(other for other in PROFILES if other != profile))
    for name, value in others.items():
        assert reason({**genuine, name: value}, body) is Reason.AMBIGUOUS_PROFILE


def test_a_body_over_the_limit_is_refused_before_anything_is_computed() -> None:
    body = testing.body()
    headers = testing.headers(body, NOW)
    assert reason(headers, body, max_body=len(body) - 1) is Reason.BODY_TOO_LARGE
    assert reason(headers, body, max_body=len(body)) is None


@pytest.mark.parametrize(
    "kind", [bytes.decode, bytearray, memoryview, json.loads, lambda body: None], ids=["str", "bytearray", "view", "dict", "none"]
)
def test_a_body_that_somebody_decoded_is_refused_by_type(kind: Any) -> None:
    body = testing.body()
    assert reason(testing.headers(body, NOW), kind(body)) is Reason.BODY_NOT_BYTES


def test_the_key_id_decides_who_is_tried_first_and_never_who_may_sign() -> None:
    body = testing.body()
    other = "whsec_" + base64.b64encode(bytes(range(32))).decode()
    both = {"key_1": testing.SECRET, "key_2": other}
    for named in ("key_1", "key_2", "key_3", ""):
        event = attempt(testing.headers(body, NOW, secret=other, key_id=named), body, secrets=both)
        assert isinstance(event, Event)
        assert event.key_id == "key_2"
    assert reason(testing.headers(body, NOW, secret="whsec_" + "A" * 43 + "="), body, secrets=both) is Reason.SIGNATURE_MISMATCH


def test_a_key_id_that_is_far_too_long_is_refused() -> None:
    body = testing.body()
    assert reason(testing.headers(body, NOW, key_id="k" * 128), body) is None
    assert reason(testing.headers(body, NOW, key_id="k" * 129), body) is Reason.MALFORMED_HEADER


@pytest.mark.parametrize("entry", ["v1a," + "-" * 88, "v1a," + "=" * 88, "v1a," + "A" * 85 + "B==", "v1", "v1,", "V1," + "A" * 44, ",", ""])
def test_an_entry_that_no_signer_writes_is_refused_although_the_one_beside_it_is_genuine(entry: str) -> None:
    body = testing.body()
    headers = testing.headers(body, NOW, profile="standard-webhooks")
    headers["webhook-signature"] += f" {entry}"
    assert reason(headers, body) is Reason.MALFORMED_HEADER


def test_a_public_key_without_its_library_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(ValueError, match=r"install customhouse-receiver\[ed25519\]"):
        receiver({"key_1": "whpk_" + "A" * 43 + "="})


def test_the_test_helper_makes_no_signature_that_it_cannot_make() -> None:
    with pytest.raises(ValueError, match="standard-webhooks"):
        testing.headers(b"{}", NOW, secret="whpk_" + "A" * 43 + "=", profile="standard-webhooks")


@pytest.mark.parametrize("webhook", [standardwebhooks.webhooks.Webhook, svix.webhooks.Webhook], ids=["standardwebhooks", "svix"])
def test_what_the_peers_sign_is_genuine(webhook: Any) -> None:
    body, now = testing.body(), int(time.time())
    signature = webhook(testing.SECRET).sign("evt_test", datetime.fromtimestamp(now, timezone.utc), body.decode())
    headers = {"webhook-id": "evt_test", "webhook-timestamp": str(now), "webhook-signature": signature}
    assert isinstance(attempt(headers, body, clock=time.time), Event)
    assert reason(headers, body + b" ", clock=time.time) is Reason.SIGNATURE_MISMATCH


@pytest.mark.parametrize(
    "secrets",
    [
        {},
        {"key_1": ""},
        {"key_1": "too short"},
        {"key_1": testing.SECRET + "\n"},
        {"key_1": testing.SECRET[:-3]},
        {"key_1": "whsec_AAAA"},
        {"key_1": "whsec_" + base64.b64encode(bytes(23)).decode()},
        {"key_1": "whsec_" + base64.b64encode(bytes(65)).decode()},
        {"key_1": "whpk_" + base64.b64encode(bytes(31)).decode()},
        {"key_1": "whsec_ключ-который-не-base64"},
        {"key_1": "whsk_" + "A" * 43 + "="},
        {"key_1": "whpk_" + "A" * 40},
        {"key_1": "whpk_" + "?" * 44},
        {f"key_{n}": testing.SECRET for n in range(17)},
    ],
    ids=[
        "none",
        "empty",
        "short",
        "newline",
        "cut",
        "small",
        "23 bytes",
        "65 bytes",
        "public 31 bytes",
        "letters",
        "private",
        "public cut",
        "public not base64",
        "too many",
    ],
)
def test_secrets_that_cannot_be_right_are_refused_at_the_start_without_being_shown(secrets: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"secret|base64") as refused:
        receiver(secrets) if secrets else Receiver(secrets, replay=MemoryReplayCache())
    assert not any(len(secret) > 6 and secret in str(refused.value) for secret in secrets.values())


@pytest.mark.parametrize(
    ("secrets", "error", "words"),
    [
        ({"key_1": None}, TypeError, "'key_1' is a text, not NoneType: is the variable set"),
        ({"key_1": b"0123456789abcdef"}, TypeError, "not bytes"),
        ({None: testing.SECRET}, TypeError, "a key id is a text"),
        ({"": testing.SECRET}, ValueError, "needs the key id"),
    ],
    ids=["unset", "bytes", "no id", "empty id"],
)
def test_a_secret_that_is_missing_is_named_at_the_start(secrets: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as refused:
        Receiver(secrets, replay=MemoryReplayCache())
    assert testing.SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "options",
    [
        {"tolerance": 0},
        {"tolerance": -1},
        {"tolerance": float("inf")},
        {"tolerance": float("nan")},
        {"accepted_versions": set()},
        {"max_body": 0},
        {"replay_ttl": 599},
        {"replay_ttl": float("nan")},
        {"replay_ttl": float("inf")},
        {"lease": 0},
        {"lease": 601, "replay_ttl": 600},
        {"header_prefix": ""},
        {"header_prefix": "Webhook"},
        {"header_prefix": "X Queast"},
    ],
    ids=str,
)
def test_options_that_would_let_everything_or_nothing_in_are_refused_at_the_start(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w+"):
        receiver(**options)


def test_versions_given_as_one_text_are_refused_at_the_start() -> None:
    with pytest.raises(TypeError):
        receiver(accepted_versions="1.0")


def test_a_cache_that_is_none_is_refused_at_the_start() -> None:
    with pytest.raises(TypeError):
        receiver(replay={})


def test_accepted_versions_are_an_explicit_set() -> None:
    body = testing.body(schema_version="1.1")
    headers = testing.headers(body, NOW)
    assert reason(headers, body) is Reason.SCHEMA_VERSION_UNKNOWN
    assert reason(headers, body, accepted_versions={"1.0", "1.1"}) is None


def test_an_event_shows_ids_and_never_data() -> None:
    body = testing.body(data={"person": {"work_email": "ada@example.com"}})
    event = attempt(testing.headers(body, NOW), body)
    assert isinstance(event, Event)
    assert event.data == {"person": {"work_email": "ada@example.com"}}
    assert "ada" not in repr(event) + str(event)
    assert (event.tenant_id, event.connection_id, event.correlation_id, event.schema_version) == ("acme", "con_test", "test", "1.0")
    assert (event.event_type, event.idempotency_key, event.occurred_at) == ("person.updated", "test", "2026-11-22T09:30:00Z")


@pytest.mark.parametrize("trace", [None, [], {}, {"correlation_id": 1}, {"correlation_id": "a\nb"}], ids=str)
def test_a_correlation_id_that_could_break_a_log_line_is_no_correlation_id(trace: Any) -> None:
    body = testing.body(trace=trace)
    event = attempt(testing.headers(body, NOW), body)
    assert isinstance(event, Event)
    assert event.correlation_id is None


def test_a_refusal_survives_a_pickle_and_says_nothing_of_the_request() -> None:
    body = testing.body(event_id="a secret thing")
    rejected = attempt(testing.headers(body, NOW), body)
    assert isinstance(rejected, WebhookRejected)
    again = pickle.loads(pickle.dumps(rejected))
    assert (again.reason, again.http_status, again.retryable, str(again)) == (rejected.reason, 422, False, str(rejected))
    assert "a secret thing" not in str(rejected) + repr(rejected)
