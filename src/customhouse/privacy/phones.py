"""Telephone numbers as people write them in twelve locales.

Found are: international numbers (`+49 …`, `0049 …`), national numbers written in groups the way their country groups them, bare
national numbers with the trunk prefix 0, and any number behind a word such as *phone*, *Tel.* or *celular*. A bare run of digits
without 0, + or such a word is no phone: it cannot be told from an order number.
"""

from __future__ import annotations

import re
from typing import Final

import phonenumbers

REGIONS: Final = ("DE", "FR", "GB", "IT", "NL", "SE", "JP", "ES", "PT", "PL", "US", "BR")
"""The regions whose national formats are known."""

_SEP: Final = r"[ .\-/()\u00a0]{0,3}"
_INTERNATIONAL: Final = re.compile(rf"(?<![\w+])(?:\+ ?|00 ?)(?=[1-9])\d(?:{_SEP}\d){{6,14}}(?!\d)")
_RUN: Final = re.compile(r"(?<![\w+])\(?\d(?:[ .\-/()]{0,2}\d){8,12}(?![\w])(?![.,]\d)")
_NUMBER: Final = re.compile(r"\+?\d(?:[ .\-/()]{0,2}\d){6,14}(?!\d)")
LABELS: Final = frozenset(
    """
    tel telephone telefon telefono teléfono telefone telefoon tél téléphone phone telefonnummer telefonnumer telefoonnummer mobile mobil
    móvil movil telemóvel telemovel cell cellphone cellulare celular handy portable fax gsm kom komórka whatsapp sms msisdn call
    """.split()  # noqa: SIM905 - a list of words reads better as words
)
"""Words that announce a telephone number."""
LABELS_WITHOUT_SPACES: Final = ("電話", "電話番号", "携帯", "携帯電話", "携帯番号")
"""The same in a script that does not separate words."""
_LABEL_BEFORE: Final = re.compile(
    rf"(?:(?<![^\W\d_])(?:{'|'.join(sorted(LABELS))})(?:[ _-]?(?:number|nummer|no|nr|numer)s?)?(?: me)?(?: at| on)?"
    rf"|(?:{'|'.join(LABELS_WITHOUT_SPACES)}))[\s.:=#_\-)(]{{0,4}}$",
    re.IGNORECASE,
)
_LONGEST_LABEL: Final = 32
_DIGITS: Final = re.compile(r"\d+")
_TRUNK: Final = ("DE", "FR", "GB", "IT", "NL", "SE", "JP")
_SHAPES_TRUNK: Final = frozenset(
    {
        (2, 2, 2, 2, 2),  # FR
        (5, 6), (5, 3, 3), (4, 3, 4), (3, 4, 4), (3, 8), (4, 7), (5, 5),  # GB
        (2, 8), (3, 7), (3, 3, 4), (2, 4, 4), (4, 6), (2, 2, 2, 4),  # NL, JP, DE
        (4, 2, 4), (3, 3, 2, 2), (2, 3, 3, 2), (2, 3, 2, 2), (3, 3, 3, 2), (4, 3, 2, 2), (3, 2, 2, 2),  # SE, JP
        (4, 3, 3), (4, 4, 4), (4, 4, 3), (3, 6), (3, 5, 3), (3, 2, 2, 2, 2),  # DE, IT
    }
)  # fmt: skip
_SHAPES_9: Final = frozenset({(3, 3, 3), (2, 3, 2, 2), (3, 2, 2, 2), (2, 3, 4), (2, 7), (3, 6)})
_SHAPES_10: Final = frozenset({(3, 3, 4), (3, 7), (2, 4, 4), (2, 8)})
_SHAPES_11: Final = frozenset({(1, 3, 3, 4), (2, 5, 4), (2, 9)})
_BARE_TRUNK: Final = (10, 11)


def has_phone(text: str, *, bare: bool = True) -> bool:
    """Return whether a telephone number stands in a text.

    Args:
        text: a plain reading, with dates and identifiers blanked.
        bare: whether an unbroken run of digits with a leading 0 counts.
    """
    return (
        any(_is_international(m[0]) for m in _INTERNATIONAL.finditer(text))
        or any(_is_national(m[0], bare=bare) for m in _RUN.finditer(text))
        or any(_LABEL_BEFORE.search(text, max(0, m.start() - _LONGEST_LABEL), m.start()) for m in _NUMBER.finditer(text))
    )


def is_phone(text: str) -> bool:
    """Return whether a text can be one telephone number and nothing else (E.123 characters, 5 to 15 digits by E.164)."""
    digits = sum(c.isdecimal() for c in text)
    return 5 <= digits <= 15 and len(text) <= 32 and _PHONE_TEXT.fullmatch(text) is not None  # noqa: PLR2004 - E.164


_PHONE_TEXT: Final = re.compile(r"\+?[\d ().\-/]{5,30}(?: ?(?:x|ext\.?) ?\d{1,6})?")


def _is_international(text: str) -> bool:
    digits = "".join(_DIGITS.findall(text.replace("(0)", "")))
    if text.startswith("+"):
        return _judge("+" + digits, None, strict=False)
    return _judge("+" + digits.removeprefix("00"), None, strict=True)


def _is_national(text: str, *, bare: bool) -> bool:
    groups = _DIGITS.findall(text)
    digits = "".join(groups)
    shape = tuple(map(len, groups))
    if digits.startswith("00"):
        return False
    if len(groups) == 1:
        return bare and digits[0] == "0" and len(digits) in _BARE_TRUNK and _is_valid_in(digits, _TRUNK)
    if "." in text and len(groups) < (4 if digits[0] == "0" else 3):
        return False
    if digits[0] == "0":
        return shape in _SHAPES_TRUNK or (len(groups[0]) > 1 and min(shape[1:]) > 1 and _is_valid_in(digits, _TRUNK))
    if shape in _SHAPES_9:
        return "." not in text and _is_valid_in(digits, ("ES", "PT", "PL"))
    if shape in _SHAPES_10:
        north_american = shape == (3, 3, 4) and groups[0][0] > "1" and groups[1][0] > "1"
        return north_american or _is_valid_in(digits, ("IT", "BR", "US"))
    if shape in _SHAPES_11:
        return _is_valid_in(digits, ("BR", "US"))
    return False


def _is_valid_in(digits: str, regions: tuple[str, ...]) -> bool:
    return any(_judge(digits, region, strict=True) for region in regions)


def _judge(number: str, region: str | None, *, strict: bool) -> bool:
    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return False
    return phonenumbers.is_valid_number(parsed) if strict else phonenumbers.is_possible_number(parsed)
