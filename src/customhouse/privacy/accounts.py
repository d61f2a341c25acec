"""Numbers with a check digit: bank accounts (ISO 13616), payment cards (ISO/IEC 7812) and national identity numbers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from stdnum.br import cpf
from stdnum.de import idnr
from stdnum.es import dni, nie
from stdnum.fr import nir
from stdnum.gb import nhs
from stdnum.it import codicefiscale
from stdnum.jp import in_ as mynumber
from stdnum.nl import bsn
from stdnum.pl import pesel
from stdnum.pt import cc, nif
from stdnum.se import personnummer

_IBAN_COUNTRIES: Final = {
    15: "NO",
    16: "BE",
    18: "DK FI FO GL NL",
    19: "MK SI",
    20: "AT BA EE KZ LT LU XK",
    21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA",
    23: "AE GI IL IQ TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST",
    26: "IS TR",
    27: "FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HU LB PL SV",
    29: "BR EG PS QA UA",
    30: "JO KW MU",
    31: "MT SC",
    32: "LC",
}
_IBAN_LENGTH: Final = {country: length for length, countries in _IBAN_COUNTRIES.items() for country in countries.split()}
_IBAN_START: Final = re.compile(r"(?<![0-9A-Za-z])[A-Za-z]{2}\d{2}(?=[ -]?[0-9A-Za-z])")
_WINDOW: Final = 60
_ACCOUNT_DIGITS: Final = re.compile(r"\d(?:[ -]?\d){5}")
_CARD_RUN: Final = re.compile(r"(?<![0-9A-Za-z])\d(?:[ -]?\d){12,}(?![0-9A-Za-z])")
_DIGITS: Final = re.compile(r"\d+")
_CARD_BRANDS: Final = re.compile(
    r"4(?:\d{15}|\d{18})|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}"
    r"|(?:6011|64[4-9]\d|65\d\d|62\d\d|35(?:2[89]|[3-8]\d))\d{12,15}"
)
_CARD_LENGTHS: Final = range(14, 20)
_CARD_STARTS: Final = "23456"


def is_iban(text: str) -> bool:
    """Return whether a text is one IBAN and nothing else."""
    spans = iban_spans(text)
    return spans == [(0, len(text))]


def iban_spans(text: str) -> list[tuple[int, int]]:
    """Return where IBANs stand in a text: a known country, its length, check digits by modulo 97."""
    return [(m.start(), end) for m in _IBAN_START.finditer(text) if (end := _iban_end(text, m.start()))]


def _iban_end(text: str, start: int) -> int:
    if _ACCOUNT_DIGITS.search(text, start + 2, start + _WINDOW) is None:
        return 0
    length = _IBAN_LENGTH.get(text[start : start + 2].upper())
    kept: list[str] = []
    for position in range(start, min(len(text), start + _WINDOW)):
        char = text[position]
        if char.isascii() and char.isalnum():
            kept.append(char.upper())
            if len(kept) == length:
                after = text[position + 1 : position + 2]
                moved = "".join(kept[4:] + kept[:4])
                sound = int("".join(str(int(c, 36)) for c in moved)) % 97 == 1
                return position + 1 if sound and not (after.isascii() and after.isalnum()) else 0
        elif char not in " -":
            return 0
    return 0


def card_spans(text: str) -> list[tuple[int, int]]:
    """Return where payment card numbers stand in a text: a known brand's prefix and length, and Luhn's check digit."""
    spans: list[tuple[int, int]] = []
    for run in _CARD_RUN.finditer(text):
        groups = [(m.start() + run.start(), m.end() + run.start()) for m in _DIGITS.finditer(run[0])]
        digits = "".join(_DIGITS.findall(run[0]))
        ends: dict[int, int] = {}
        length = 0
        for begin, end in groups:
            length += end - begin
            ends[length] = end
        first = 0
        for begin, end in groups:
            spans += [
                (begin, ends[first + size])
                for size in _CARD_LENGTHS
                if first + size in ends and digits[first] in _CARD_STARTS and is_card(digits[first : first + size])
            ]
            first += end - begin
    return spans


def is_card(digits: str) -> bool:
    """Return whether bare digits are a payment card number."""
    return digits.isascii() and _CARD_BRANDS.fullmatch(digits) is not None and _luhn(digits)


def _luhn(digits: str) -> bool:
    odd = sum(map(int, digits[-1::-2]))
    even = sum((0, 2, 4, 6, 8, 1, 3, 5, 7, 9)[int(d)] for d in digits[-2::-2])
    return (odd + even) % 10 == 0


_Check = Callable[[str], bool]


def _ssn_is_valid(text: str) -> bool:
    # Wider than what was ever issued: 9xx are tax numbers of persons, and 987-65-432x stands in advertisements.
    number = "".join(_DIGITS.findall(text))
    return len(number) == 9 and number[:3] != "000" and number[3:5] != "00" and number[5:] != "0000"  # noqa: PLR2004 - 3 + 2 + 4


_SHAPED: Final[tuple[tuple[re.Pattern[str], _Check], ...]] = (
    (re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])"), _ssn_is_valid),
    (
        re.compile(r"(?<!\w)(?:[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]|QQ) ?\d\d ?\d\d ?\d\d ?[A-D](?!\w)"),
        lambda _: True,
    ),  # UK national insurance
    (re.compile(r"(?<!\w)[12] ?\d\d ?\d\d ?(?:\d\d|2[ABab]) ?\d{3} ?\d{3} ?\d\d(?!\w)"), nir.is_valid),
    (re.compile(r"(?<!\w)\d{8}[ -]?[A-HJ-NP-TV-Z](?!\w)", re.IGNORECASE), dni.is_valid),
    (re.compile(r"(?<!\w)[XYZ][ -]?\d{7}[ -]?[A-Z](?!\w)", re.IGNORECASE), nie.is_valid),
    (
        re.compile(r"(?<!\w)[A-Z]{6}\d\d[A-EHLMPR-T][0-9LMNP-V]{2}[A-Z][0-9LMNP-V]{3}[A-Z](?!\w)", re.IGNORECASE),
        codicefiscale.is_valid,
    ),
    (re.compile(r"(?<![\w-])(?:\d\d)?\d{6}[-+]\d{4}(?![\w-])"), personnummer.is_valid),
    (re.compile(r"(?<!\w)\d{3}\.\d{3}\.\d{3}-\d\d(?!\w)"), cpf.is_valid),
    (re.compile(r"(?<!\w)\d{8} ?\d ?[A-Z][A-Z0-9]\d(?!\w)"), cc.is_valid),
    (re.compile(r"(?<![\w-])\d\d \d{3} \d{3} \d{3}(?![\w-])"), idnr.is_valid),
)
"""Numbers whose written form, with its check digit, is distinctive by itself."""

_NAMED: Final[tuple[tuple[str, _Check], ...]] = (
    (r"pesel", pesel.is_valid),
    (r"bsn|burgerservicenummer|sofinummer", bsn.is_valid),
    (r"nif|contribuinte", lambda text: bool(nif.is_valid(text) or dni.is_valid(text))),
    (r"steuer-?(?:id|nummer|identifikationsnummer)|idnr|tin", idnr.is_valid),
    (r"nhs", nhs.is_valid),
    (r"cpf", cpf.is_valid),
    (r"ssn|social\ security(?:\ (?:number|no))?", _ssn_is_valid),
    (r"personnummer|pnr", personnummer.is_valid),
    (r"my\ ?number|マイナンバー|個人番号", mynumber.is_valid),
)
LABELS: Final = frozenset(
    """
    pesel bsn burgerservicenummer sofinummer nif contribuinte steuer steuerid steuernummer steueridentifikationsnummer idnr tin nhs cpf
    ssn security personnummer pnr my mynumber
    """.split()  # noqa: SIM905 - a list of words reads better as words
)
"""The words of these names."""
LABELS_WITHOUT_SPACES: Final = ("マイナンバー", "個人番号")
_BEHIND_NAME: Final = tuple(
    (
        re.compile(
            rf"(?:(?<![^\W\d_])|(?<=[^\x00-\x7f]))(?:{names})(?:[ _-]?(?:number|nummer|no|nr|nº|numer))?\.?[\s:=#_-]{{0,3}}$", re.IGNORECASE
        ),
        check,
    )
    for names, check in _NAMED
)
"""Numbers that are bare digits: found behind their name only, since a check digit alone passes one order number in ten."""
_LONGEST_LABEL: Final = 48
_BARE: Final = re.compile(r"(?<!\w)\d(?:[ .\-/]?\d){7,13}(?!\w)|(?<=_)\d{8,14}(?!\w)")


def national_id_spans(text: str) -> list[tuple[int, int]]:
    """Return where national identity numbers stand in a text."""
    spans = [m.span() for pattern, check in _SHAPED for m in pattern.finditer(text) if check(m[0])]
    for run in _BARE.finditer(text):
        window = max(0, run.start() - _LONGEST_LABEL)
        if any(pattern.search(text, window, run.start()) and check(run[0]) for pattern, check in _BEHIND_NAME):
            spans.append(run.span())
    return sorted(spans)
