"""What the guarded proxy lets through: paths in one spelling alone, and rules of the manifest over them. Pure.

Nothing is repaired: a path that two readers could take for two different ones is refused (threats R25). What passes is sent as it is.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

from customhouse.errors import Fault, Invalid
from customhouse.providers.manifest import Allowance, Provider

LONGEST: Final = 1500
"""Characters of path and query together; with the provider's base they stay below what a URL may have."""
_PATH: Final = re.compile(rb"(?:/(?:[A-Za-z0-9._~!$&'()*+,=:@-]|%[0-9A-F]{2})+)+")
_QUERY: Final = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,=:@/?-]|%[0-9A-F]{2})*")
_ENCODED: Final = re.compile(rb"%([0-9A-F]{2})")
_NEEDLESS: Final = re.compile(rb"[A-Za-z0-9._~-]")
"""Unreserved characters (RFC 3986 §2.3): encoded or not, they are the same to some readers and not to others."""
_PARTING: Final = frozenset("/\\%;?#")
_DOTS: Final = frozenset({".", ".."})
_NAMES: Final = frozenset(
    (
        *("access_token", "oauth_token", "auth_token", "token", "bearer", "authorization", "api_key", "apikey", "key"),
        *("_method", "$method", "http_method", "$httpmethod", "x-http-method", "x-http-method-override", "callback", "jsonp"),
    )
)
"""Parameters that stand for another credential, another method, or an answer that is a script."""


def checked_path(raw: bytes) -> str:
    """Return a path as it came, where it has one meaning only.

    Args:
        raw: as it stood in the request line, percent-encoded; begins with `/`.

    Raises:
        Invalid: it could mean another path to somebody: dot segments, empty segments, encoded `/ \\ % ; ? #`, needlessly encoded
            characters, control characters, what is not UTF-8, and what becomes one of these by compatibility (NFKC).
    """
    if len(raw) > LONGEST:
        raise _refused("/path", f"is longer than {LONGEST} bytes")
    if _PATH.fullmatch(raw) is None:
        raise _refused("/path", "has an empty segment, or characters that a path may not hold as they are; % is followed by upper-case hex")
    if any(_NEEDLESS.fullmatch(bytes([int(one, 16)])) for one in _ENCODED.findall(raw)):
        raise _refused("/path", "encodes characters that need no encoding")
    for segment in raw.split(b"/")[1:]:
        _check_segment(segment)
    return raw.decode("ascii")


def checked_query(raw: bytes) -> str:
    """Return a query as it came, but for apostrophes, which are encoded as every HTTP client does.

    Raises:
        Invalid: characters that a query may not hold, or a parameter that stands for a credential or a method.
    """
    if len(raw) > LONGEST:
        raise _refused("/query", f"is longer than {LONGEST} bytes")
    if _QUERY.fullmatch(raw) is None:
        raise _refused("/query", "holds characters that must be percent-encoded; % is followed by upper-case hex")
    for part in raw.split(b"&"):
        name = unquote_to_bytes(part.partition(b"=")[0].replace(b"+", b" ")).decode("utf-8", "replace")
        if unicodedata.normalize("NFKC", name).strip().casefold() in _NAMES:
            raise _refused("/query", "names a parameter that stands for a credential, a method or a script")
    return raw.decode("ascii").replace("'", "%27")


def rules_for(provider: Provider, method: str, path: str) -> tuple[Allowance, ...]:
    """Return the rules that speak of a call, in the manifest's order."""
    return tuple(rule for rule in provider.allow if rule.method == method and _pattern(rule.path).fullmatch(path) is not None)


def _check_segment(segment: bytes) -> None:
    try:
        text = unquote_to_bytes(segment).decode("utf-8")
    except UnicodeDecodeError:
        raise _refused("/path", "is not UTF-8") from None
    plain = unicodedata.normalize("NFKC", text)
    for form in (text, plain):
        if form in _DOTS or form.strip() in _DOTS:
            raise _refused("/path", "has a dot segment")
        if not _PARTING.isdisjoint(form):
            raise _refused("/path", "has an encoded character that parts paths")
        if not form.isprintable():
            raise _refused("/path", "has characters that do not print")


def _refused(pointer: str, detail: str) -> Invalid:
    return Invalid("The path or query for the provider is not acceptable.", (Fault(pointer, detail),))


@lru_cache(maxsize=4096)
def _pattern(path: str) -> re.Pattern[str]:
    """Return what a rule's path means: `{name}` one segment, `*` characters within one, a last segment `*` any rest."""
    *segments, last = path.split("/")[1:]
    parts = [_segment(segment) for segment in segments]
    parts.append("[^/]+(?:/[^/]+)*" if last == "*" else _segment(last))
    return re.compile("".join(f"/{part}" for part in parts))


def _segment(text: str) -> str:
    if text.startswith("{") and text.endswith("}"):
        return "[^/]+"
    return "[^/]*".join(re.escape(part) for part in text.split("*"))
