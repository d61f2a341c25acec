"""JSON comes in strictly and goes out byte-stable; whatever bytes arrive, nothing but our two errors comes out."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
import rfc8785
from hypothesis import example, given, settings
from hypothesis import strategies as st

from customhouse import canonical as module
from customhouse.canonical import MAX_DEPTH, MAX_INTEGER, canonical, dump, dump_sorted, parse, parse_object
from customhouse.errors import Fault, Invalid, MalformedJson
from customhouse.types import Secret

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


# The quick path against the strict one ------------------------------------------------------------------------------------

thorough = settings(max_examples=200, derandomize=True, deadline=None)
spaces = st.sampled_from(["", "", " ", "\n", "\t \r"])
ESCAPES = r"\" \\ \n \/ \u0061 \u0022 \u005c \u0000 \ud83d\ude00 \ud800"
WORDS = "a b : { é 😀 null 0.0000 1e5 0e0"
NUMBERS = (
    "0 -0 -0.0 1e5 1E400 -1e-400 0.00001 1e16 9007199254740992 9007199254740993 18446744073709551616 123456789012345 "
    "0.1000000000000000055511151231257827 2.5e-7 1e+3 01 1. .5 +1 NaN -Infinity"
)
# Few keys and values, so that keys repeat, and strings end in backslashes of every spelling.
twins = st.lists(
    st.tuples(
        st.sampled_from(['"a"', r'"\u0061"', r'"a\\"', r'"a\u005c"', r'"\""', r'"\\"']),
        st.sampled_from(["1", r'"\\"', r'"\u005c"', r'"\""', '""', '"b"']),
    ),
    max_size=4,
).map(lambda found: "{" + ",".join(f"{key}:{value}" for key, value in found) + "}")
bits = st.sampled_from([*ESCAPES.split(), *WORDS.split(), "\x7f", "\x1f", "\u2028", " "])
strings = st.lists(bits, max_size=4).map(lambda found: f'"{"".join(found)}"')
numbers = st.one_of(st.sampled_from(NUMBERS.split()), st.integers().map(str), st.floats().map(repr))


def objects(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    member = st.tuples(spaces, strings, spaces, inner, spaces).map(lambda part: f"{part[0]}{part[1]}{part[2]}:{part[3]}{part[4]}")
    return st.lists(member, max_size=4).map(lambda found: "{" + ",".join(found) + "}")


texts = st.recursive(
    st.sampled_from(["true", "false", "null", "nul", ""]) | strings | numbers,
    lambda inner: objects(inner) | st.tuples(spaces, st.lists(inner, max_size=4)).map(lambda part: f"[{part[0]}{','.join(part[1])}]"),
    max_leaves=8,
)


def outcome(call: Any, *given_to_it: Any) -> str:
    """Tell what came of a call, to the last bit: `1`, `1.0` and `True` are not the same."""
    try:
        return repr(call(*given_to_it))
    except (Invalid, MalformedJson) as refused:
        return f"{type(refused).__name__} {refused.faults if isinstance(refused, Invalid) else refused.detail}"


@given(texts | objects(strings) | twins)
@thorough
@example('{"a":1,"a":1}')
@example('{"a\\\\":1,"a\\\\":1}')
@example('{"a":"\\"","a":"\\"\\""}')
@example('{"\\"":1,"\\u0022":"x"}')
@example('{"a":"\\\\","a":"\\\\\\""}')
@example('{"a":1, "\\u0061":2}')
@example("[18446744073709551615]")
@example("\ufeff{}")
def test_whatever_is_read_is_read_as_the_strict_reader_reads_it(given_text: str) -> None:
    raw = given_text.encode()

    assert outcome(parse, raw) == outcome(module._parse_strictly, raw)


@given(st.binary(max_size=60), st.binary(max_size=20), st.binary(max_size=20))
@thorough
@example(b"\xed\xa0\x80", b"", b"")
def test_whatever_bytes_stand_in_a_string_are_read_as_the_strict_reader_reads_them(one: bytes, two: bytes, three: bytes) -> None:
    raw = b'{"%b":"%b","%b":1}' % (one, two, three)
    if raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH:
        assert outcome(parse, raw) == outcome(module._parse_strictly, raw)


any_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4) | st.tuples(inner),
    max_leaves=12,
)


@given(any_values)
@thorough
@example([1e16, 1e-5, 0.0001, 1e22, 123456789012345680.0, 9999999999999998.0, 5e-324, 1.5e300, -0.0, 100.0])
@example({"b": None, "a": '\x00\x1f\x7f\u2028\\"/'})
@example("\ud800")
@example({"😀": 1, "\uffff": 2, "é": 3, "z": 4})
@example(2**70)
def test_whatever_is_written_has_the_bytes_of_the_standard_library(value: Any) -> None:
    for written, strictly in ((dump, module._encoder), (dump_sorted, module._sorted_encoder)):
        try:
            expected = strictly.encode(value).encode()
        except UnicodeEncodeError:
            with pytest.raises(UnicodeEncodeError):
                written(value)
            continue
        assert written(value) == expected


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-40, 40).map(lambda power: 1.0 * 10.0**power))
@thorough
def test_every_float_is_written_as_python_shows_it(value: float) -> None:
    assert dump(value) == repr(value).encode()


@pytest.mark.parametrize("value", [datetime(2026, 1, 1, tzinfo=UTC), Fault("/a", "b"), b"x", {1, 2}, object(), Secret(b"k")])
def test_what_is_no_json_value_is_not_written_by_accident(value: Any) -> None:
    with pytest.raises(TypeError):
        dump({"a": value})
    with pytest.raises(TypeError):
        dump_sorted([value])
