"""What a webhook connection shall be, and whether it may be that. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from ipaddress import ip_address
from typing import Final, Literal, TypeAlias

from customhouse.crypto.credentials import ClientCertificate, Credential
from customhouse.crypto.signatures import Algorithm, Profile
from customhouse.egress.addresses import Allow, vet
from customhouse.egress.client import FORBIDDEN_HEADERS
from customhouse.egress.targets import Target, parse_target
from customhouse.errors import EgressRefused, Fault, Invalid
from customhouse.outbound.throttle import Rate
from customhouse.privacy.detectors import identifier_carries_pii
from customhouse.tenants.event_types import NAME
from customhouse.tenants.labels import label_faults

_MOST_PATTERNS: Final = 200
_DESCRIPTION: Final = 500
_USER_ID: Final = 128
_MOST_HEADERS: Final = 16
_HEADERS_BYTES: Final = 4096
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_HEADER_VALUE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,1022}[\x21-\x7e])?")
"""RFC 9110 §5.5 without what is obsolete: visible ASCII, blanks inside; so neither CR nor LF."""
MOST_WAITS: Final = 20
LONGEST_WAIT: Final = 86_400
"""Seconds; as the service's own schedule allows."""
SLOWEST: Final = 0.1
FASTEST: Final = 10_000.0
MOST_BURST: Final = 10_000
_RESERVED_PREFIXES: Final = ("content-", "proxy-", "webhook-", "x-forwarded-", "x-queast-")
_TAKEN: Final = FORBIDDEN_HEADERS | {"alt-used", "date", "early-data", "forwarded", "origin", "set-cookie"}


@dataclass(frozen=True, slots=True)
class Rules:
    """What the operator's settings say about connections.

    Attributes:
        https_required: Plain http is refused.
        allow: Private networks that may be dialled all the same.
        header_prefix: Of the signature headers, which nobody else may set.
    """

    https_required: bool
    allow: Allow
    header_prefix: str


@dataclass(frozen=True, slots=True)
class Wish:
    """What a webhook connection shall be; a certificate without its key is the one that it has already."""

    url: str
    event_types: tuple[str, ...] = ("*",)
    signature_profile: str = Profile.QUEAST_V1
    signature_algorithm: str = Algorithm.V1
    description: str = ""
    user_id: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    retry_schedule: tuple[int, ...] | None = None
    rate_limit: Rate | None = None
    client_certificate: Credential | ClientCertificate | None = None


class Keep(Enum):
    """The mark of what stays, where None takes away."""

    KEEP = "keep"


Kept: TypeAlias = Literal[Keep.KEEP]
KEEP: Final = Keep.KEEP


@dataclass(frozen=True, slots=True)
class Change:
    """What shall be different. None leaves a thing as it is; of the last ones `KEEP` does, and None takes it away."""

    url: str | None = None
    event_types: tuple[str, ...] | None = None
    paused: bool | None = None
    description: str | None = None
    signature_profile: str | None = None
    signature_algorithm: str | None = None
    headers: Mapping[str, str] | None = field(default=None, repr=False)
    retry_schedule: tuple[int, ...] | None | Kept = KEEP
    rate_limit: Rate | None | Kept = KEEP
    client_certificate: Credential | None | Kept = KEEP

    def names(self) -> list[str]:
        """Return what shall be different, by name."""
        return [one.name for one in fields(self) if getattr(self, one.name) is not one.default]


