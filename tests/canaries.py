"""Looking for a value in bytes, in every form in which software tends to write one down."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

_SHORTEST = 8
"""Shorter texts turn up by chance."""
_READABLE = re.compile(rb"[\x20-\x7e]{8,}")


def forms(value: str) -> dict[str, bytes]:
    """Return the forms of a value: raw, base64 (at each of three places in what was encoded), hex, URL, JSON, HTML, UTF-16."""
    raw = value.encode()
    assert len(raw) >= _SHORTEST, value
    found = {
        "raw": raw,
        "hex": raw.hex().encode(),
        "hex in capitals": raw.hex().upper().encode(),
        "url": quote(value, safe="").encode(),
        "url form": quote_plus(value).encode(),
        "json": json.dumps(value)[1:-1].encode(),
        "json with slashes": json.dumps(value)[1:-1].replace("/", "\\/").encode(),
        "json in json": json.dumps(json.dumps(value)[1:-1])[1:-1].encode(),
        "html": html.escape(value).encode(),
        "utf-16": value.encode("utf-16-le"),
        "backwards": raw[::-1],
    }
    for shift in range(3):
        # What stands before and after decides over the first and the last characters: leave them out.
        encoded = base64.b64encode(bytes(shift) + raw)
        kept = encoded[-(-8 * shift // 6) : len(encoded) - (4 if (len(raw) + shift) % 3 else 0)]
        found[f"base64 at {shift}"] = kept
        found[f"base64url at {shift}"] = kept.replace(b"+", b"-").replace(b"/", b"_")
    return {form: text for form, text in found.items() if len(text) >= _SHORTEST}


def traces(values: dict[str, str], evidence: dict[str, bytes]) -> list[str]:
    """Return a line for each value that shows somewhere: its name, its form, the place. The value itself is not repeated."""
    # What is readable can only stand in readable stretches, and files of a database are hardly readable at all.
    places: dict[bytes, list[str]] = {}
    for place, content in evidence.items():
        places.setdefault(content, []).append(place)
    readable = [(b"\n".join(_READABLE.findall(content)), content, names) for content, names in places.items()]
    return [
        f"{name} ({form}) in {place}"
        for name, value in values.items()
        for form, text in forms(value).items()
        for within, content, names in readable
        if text in (within if _READABLE.fullmatch(text) else content)
        for place in names
    ]


def files_below(directory: Path) -> Iterator[tuple[str, bytes]]:
    """Return every file below a folder, by its relative path."""
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            try:
                yield str(path.relative_to(directory)), path.read_bytes()
            except FileNotFoundError:
                continue
