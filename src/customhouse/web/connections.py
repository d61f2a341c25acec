"""`/v1/connections`: webhooks, and what users connected by consent or by a key."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Final, Literal
from uuid import UUID

from fastapi import Query
from pydantic import BeforeValidator, Field, WithJsonSchema

from customhouse import ids
from customhouse.connections.pasted import KeyState
from customhouse.connections.pasting import Kept, Pasting
from customhouse.connections.users import User
from customhouse.connections.views import Grant
from customhouse.errors import Fault, Invalid
from customhouse.outbound.endpoints import PROVIDER, Change, Made, Wish
from customhouse.outbound.rotation import DEFAULT_DELAY, DEFAULT_OVERLAP, LONGEST_OVERLAP, Plan
from customhouse.outbound.views import Connection
from customhouse.privacy.detectors import identifier_carries_pii
from customhouse.tenants.api_keys import Scope
from customhouse.types import TenantId
from customhouse.web.auth import Caller, CallerOf, NamedTenant, needs
from customhouse.web.credentials import Credentials
from customhouse.web.delivery_settings import ClientCertificateShape, DeliverySettings, RateLimitShape, shown_certificate, shown_rate
from customhouse.web.moments import moment
from customhouse.web.pages import Page, PageOf
from customhouse.web.repeats import IdempotencyKey, once
from customhouse.web.routes import Body, Shape, router

ROUTES: Final = router("connections")
_USER_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
_HEALTHY: Final = frozenset({"active"})
KEY_OLD: Final = "key_old"
"""The reason of `health` where a pasted key works, and should be replaced for its age."""
_CERTIFICATES: Final = {None: None, "valid": None, "expiring": "certificate_expiring", "expired": "certificate_expired"}

Status = Literal["pending", "active", "degraded", "paused", "reauthorization_required", "revoked", "disabled", "disconnected"]
Patterns = Annotated[
    list[Annotated[str, Field(json_schema_extra={"pattern": r"^(\*|[A-Za-z0-9_.:-]{1,128}(\.\*)?)$"})]],
    Field(min_length=1, max_length=200, examples=[["*"], ["person.*", "invoice.paid"]]),
]
Url = Annotated[
    str, Field(min_length=1, max_length=2048, json_schema_extra={"format": "uri"}, examples=["https://hooks.example.com/customhouse"])
]
Headers = Annotated[
    dict[str, Annotated[str, Field(min_length=1, max_length=1024)]],
    Field(
        max_length=16,
        description="Sent with every delivery, for example a bearer token of the receiver. Sealed; only the names are shown again.",
        examples=[{"Authorization": "Bearer ..."}],
    ),
]
Description = Annotated[str, Field(max_length=500)]


class NewConnection(DeliverySettings):
    """A connection to create: a webhook, or one by a key that the customer made at the provider.

    A webhook needs `url`; a key needs `credentials`, and of the rest takes `user_id` alone.
    """

    tenant_id: str | None = None
    user_id: Annotated[
        str | None,
        Field(
            description="The host's own id of the user whom it belongs to; opaque.", json_schema_extra={"pattern": r"^[\x21-\x7e]{1,128}$"}
        ),
    ] = None
    provider: Annotated[
        str,
        Field(
            description="`webhook`, or a provider whose `auth` is `api_key`.",
            examples=["webhook"],
            max_length=64,
            json_schema_extra={"pattern": "^[a-z][a-z0-9-]{0,63}$"},
        ),
    ]
    credentials: Annotated[Credentials | None, Field(description="Of a provider that is connected by a key.")] = None
    url: Annotated[Url | None, Field(description="Where deliveries go; a webhook needs it.")] = None
    event_types: Patterns = Field(default=["*"])
    signature_profile: Literal["queast-v1", "standard-webhooks"] = "queast-v1"
    signature_algorithm: Literal["v1", "v1a"] = "v1"
    headers: Headers = Field(default_factory=dict)
    description: Description = ""


class ChangedConnection(DeliverySettings):
    """What shall be different; what is left out, or null, stays.

    Only `retry_schedule`, `rate_limit` and `client_certificate` are taken away by null.
    """

    url: Url | None = None
    event_types: Patterns | None = None
    paused: bool | None = None
    description: Description | None = None
    signature_profile: Literal["queast-v1", "standard-webhooks"] | None = None
    signature_algorithm: Annotated[
        Literal["v1", "v1a"] | None,
        Field(description="Another one than now makes a key of that kind, which signs at once; its secret is in the answer."),
    ] = None
    headers: Annotated[Headers | None, Field(description="Replaces all; an empty object takes them away.")] = None


def _activation(value: object) -> object:
    """Read `now` or a moment.

    Raises:
        PydanticCustomError: it is neither.
    """
    return value if value is None or value == "now" else moment(value)


class NewRotation(Body):
    """When a new signing key begins to sign, and how long the earlier ones stay valid after that."""

    activate_at: Annotated[
        Literal["now"] | datetime | None,
        BeforeValidator(_activation),
        WithJsonSchema({"anyOf": [{"const": "now"}, {"type": "string", "format": "date-time"}, {"type": "null"}]}),
        Field(description="`now` (after a leak: it replaces a waiting key too) or a time within 30 days; default: in an hour."),
    ] = None
    overlap_seconds: Annotated[
        int,
        Field(
            ge=0,
            le=int(LONGEST_OVERLAP.total_seconds()),
            description="How long every earlier key stays valid at most, from the activation on. 0: not at all.",
        ),
    ] = int(DEFAULT_OVERLAP.total_seconds())


class Health(Shape):
    """Whether the connection works, as its last deliveries showed; to within about a minute."""

    ok: bool
    """It is active, and what was sent last was taken, or nothing was sent yet."""
    reason: str | None
    """Why not: the reason of the status, or the last failure (`timeout`, `status_500`)."""
    checked_at: datetime | None
    failing_since: datetime | None = None
    """The first failure of those that no success interrupted."""
    last_success_at: datetime | None = None
    last_failure_at: datetime | None = None


class KeyShape(Shape):
    """A pasted key; the key itself is never shown."""

    live: bool
    """For real money, not for test data."""
    pasted_at: datetime
    age_days: int
    permissions_seen_at: datetime
    """When its permissions were last seen for certain."""


class Account(Shape):
    """Who is connected at the provider; a webhook has no account."""

    id: str | None = None
    label: str | None = None


class Scopes(Shape):
    """The provider's scopes; a webhook has none."""

    requested: tuple[str, ...] = ()
    granted: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    used: tuple[str, ...] = ()


