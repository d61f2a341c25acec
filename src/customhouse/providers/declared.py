"""Reading a providers file: registrations, overridden endpoints, and whole providers of the operator's own, in TOML. Pure.

Everything that is wrong is told at once, by its place and never by its value: a secret may stand in the wrong place.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import fields, replace
from typing import Any, Final

from customhouse.errors import Fault, Invalid
from customhouse.providers.calls import Client
from customhouse.providers.catalogue import BUILT_IN, RESERVED, Catalogue
from customhouse.providers.manifest import (
    Allowance,
    Endpoints,
    Flow,
    Harmless,
    Identity,
    Never,
    OAuth2,
    Provider,
    Refresh,
    Revocation,
    RevokeStep,
    Scope,
)
from customhouse.providers.tables import LONGEST, MOST, URL, Resolve, Table
from customhouse.providers.vocabulary import ClientAuth, Extent, Mode, Risk, Rotation
from customhouse.types import Secret

LARGEST_FILE: Final = 1_048_576
"""Bytes."""
_ID: Final = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_LONGEST_ID: Final = 40
_PATH: Final = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@-]*)+")
_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,256}")  # RFC 6749 §3.3
_PARAMETER: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_ENDPOINTS: Final = tuple(field.name for field in fields(Endpoints))
_REGISTRATION: Final = ("client_id", "client_secret", "webhook_secret")
_OWN: Final = (
    *("kind", "name", "purpose", "risk", "risk_why", "version", "hosts", "scopes", "not_requested", "allow", "pkce", "client_auth"),
    *("issuer", "rotation", "access_seconds", "scope_separator", "authorize_extra", "identity", "flows", "harmless"),
)
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_SAFE: Final = ("GET", "HEAD")


def read(raw: bytes, resolve: Resolve, *, https_required: bool, built_in: tuple[Provider, ...] = BUILT_IN) -> Catalogue:
    """Return the catalogue that a providers file makes of the built-in one.

    Args:
        raw: TOML, at most 1 MiB.
        resolve: fetches a secret by its reference.
        https_required: refuse plain http endpoints.
        built_in: the providers that exist without the file.

    Raises:
        Invalid: with every fault, none of which repeats a value.
    """
    faults: list[Fault] = []
    sections = _sections(raw)
    known = {provider.id: provider for provider in built_in}
    clients: dict[str, Client] = {}
    webhook_secrets: dict[str, Secret] = {}
    for name, values in sections.items():
        shown = ascii(name)[1:-1]
        table = Table(values if isinstance(values, dict) else {}, f"/{shown}", faults)
        if not isinstance(values, dict):
            table.wrong("", "must be a table: [provider-id]")
            continue
        if _ID.fullmatch(name) is None or len(name) > _LONGEST_ID or name in RESERVED:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; do you mean {near[0]}?" if near else f", at most {_LONGEST_ID} of a-z, 0-9 and single -"
            table.wrong("", f"is no id that a provider can have{hint}")
            continue
        provider = _overridden(known[name], table, https_required) if name in known else _own(name, table, https_required)
        if provider is not None:
            known[name] = provider
        _register(name, table, resolve, clients, webhook_secrets)
    if faults:
        raise Invalid("The providers file is not in order.", tuple(faults))
    return Catalogue(tuple(known.values()), clients, webhook_secrets)


def _sections(raw: bytes) -> dict[str, Any]:
    if len(raw) > LARGEST_FILE:
        raise Invalid(f"The providers file is larger than {LARGEST_FILE} bytes.")
    try:
        return tomllib.loads(raw.decode())
    except UnicodeDecodeError:
        raise Invalid("The providers file is not UTF-8.") from None
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        # The parser's own words may quote the file, but for the place.
        place = re.search(r"\(at (line \d+, column \d+|end of document)\)", str(error))
        raise Invalid(f"The providers file is not TOML{f', {place[1]}' if place else ''}.") from None


def _register(name: str, table: Table, resolve: Resolve, clients: dict[str, Client], webhook_secrets: dict[str, Secret]) -> None:
    secret = table.secret("client_secret", resolve)
    webhook_secret = table.secret("webhook_secret", resolve)
    if webhook_secret is not None:
        webhook_secrets[name] = webhook_secret
    if "client_id" in table.values or "client_secret" in table.values:
        client_id = table.text("client_id")
        if "client_secret" not in table.values:
            table.wrong("client_secret", "is required where there is a client_id")
        elif client_id and secret is not None:
            clients[name] = Client(client_id, secret)


def _overridden(provider: Provider, table: Table, https_required: bool) -> Provider:
    table.only((*_REGISTRATION, *_ENDPOINTS))
    urls = {key: url for key in _ENDPOINTS if (url := table.url(key, https_required=https_required))}
    for key in urls:
        if not getattr(provider.endpoints, key):
            table.wrong(key, f"{provider.name} has no such endpoint")
    return replace(provider, endpoints=replace(provider.endpoints, **urls), trusts=_origins(urls.values()))


def _origins(urls: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(found["origin"] for url in urls if (found := URL.fullmatch(url)) is not None))


def _own(name: str, table: Table, https_required: bool) -> Provider | None:
    table.only((*_REGISTRATION, *_ENDPOINTS, *_OWN))
    table.choice("kind", None, ("oauth2",))
    before = len(table.faults)
    needed = ("authorize_url", "token_url", "identity_url", "api_base")
    endpoints = Endpoints(**{key: table.url(key, https_required=https_required, needed=key in needed) for key in _ENDPOINTS})
    scopes = _scopes(table)
    acts = any(scope.mode is Mode.ACT for scope in scopes)
    provider = Provider(
        id=name,
        name=table.text("name"),
        purpose=table.text("purpose", "Declared in this installation's providers file"),
        # What nobody has judged counts as the worst.
        risk=Risk(table.choice("risk", Risk.HIGH, tuple(Risk))),
        risk_why=table.text("risk_why", "not judged"),
        version=table.whole("version", 1, 1, 1_000_000),
        hosts=tuple(dict.fromkeys(table.texts("hosts"))),
        endpoints=endpoints,
        auth=_oauth2(table, endpoints, https_required=https_required),
        scopes=scopes,
        not_requested=_nevers(table),
        flows=_flows(table, scopes),
        register="As the provider's own documents say; the redirect URI is PUBLICURL/oauth/callback/" + name,
        modes=(Mode.OBSERVE, Mode.ACT) if acts else (Mode.OBSERVE,),
        harmless=_harmless(table),
        allow=_allow(table, scopes),
        trusts=_origins(url for _, url in endpoints.items()),
    )
    return provider if len(table.faults) == before else None


def _oauth2(table: Table, endpoints: Endpoints, *, https_required: bool) -> OAuth2:
    by = ClientAuth(table.choice("client_auth", ClientAuth.BASIC, (ClientAuth.BASIC, ClientAuth.BODY)))
    rotation = Rotation(table.choice("rotation", Rotation.SINGLE_USE, tuple(Rotation)))
    steps = (RevokeStep(client_auth=by, hint=True),) if endpoints.revoke_url else ()
    advice = "" if steps else "Withdraw the permission at the provider: it offers no revocation."
    identity = table.table("identity")
    identity.only(("account", "label", "organisation"))
    extra = table.table("authorize_extra")
    for key, value in extra.values.items():
        if _PARAMETER.fullmatch(key) is None or not isinstance(value, str) or not value.isprintable() or len(value) > LONGEST:
            extra.wrong(ascii(key)[1:-1], "must be a parameter's name and a text")
    organisation = identity.text("organisation") if "organisation" in identity.values else ""
    return OAuth2(
        client_auth=by,
        pkce=table.flag("pkce", default=True),
        refresh=Refresh(rotation, access_seconds=table.whole("access_seconds", 3600, 1, 31_536_000)),
        revocation=Revocation(Extent.GRANT if steps else Extent.NOTHING, steps, advice=advice),
        identity=Identity(
            account=_pointers(identity, "account", ("/sub",)),
            label=_pointers(identity, "label", ("/email", "/preferred_username", "/name")),
            organisation=organisation,
        ),
        separator=table.choice("scope_separator", " ", (" ", ",")),
        issuer=table.url("issuer", https_required=https_required),
        names_issuer="issuer" in table.values,
        authorize_extra=tuple((key, value) for key, value in extra.values.items() if isinstance(value, str)),
    )


def _pointers(table: Table, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
    found = table.texts(key, default)
    if not found or not all(pointer.startswith("/") for pointer in found):
        table.wrong(key, "must be a list of JSON pointers, such as /sub")
    return found


def _scopes(table: Table) -> tuple[Scope, ...]:
    below = table.table("scopes")
    below.only(tuple(Mode))
    found: list[Scope] = []
    for mode in Mode:
        for one in below.tables(mode):
            one.only(("name", "why", "words", "reaches", "writes", "unsaid"))
            scope = Scope(
                one.text("name", pattern=_SCOPE),
                words=one.text("words", str(one.values.get("why", "")) or None),
                why=one.text("why"),
                reaches=one.text("reaches", "what the provider gives under this name"),
                mode=mode,
                unsaid=one.flag("unsaid", default=False),
                writes=one.flag("writes", default=mode is Mode.ACT),
            )
            if scope.name in {other.name for other in found}:
                one.wrong("name", "stands there twice")
            found.append(scope)
    if not any(scope.mode is Mode.OBSERVE for scope in found):
        below.wrong(Mode.OBSERVE, "must name at least one scope")
    return tuple(found)


def _nevers(table: Table) -> tuple[Never, ...]:
    values = table.values.get("not_requested", [])
    if not isinstance(values, list) or not values or len(values) > MOST:
        table.wrong("not_requested", "must be a list that names at least one scope which is never asked for")
        return ()
    found: list[Never] = []
    for index, value in enumerate(values):
        one = Table(value if isinstance(value, dict) else {"pattern": value}, f"{table.place}/not_requested/{index}", table.faults)
        one.only(("pattern", "why"))
        found.append(Never(one.text("pattern", pattern=_SCOPE), one.text("why", "Not needed.")))
    return tuple(found)


def _harmless(table: Table) -> tuple[Harmless, ...]:
    found: list[Harmless] = []
    for one in table.tables("harmless"):
        one.only(("name", "why"))
        found.append(Harmless(one.text("name", pattern=_SCOPE), one.text("why")))
    return tuple(found)


def _flows(table: Table, scopes: tuple[Scope, ...]) -> tuple[Flow, ...]:
    """Return what was declared, else what the scopes let one foresee."""
    found: list[Flow] = []
    for one in table.tables("flows"):
        one.only(("direction", "what"))
        found.append(Flow("in" if one.choice("direction", None, ("in", "out")) == "in" else "out", one.text("what")))
    foreseen = [Flow("in", "What the scopes open")]
    if any(scope.writes for scope in scopes):
        foreseen.append(Flow("out", "What we change there, each change after approval"))
    return tuple(found or foreseen)


def _allow(table: Table, scopes: tuple[Scope, ...]) -> tuple[Allowance, ...]:
    found: list[Allowance] = []
    for one in table.tables("allow"):
        one.only(("method", "path", "scope", "approval"))
        method = one.choice("method", None, _METHODS)
        path = one.text("path", pattern=_PATH)
        if any(part in {".", ".."} for part in path.split("/")):
            one.wrong("path", "may hold no dot segments")
        scope = one.text("scope")
        approval = one.flag("approval", default=False)
        needed = next((other for other in scopes if other.name == scope), None)
        if scope and needed is None:
            one.wrong("scope", "is none of this provider's scopes")
        if method not in _SAFE and not approval:
            one.wrong("approval", "must be true: what changes something waits for a person")
        if method not in _SAFE and needed is not None and needed.mode is not Mode.ACT:
            one.wrong("scope", "must be one of scopes.act: in observe mode nothing is changed")
        found.append(Allowance(method, path, scope, approval))  # type: ignore[arg-type]  # `choice` gives one of them
    return tuple(found)
