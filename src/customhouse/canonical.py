"""JSON in and out: strict on the way in, byte-stable on the way out. Raises rather than guesses.

Each way has a quick path (orjson) in front of the strict one (the standard library's). The quick one is lenient, so it answers only where
a check of bytes proves that the strict one would have said the same; a property test compares the two (adr/0050).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn, TypeAlias, cast

import orjson
import rfc8785

from customhouse.errors import Fault, Invalid, MalformedJson
from customhouse.types import Json, JsonObject

MAX_DEPTH: Final = 64
MAX_INTEGER: Final = 2**53
_INTEGER_DIGITS: Final = 17
_DIGITS_AS_ZERO: Final = bytes(0x30 if 0x30 <= byte <= 0x39 else byte for byte in range(256))  # noqa: PLR2004 - 0 to 9
_SIXTEEN_DIGITS: Final = b"0" * 16
_PASS_ON: Final = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
_SORTED: Final = _PASS_ON | orjson.OPT_SORT_KEYS

Sayable: TypeAlias = "None | bool | int | float | str | Sequence[Sayable] | Mapping[str, Sayable]"
"""What `dump` takes: `Json` and everything that is as good as it."""


class _Refused(Exception):
    """Well-formed text that says something we do not accept."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise _Refused("an object has the same key twice")
    return result


def _integer(text: str) -> int:
    if len(text) > _INTEGER_DIGITS or not -MAX_INTEGER <= (value := int(text)) <= MAX_INTEGER:
        raise _Refused("an integer is beyond 2^53; send it as a string")
    return value


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise _Refused("a number is too large")
    return value


def _constant(text: str) -> NoReturn:
    raise _Refused(f"{text} is not JSON")


_decoder: Final = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant)


def parse(raw: bytes) -> Json:
    r"""Parse strict JSON (RFC 8259, I-JSON limits of RFC 7493 §2).

    Raises:
        MalformedJson: not UTF-8, or not JSON.
        Invalid: duplicate keys, NaN or Infinity, depth over 64, integers beyond 2^53, lone surrogates, `\u0000`.
    """
    # Below the limit there cannot be deeper nesting, whatever the text: no second look is needed.
    nested = raw.count(b"{") + raw.count(b"[") > MAX_DEPTH
    if nested and _depth_exceeds(raw):
        raise _invalid(f"nesting is deeper than {MAX_DEPTH}")
    found, value = _parse_quickly(raw)
    return cast("Json", value) if found else _parse_strictly(raw)


def _parse_quickly(raw: bytes) -> tuple[bool, Any]:
    """Return whether the value is certain, and the value.

    What orjson takes and we do not: integers beyond 2^53 have 16 digits or more. NUL is written as an escape. Of a key that comes twice one
    is kept, so the text that it writes has fewer strings than the text that it read. They are counted by quotes, less those behind a
    backslash: each string is worth 2, or 1 where its last character is written as two backslashes. What is read may write that character in
    another way, so it never counts less, string by string, than what is written: if the sums are equal, no string is missing.
    """
    if _SIXTEEN_DIGITS in raw.translate(_DIGITS_AS_ZERO):
        return False, None
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return False, None
    said = orjson.dumps(value)
    if b"\\" not in raw:
        return said == raw or said.count(b'"') == raw.count(b'"'), value
    if b"\\u0000" in said:
        return False, None
    return said.count(b'"') - said.count(b'\\"') == raw.count(b'"') - raw.count(b'\\"'), value


def _parse_strictly(raw: bytes) -> Json:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise MalformedJson("The request body is not UTF-8.") from None
    try:
        value = _decoder.decode(text)
    except _Refused as refused:
        raise _invalid(str(refused)) from None
    except (ValueError, RecursionError):
        raise MalformedJson("The request body is not JSON.") from None
    if b"\\u" in raw:
        _refuse_unstorable(value)
    return cast("Json", value)


def parse_object(raw: bytes) -> JsonObject:
    """Parse strict JSON that must be an object; raises as `parse` does."""
    value = parse(raw)
    if not isinstance(value, dict):
        raise _invalid("expected a JSON object")
    return value


def _invalid(detail: str) -> Invalid:
    return Invalid("The JSON is not acceptable.", (Fault("", detail),))


def _depth_exceeds(raw: bytes) -> bool:
    """Tell whether brackets outside strings nest deeper than the limit, in one pass and without recursion."""
    depth = 0
    in_string = escaped = False
    for byte in raw:
        if in_string:
            if escaped:
                escaped = False
            elif byte == 0x5C:  # noqa: PLR2004 - backslash
                escaped = True
            elif byte == 0x22:  # noqa: PLR2004 - quote
                in_string = False
        elif byte == 0x22:  # noqa: PLR2004
            in_string = True
        elif byte in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif byte in b"]}":
            depth -= 1
    return False


def _refuse_unstorable(value: Any) -> None:
    """Refuse what only an escape can bring in: NUL (PostgreSQL cannot hold it) and lone surrogates (UTF-8 cannot say them)."""
    if isinstance(value, str):
        if "\x00" in value:
            raise _invalid("a string holds \\u0000")
        if any("\ud800" <= char <= "\udfff" for char in value):
            raise _invalid("a string holds a lone surrogate")
    elif isinstance(value, dict):
        for key, item in value.items():
            _refuse_unstorable(key)
            _refuse_unstorable(item)
    elif isinstance(value, list):
        for item in value:
            _refuse_unstorable(item)


_encoder: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_sorted_encoder: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True)


def dump(value: Sayable) -> bytes:
    """Write compact UTF-8 JSON, members in the order given."""
    return _dump_quickly(value, _PASS_ON) or _encoder.encode(value).encode()


def dump_sorted(value: Sayable) -> bytes:
    """Write compact UTF-8 JSON with sorted members: equal values give equal bytes, for digests that stay in this service."""
    return _dump_quickly(value, _SORTED) or _sorted_encoder.encode(value).encode()


def write(value: Json) -> bytes:
    """Write compact UTF-8 JSON of what `parse` returned, or of what is made of it: the quickest of the three.

    That value holds no NaN, the one thing that would be written as something else. A float may look otherwise than `dump` writes it
    (`0.00001`, not `1e-05`) and is the same number; so no digest may be taken of these bytes that is compared with one taken elsewhere.
    """
    return orjson.dumps(value)


def _dump_quickly(value: Sayable, option: int) -> bytes:
    """Return what the encoders of the standard library would write, or nothing where that is not certain.

    orjson writes NaN as null, and floats below 0.0001 or from 1e16 on in another form.
    """
    try:
        said = orjson.dumps(value, option=option)
    except TypeError:
        return b""
    return b"" if b"null" in said or b"0.0000" in said or b"0e" in said.translate(_DIGITS_AS_ZERO) else said


def canonical(value: Any) -> bytes:
    """Write RFC 8785 canonical JSON, for bytes that others must be able to make again.

    Raises:
        Invalid: the value cannot be said in I-JSON.
    """
    try:
        return rfc8785.dumps(value)
    except rfc8785.CanonicalizationError:
        raise _invalid("the value has no canonical JSON form") from None