class Token(Shape):
    """The state of the provider's token; a webhook has none."""

    expires_at: datetime | None = None
    last_refreshed_at: datetime | None = None
    token_generation: int = 0


class SigningKey(Shape):
    """One of the keys that deliveries are signed with."""

    key_id: str
    state: Literal["next", "active", "previous", "destroyed"]
    activates_at: datetime
    valid_until: datetime | None


class ConnectionShape(Shape):
    """A connection."""

    connection_id: str
    tenant_id: str
    user_id: str | None
    provider: str
    mode: str
    status: Status
    health: Health
    account: Account = Account()
    scopes: Scopes = Scopes()
    token: Token = Token()
    key: KeyShape | None = None
    """What was pasted, where it was connected by a key."""
    grant_version: int
    url: str | None
    event_types: list[str]
    signature_profile: str | None
    signature_algorithm: str | None
    description: str
    header_names: list[str]
    retry_schedule: list[int] | None
    rate_limit: RateLimitShape | None
    client_certificate: ClientCertificateShape | None
    signing_keys: list[SigningKey]
    created_at: datetime
    updated_at: datetime
    last_used_at: datetime | None = None
    next_review_at: datetime | None = None


class ShownSecret(Shape):
    """A secret; shown once. Null where an idempotent call is repeated, and for what was pasted: whoever pasted it has it."""

    key_id: str
    secret: str | None
    secret_already_shown: bool = False


class Rotation(Shape):
    """The signing key that was made."""

    key_id: str
    secret: str | None
    secret_already_shown: bool = False
    activates_at: datetime
    previous_valid_until: datetime


