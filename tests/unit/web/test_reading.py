"""What is read from a request before anything acts on it: headers, bodies, times, cursors. Any bytes: a value or a typed refusal."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError
from starlette.requests import ClientDisconnect

from customhouse.errors import Fault, Invalid, TooLarge, UnsupportedMediaType
from customhouse.web.bodies import read_body
from customhouse.web.calls import Call, call_of
from customhouse.web.moments import moment
from customhouse.web.pages import Wanted

JSON = (b"content-type", b"application/json")
names = st.sampled_from(
    [b"authorization", b"content-type", b"content-length", b"idempotency-key", b"x-correlation-id", b"host", b"accept", b"x"]
)


def _call(*headers: tuple[bytes, bytes]) -> Call:
    return Call({"type": "http", "headers": list(headers)})


def _read(call: Call, parts: Sequence[bytes], cap: int) -> bytes:
    messages = [{"type": "http.request", "body": part, "more_body": at < len(parts) - 1} for at, part in enumerate(parts)]

    async def receive() -> Any:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    return asyncio.run(read_body(call, receive, cap))


@given(st.lists(st.tuples(names, st.binary(max_size=40)), max_size=12))
def test_any_headers_are_read_without_a_surprise(headers: list[tuple[bytes, bytes]]) -> None:
    call = _call(*headers)
    counts = {name: [given for given, _ in headers].count(name) for name, _ in headers}
    for name, count in counts.items():
        if name not in {b"accept", b"x"}:
            assert (call.header(name) is None) == (count > 1)
    if call.correlation_id is not None:
        assert call.correlation_id.encode() == dict(headers)[b"x-correlation-id"]
    if counts.get(b"idempotency-key", 0) > 1:
        with pytest.raises(Invalid):
            call.idempotency_key()


def test_a_call_is_found_in_its_scope() -> None:
    scope: dict[str, Any] = {"headers": []}
    call = Call(scope)
    assert call_of(scope) is call
    assert call.request_id.startswith("req_")


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=6), st.integers(0, 100))
def test_a_body_is_read_whole_or_refused_as_too_large(parts: list[bytes], cap: int) -> None:
    whole = b"".join(parts)
    call = _call(JSON)
    if len(whole) > cap:
        with pytest.raises(TooLarge):
            _read(call, parts, cap)
    else:
        assert _read(call, parts, cap) == whole
        assert call.request_bytes == len(whole)


@given(st.binary(max_size=40), st.booleans())
def test_any_content_type_is_json_or_refused(value: bytes, json: bool) -> None:
    value = b"application/json;" + value if json else value
    kind, _, rest = value.lower().partition(b";")
    fits = kind.strip() == b"application/json" and all(
        part.strip() in {b"", b"charset=utf-8", b'charset="utf-8"'} for part in rest.split(b";")
    )
    if fits:
        assert _read(_call((b"content-type", value)), [b"{}"], 10) == b"{}"
    else:
        with pytest.raises(UnsupportedMediaType):
            _read(_call((b"content-type", value)), [b"{}"], 10)


@given(st.one_of(st.binary(max_size=30), st.integers(0, 10**30).map(lambda number: str(number).encode())))
def test_any_content_length_is_under_the_cap_or_refused(value: bytes) -> None:
    if value.isdigit() and len(value) < 20 and int(value) <= 50:
        assert _read(_call(JSON, (b"content-length", value)), [b"{}"], 50) == b"{}"
    else:
        with pytest.raises(TooLarge):
            _read(_call(JSON, (b"content-length", value)), [b"{}"], 50)


def test_a_caller_who_leaves_is_no_body() -> None:
    with pytest.raises(ClientDisconnect):
        _read(_call(JSON), [], 10)

    async def receive() -> Any:
        return messages.pop(0)

    messages: list[dict[str, Any]] = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
    with pytest.raises(ClientDisconnect):
        asyncio.run(read_body(_call(JSON), receive, 10))


@given(st.one_of(st.text(max_size=40), st.integers(), st.none(), st.datetimes().map(lambda at: at.isoformat() + "Z")))
def test_any_time_is_an_aware_moment_or_refused(value: object) -> None:
    try:
        found = moment(value)
    except PydanticCustomError:
        return
    assert datetime(1970, 1, 1, tzinfo=UTC) <= found < datetime(9999, 1, 1, tzinfo=UTC)
    assert found.utcoffset() == datetime.now(UTC).utcoffset()


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-02", "2026-01-02T03:04:05", "2026-01-02 03:04:05Z", "2026-02-30T00:00:00Z", "2026-01-02T24:00:01Z",
        "1969-12-31T23:59:59Z", "9999-01-01T00:00:00Z", "٢٠٢٦-01-02T03:04:05Z", "2026-W01-1T00:00:00Z",
    ],
)  # fmt: skip
def test_a_time_that_is_not_rfc_3339_is_refused(text: str) -> None:
    with pytest.raises(PydanticCustomError):
        moment(text)


def test_a_time_with_an_offset_is_the_same_moment() -> None:
    assert moment("2026-01-02t03:04:05.123456789+01:00") == datetime(2026, 1, 2, 2, 4, 5, 123456, tzinfo=UTC)


@given(st.text(max_size=60))
def test_any_cursor_is_one_of_ours_or_refused(text: str) -> None:
    wanted = Wanted(1, text)
    try:
        found = wanted.after()
    except Invalid as error:
        faults = error.faults
    else:
        assert found is not None
        assert wanted.page([found, found], str, str).next_cursor == text
        faults = (Fault("/cursor", ""),)
    assert [fault.pointer for fault in faults] == ["/cursor"]


@given(st.uuids(), st.from_regex(r"[A-Za-z0-9_.:-]{1,128}", fullmatch=True))
def test_a_cursor_leads_back_to_where_the_page_ended(last: UUID, name: str) -> None:
    wanted = Wanted(1)
    by_id = wanted.page([last, last], str, lambda row: row).next_cursor
    by_name = wanted.page([name, name], lambda row: row, lambda row: row).next_cursor
    assert Wanted(1, by_id).before() == last
    assert Wanted(1, by_name).after() == name
    assert wanted.page([last], str, lambda row: row).next_cursor is None
