"""What became of one request, as a line for people and as JSON for programs. The payload is left out unless it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from rich.text import Text

from customhouse.canonical import dump
from customhouse.clock import rfc3339
from customhouse.types import Json
from customhouse_receiver import Event, Reason

GENUINE: Final = "genuine"
DUPLICATE: Final = "duplicate"
REFUSED: Final = "refused"
_STYLES: Final = {GENUINE: "green", DUPLICATE: "yellow", REFUSED: "red"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """One request and its end.

    Attributes:
        at: when it was judged.
        size: bytes of the body.
        status: what was answered; None where nobody waits for an answer.
        reason: why it was refused; None where it was not. `method_not_allowed` is no `Reason` of the library.
        detail: a sentence about it.
        event: the event, where the request is genuine.
        duplicate: whether it was done before.
    """

    at: datetime
    size: int
    status: int | None = None
    reason: str | None = None
    detail: str | None = None
    event: Event | None = None
    duplicate: bool = False

    @property
    def verdict(self) -> str:
        """`genuine`, `duplicate` or `refused`."""
        if self.reason is not None:
            return REFUSED
        return DUPLICATE if self.duplicate else GENUINE

    def json(self, *, data: bool) -> dict[str, Json]:
        """Return it for programs; `data` adds the payload."""
        said: dict[str, Any] = {"at": rfc3339(self.at), "verdict": self.verdict, "status": self.status, "bytes": self.size}
        if self.reason is not None:
            said |= {"reason": self.reason, "detail": self.detail}
        if self.event is not None:
            event = self.event
            said |= {
                "event_id": event.event_id,
                "event_type": event.event_type,
                "tenant_id": event.tenant_id,
                "connection_id": event.connection_id,
                "profile": event.profile,
                "secret": event.key_id,
                "signed_at": event.timestamp,
                "age_seconds": round(self.at.timestamp() - event.timestamp, 3),
            }
            if data:
                said["data"] = dict(event.data)
        return said

    def text(self, *, data: bool) -> Text:
        """Return it for people; `data` adds the payload below."""
        line = Text(f"{self.at:%H:%M:%S} ", style="dim", end="")
        said = Text.assemble(line, (f"{self.verdict:<9}", _STYLES[self.verdict]), " " if self.status is None else f" {self.status}  ")
        if self.reason is not None:
            return said.append(_plain(": ".join(part for part in (self.reason, self.detail) if part)))
        if self.event is None:
            return said.append("the sender's retry of what was done before")
        event, age = self.event, self.at.timestamp() - self.event.timestamp
        facts = f"{event.event_type}  {event.event_id}  {event.profile}, secret {event.key_id}, signed {age:.1f} s ago, {self.size} bytes"
        said.append(_plain(facts))
        if data:
            said.append(_plain(f"\n{dump(dict(event.data)).decode()}"))
        return said


def reason_of(text: str) -> Reason | None:
    """Return the library's reason of this name, if it is one."""
    return next((reason for reason in Reason if reason.value == text), None)


def _plain(text: str) -> str:
    # What a stranger sent must not move the cursor or hide a line of ours.
    return "".join(char if char.isprintable() or char == "\n" else "�" for char in text)