class Secrets(Shape):
    """What the customer needs to verify deliveries, and what we need to verify theirs."""

    signing: ShownSecret | None = None
    """Of a webhook."""
    inbound: ShownSecret | None = None
    """What the provider signs its events with."""


class MadeConnection(ConnectionShape):
    """A connection that was just created."""

    secrets: Secrets


class ChangedShape(ConnectionShape):
    """A connection after a change."""

    secrets: Secrets | None = None
    """Where the change made a signing key."""


@ROUTES.post("/v1/connections", status_code=201, summary="Create a webhook connection, or one by a key")
@needs(Scope.CONNECTIONS_WRITE)
async def create_connection(body: NewConnection, caller: CallerOf, _key: IdempotencyKey = None) -> MadeConnection:
    """Create a webhook connection with its own key and signing secret, shown this once; or one by a key, which is probed before."""
    if body.provider != PROVIDER:
        return await _by_key(body, caller)
    if body.url is None or body.credentials is not None:
        fault = Fault("/url", "is required") if body.url is None else Fault("/credentials", "is for providers that are connected by a key")
        raise Invalid("The connection is not acceptable.", (fault,))
    tenant = await caller.tenant(body.tenant_id)
    wish = Wish(
        url=body.url,
        event_types=tuple(body.event_types),
        signature_profile=body.signature_profile,
        signature_algorithm=body.signature_algorithm,
        description=body.description,
        headers=body.headers,
        retry_schedule=body.schedule(),
        rate_limit=body.rate(),
        client_certificate=body.credential(caller.app.clock.now()),
        user_id=None if body.user_id is None else _user_id(body.user_id),
    )
    return _made(await caller.app.endpoints.create(tenant, wish, caller.origin, await once(caller, tenant, "connections.create", body)))


@ROUTES.get("/v1/connections", summary="List connections")
@needs(Scope.CONNECTIONS_READ)
async def list_connections(
    caller: CallerOf,
    page: PageOf,
    tenant_id: NamedTenant = None,
    user_id: Annotated[str | None, Query(pattern=r"^[\x21-\x7e]{1,128}$")] = None,
    provider: Annotated[str | None, Query(pattern=r"^[a-z][a-z0-9_-]{0,63}$")] = None,
    status: Status | None = None,
    healthy: Annotated[bool | None, Query(description="Only those whose `health.ok` is this.")] = None,
) -> Page[ConnectionShape]:
    """List connections, the newest first."""
    tenant = await caller.tenant(tenant_id)
    found = await caller.app.endpoints.list(
        tenant, user_id=user_id, provider=provider, status=status, before=page.before(), limit=page.limit + 1, healthy=healthy
    )
    grants = await caller.app.grants.of(tenant, [one.connection_id for one in found if one.provider != PROVIDER])
    keys = await _keys(caller, tenant, found)
    return page.page(
        found,
        lambda one: _with_key(_with_grant(one, grants.get(one.connection_id)), keys.get(one.connection_id)),
        lambda one: one.connection_id,
    )


@ROUTES.get("/v1/connections/{connection_id}", summary="Show a connection")
@needs(Scope.CONNECTIONS_READ)
async def get_connection(connection_id: str, caller: CallerOf, tenant_id: NamedTenant = None) -> ConnectionShape:
    """Show a connection."""
    tenant = await caller.tenant(tenant_id)
    return await complete(caller, tenant, await caller.app.endpoints.get(tenant, ids.parse("con", connection_id)))


async def complete(caller: Caller, tenant: TenantId, one: Connection) -> ConnectionShape:
    """Return a connection with its grant, where it has one."""
    grants = {} if one.provider == PROVIDER else await caller.app.grants.of(tenant, [one.connection_id])
    return _with_key(_with_grant(one, grants.get(one.connection_id)), (await _keys(caller, tenant, [one])).get(one.connection_id))


