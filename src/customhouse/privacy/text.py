"""Readings of a string: the forms in which a detector should see it, however it was written down.

Every step is bounded: a fixed number of passes over the text, no pattern that can backtrack over more than a fixed window.
"""

from __future__ import annotations

import base64
import binascii
import html
import re
import unicodedata
from typing import Final
from urllib.parse import unquote

_INVISIBLE: Final = dict.fromkeys(
    [0x00AD, 0x034F, 0x061C, 0x180E, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2065), *range(0x2066, 0x206A), 0xFEFF]
)
_DASHES: Final = dict.fromkeys([*range(0x2010, 0x2016), 0x2043, 0x2212, 0x30FC], "-")
_LOOKALIKES: Final = _INVISIBLE | _DASHES | {0x3002: ".", 0xFF61: ".", 0x2024: "."}

_FOREIGN_DIGIT: Final = re.compile(r"(?![0-9])\d")
_UNICODE_ESCAPE: Final = re.compile(r"\\u([0-9A-Fa-f]{4})")
_UNSPACED: Final = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f"
_EDGE: Final = re.compile(rf"(?<=[0-9A-Za-z])(?=[{_UNSPACED}])|(?<=[{_UNSPACED}])(?=[0-9A-Za-z+(])")
_PERCENT: Final = re.compile(r"%[0-9A-Fa-f]{2}")
# Base64 of printable ASCII is recognisable: the top bit of each of three bytes is 0, which rules out half of the alphabet in the first
# three of four places. A random token of 22 characters matches once in some 10 000 times, so decoding is rare.
BASE64_OF_ASCII: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:[I-Za-f][A-HQ-Xg-nw-z0-3][ABEFIJMNQRUVYZcdghklopstwx014589][A-Za-z0-9+/_-]){3,}"
    r"(?:[I-Za-f][A-HQ-Xg-nw-z0-3][ABEFIJMNQRUVYZcdghklopstwx014589]?)?"
)


def plain(text: str) -> str:
    """Return text in compatibility form (NFKC), without invisible characters, with ASCII digits, dashes and dots."""
    if text.isascii():
        return text
    text = unicodedata.normalize("NFKC", text.translate(_LOOKALIKES)).translate(_LOOKALIKES)
    return _FOREIGN_DIGIT.sub(_ascii_digit, text)


def spaced(text: str) -> str:
    """Return text with a space wherever a script without spaces meets digits or Latin letters, so that numbers have edges."""
    return text if text.isascii() else _EDGE.sub(" ", text)


def readings(text: str) -> list[str]:
    r"""Return the plain form of a string, and what it says once decoded.

    Undone are percent-encoding (twice), HTML character references, `\\u` escapes and base64 of ASCII text. Japanese, Chinese, Korean and
    Thai text is read once more with spaces around numbers.
    """
    first = plain(text)
    found = [first]
    decoded = first
    if "&" in decoded:
        decoded = html.unescape(decoded)
    if "\\u" in decoded:
        decoded = _UNICODE_ESCAPE.sub(_character, decoded)
    for _ in range(2):
        if "%" in decoded and _PERCENT.search(decoded):
            decoded = unquote(decoded, errors="replace")
    if decoded != first:
        found.append(plain(decoded))
    hidden = "\n".join(_from_base64(token[0]) for token in BASE64_OF_ASCII.finditer(first))
    if hidden:
        found.append(hidden)
    return found + [apart for reading in found if (apart := spaced(reading)) != reading]


def _ascii_digit(digit: re.Match[str]) -> str:
    return str(unicodedata.decimal(digit[0]))


def _character(escape: re.Match[str]) -> str:
    return chr(int(escape[1], 16))


def _from_base64(token: str) -> str:
    token = token.translate({0x2D: "+", 0x5F: "/"})
    whole = token[: len(token) - (len(token) % 4 == 1)]
    try:
        return base64.b64decode(whole + "=" * (-len(whole) % 4)).decode("ascii", errors="replace")
    except (ValueError, binascii.Error):
        return ""


def without(text: str, spans: list[tuple[int, int]]) -> str:
    """Return a text with spans blanked, so that what one detector claimed is not claimed twice."""
    if not spans:
        return text
    parts: list[str] = []
    end = 0
    for start, stop in spans:
        if start >= end:
            parts += [text[end:start], "\x1f"]
            end = stop
    return "".join([*parts, text[end:]])
