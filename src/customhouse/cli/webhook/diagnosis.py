"""Guesses why a request was refused, by trying what usually goes wrong. Pure; says nothing of the body or a secret."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from customhouse.canonical import dump
from customhouse_receiver import Reason, WebhookRejected
from customhouse_receiver.headers import HeaderNames
from customhouse_receiver.keys import Keyring
from customhouse_receiver.verify import Rules, check

Pairs = Sequence[tuple[str, str]]

_SIGNATURE: Final = "-signature"
_LONGEST_NUMBER: Final = 12


def hint(
    reason: Reason, headers: Pairs, body: bytes, secrets: Mapping[str, str], *, header_prefix: str, tolerance: float, now: float
) -> str | None:
    """Return a sentence about the likely cause, or None where the reason says it all.

    Args:
        reason: of the refusal.
        headers: of the request.
        body: its bytes.
        secrets: those that were tried, by name.
        header_prefix: the one that was looked for.
        tolerance: seconds.
        now: unix seconds.
    """
    if reason is Reason.SIGNATURE_MISMATCH:
        rules = Rules(HeaderNames(header_prefix), tolerance, len(body) + 2)
        return _genuine_once(headers, body, Keyring(secrets), rules, now) or _key(headers, header_prefix)
    if reason is Reason.TIMESTAMP_OUTSIDE_TOLERANCE:
        return _time(headers, header_prefix, now)
    if reason is Reason.MISSING_HEADER:
        return _missing(headers, header_prefix)
    return None


def _genuine_once(headers: Pairs, body: bytes, keyring: Keyring, rules: Rules, now: float) -> str | None:
    for changed, said in _variants(body):
        try:
            check(headers, changed, keyring, rules, now=now)
        except WebhookRejected:
            continue
        return said
    return None


def _key(headers: Pairs, header_prefix: str) -> str:
    named = next((value for name, value in headers if name.lower() == f"{header_prefix.lower()}-signature-key-id"), "")
    if named and named.isprintable():
        return f"the request names the key {named[:128]}: is that the secret which you gave?"
    return "either the secret is another connection's, or the body is not the bytes that came"


def _variants(body: bytes) -> Iterator[tuple[bytes, str]]:
    """Yield what the body may have been before something touched it."""
    for end in (b"\r\n", b"\n"):
        if body.endswith(end):
            yield body.removesuffix(end), "genuine without the line end at the end of the body: something added it, perhaps an editor"
    yield body + b"\n", "genuine with a line end at the end of the body: something removed it"
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return
    said = "genuine as compact JSON: something parsed the body and wrote it again; verify the raw bytes, before any decoding"
    try:
        yield dump(value), said
    except (ValueError, TypeError, RecursionError):
        return


def _time(headers: Pairs, header_prefix: str, now: float) -> str | None:
    names = {f"{header_prefix.lower()}-timestamp", "webhook-timestamp"}
    text = next((value for name, value in headers if name.lower() in names), "")
    if not (text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER):
        return None
    age = now - int(text)
    where = f"{age:.0f} s old" if age > 0 else f"{-age:.0f} s ahead"
    return f"the request is {where}: a captured one, or a clock that is wrong (run NTP on both sides)"


def _missing(headers: Pairs, header_prefix: str) -> str:
    ours = f"{header_prefix.lower()}{_SIGNATURE}"
    for name, _ in headers:
        lower = name.lower()
        if lower.endswith(_SIGNATURE) and lower not in {ours, "webhook-signature"} and name.isprintable():
            return f"there is a header {name[:64]}: perhaps the header prefix is {name[: -len(_SIGNATURE)][:64]}"
    if any(name.lower() in {ours, "webhook-signature"} for name, _ in headers):
        return "some of the signature headers are there: a proxy may have dropped the others"
    return "no signature header at all: sent by somebody else, or a proxy dropped them"
