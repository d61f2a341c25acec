"""What a provider module declares: facts in frozen dataclasses, nothing that runs.

Where each fact comes from, and how sure it is, stands on the provider's page (`docs/providers/<id>.md`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final, Literal, TypeAlias

from customhouse.providers.vocabulary import ClientAuth, Extent, Kind, Mode, Reason, Reuse, Risk, Rotation, Step, Token

DAY: Final = 86_400
"""Seconds."""


@dataclass(frozen=True, slots=True)
class ErrorRule:
    """One line of a provider's table of errors; the first that fits decides, before the general rules of RFC 6749 and HTTP."""

    kind: Kind
    reason: Reason
    values: tuple[str, ...] = ()
    """The member's text, or number as text, is one of these. Empty: the status decides alone."""
    pointers: tuple[str, ...] = ("/error",)
    """Where in the JSON body (RFC 6901; `*` stands for each element of a list)."""
    statuses: tuple[int, ...] = ()
    """Empty: any status."""
    steps: tuple[Step, ...] = tuple(Step)


@dataclass(frozen=True, slots=True)
class Scope:
    """One permission that we ask for."""

    name: str
    """As the provider spells it today; sent and compared."""
    words: str
    """What it lets us do, for the person who consents: continues the sentence "Customhouse can …"."""
    why: str
    """Why we need it: one sentence."""
    reaches: str
    """Which of the person's data it opens."""
    mode: Mode = Mode.OBSERVE
    spec: str = ""
    """What the source documents call it, where that is another or a wider name; empty: the same, or not named there."""
    unsaid: bool = False
    """Replies leave it out although it was granted: its absence means nothing."""
    writes: bool = False
    """A holder of the token could change or send something with it. Such a grant's token is never handed out."""
    narrowed: bool = False
    """It opens more than we read, and what keeps us to that is here alone. Such a grant's token is never handed out either."""


@dataclass(frozen=True, slots=True)
class Never:
    """A permission that is never asked for; a grant that carries it is refused and revoked."""

    pattern: str
    """A scope, or with `*` for any characters a family of scopes."""
    why: str
    named: bool = False
    """The source documents name it."""


@dataclass(frozen=True, slots=True)
class Implied:
    """A scope that holds others in itself."""

    name: str
    holds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Alias:
    """Another spelling of a scope in replies, or an older scope that stands for several of today's."""

    spelling: str
    stands_for: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Harmless:
    """A scope that providers add by themselves and that opens nothing: it does not make a grant wider."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Flow:
    """Data that crosses, in the words of the consent page."""

    direction: Literal["in", "out"]
    """`in`: from the provider to us; `out`: from us to the provider."""
    what: str


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the provider listens. Each can be overridden under its own name in the providers file. Empty: it has none."""

    api_base: str
    authorize_url: str = ""
    token_url: str = ""
    revoke_url: str = ""
    identity_url: str = ""
    introspect_url: str = ""

    def items(self) -> tuple[tuple[str, str], ...]:
        """Return name and URL of those that exist."""
        return tuple((field.name, url) for field in fields(self) if (url := getattr(self, field.name)))


@dataclass(frozen=True, slots=True)
class ApiBase:
    """The token reply says on which host this account's API is."""

    pointer: str
    """Where in the token reply."""
    suffix: str
    """The host must end with this, on https, without port or user name; anything else is not believed."""


@dataclass(frozen=True, slots=True)
class ScopeMember:
    """Where a token reply tells the granted scopes: one text with separators, or a list."""

    pointer: str = "/scope"
    prefix: str = ""
    """Put before each name, so that two kinds of scopes with the same spelling stay apart."""


