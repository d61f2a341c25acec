"""Slack: notifications to the person who connected it, from a bot."""

from __future__ import annotations

from typing import Final

from customhouse.providers.manifest import (
    Allowance,
    Endpoints,
    ErrorRule,
    Exempt,
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
from customhouse.providers.vocabulary import ClientAuth, Extent, Kind, Reason, Risk, Rotation, Step, Token

_TOKEN_STEPS: Final = (Step.EXCHANGE, Step.REFRESH)

PROVIDER: Final = Provider(
    id="slack",
    name="Slack",
    purpose="Notifications, quick check-ins",
    risk=Risk.LOW,
    risk_why="notifications only",
    version=1,
    hosts=("slack.com",),
    endpoints=Endpoints(
        api_base="https://slack.com/api",
        authorize_url="https://slack.com/oauth/v2/authorize",
        token_url="https://slack.com/api/oauth.v2.access",  # noqa: S106 - an address
        revoke_url="https://slack.com/api/auth.revoke",
        identity_url="https://slack.com/api/auth.test",
    ),
    auth=OAuth2(
        client_auth=ClientAuth.BASIC,
        pkce=False,
        # Without token rotation a reply has neither a lifetime nor a refresh token.
        refresh=Refresh(Rotation.SINGLE_USE, access_seconds=None, spent_codes=("internal_error",)),
        revocation=Revocation(
            Extent.TOKEN,
            (RevokeStep(token=Token.ACCESS, bearer=True),),
            gone=(ErrorRule(Kind.PERMANENT, Reason.GRANT_ENDED, ("token_revoked", "invalid_auth", "account_inactive")),),
            advice="The application stays listed in the workspace until somebody there removes it.",
            # §4: revoking a bot's token takes the bot out of the workspace, for everybody.
            by_organisation=True,
        ),
        # An installation for a whole organisation names no team; it is refused: one connection is one workspace.
        identity=Identity(account=("/team/id", "/authed_user/id"), label=("/team/name",), organisation="/team/id", by="token_reply"),
        separator=",",
        scope_members=(ScopeMember(), ScopeMember("/authed_user/scope", "user/")),
        success_flag="/ok",
    ),
    scopes=(
        Scope(
            "chat:write",
            words="write messages to you as a bot",
            why="Sends notifications and check-ins to you.",
            reaches="what the bot itself writes",
            writes=True,
        ),
        Scope(
            "users:read",
            words="see who is in the workspace",
            why="Verifies which Slack member was connected, and finds the direct messages with you.",
            reaches="names and time zones of members; no e-mail addresses",
        ),
    ),
    not_requested=(
        Never("channels:read", "It would list the workspace's channels.", named=True),
        Never("channels:history", "It would open what is said in channels.", named=True),
        Never("channels:*", "Channels are not needed."),
        Never("groups:*", "Private channels are not needed."),
        Never("im:*", "Your direct messages with others are not needed."),
        Never("mpim:*", "Group conversations are not needed."),
        Never("files:*", "Files are not needed."),
        Never("search:*", "It would open everything that you can find."),
        Never("admin*", "It would let us administer the workspace."),
        Never("chat:write.public", "It would let the bot write into channels that it was not invited to."),
        Never("chat:write.customize", "It would let the bot appear under another name."),
        Never("chat:write:*", "A classic scope: it would let us write as you."),
        Never("bot", "A classic scope: it opens far more than messages to you."),
        Never("client", "A classic scope: it opens everything that you can see."),
        Never("user/*", "A permission in your own name: the bot does not need one."),
    ),
    flows=(
        Flow("out", "Notifications and check-ins to you"),
        Flow("in", "The workspace's name, your member number and name"),
    ),
    register="Slack app settings: exactly these bot scopes, no user scopes, token rotation on, PKCE off, not for whole organisations.",
    errors=(
        ErrorRule(Kind.TRANSIENT, Reason.RATE_LIMITED, ("ratelimited", "rate_limited")),
        # A spent refresh token may be answered with this too: only the generation in our table can tell.
        ErrorRule(Kind.TRANSIENT, Reason.UNAVAILABLE, ("internal_error", "fatal_error", "service_unavailable", "request_timeout")),
        ErrorRule(Kind.PERMANENT, Reason.ACCOUNT_GONE, ("account_inactive", "team_not_found", "user_not_found")),
        ErrorRule(Kind.PERMANENT, Reason.GRANT_ENDED, ("token_revoked", "invalid_refresh_token")),
        ErrorRule(Kind.PERMANENT, Reason.GRANT_ENDED, ("invalid_auth", "not_authed"), steps=(Step.REFRESH, Step.REVOKE)),
        ErrorRule(Kind.PERMANENT, Reason.TOKEN_REFUSED, ("invalid_auth", "not_authed", "token_expired"), steps=(Step.API,)),
        ErrorRule(Kind.PERMANENT, Reason.USER_NEEDED, ("org_login_required",)),
        ErrorRule(Kind.PERMANENT, Reason.ADMIN_BLOCKED, ("team_access_not_granted", "access_denied"), steps=(Step.API, *_TOKEN_STEPS)),
        ErrorRule(Kind.PERMANENT, Reason.SCOPE_MISSING, ("missing_scope",)),
        ErrorRule(Kind.PERMANENT, Reason.CODE_REFUSED, ("invalid_code", "code_already_used", "code_expired"), steps=_TOKEN_STEPS),
        ErrorRule(Kind.APPLICATION, Reason.CLIENT_REFUSED, ("invalid_client_id", "bad_client_secret"), steps=(*_TOKEN_STEPS, Step.REVOKE)),
        ErrorRule(
            Kind.APPLICATION,
            Reason.REQUEST_REFUSED,
            ("bad_redirect_uri", "invalid_grant_type", "oauth_authorization_url_mismatch"),
            steps=_TOKEN_STEPS,
        ),
        ErrorRule(Kind.PERMANENT, Reason.NOT_THERE, ("channel_not_found", "message_not_found"), steps=(Step.API,)),
        ErrorRule(Kind.PERMANENT, Reason.NOT_ALLOWED, ("not_in_channel", "is_archived", "restricted_action"), steps=(Step.API,)),
    ),
    allow=(Allowance("GET", "/users.info", "users:read"),),
    shares="All people of a workspace share one bot: its token is ended only when the last of their connections is.",
    exempt=(
        Exempt(
            "pkce", "Slack takes PKCE for a public client: it cannot be undone and cuts refresh tokens to 30 days; the client has a secret."
        ),
    ),
    unconfirmed=(
        "`code_already_used` and `code_expired` at the token endpoint; the other names are those of Slack's page on `oauth.v2.access`.",
        "That installing again keeps scopes that were granted before: a grant with more than was asked for is refused.",
    ),
)