def checked(wish: Wish, rules: Rules, *, url_is_new: bool = True) -> Target:
    """Check what a connection shall be, and return where it leads.

    An URL that is there already is not judged again: a connection can be paused whatever the operator has forbidden since.
    Nothing is dialled by that; each dialling asks the rules of its own moment.

    Raises:
        Invalid: each place that is not acceptable.
    """
    faults: list[Fault] = []
    target: Target | None = None
    try:
        target = _target(wish.url, rules) if url_is_new else parse_target(wish.url, https_required=False)
    except (Invalid, EgressRefused) as error:
        faults.append(Fault("/url", error.detail))
    if not 1 <= len(wish.event_types) <= _MOST_PATTERNS:
        faults.append(Fault("/event_types", f"1–{_MOST_PATTERNS} patterns; an empty list would send nothing"))
    faults += [
        Fault(f"/event_types/{place}", "is neither *, nor an event type, nor a prefix ending in .*")
        for place, pattern in enumerate(wish.event_types)
        if pattern != "*" and (not NAME.fullmatch(pattern.removesuffix(".*")) or identifier_carries_pii(pattern))
    ]
    if wish.signature_profile not in {member.value for member in Profile}:
        faults.append(Fault("/signature_profile", "is not one of queast-v1, standard-webhooks"))
    if wish.signature_algorithm not in {member.value for member in Algorithm}:
        faults.append(Fault("/signature_algorithm", "is not one of v1, v1a"))
    elif wish.signature_algorithm == Algorithm.V1A and wish.signature_profile != Profile.STANDARD_WEBHOOKS:
        faults.append(Fault("/signature_algorithm", "v1a goes with standard-webhooks only"))
    faults += label_faults(wish.description, "/description", longest=_DESCRIPTION)
    if wish.user_id is not None:
        faults += label_faults(wish.user_id, "/user_id", longest=_USER_ID, shortest=1)
    faults += header_faults(wish.headers, rules.header_prefix)
    faults += pace_faults(wish.retry_schedule, wish.rate_limit)
    if wish.client_certificate is not None and target is not None and target.scheme != "https":
        faults.append(Fault("/client_certificate", "goes with an https URL only"))
    if faults or target is None:
        raise Invalid("The connection is not acceptable.", tuple(faults))
    return target


def pace_faults(schedule: tuple[int, ...] | None, rate: Rate | None) -> list[Fault]:
    """Say what is wrong with a retry schedule and a rate limit."""
    found: list[Fault] = []
    if schedule is not None:
        if not 1 <= len(schedule) <= MOST_WAITS:
            found.append(Fault("/retry_schedule", f"1-{MOST_WAITS} waits; null stands for the service's own schedule"))
        found += [
            Fault(f"/retry_schedule/{place}", f"is not from 1 to {LONGEST_WAIT} seconds")
            for place, seconds in enumerate(schedule)
            if not 1 <= seconds <= LONGEST_WAIT
        ]
    if rate is not None:
        if not SLOWEST <= rate.per_second <= FASTEST:
            found.append(Fault("/rate_limit/per_second", f"is not from {SLOWEST} to {FASTEST:.0f}"))
        if not 1 <= rate.burst <= MOST_BURST:
            found.append(Fault("/rate_limit/burst", f"is not from 1 to {MOST_BURST}"))
    return found


def _target(url: str, rules: Rules) -> Target:
    """Read the URL, and vet an address that stands in it. What a name stands for is vetted at each dialling: it may change.

    Raises:
        Invalid, EgressRefused: as `parse_target` and `vet`.
    """
    target = parse_target(url, https_required=rules.https_required)
    try:
        address = ip_address(target.host.strip("[]"))
    except ValueError:
        return target
    vet(address, rules.allow)
    return target


def header_faults(headers: Mapping[str, str], prefix: str) -> list[Fault]:
    """Say what is wrong with custom headers; one place for all of them, because their names are the caller's invention."""
    place, found = "/headers", []
    names = {name.lower() for name in headers}
    if len(headers) > _MOST_HEADERS or sum(len(name) + len(value) for name, value in headers.items()) > _HEADERS_BYTES:
        found.append(Fault(place, f"at most {_MOST_HEADERS} headers with {_HEADERS_BYTES} characters in all"))
    if len(names) < len(headers):
        found.append(Fault(place, "names a header twice"))
    if not all(_HEADER_NAME.fullmatch(name) for name in headers):
        found.append(Fault(place, "has a name that is none: 1-64 characters of a token (RFC 9110)"))
    if not all(_HEADER_VALUE.fullmatch(value) for value in headers.values()):
        found.append(Fault(place, "has a value that is none: 1-1024 visible ASCII characters, blanks only between them"))
    reserved = (*_RESERVED_PREFIXES, f"{prefix.lower()}-")
    if names & _TAKEN or any(name.startswith(reserved) for name in names):
        found.append(Fault(place, "sets a header that is not yours to set: Host, Content-*, hop-by-hop, forwarding or signature headers"))
    return found