@ROUTES.patch("/v1/connections/{connection_id}", summary="Change a connection")
@needs(Scope.CONNECTIONS_WRITE)
async def change_connection(connection_id: str, body: ChangedConnection, caller: CallerOf, tenant_id: NamedTenant = None) -> ChangedShape:
    """Change what a connection says about its deliveries, or pause and resume it; every process knows within a second."""
    if not body.model_fields_set:
        raise Invalid("There is nothing to change.", (Fault("", f"names none of {', '.join(ChangedConnection.model_fields)}"),))
    tenant = await caller.tenant(tenant_id)
    found = ids.parse("con", connection_id)
    if await caller.app.grants.provider_of(tenant, found) != PROVIDER:
        return ChangedShape(**(await _paused(caller, tenant, found, body)).model_dump())
    change = Change(
        url=body.url,
        event_types=None if body.event_types is None else tuple(body.event_types),
        paused=body.paused,
        description=body.description,
        signature_profile=body.signature_profile,
        signature_algorithm=body.signature_algorithm,
        headers=body.headers,
        retry_schedule=body.changed_schedule(),
        rate_limit=body.changed_rate(),
        client_certificate=body.changed_credential(caller.app.clock.now()),
    )
    made = await caller.app.endpoints.change(tenant, found, change, caller.origin)
    secrets = None if made.secret is None else Secrets(signing=ShownSecret(key_id=made.key_id, secret=made.secret))
    return ChangedShape(**_shown(made.connection).model_dump(), secrets=secrets)


@ROUTES.post("/v1/connections/{connection_id}/secrets/rotate", summary="Rotate the signing key")
@needs(Scope.CONNECTIONS_WRITE)
async def rotate_secret(
    connection_id: str, body: NewRotation, caller: CallerOf, tenant_id: NamedTenant = None, _key: IdempotencyKey = None
) -> Rotation:
    """Make the next signing key; its secret is shown this once. At most one key waits: give it to the receiver before it takes over."""
    tenant = await caller.tenant(tenant_id)
    found = ids.parse("con", connection_id)
    plan = None
    if body.activate_at is not None or "overlap_seconds" in body.model_fields_set:
        at = caller.app.clock.now() + DEFAULT_DELAY if body.activate_at is None else body.activate_at
        plan = Plan(None if isinstance(at, str) else at, timedelta(seconds=body.overlap_seconds))
    made = await caller.app.rotations.rotate(
        tenant, found, plan, caller.origin, await once(caller, tenant, f"connections.rotate {connection_id}", body)
    )
    return Rotation(
        key_id=made.key_id,
        secret=made.secret,
        secret_already_shown=made.secret is None,
        activates_at=made.activates_at,
        previous_valid_until=made.previous_valid_until,
    )


async def _paused(caller: Caller, tenant: TenantId, connection_id: UUID, body: ChangedConnection) -> ConnectionShape:
    """Pause or resume a connection with a grant: of the rest, it has nothing that could be changed."""
    if body.model_fields_set != {"paused"} or body.paused is None:
        faults = tuple(Fault(f"/{name}", "can be changed for webhooks alone") for name in sorted(body.model_fields_set - {"paused"}))
        raise Invalid("Of this connection only `paused` can be changed.", faults)
    await caller.app.grants.pause(tenant, connection_id, caller.origin, paused=body.paused)
    return await complete(caller, tenant, await caller.app.endpoints.get(tenant, connection_id))


def _user_id(text: str) -> str:
    if not _USER_ID.fullmatch(text) or identifier_carries_pii(text):
        raise Invalid(
            "The connection is not acceptable.",
            (Fault("/user_id", "1–128 printable ASCII characters without spaces, and no personal data: use an opaque id"),),
        )
    return text


def _health(one: Connection) -> Health:
    condition = one.condition
    failing = condition.last_failure if condition.failing_since is not None else None
    return Health(
        ok=one.status in _HEALTHY and condition.failing_since is None and one.certificate_state != "expired",
        reason=one.status_reason or failing or _CERTIFICATES[one.certificate_state],
        checked_at=condition.seen_at,
        failing_since=condition.failing_since,
        last_success_at=condition.last_success_at,
        last_failure_at=condition.last_failure_at,
    )