@dataclass(frozen=True, slots=True)
class Refresh:
    """What is known about refresh tokens. Seconds; None: no such limit is known."""

    rotation: Rotation
    access_seconds: int | None
    """How long an access token lasts where the reply does not say."""
    idle_seconds: int | None = None
    """A refresh token dies when unused for this long."""
    grace_seconds: int = 0
    """How long a spent refresh token is still taken, so that a lost reply can be asked for again."""
    reuse: Reuse = Reuse.REFUSED
    spent_codes: tuple[str, ...] = ()
    """Errors that mean something passing, and may all the same be the answer to a spent refresh token: where one comes again and again
    after an answer was lost, the token is spent."""
    names_scopes: bool = False
    """A refresh repeats the scopes, so that the new token is no wider than the connection."""

    @property
    def keepalive_seconds(self) -> int | None:
        """Seconds after which an unused refresh token is refreshed, well before it dies: half of its idle time, at most 30 days."""
        return None if self.idle_seconds is None else min(self.idle_seconds // 2, 30 * DAY)


@dataclass(frozen=True, slots=True)
class RevokeStep:
    """One call of a revocation: a POST to `revoke_url`."""

    token: Token = Token.REFRESH
    """Which token is shown; where there is no refresh token, the access token."""
    bearer: bool = False
    """The token travels in the Authorization header, not in the form."""
    client_auth: ClientAuth = ClientAuth.NONE
    hint: bool = False
    """`token_type_hint` is sent (RFC 7009 §2.1)."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """What a disconnect can do at the provider."""

    extent: Extent
    steps: tuple[RevokeStep, ...] = ()
    """In this order; empty: `unsupported`."""
    gone: tuple[ErrorRule, ...] = ()
    """Refusals that mean: it was revoked before. `steps` do not count."""
    proof_seconds: int = 0
    """A probe proves the end only after this long: until then issued access tokens live on."""
    advice: str = ""
    """What the customer has to do at the provider where we cannot, or cannot all of it."""
    by_organisation: bool = False
    """What it ends is not the account's alone: all accounts of an organisation stand on it."""

    @property
    def supported(self) -> bool:
        """Whether we can end the grant ourselves."""
        return bool(self.steps)


@dataclass(frozen=True, slots=True)
class Identity:
    """How to learn which account was connected."""

    account: tuple[str, ...]
    """Pointers whose texts, joined by `:`, name the account for good. All must be there."""
    label: tuple[str, ...]
    """Pointers to what people call it; the first that is there."""
    organisation: str = ""
    """Pointer to the organisation's stable id, where there is one."""
    by: Literal["get", "introspect", "token_reply", "id_token"] = "get"
    """`get`: `identity_url` with the access token; `introspect`: the token in a form to `introspect_url`; `token_reply`: the reply says it;
    `id_token`: the claims of the id_token in the reply, which came straight from the token endpoint (OpenID Connect Core §3.1.3.7)."""
    needs: str = ""
    """The scope without which the call is refused; empty: none."""


@dataclass(frozen=True, slots=True)
class OAuth2:
    """The authorization code flow (RFC 6749 §4.1) as this provider speaks it."""

    client_auth: ClientAuth
    pkce: bool
    """S256 is sent (RFC 7636); False: the provider does not offer it, or only to applications without a secret."""
    refresh: Refresh
    revocation: Revocation
    identity: Identity
    separator: str = " "
    """Between scopes in the authorization request."""
    sends_scopes: bool = True
    """False: the scopes are fixed where the application is registered, and the request names none."""
    act_parameter: str = ""
    """The parameter for what `act` adds, where the provider wants it apart from the rest."""
    authorize_extra: tuple[tuple[str, str], ...] = ()
    """Further parameters of the authorization request."""
    scope_members: tuple[ScopeMember, ...] = (ScopeMember(),)
    success_flag: str = ""
    """A pointer to a member that must be true: this provider answers 200 also when it refuses."""
    api_base: ApiBase | None = None
    code_seconds: int = 600
    """How long an authorization code lasts."""
    issuer: str = ""
    """What the provider calls itself in `iss` of its answer in the browser (RFC 9207); empty: not known, or not one name for all."""
    names_issuer: bool = False
    """An answer without `iss` is refused."""
    uninstalled: tuple[str, ...] = ()
    """Where this provider sends a DELETE with our client id and secret to the redirect URI when the application is removed: pointers in
    its JSON whose texts, joined by `:`, name the account as `identity` does. Empty: it does not."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A harmless call that shows whether a key may do something."""

    path: str
    """Below `api_base`."""
    shows: str
    """The permission: a name in `scopes`, or a pattern in `not_requested`."""
    method: Literal["GET", "POST"] = "GET"
    """`POST`: the path names a thing that cannot exist, so that nothing can come of it; who may write is told that it is not there."""


@dataclass(frozen=True, slots=True)
class KeyPrefix:
    """A kind of key that is refused by its first letters."""

    prefix: str
    why: str


@dataclass(frozen=True, slots=True)
class KeyAnswers:
    """How this provider's own answers to probes look. What looks otherwise (a proxy's page, a blocked address) proves nothing."""

    kind: str
    """Pointer to the text that every refusal of this provider has."""
    kinds: tuple[str, ...]
    """What stands there when the call was understood, and refused."""
    message: str
    """Pointer to the sentence of a refusal."""
    lacking: str
    """A regular expression that the sentence of a 403 for want of a permission holds."""
    good: str
    """Pointer to a text that every good answer has."""


@dataclass(frozen=True, slots=True)
class RestrictedKey:
    """A key that the customer makes and pastes; its permissions can be probed, not read."""

    pattern: str
    """The whole key, as a regular expression."""
    looks: str
    """The same in words, continuing the sentence "A key is …"."""
    live_prefix: str
    """What keys for real money and real people begin with."""
    test_prefix: str
    refused: tuple[KeyPrefix, ...]
    allowed: tuple[Probe, ...]
    """Must answer well; a permission is granted when all of its probes do."""
    forbidden: tuple[Probe, ...]
    """Must answer 403 for want of a permission; every other refusal counts as "it may", so the key is refused."""
    answers: KeyAnswers
    create_url: str
    """Where the customer makes a key with just these permissions."""
    identity: Identity
    advice: str
    """What the customer has to do at a disconnect: no call of ours can end a pasted key."""
    account_in_refusal: str = ""
    """A regular expression whose first group, in the text of a refusal, is the account's id; empty: refusals do not name it."""
    recheck_seconds: int = DAY
    webhook_pattern: str = ""
    """What the secret of the customer's webhook endpoint looks like, as a regular expression; empty: it has none that could be pasted."""


Auth: TypeAlias = OAuth2 | RestrictedKey


@dataclass(frozen=True, slots=True)
class Allowance:
    """A call that the guarded proxy lets through."""

    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    """Below `api_base`; begins with `/`. `{name}` stands for one segment, `*` for any characters of one but, as a whole last segment, for
    any rest."""
    scope: str
    approval: bool = False
    """A person has to approve the very request first: it is an action, and the proxy refuses it."""


@dataclass(frozen=True, slots=True)
class Exempt:
    """A demand of the contract that this provider cannot meet; it expires when it is no longer needed."""

    demand: str
    """A key of `contract.DEMANDS`."""
    reason: str


@dataclass(frozen=True, slots=True)
class Provider:
    """One outside system that can be connected."""

    id: str
    """Lower-case letters, digits and `-`; the same in routes, settings, fixtures and pages."""
    name: str
    purpose: str
    risk: Risk
    risk_why: str
    version: int
    """Of this manifest: grows with every change of scopes. Where those of an older connection differ, its user is asked again."""
    hosts: tuple[str, ...]
    """The only hosts that a token may be sent to; `*.` before a name stands for exactly one label, `:port` after it for a port."""
    endpoints: Endpoints
    auth: Auth
    scopes: tuple[Scope, ...]
    not_requested: tuple[Never, ...]
    flows: tuple[Flow, ...]
    register: str
    """Where the operator registers the application, and how, in a sentence."""
    modes: tuple[Mode, ...] = (Mode.OBSERVE,)
    """The one that may do least first."""
    implied: tuple[Implied, ...] = ()
    aliases: tuple[Alias, ...] = ()
    scope_prefix: str = ""
    """Replies may put this before any name."""
    harmless: tuple[Harmless, ...] = ()
    errors: tuple[ErrorRule, ...] = ()
    shares: str = ""
    """Whose grant another connection of the same account shares, in words; empty: each connection has its own."""
    unconfirmed: tuple[str, ...] = ()
    """What could not be confirmed by the provider's own documents; the code takes the safer reading."""
    api_headers: tuple[tuple[str, str], ...] = ()
    """Sent with every call of the API, names in lower case: a pinned version. No secrets."""
    allow: tuple[Allowance, ...] = ()
    exempt: tuple[Exempt, ...] = ()
    trusts: tuple[str, ...] = ()
    """Origins (`https://host`, `http://127.0.0.1:8400`) that the operator named in the providers file: exactly these may be dialled
    although they are private, and be given a token although they are none of `hosts`."""
    project: str = ""
    """A regular expression whose first group, in a client id, names the project that grants are counted by. Empty: each client alone."""

    @property
    def default_mode(self) -> Mode:
        """The mode of a connection for which none is asked: the one that may do least."""
        return self.modes[0]

    @property
    def docs(self) -> str:
        """The provider's page, from the root of the repository."""
        return f"docs/providers/{self.id}.md"

    @property
    def oauth2(self) -> OAuth2:
        """The OAuth facts.

        Raises:
            TypeError: this provider is connected by a key; ask `isinstance(provider.auth, OAuth2)` first.
        """
        if not isinstance(self.auth, OAuth2):
            raise TypeError(f"{self.id} has no OAuth")
        return self.auth
