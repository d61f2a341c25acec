"""What a webhook connection shall be, and whether it may be that. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from customhouse.crypto.signatures import Algorithm, Profile
from customhouse.egress.targets import Target, parse_target
from customhouse.errors import EgressRefused, Fault, Invalid
from customhouse.tenants.event_types import NAME

_MOST_PATTERNS: Final = 200
_DESCRIPTION: Final = 500


@dataclass(frozen=True, slots=True)
class Wish:
    """What a webhook connection shall be."""

    url: str
    event_types: tuple[str, ...] = ("*",)
    signature_profile: str = Profile.QUEAST_V1
    signature_algorithm: str = Algorithm.V1
    description: str = ""
    user_id: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What shall be different; None leaves a thing as it is."""

    url: str | None = None
    event_types: tuple[str, ...] | None = None
    paused: bool | None = None
    description: str | None = None


def checked(wish: Wish, *, https_required: bool) -> Target:
    """Check what a connection shall be, and return where it leads.

    Raises:
        Invalid: each place that is not acceptable.
    """
    faults: list[Fault] = []
    target: Target | None = None
    try:
        target = parse_target(wish.url, https_required=https_required)
    except (Invalid, EgressRefused) as error:
        faults.append(Fault("/url", error.detail))
    if not 1 <= len(wish.event_types) <= _MOST_PATTERNS:
        faults.append(Fault("/event_types", f"1–{_MOST_PATTERNS} patterns; an empty list would send nothing"))
    faults += [
        Fault(f"/event_types/{place}", "is neither *, nor an event type, nor a prefix ending in .*")
        for place, pattern in enumerate(wish.event_types)
        if pattern != "*" and not NAME.fullmatch(pattern.removesuffix(".*"))
    ]
    if wish.signature_profile not in {member.value for member in Profile}:
        faults.append(Fault("/signature_profile", "is not one of queast-v1, standard-webhooks"))
    if wish.signature_algorithm not in {member.value for member in Algorithm}:
        faults.append(Fault("/signature_algorithm", "is not one of v1, v1a"))
    elif wish.signature_algorithm == Algorithm.V1A and wish.signature_profile != Profile.STANDARD_WEBHOOKS:
        faults.append(Fault("/signature_algorithm", "v1a goes with standard-webhooks only"))
    if len(wish.description) > _DESCRIPTION:
        faults.append(Fault("/description", f"at most {_DESCRIPTION} characters"))
    if faults or target is None:
        raise Invalid("The connection is not acceptable.", tuple(faults))
    return target
