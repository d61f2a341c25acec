"""JSON comes in strictly and goes out byte-stable; whatever bytes arrive, nothing but our two errors comes out."""

from __future__ import annotations

import json
from typing import Any

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from customhouse.canonical import MAX_DEPTH, MAX_INTEGER, canonical, dump, dump_sorted, parse, parse_object
from customhouse.errors import Invalid, MalformedJson

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(1 - MAX_INTEGER, MAX_INTEGER - 1) | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=15,
)


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@given(values)
def test_what_is_written_reads_back_as_the_same_value(value: Any) -> None:
    assert parse(dump(value)) == value
    assert parse(dump_sorted(value)) == value


@given(values)
def test_equal_values_give_equal_sorted_bytes_whatever_their_order(value: Any) -> None:
    def turned(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: turned(item[key]) for key in reversed(item)}
        return [turned(one) for one in item] if isinstance(item, list) else item

    assert dump_sorted(turned(value)) == dump_sorted(value)
    assert canonical(turned(value)) == canonical(value) == rfc8785.dumps(value)


@given(st.binary(max_size=200))
@example(b"")
@example(b"\xef\xbb\xbf{}")
@example('{"a":1}'.encode("utf-16"))
@example(b'{"a":"\x00"}')
@example(b"[" * 100_000)
@example(b'{"a":' * 10_000)
@example(b"1" * 5_000)
@example(b"-")
@example(b'"\\ud800"')
def test_any_bytes_are_a_value_or_one_of_two_refusals(raw: bytes) -> None:
    try:
        value = parse(raw)
    except (Invalid, MalformedJson):
        return
    # What came through can be stored and said again.
    assert "\0" not in json.dumps(value, ensure_ascii=False)
    assert parse(dump(value)) == value


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":1,"a":2}',
        b'{"a":1,"\\u0061":2}',
        b'[{"x":{"y":1,"y":1}}]',
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"1e400",
        b"9007199254740993",
        b"-9007199254740993",
        b"123456789012345678901234567890",
        b'"\\ud800"',
        b'"\\udc00\\ud800"',
        b'"a\\u0000b"',
        b'{"\\u0000":1}',
        b'{"\\udfff":1}',
        nested(MAX_DEPTH + 1),
        b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1),
    ],
)
def test_what_json_readers_understand_differently_is_not_accepted(raw: bytes) -> None:
    with pytest.raises(Invalid) as refused:
        parse(raw)
    assert len(refused.value.faults) == 1


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"{'a':1}", b'{"a":1,}', b"[1 2]", b'"\t"', b'{"a":"\x00"}', b"\xff", b'"\xed\xa0\x80"', b"01", b"{} {}", b"nul"]
)
def test_what_is_not_json_is_told_apart_from_what_is_not_accepted(raw: bytes) -> None:
    with pytest.raises(MalformedJson):
        parse(raw)


def test_the_limits_themselves_are_accepted() -> None:
    assert parse(nested(MAX_DEPTH)) is not None
    assert parse(b"[9007199254740992,-9007199254740992]") == [2**53, -(2**53)]
    assert parse(b'"\\ud83d\\ude00"') == "😀"


def test_brackets_inside_strings_are_no_nesting() -> None:
    raw = dump({"a": "[{" * 1_000, "b": '\\"[' * 100})
    assert parse(raw) == {"a": "[{" * 1_000, "b": '\\"[' * 100}


@pytest.mark.parametrize("raw", [b"[]", b"1", b'"x"', b"null", b"true"])
def test_only_an_object_is_an_object(raw: bytes) -> None:
    with pytest.raises(Invalid):
        parse_object(raw)
    assert parse_object(b'{"a":[1,{}]}') == {"a": [1, {}]}


def test_a_refusal_repeats_no_value() -> None:
    secret = "whsec_doNotRepeatMe"
    for raw in (f'{{"{secret}":1,"{secret}":2}}', f'{{"{secret}": NaN}}', f'{{"{secret}'):
        with pytest.raises((Invalid, MalformedJson)) as refused:
            parse(raw.encode())
        assert secret not in repr(refused.value) + str(refused.value.__cause__) + refused.value.detail


def test_what_json_cannot_say_is_not_written() -> None:
    for value in (float("nan"), float("inf"), {"a": float("-inf")}):
        with pytest.raises(ValueError, match="not JSON compliant"):
            dump(value)
    with pytest.raises(Invalid):
        canonical(2**60)
