"""The e-mail about a notice: ids and a link, never data. Pure."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from textwrap import fill
from typing import Final

from customhouse.notices.kinds import KINDS

PATH: Final = "/notices/"
_LONGEST_ADDRESS: Final = 254  # RFC 5321 §4.5.3.1.3, without the angle brackets
_WIDTH: Final = 72
# RFC 5321 §4.1.2: a dot-string before the at sign, a name after it; quoted strings, address literals and SMTPUTF8 are left out.
_ATOM: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS: Final = re.compile(rf"(?=.{{1,64}}@){_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})*")
_WAITS: Final = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 30, 120, 360, 720))
"""Before the second, third … attempt; about a day in all."""


def usable(address: str) -> bool:
    """Tell whether mail can be sent to an address: plain ASCII of RFC 5321, so without anything that could end a header line."""
    return len(address) <= _LONGEST_ADDRESS and _ADDRESS.fullmatch(address) is not None


def host_of(address: str) -> str:
    """Return what stands after the at sign.

    Raises:
        ValueError: it is not usable.
    """
    if not usable(address):
        raise ValueError("not a usable address")
    return address.rpartition("@")[2]


def next_try(attempts: int, now: datetime) -> datetime | None:
    """Return when to try again after so many attempts in vain; None: not any more."""
    return now + _WAITS[attempts - 1] if 1 <= attempts <= len(_WAITS) else None


def compose(*, kind: str, notice_id: str, connection_id: str | None, sender: str, to: str, public_url: str, at: datetime) -> bytes:
    """Return a whole message (RFC 5322); the same notice has the same Message-ID, so that a mail sent twice can be known as one.

    Args:
        kind: of the notice; one of `KINDS`.
        notice_id: `ntc_…`.
        connection_id: `con_…`, where it is about one.
        sender: our address.
        to: the user's address.
        public_url: under what address we are reached, without a trailing slash.
        at: when the notice was written, with an offset.

    Raises:
        ValueError: an address is not usable, or the kind is unknown.
    """
    if not usable(to) or not usable(sender):
        raise ValueError("not a usable address")
    said = KINDS.get(kind)
    if said is None:
        raise ValueError("no kind of notice")
    message = EmailMessage(policy=SMTP)
    message["From"] = sender
    message["To"] = to
    message["Subject"] = said.subject
    message["Date"] = format_datetime(at)
    message["Message-ID"] = f"<{notice_id}@{host_of(sender)}>"
    # RFC 3834 §5: no vacation reply to this one.
    message["Auto-Submitted"] = "auto-generated"
    about = [f"Notice: {notice_id}"]
    if connection_id is not None:
        about.append(f"Connection: {connection_id}")
    about.append(f"What this means: {public_url}{PATH}{kind}")
    parts = [fill(said.sentence, _WIDTH), fill(said.advice, _WIDTH), "\n".join(about), fill(_CLOSING, _WIDTH)]
    message.set_content("\n\n".join(parts) + "\n", charset="us-ascii", cte="7bit")
    return message.as_bytes()


_CLOSING: Final = (
    "This message holds no details on purpose: they are in the application where you made the connection. It asks for no answer."
)
