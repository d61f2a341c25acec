"""What a tenant lets out, and how a connection narrows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from customhouse.privacy.fields import canonical_name, is_known


class OnViolation(StrEnum):
    """What happens to an event that carries more than the policy lets out."""

    REMOVE = "remove"
    """The fields are removed before anything is stored, and named in the envelope's `privacy`."""
    REFUSE = "refuse"
    """The whole event is refused."""


DEFAULT_ALLOWED: Final = frozenset({"work_email"})
"""What passes where a tenant decided nothing (spec 2 §5)."""


@dataclass(frozen=True, slots=True)
class Policy:
    """An allow-list of field names; an empty one lets no personal data out."""

    version_label: str
    """`tenant:3` or `tenant:3/connection:1`; printed in the envelope."""
    allowed_fields: frozenset[str]
    """Names as given, made canonical: `workEmail` and `work_email` are one field."""
    on_violation: OnViolation = OnViolation.REMOVE
    custom: bool = field(init=False, repr=False, compare=False)
    """Whether a name is allowed that the closed lists do not know: the fast path of `inspect` is then off."""

    def __post_init__(self) -> None:
        names = frozenset(filter(None, map(canonical_name, self.allowed_fields)))
        object.__setattr__(self, "allowed_fields", names)
        object.__setattr__(self, "custom", not all(map(is_known, names)))

    def narrowed_by(self, other_allowed: frozenset[str], label: str) -> Policy:
        """Return the policy that lets out what both allow: the intersection, so never more than this one.

        Args:
            other_allowed: the allow-list of the connection.
            label: the version label of the result.
        """
        other = frozenset(map(canonical_name, other_allowed))
        return Policy(version_label=label, allowed_fields=self.allowed_fields & other, on_violation=self.on_violation)
