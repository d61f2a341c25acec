"""What the host asks to publish: any JSON object is a request that is wholly sound, or one refusal that names every fault."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from customhouse import ids
from customhouse.errors import Invalid
from customhouse.outbound import requests
from customhouse.outbound.requests import EventRequest, check_key, read
from tests.unit.test_canonical import values

NAMES = ("tenant_id", "event_type", "data", "event_id", "idempotency_key", "occurred_at", "correlation_id", "connection_ids")
SOUND: dict[str, Any] = {"event_type": "order.created", "data": {}}
plausible: st.SearchStrategy[Any] = st.one_of(
    values,
    st.from_regex(r"[A-Za-z0-9_.:-]{1,130}", fullmatch=True),
    st.just({}),
    st.lists(st.uuids().map(lambda value: ids.show("con", value)), max_size=3),
    st.datetimes(timezones=st.just(UTC)).map(lambda moment: moment.isoformat()),
)


def faults_of(body: dict[str, Any], header: str | None = None) -> list[str]:
    with pytest.raises(Invalid) as refused:
        read(body, header)
    return [fault.pointer for fault in refused.value.faults]


@given(body=st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), plausible, max_size=8), complete=st.booleans())
@example(body={"event_type": None, "data": {}}, complete=False)
@example(body={"event_type": "a", "data": {}, "occurred_at": "0001-01-01T00:00:00+14:00"}, complete=False)
@example(body={"event_type": "a", "data": {}, "occurred_at": "9999-12-31T23:59:59-14:00"}, complete=False)
@example(body={"event_type": "a", "data": {}, "occurred_at": "2026-02-30T00:00:00Z"}, complete=False)
@example(body={"event_type": "a", "data": {}, "occurred_at": "2026-11-22T09:30:00+24:00"}, complete=False)
@example(body={"event_type": "a", "data": {}, "connection_ids": [None, 3, {}]}, complete=True)
def test_any_object_is_a_sound_request_or_one_refusal(body: dict[str, Any], complete: bool) -> None:
    try:
        request = read((SOUND | body) if complete else body)
    except Invalid as refused:
        named = len(refused.faults)
    else:
        check_sound(request)
        named = 1
    assert named


def check_sound(request: EventRequest) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_.:-]{1,128}", request.event_type)
    assert isinstance(request.data, dict)
    for key in (request.idempotency_key, request.correlation_id):
        assert key is None or re.fullmatch(r"[A-Za-z0-9_.:-]{1,128}", key)
    assert request.event_id is None or re.fullmatch(r"[A-Za-z0-9_:-]{1,64}", request.event_id)
    assert request.occurred_at is None or request.occurred_at.utcoffset() == timedelta(0)
    assert request.tenant_id is None or isinstance(request.tenant_id, str)
    assert request.connection_ids is None or len(request.connection_ids) > 0


def test_every_fault_is_named_at_once_and_no_value_is_repeated() -> None:
    secret = "ada@example.com"
    body: dict[str, Any] = {
        "event_type": secret,
        "data": [secret],
        "event_id": "a.b",
        "idempotency_key": secret,
        "occurred_at": secret,
        "correlation_id": "x" * 129,
        "connection_ids": [secret],
        secret: 1,
    }
    with pytest.raises(Invalid) as refused:
        read(body, at="/events/3")
    assert sorted(fault.pointer for fault in refused.value.faults) == [
        "/events/3/",
        "/events/3/connection_ids/0",
        "/events/3/correlation_id",
        "/events/3/data",
        "/events/3/event_id",
        "/events/3/event_type",
        "/events/3/idempotency_key",
        "/events/3/occurred_at",
    ]
    assert secret not in "".join(fault.pointer + fault.detail for fault in refused.value.faults) + refused.value.detail


@pytest.mark.parametrize(
    "body", [{"data": {}}, {"event_type": None, "data": {}}, {"event_type": "", "data": {}}, {"event_type": 3, "data": {}}]
)
def test_an_event_without_a_type_is_refused(body: dict[str, Any]) -> None:
    assert faults_of(body) == ["/event_type"]


@pytest.mark.parametrize("data", [None, [], "x", 1, False])
def test_data_has_to_be_an_object(data: Any) -> None:
    assert faults_of({"event_type": "a", "data": data}) == ["/data"]


def test_the_operators_own_event_types_cannot_be_published() -> None:
    assert faults_of(SOUND | {"event_type": "customhouse.ping"}) == ["/event_type"]
    assert read(SOUND | {"event_type": "customhouses.ping"}).event_type == "customhouses.ping"


def test_header_and_member_are_one_idempotency_key() -> None:
    assert read(SOUND, "k1").idempotency_key == "k1"
    assert read(SOUND | {"idempotency_key": "k1"}, "k1").idempotency_key == "k1"
    assert faults_of(SOUND | {"idempotency_key": "k2"}, "k1") == ["/idempotency_key"]


@pytest.mark.parametrize("key", ["", "a b", "x" * 129, "ada@example.com", "+4915112345678", "ünicode", "a\n"])
def test_a_header_key_that_is_malformed_or_tells_who_somebody_is_is_refused(key: str) -> None:
    with pytest.raises(Invalid):
        check_key(key)
    assert check_key("crm-sync-4711") == "crm-sync-4711"


@pytest.mark.parametrize("name", ["event_id", "idempotency_key", "correlation_id", "event_type"])
def test_an_identifier_that_tells_who_somebody_is_is_refused(name: str) -> None:
    assert faults_of(SOUND | {name: "DE89370400440532013000"}) == [f"/{name}"]


@pytest.mark.parametrize(
    "said", ["2026-11-22", "2026-11-22T09:30:00", "22.11.2026", 1_700_000_000, "2026-11-22T09:30:00 Z", "2026-13-01T00:00:00Z"]
)
def test_a_time_needs_its_offset(said: Any) -> None:
    assert faults_of(SOUND | {"occurred_at": said}) == ["/occurred_at"]


def test_a_time_is_kept_in_utc() -> None:
    assert read(SOUND | {"occurred_at": "2026-11-22t10:30:00.5+01:00"}).occurred_at == datetime(2026, 11, 22, 9, 30, 0, 500_000, UTC)


def test_an_empty_list_of_connections_is_refused_and_a_repeated_one_counts_once() -> None:
    shown = ids.show("con", ids.new())
    assert faults_of(SOUND | {"connection_ids": []}) == ["/connection_ids"]
    assert read(SOUND | {"connection_ids": [shown, shown]}).connection_ids == (ids.parse("con", shown),)


def test_two_requests_say_the_same_whatever_the_order_of_members_and_whatever_the_key() -> None:
    one = read({"event_type": "a", "data": {"x": 1, "y": [1, 2]}, "idempotency_key": "k"})
    other = read({"data": {"y": [1, 2], "x": 1}, "event_type": "a"}, "k")
    assert one.digest_form() == other.digest_form()
    changes: list[dict[str, Any]] = [{"event_type": "b"}, {"data": {"x": 1, "y": [2, 1]}}, {"event_id": "e"}, {"correlation_id": "c"}]
    for changed in changes:
        assert read({**one.raw, **changed}).digest_form() != one.digest_form()


def test_an_id_of_the_form_that_we_give_is_refused() -> None:
    assert faults_of(SOUND | {"event_id": ids.show("evt", ids.new())}) == ["/event_id"]
    for other in ("evt_1Nk3xS2eZvKYlo2C", "evt_1", ids.show("ord", ids.new()), "evt"):
        assert read(SOUND | {"event_id": other}).event_id == other


@pytest.mark.parametrize("event_type", ["ada-at-example-dot-com", "customhouse.ping", "a b", "x" * 129, "", 5])
def test_an_event_type_that_was_refused_is_refused_again(event_type: Any) -> None:
    for _ in range(2):
        with pytest.raises(Invalid) as refused:
            read({"event_type": event_type, "data": {}})
        assert [fault.pointer for fault in refused.value.faults] == ["/event_type"]


def test_no_number_of_event_types_fills_the_memory() -> None:
    for number in range(1100):
        assert read({"event_type": f"kind.{number}", "data": {}}).event_type == f"kind.{number}"
    assert len(requests._sound_types) <= 1024
