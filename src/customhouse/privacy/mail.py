"""E-mail addresses: internationalised ones, and the usual ways of hiding one from a machine."""

from __future__ import annotations

import re
from typing import Final

_TLD: Final = r"(?:xn--[A-Za-z0-9-]{1,59}|[^\W\d_]{2,24})"
_WORDS: Final = r"(?:dot|punkt|point|punto|ponto|kropka|punt|prick|period)"
_DOT: Final = rf"(?:\.|\s{{0,2}}[\[({{<]\s{{0,2}}(?:\.|{_WORDS})\s{{0,2}}[\])}}>]\s{{0,2}}|\s{{1,2}}(?:dot|punkt|punto)\s{{1,2}})"
_AT: Final = r"\s{0,2}[\[({<]\s{0,2}(?:at|@|arroba|chiocciola|małpa)\s{0,2}[\])}>]\s{0,2}"
_MAIL: Final = re.compile(
    rf"""(?<=[^\s@])(?:
        \s{{0,2}}@\s{{0,2}}(?![1-9]x\.(?:png|jpe?g|gif|webp|svg))(?:[\w-]{{1,63}}{_DOT}){{1,8}}{_TLD}
        |{_AT}(?:[\w-]{{1,63}}{_DOT}){{1,8}}{_TLD}
        |\s{{1,2}}at\s{{1,2}}(?!(?:the|this|that|an?|our|your|my|their)\s)(?:[\w-]{{1,63}}\s{{1,2}}dot\s{{1,2}}){{1,8}}{_TLD}
    )""",
    re.VERBOSE | re.IGNORECASE,
)
_WHOLE: Final = re.compile(
    rf"(?=[^@]{{1,64}}@)[\w!#$%&'*+/=?^`{{|}}~-]+(?:\.[\w!#$%&'*+/=?^`{{|}}~-]+)*@(?:[^\W_](?:[\w-]{{0,61}}[^\W_])?\.){{1,8}}{_TLD}"
)
_IN_IDENTIFIER: Final = re.compile(
    r"[A-Za-z0-9][_-]at[_-][A-Za-z0-9-]{1,63}(?:\.|[_-]dot[_-])"
    r"(?:com|net|org|info|biz|edu|gov|io|co|de|at|ch|fr|es|it|nl|pl|pt|se|uk|us|jp|br|eu|test|example|invalid)(?![A-Za-z0-9])"
)
_MAX_ADDRESS: Final = 254  # RFC 5321 §4.5.3.1.3, less the angle brackets


def mail_spans(text: str) -> list[tuple[int, int]]:
    """Return where e-mail addresses stand in a text, plain or hidden (`ada [at] example [dot] com`)."""
    return [(max(0, m.start() - 1), m.end()) for m in _MAIL.finditer(text)]


def is_mail(text: str) -> bool:
    """Return whether a text is one e-mail address and nothing else (dot-atom form, RFC 5322 §3.4.1, with RFC 6531 letters)."""
    return len(text) <= _MAX_ADDRESS and _WHOLE.fullmatch(text) is not None


def identifier_has_mail(text: str) -> bool:
    """Return whether an identifier spells an e-mail address in the characters that identifiers may use."""
    return ("at-" in text or "at_" in text) and _IN_IDENTIFIER.search(text) is not None