def _shown(one: Connection) -> ConnectionShape:
    return ConnectionShape(
        connection_id=ids.show("con", one.connection_id),
        tenant_id=one.tenant_id,
        user_id=one.user_id,
        provider=one.provider,
        mode=one.mode,
        status=one.status,  # type: ignore[arg-type]  # the database holds the same list
        health=_health(one),
        grant_version=one.grant_version,
        url=one.url,
        event_types=list(one.event_types),
        signature_profile=one.signature_profile,
        signature_algorithm=one.signature_algorithm,
        description=one.description,
        header_names=list(one.header_names),
        retry_schedule=None if one.retry_schedule is None else list(one.retry_schedule),
        rate_limit=shown_rate(one.rate_limit),
        client_certificate=shown_certificate(one.client_certificate),
        signing_keys=[
            SigningKey(key_id=term.key_id, state=term.state, activates_at=term.activates_at, valid_until=term.valid_until)
            for term in one.signing_keys
        ],
        created_at=one.created_at,
        updated_at=one.updated_at,
    )


def _with_grant(one: Connection, grant: Grant | None) -> ConnectionShape:
    shown = _shown(one)
    if one.provider == PROVIDER:
        return shown
    # What only a webhook has is not there, rather than at its default.
    bare: dict[str, object] = {"signature_profile": None, "signature_algorithm": None}
    if grant is None:
        return shown.model_copy(update=bare)
    scopes = Scopes(requested=grant.requested, granted=grant.granted, missing=grant.missing, used=grant.used)
    token = Token(expires_at=grant.expires_at, last_refreshed_at=grant.refreshed_at, token_generation=grant.token_generation)
    account = Account(id=grant.account_id, label=grant.account_label)
    return shown.model_copy(update=bare | {"scopes": scopes, "token": token, "account": account, "last_used_at": grant.last_used_at})


def _with_key(shown: ConnectionShape, state: KeyState | None) -> ConnectionShape:
    if state is None:
        return shown
    key = KeyShape(live=state.live, pasted_at=state.pasted_at, age_days=state.age_days, permissions_seen_at=state.checked_at)
    reason = shown.health.reason or (KEY_OLD if state.old else None)
    return shown.model_copy(update={"key": key, "health": shown.health.model_copy(update={"reason": reason})})


async def _keys(caller: Caller, tenant: TenantId, found: Sequence[Connection]) -> Mapping[UUID, KeyState]:
    """Return the pasted keys of these connections."""
    pasted = [one.connection_id for one in found if one.provider in caller.app.catalogue.by_key]
    return await caller.app.key_states.of(tenant, pasted, caller.app.clock.now())


async def _by_key(body: NewConnection, caller: Caller) -> MadeConnection:
    """Create a connection by a pasted key."""
    if body.provider not in caller.app.catalogue.by_key:
        known = ", ".join([PROVIDER, *sorted(caller.app.catalogue.by_key)])
        raise Invalid("The connection is not acceptable.", (Fault("/provider", f"is none of {known}; others are connected by consent"),))
    foreign = sorted(body.model_fields_set - {"tenant_id", "user_id", "provider", "credentials"})
    if foreign:
        raise Invalid("The connection is not acceptable.", tuple(Fault(f"/{name}", "is for webhooks alone") for name in foreign))
    if body.credentials is None:
        raise Invalid("The connection is not acceptable.", (Fault("/credentials", "is required"),))
    tenant = await caller.customer(body.tenant_id)
    user = None if body.user_id is None else User(_user_id(body.user_id))
    wish = Pasting(body.provider, body.credentials.key(), body.credentials.inbound(), user)
    kept = await caller.app.pasted_keys.paste(tenant, wish, caller.origin, await once(caller, tenant, "connections.create", body))
    shown = await complete(caller, tenant, await caller.app.endpoints.get(tenant, kept.connection_id))
    return MadeConnection(**shown.model_dump(), secrets=inbound_of(kept))


def inbound_of(kept: Kept) -> Secrets:
    """Return what can be said of the secret of the customer's webhook endpoint."""
    if kept.inbound_key_id is None:
        return Secrets()
    return Secrets(inbound=ShownSecret(key_id=kept.inbound_key_id, secret=None, secret_already_shown=True))


def _made(made: Made) -> MadeConnection:
    shown = ShownSecret(key_id=made.key_id, secret=made.secret, secret_already_shown=made.secret is None)
    return MadeConnection(**_shown(made.connection).model_dump(), secrets=Secrets(signing=shown))
