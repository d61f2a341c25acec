"""Who is to be connected, as the host says it: an opaque id, and what people are shown and told."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from customhouse.errors import Fault, Invalid
from customhouse.privacy.detectors import identifier_carries_pii
from customhouse.types import Json, JsonObject

_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
_MAIL: Final = re.compile(r"[^\s@<>\"(),:;\\\[\]\x00-\x1f\x7f]{1,64}@[A-Za-z0-9.-]{1,253}")
_LOCALE: Final = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8}){0,3}")
_NAME_LENGTH: Final = 200


@dataclass(frozen=True, slots=True)
class User:
    """A person of the host application. All but the id is personal data: sealed, and gone with the session or the connection."""

    id: str
    display_name: str | None = None
    email: str | None = None
    locale: str | None = None

    @property
    def shown(self) -> str:
        """What a page calls this person."""
        return self.display_name or self.email or self.id

    def facts(self) -> JsonObject:
        """Return the members to seal."""
        facts: JsonObject = {"id": self.id}
        facts |= {name: value for name, value in (("display_name", self.display_name), ("email", self.email)) if value}
        if self.locale:
            facts["locale"] = self.locale
        return facts


def user_of(user_id: str, display_name: str | None = None, email: str | None = None, locale: str | None = None) -> User:
    """Check what the host says of a user.

    Raises:
        Invalid: it is not acceptable; nothing of it is repeated.
    """
    faults = []
    if not _ID.fullmatch(user_id) or identifier_carries_pii(user_id):
        faults.append(Fault("/user/id", "1–128 printable ASCII characters without spaces, and no personal data: use an opaque id"))
    name = None if display_name is None else display_name.strip()
    if name is not None and (not 0 < len(name) <= _NAME_LENGTH or not _shows_as_it_is(name)):
        faults.append(Fault("/user/display_name", f"1–{_NAME_LENGTH} characters, none of which hides or turns others"))
    if email is not None and not _MAIL.fullmatch(email):
        faults.append(Fault("/user/email", "is not one mail address"))
    if locale is not None and not _LOCALE.fullmatch(locale):
        faults.append(Fault("/user/locale", "is not a language tag such as en or pt-BR"))
    if faults:
        raise Invalid("The user is not acceptable.", tuple(faults))
    return User(user_id, name, email, locale)


def user_from(facts: JsonObject) -> User:
    """Return a user as sealed."""

    def text(value: Json) -> str | None:
        return value if isinstance(value, str) else None

    return User(str(facts["id"]), text(facts.get("display_name")), text(facts.get("email")), text(facts.get("locale")))


def _shows_as_it_is(name: str) -> bool:
    """Tell whether a name is printable and holds no mark that turns the text around it (UAX #9 §2)."""
    turning = {0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)}
    return name.isprintable() and not any(ord(char) in turning for char in name)
