"""Pipedrive: people of the customer's sales account. Deleting is blocked here, since no scope leaves it out."""

from __future__ import annotations

from typing import Final

from customhouse.providers.manifest import (
    DAY,
    Allowance,
    ApiBase,
    Endpoints,
    ErrorRule,
    Exempt,
    Flow,
    Identity,
    Implied,
    Never,
    OAuth2,
    Provider,
    Refresh,
    Revocation,
    RevokeStep,
    Scope,
)
from customhouse.providers.vocabulary import ClientAuth, Extent, Kind, Mode, Reason, Risk, Rotation, Step

_OAUTH: Final = "https://oauth.pipedrive.com/oauth"

PROVIDER: Final = Provider(
    id="pipedrive",
    name="Pipedrive",
    purpose="Export of people to the customer's CRM",
    risk=Risk.HIGH,
    risk_why="customer records, writable",
    version=1,
    hosts=("oauth.pipedrive.com", "api.pipedrive.com", "*.pipedrive.com"),
    endpoints=Endpoints(
        api_base="https://api.pipedrive.com/api",
        authorize_url=f"{_OAUTH}/authorize",
        token_url=f"{_OAUTH}/token",
        revoke_url=f"{_OAUTH}/revoke",
        identity_url="https://api.pipedrive.com/api/v1/users/me",
    ),
    auth=OAuth2(
        client_auth=ClientAuth.BASIC,
        pkce=False,
        refresh=Refresh(Rotation.SINGLE_USE, access_seconds=3600, idle_seconds=60 * DAY),
        revocation=Revocation(Extent.INSTALLATION, (RevokeStep(client_auth=ClientAuth.BASIC, hint=True),)),
        identity=Identity(
            account=("/data/company_id", "/data/id"), label=("/data/email", "/data/name"), organisation="/data/company_id", needs="base"
        ),
        separator=",",
        sends_scopes=False,
        api_base=ApiBase("/api_domain", ".pipedrive.com"),
        code_seconds=300,
        uninstalled=("/company_id", "/user_id"),
    ),
    scopes=(
        Scope(
            "base",
            words="see your Pipedrive profile",
            why="Verifies which user and company were connected.",
            reaches="your name, e-mail address, company",
        ),
        Scope(
            "contacts:full",
            words="see, make and change people and organisations",
            why="Exports people to your CRM, after a person has approved it; the scope includes deleting, which is blocked here.",
            reaches="people and organisations in your Pipedrive",
            mode=Mode.ACT,
            writes=True,
        ),
    ),
    not_requested=(
        Never("admin", "It would let us administer the account."),
        Never("mail:*", "Mail is not needed."),
        Never("deals:*", "Deals are not needed."),
        Never("leads:*", "Leads are not needed."),
        Never("activities:*", "Activities are not needed."),
        Never("products:*", "Products are not needed."),
        Never("projects:*", "Projects are not needed."),
        Never("users:*", "Other users are not needed."),
        Never("webhooks:*", "It would let us send your events elsewhere."),
        Never("*-fields:*", "It would let us change what a record is made of."),
    ),
    flows=(
        Flow("out", "The fields of a person that your privacy policy lets out, after approval"),
        Flow("in", "People that we look for by e-mail address"),
        Flow("in", "Your name, e-mail address, user and company numbers"),
    ),
    register="Pipedrive Developer Hub: an app with exactly these scopes, chosen there.",
    # The scopes are fixed at the registration: a connection that could only observe would hold a token that can write.
    modes=(Mode.ACT,),
    implied=(Implied("contacts:full", ("contacts:read",)),),
    errors=(
        ErrorRule(Kind.PERMANENT, Reason.DENIED, ("user_denied",), steps=(Step.AUTHORIZE,)),
        ErrorRule(Kind.PERMANENT, Reason.SCOPE_MISSING, ("Scope and URL mismatch",), statuses=(403,), steps=(Step.API,)),
    ),
    # Nothing is ever deleted, although the scope would let us.
    allow=(
        Allowance("GET", "/v1/users/me", "base"),
        Allowance("GET", "/v2/persons/search", "contacts:full"),
        Allowance("GET", "/v2/persons/{person}", "contacts:full"),
        Allowance("POST", "/v2/persons", "contacts:full", approval=True),
        Allowance("PATCH", "/v2/persons/{person}", "contacts:full", approval=True),
    ),
    shares="Disconnecting removes the application for this user's company account.",
    exempt=(
        Exempt("pkce", "Pipedrive offers none; the code is useless without our client secret, and the state is bound to the browser."),
        Exempt("scopes in request", "Scopes are fixed at the registration; each token reply says what was granted, and that is compared."),
    ),
    unconfirmed=(
        "That a denied consent comes back as `user_denied`; `access_denied` is understood as well.",
        "The 60 days after which an unused refresh token dies.",
        "That `api.pipedrive.com` answers where the token reply names no `api_domain`.",
    ),
)
