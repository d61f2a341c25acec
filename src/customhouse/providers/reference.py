"""The manifests in Markdown, for `docs/providers/`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta

from customhouse.providers.catalogue import BUILT_IN
from customhouse.providers.contract.subject import DEMANDS
from customhouse.providers.failures import MEANING
from customhouse.providers.manifest import OAuth2, Probe, Provider, RestrictedKey
from customhouse.providers.vocabulary import Extent, Mode, Reuse, Rotation

_ROTATION = {
    Rotation.NONE: "none: access tokens do not end",
    Rotation.STABLE: "stays the same",
    Rotation.SINGLE_USE: "each refresh brings a new one, and the old one is spent",
    Rotation.RENEWED: "each refresh brings a new one, and the old one stays valid until it is deleted here",
}
_REUSE = {
    Reuse.WORKS: "works",
    Reuse.REFUSED: "is refused, the permission stays",
    Reuse.REVOKES: "ends the whole permission",
}
_EXTENT = {
    Extent.GRANT: "everything that this account gave to the application",
    Extent.PROJECT: "everything that this account gave to any application of the same project",
    Extent.TOKEN: "the token; access tokens that were issued from it may live until they run out",
    Extent.INSTALLATION: "the application's installation in the account, for all of its users",
    Extent.NOTHING: "nothing: the provider offers no revocation",
}


def index() -> str:
    """Return the table of all providers."""
    lines = ["| provider | purpose | risk | connected by | modes |", "| --- | --- | --- | --- | --- |"]
    lines += [
        f"| [{one.name}]({one.id}.md) | {one.purpose} | {one.risk} ({one.risk_why}) | {_auth(one)} | {', '.join(one.modes)} |"
        for one in BUILT_IN
    ]
    return "\n".join(lines) + "\n"


def page(provider: Provider) -> str:
    """Return the generated part of a provider's page: everything that the manifest says."""
    return "\n".join(
        [
            _summary(provider),
            "",
            "## Scopes",
            "",
            *_scopes(provider),
            "",
            "## Never asked for",
            "",
            "A grant that carries one of these, by name or inside another, is refused and revoked. So is one that is merely wider than",
            "what was asked for.",
            "",
            *_nevers(provider),
            "",
            "## What crosses",
            "",
            *(f"- {'from' if flow.direction == 'in' else 'to'} {provider.name}: {flow.what}" for flow in provider.flows),
            "",
            "## Tokens and disconnecting",
            "",
            *(f"- {line}" for line in _facts(provider)),
            "",
            "## Calls of the proxy",
            "",
            *_calls(provider),
            "",
            "## Errors",
            "",
            *_errors(provider),
            "",
            "## Not confirmed",
            "",
            *_unconfirmed(provider),
            "",
        ]
    )


def _summary(provider: Provider) -> str:
    modes = ", ".join(f"`{mode}`" for mode in provider.modes)
    risk = f"Risk: **{provider.risk}** ({provider.risk_why})"
    return f"{provider.purpose}. {risk}. Connected by {_auth(provider)}. Modes: {modes}. Manifest version {provider.version}."


def _auth(provider: Provider) -> str:
    return "OAuth 2.0" if isinstance(provider.auth, OAuth2) else "a restricted key that the customer makes"


def _scopes(provider: Provider) -> list[str]:
    lines = ["| scope | mode | it lets us | why | it opens | in the source documents |", "| --- | --- | --- | --- | --- | --- |"]
    for scope in provider.scopes:
        mode = scope.mode if scope.mode in provider.modes else Mode.ACT
        spec = f"`{scope.spec}`" if scope.spec else "the same, or not named"
        lines.append(f"| `{scope.name}` | {mode} | {scope.words} | {scope.why} | {scope.reaches} | {spec} |")
    return lines


def _nevers(provider: Provider) -> list[str]:
    lines = ["| scope | why not | named in the source documents |", "| --- | --- | --- |"]
    return lines + [f"| `{never.pattern}` | {never.why} | {'yes' if never.named else ''} |" for never in provider.not_requested]


def _facts(provider: Provider) -> Iterator[str]:
    auth = provider.auth
    yield f"Tokens go to {', '.join(f'`{host}`' for host in provider.hosts)} and nowhere else."
    if isinstance(auth, RestrictedKey):
        yield f"The key is made at <{auth.create_url}>: it is {auth.looks}."
        yield f"Probed before it is kept, and every {_span(auth.recheck_seconds)}: {_probes(auth.allowed)} must answer."
        yield f"These must answer 403 for want of a permission, anything else refuses the key: {_probes(auth.forbidden)}."
        yield f"Disconnecting: {auth.advice}"
    else:
        refresh, revocation = auth.refresh, auth.revocation
        yield f"PKCE S256: {'yes' if auth.pkce else 'no'}. The application shows itself by `{auth.client_auth}`."
        yield "An access token lasts " + (_span(refresh.access_seconds) if refresh.access_seconds else "as long as the reply says") + "."
        yield f"The refresh token: {_ROTATION[refresh.rotation]}; a spent one {_REUSE[refresh.reuse]}."
        if refresh.idle_seconds is not None and refresh.keepalive_seconds is not None:
            kept = _span(refresh.keepalive_seconds)
            yield f"Unused, it dies after {_span(refresh.idle_seconds)}; it is renewed after {kept} at the latest."
        yield f"A revocation ends {_EXTENT[revocation.extent]}."
        if revocation.by_organisation:
            yield "All accounts of an organisation stand on it: it is made when the last of their connections ends."
        if revocation.proof_seconds:
            yield f"The proof of it waits {_span(revocation.proof_seconds)}."
        if revocation.advice:
            yield revocation.advice
    if provider.shares:
        yield provider.shares
    for one in provider.exempt:
        yield f'Exempt from "{DEMANDS[one.demand]}" {one.reason}'


def _probes(probes: Iterable[Probe]) -> str:
    return ", ".join(f"`{probe.method} {probe.path}`" for probe in probes)


def _calls(provider: Provider) -> list[str]:
    lines = [
        "What `/v1/connections/{connection_id}/proxy/…` lets through; everything else is refused. What needs an approval is an action.",
        "",
        "| call | scope | approval |",
        "| --- | --- | --- |",
    ]
    return lines + [f"| `{rule.method} {rule.path}` | `{rule.scope}` | {'needed' if rule.approval else ''} |" for rule in provider.allow]


def _errors(provider: Provider) -> list[str]:
    lines = ["What this provider says in its own words, before the general rules of RFC 6749 and HTTP:", ""]
    if not provider.errors:
        return ["Only the general rules of RFC 6749 and HTTP apply."]
    lines += ["| it says | it counts as | meaning |", "| --- | --- | --- |"]
    for rule in provider.errors:
        said = ", ".join(f"`{value}`" for value in rule.values) or "status " + ", ".join(map(str, rule.statuses))
        lines.append(f"| {said} | `{rule.kind}`: `{rule.reason}` | {MEANING[rule.reason]} |")
    return lines


def _unconfirmed(provider: Provider) -> list[str]:
    if not provider.unconfirmed:
        return ["Nothing that the code rests on."]
    return ["The code takes the safer reading of each:", "", *(f"- {line}" for line in provider.unconfirmed)]


def _span(seconds: int) -> str:
    for unit, name in ((timedelta(days=1), "day"), (timedelta(hours=1), "hour"), (timedelta(minutes=1), "minute")):
        whole, rest = divmod(seconds, int(unit.total_seconds()))
        if whole and not rest:
            return f"{whole} {name}{'s' if whole > 1 else ''}"
    return f"{seconds} seconds"
