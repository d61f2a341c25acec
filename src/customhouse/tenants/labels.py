"""Names and descriptions that people write for people: shown, listed and stored in clear, so no place for personal data or secrets."""

from __future__ import annotations

import unicodedata
from typing import Final

from customhouse.errors import Fault
from customhouse.privacy.detectors import detect

_UNSEEN: Final = frozenset({"Cc", "Cs", "Co", "Cn", "Zl", "Zp"})
_BIDI: Final = frozenset(map(chr, [0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]))
"""What makes a terminal or a page show a text in another order than it is (UAX #9 §2); joiners, which scripts need, are not among them."""


def label_faults(text: str, pointer: str, *, longest: int, shortest: int = 0) -> tuple[Fault, ...]:
    """Return what speaks against a name or a description.

    Args:
        text: as given.
        pointer: JSON pointer of it in the request.
        longest: characters, at most.
        shortest: characters, at least.
    """
    faults = []
    if not shortest <= len(text) <= longest:
        faults.append(Fault(pointer, f"{shortest}–{longest} characters" if shortest else f"at most {longest} characters"))
    if any(char in _BIDI or (char not in "\n\t" and unicodedata.category(char) in _UNSEEN) for char in text):
        faults.append(Fault(pointer, "holds a control character"))
    if detect(text):
        faults.append(Fault(pointer, "looks as if it held personal data or a credential; it is stored and shown in clear"))
    return tuple(faults)
