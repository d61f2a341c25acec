"""Whether a value is what its field claims, and whether an id is opaque."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Final

from customhouse.privacy.accounts import is_card, is_iban
from customhouse.privacy.classes import PiiClass
from customhouse.privacy.detectors import detect, names_in
from customhouse.privacy.fields import read_name
from customhouse.privacy.mail import is_mail
from customhouse.privacy.network import is_ip
from customhouse.privacy.phones import is_phone
from customhouse.privacy.suspicion import is_suspect
from customhouse.types import Json

_OPAQUE: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SHORT_NUMBER: Final = re.compile(r"\d{1,6}")
_DATE: Final = re.compile(r"\d{4}(?:-\d\d(?:-\d\d(?:T00:00(?::00(?:\.0+)?)?Z?)?)?)?|\d{1,2}([./-])\d{1,2}\1(?:\d{4}|\d\d)|\d{8}")
_ACCOUNT: Final = re.compile(r"[A-Za-z0-9 \-/]{4,40}")
_IDENTITY: Final = re.compile(r"[A-Za-z0-9 .\-/+]{3,40}")
_EMAIL: Final = frozenset((PiiClass.EMAIL,))
_MAILBOX: Final = re.compile(
    r"(?=[^@]{1,64}@)(?:[A-Za-z0-9]{1,30}[._-]){0,4}[A-Za-z0-9]{1,30}@(?:[a-z][a-z0-9]{1,30}[.-]){0,4}[a-z][a-z0-9]{1,30}\.[a-z]{2,12}"
)
_MAX_TEXT: Final = 512
_DIGITS: Final = re.compile(r"\d")
_FEWEST_PHONE_DIGITS: Final = 4

_SHAPES: Final[dict[PiiClass, Callable[[str], bool]]] = {
    PiiClass.EMAIL: is_mail,
    PiiClass.PHONE: is_phone,
    PiiClass.DATE_OF_BIRTH: lambda text: _DATE.fullmatch(text) is not None,
    PiiClass.NATIONAL_ID: lambda text: _IDENTITY.fullmatch(text) is not None,
    PiiClass.BANK_ACCOUNT: lambda text: is_iban(text) or (_ACCOUNT.fullmatch(text) is not None and not text[:2].isalpha()),
    PiiClass.PAYMENT_CARD: lambda text: is_card(text.replace(" ", "").replace("-", "")),
    PiiClass.IP_ADDRESS: is_ip,
    PiiClass.CREDENTIAL: lambda _: False,
    PiiClass.PERSON: lambda _: False,
}
_NUMERIC: Final = frozenset(PiiClass) - {PiiClass.EMAIL, PiiClass.NAME, PiiClass.ADDRESS, PiiClass.IP_ADDRESS, PiiClass.ONLINE_ID}


def fits(value: Json, claims: Collection[PiiClass]) -> bool:
    """Return whether an allow-listed value is what its field claims to be, and nothing more.

    `work_email` has to be one e-mail address; a field of free text may hold nothing that a detector knows. Credentials never fit.

    Args:
        value: a string or a number; anything else does not fit.
        claims: the classes of the field, by name and by declaration; none for a name that the closed lists do not have.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return False
    text = value if isinstance(value, str) else str(value)
    if claims == _EMAIL and _MAILBOX.fullmatch(text) and not is_suspect(text.replace("@", " ")):
        # By far the most frequent case: no detector but that of e-mail addresses looks across the `@`.
        return True
    if len(text) > _MAX_TEXT or names_person(text):
        return False
    for claim in claims:
        shape = _SHAPES.get(claim)
        if shape is not None and not shape(text):
            return False
    return set(detect(text)) <= set(claims)


def is_meant(value: Json, claim: PiiClass) -> bool:
    """Return whether a value in a field whose *name* claims a class can be of that class.

    `{"emails": 12}` counts e-mails and `{"mobile": "ios"}` names a platform: neither is personal data.
    """
    if isinstance(value, str):
        if claim is PiiClass.PHONE:
            return len(_DIGITS.findall(value)) >= _FEWEST_PHONE_DIGITS or bool(detect(value))
        return bool(value.strip())
    return isinstance(value, int | float) and not isinstance(value, bool) and claim in _NUMERIC


def is_opaque(value: Json) -> bool:
    """Return whether the value of an id field in a person object tells nothing by itself."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return isinstance(value, str) and _OPAQUE.fullmatch(value) is not None and not detect(value)


def is_bare_reference(value: Json) -> bool:
    """Return whether a bare value where a person should be (`"owner": "u_17"`) is an opaque id, or a count.

    A word could be a name and a long number a telephone, so an id has to mix letters with a digit, or be a number of at most six.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(abs(value))
    if not isinstance(value, str) or not is_opaque(value):
        return False
    if value.isdecimal():
        return _SHORT_NUMBER.fullmatch(value) is not None
    return _DIGITS.search(value) is not None and any(c.isalpha() for c in value)


def names_person(text: str) -> bool:
    """Return whether a text that is no JSON by itself gives values the names of personal fields: `?first_name=…`, `{'phone': …`."""
    for key in names_in(text):
        name = read_name(key)
        if name.container or name.in_person or name.pii_class is not None:
            return True
    return False
