"""HubSpot: contacts, and nothing else of the portal."""

from __future__ import annotations

from typing import Final

from customhouse.providers.manifest import (
    Allowance,
    Endpoints,
    ErrorRule,
    Flow,
    Identity,
    Never,
    OAuth2,
    Provider,
    Refresh,
    Revocation,
    RevokeStep,
    Scope,
    ScopeMember,
)
from customhouse.providers.vocabulary import ClientAuth, Extent, Kind, Mode, Reason, Reuse, Risk, Rotation, Step

_OAUTH: Final = "https://api.hubapi.com/oauth/2026-03"
_STATUS: Final = ("/status",)
_CATEGORY: Final = ("/category",)

PROVIDER: Final = Provider(
    id="hubspot",
    name="HubSpot",
    purpose="Export of people to the customer's CRM",
    risk=Risk.HIGH,
    risk_why="customer records, writable in act mode",
    version=1,
    hosts=("api.hubapi.com",),
    endpoints=Endpoints(
        api_base="https://api.hubapi.com",
        authorize_url="https://app.hubspot.com/oauth/authorize",
        token_url=f"{_OAUTH}/token",
        revoke_url=f"{_OAUTH}/token/revoke",
        introspect_url=f"{_OAUTH}/token/introspect",
    ),
    auth=OAuth2(
        client_auth=ClientAuth.BODY,
        pkce=True,
        refresh=Refresh(Rotation.STABLE, access_seconds=1800, reuse=Reuse.WORKS),
        revocation=Revocation(
            Extent.TOKEN,
            (RevokeStep(client_auth=ClientAuth.BODY, hint=True),),
            # Whether issued access tokens end with the refresh token is not documented.
            proof_seconds=1800,
            advice="The application stays listed under Connected apps until an administrator of the portal removes it there.",
        ),
        identity=Identity(account=("/hub_id", "/user_id"), label=("/user", "/hub_domain"), organisation="/hub_id", by="introspect"),
        # `scope` must be exactly what the application requires of everybody; the rest is asked for beside it.
        act_parameter="optional_scope",
        scope_members=(ScopeMember("/scopes"), ScopeMember("/scope")),
    ),
    scopes=(
        Scope(
            "oauth",
            words="be connected to this portal",
            why="HubSpot demands it of every application.",
            reaches="the portal's number and domain",
        ),
        Scope(
            "crm.objects.contacts.read",
            words="see contacts",
            why="Finds the contact that a person already is, so that nobody is entered twice.",
            reaches="your portal's contacts",
        ),
        Scope(
            "crm.objects.contacts.write",
            words="make and change contacts",
            why="Exports people to your CRM, after a person has approved it.",
            reaches="your portal's contacts",
            mode=Mode.ACT,
            writes=True,
        ),
    ),
    not_requested=(
        Never("*.sensitive.*", "Sensitive properties are not needed."),
        Never("*.highly_sensitive.*", "Sensitive properties are not needed."),
        Never("crm.export", "It would let us take whole lists out of your portal."),
        Never("crm.import", "Contacts are written one by one, not as files."),
        Never("crm.schemas.*", "It would let us change what a contact is made of."),
        Never("crm.objects.companies.*", "Companies are not needed."),
        Never("crm.objects.deals.*", "Deals are not needed."),
        Never("automation", "Workflows are not needed."),
        Never("files*", "Files are not needed."),
        Never("settings.*", "Users and settings are not needed."),
        Never("contacts", "An older scope: it opens far more than contacts."),
    ),
    flows=(
        Flow("out", "In act mode: the fields of a person that your privacy policy lets out, after approval"),
        Flow("in", "Contacts that we look for by e-mail address"),
        Flow("in", "The portal's number and domain, your user number and e-mail address"),
    ),
    register="HubSpot developer account: an app whose required scopes are the observe scopes above, with the act scopes as optional ones.",
    modes=(Mode.OBSERVE, Mode.ACT),
    errors=(
        ErrorRule(Kind.PERMANENT, Reason.GRANT_ENDED, ("BAD_REFRESH_TOKEN",), _STATUS, steps=(Step.REFRESH, Step.REVOKE)),
        ErrorRule(Kind.PERMANENT, Reason.CODE_REFUSED, ("BAD_AUTH_CODE",), _STATUS, steps=(Step.EXCHANGE,)),
        ErrorRule(Kind.APPLICATION, Reason.CLIENT_REFUSED, ("BAD_CLIENT_SECRET", "BAD_CLIENT_ID"), _STATUS),
        ErrorRule(Kind.APPLICATION, Reason.REQUEST_REFUSED, ("MISMATCH_REDIRECT_URI_AUTH_CODE",), _STATUS),
        ErrorRule(Kind.PERMANENT, Reason.TOKEN_REFUSED, ("EXPIRED_AUTHENTICATION", "INVALID_AUTHENTICATION"), _CATEGORY, steps=(Step.API,)),
        ErrorRule(Kind.PERMANENT, Reason.SCOPE_MISSING, ("MISSING_SCOPES",), _CATEGORY, steps=(Step.API,)),
        ErrorRule(Kind.TRANSIENT, Reason.RATE_LIMITED, ("RATE_LIMITS",), _CATEGORY, steps=(Step.API,)),
        # HubSpot's own status while a portal moves between data centres.
        ErrorRule(Kind.TRANSIENT, Reason.UNAVAILABLE, statuses=(477,)),
    ),
    allow=(
        Allowance("GET", "/crm/v3/objects/contacts", "crm.objects.contacts.read"),
        Allowance("GET", "/crm/v3/objects/contacts/{contact}", "crm.objects.contacts.read"),
        # Reads, whatever the method says.
        Allowance("POST", "/crm/v3/objects/contacts/search", "crm.objects.contacts.read"),
        Allowance("POST", "/crm/v3/objects/contacts/batch/read", "crm.objects.contacts.read"),
        Allowance("POST", "/crm/v3/objects/contacts", "crm.objects.contacts.write", approval=True),
        Allowance("PATCH", "/crm/v3/objects/contacts/{contact}", "crm.objects.contacts.write", approval=True),
        Allowance("POST", "/crm/v3/objects/contacts/batch/upsert", "crm.objects.contacts.write", approval=True),
    ),
    shares="Two connections of the same HubSpot user share one permission.",
    unconfirmed=(
        "Whether a revocation ends access tokens at once: the proof waits until they have run out.",
        "That the authorization page takes a PKCE challenge; the token endpoint's specification takes the verifier.",
        "The names of the errors at the token endpoint beyond `BAD_REFRESH_TOKEN`.",
    ),
)
