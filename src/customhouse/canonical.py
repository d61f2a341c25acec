"""JSON in and out: strict on the way in, byte-stable on the way out. Raises rather than guesses."""

from __future__ import annotations

import json
import math
from typing import Any, Final, NoReturn, cast

import rfc8785

from customhouse.errors import Fault, Invalid, MalformedJson
from customhouse.types import Json, JsonObject

MAX_DEPTH: Final = 64
MAX_INTEGER: Final = 2**53
_INTEGER_DIGITS: Final = 17


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


def dump(value: Any) -> bytes:
    """Write compact UTF-8 JSON, members in the order given."""
    return _encoder.encode(value).encode()


def dump_sorted(value: Any) -> bytes:
    """Write compact UTF-8 JSON with sorted members: equal values give equal bytes, for digests that stay in this service."""
    return _sorted_encoder.encode(value).encode()


def canonical(value: Any) -> bytes:
    """Write RFC 8785 canonical JSON, for bytes that others must be able to make again.

    Raises:
        Invalid: the value cannot be said in I-JSON.
    """
    try:
        return rfc8785.dumps(value)
    except rfc8785.CanonicalizationError:
        raise _invalid("the value has no canonical JSON form") from None
