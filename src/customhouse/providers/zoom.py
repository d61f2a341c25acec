"""Zoom: recordings, transcripts and meeting metadata of one user, read only."""

from __future__ import annotations

from typing import Final

from customhouse.providers.manifest import (
    DAY,
    Alias,
    Allowance,
    ApiBase,
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
)
from customhouse.providers.vocabulary import ClientAuth, Extent, Kind, Reason, Risk, Rotation, Step, Token

_CODES: Final = ("/error_code", "/code")
_MEETING: Final = "the title, times and join details of your meetings"
_RECORDING: Final = "your cloud recordings: who spoke, when, and what was said"

SCOPES: Final = (
    Scope(
        "user:read:user",
        words="see your Zoom profile: name, e-mail address, account",
        why="Verifies which Zoom account was connected.",
        reaches="your profile",
        spec="user:read",
    ),
    Scope(
        "meeting:read:meeting",
        words="see a meeting's title, time and length",
        why="Names a recording by its meeting.",
        reaches=_MEETING,
        spec="meeting:read",
    ),
    Scope(
        "meeting:read:list_meetings",
        words="list your meetings",
        why="Finds the meetings that are coaching sessions.",
        reaches=_MEETING,
        spec="meeting:read",
    ),
    Scope(
        "meeting:read:past_meeting",
        words="see when a past meeting really began and ended",
        why="Records how long a session took.",
        reaches=_MEETING,
        spec="meeting:read",
    ),
    Scope(
        "meeting:read:list_past_participants",
        words="see who took part in a past meeting",
        why="Tells whether a session took place with the person it was for.",
        reaches="names and, within your account, e-mail addresses of participants",
        spec="meeting:read",
    ),
    Scope(
        "cloud_recording:read:list_user_recordings",
        words="list your cloud recordings",
        why="Finds the recording of a session.",
        reaches=_RECORDING,
        spec="recording:read",
    ),
    Scope(
        "cloud_recording:read:list_recording_files",
        words="download the files of a recording",
        why="Downloads session recordings.",
        reaches=_RECORDING,
        spec="recording:read",
    ),
    Scope(
        "cloud_recording:read:meeting_transcript",
        words="download the transcript of a meeting",
        why="Takes Zoom's transcript instead of making another one.",
        reaches=_RECORDING,
        spec="recording:read",
    ),
)

PROVIDER: Final = Provider(
    id="zoom",
    name="Zoom",
    purpose="Session recording and transcription",
    risk=Risk.HIGH,
    risk_why="raw session data",
    version=1,
    hosts=("zoom.us", "*.zoom.us"),
    endpoints=Endpoints(
        api_base="https://api.zoom.us/v2",
        authorize_url="https://zoom.us/oauth/authorize",
        token_url="https://zoom.us/oauth/token",  # noqa: S106 - an address
        revoke_url="https://zoom.us/oauth/revoke",
        identity_url="https://api.zoom.us/v2/users/me",
    ),
    auth=OAuth2(
        client_auth=ClientAuth.BASIC,
        # Zoom takes a challenge without a method for `plain`: we always name S256.
        pkce=True,
        refresh=Refresh(Rotation.SINGLE_USE, access_seconds=3600, idle_seconds=90 * DAY),
        revocation=Revocation(Extent.GRANT, (RevokeStep(token=Token.ACCESS, client_auth=ClientAuth.BASIC),)),
        identity=Identity(
            account=("/account_id", "/id"), label=("/email", "/display_name"), organisation="/account_id", needs="user:read:user"
        ),
        # The application's registration fixes them, and Zoom's own documents disagree about the separator.
        sends_scopes=False,
        api_base=ApiBase("/api_url", ".zoom.us"),
        code_seconds=300,
    ),
    scopes=SCOPES,
    not_requested=(
        Never("meeting:write", "It would let us create, change and delete your meetings.", named=True),
        Never("user:write", "It would let us change your profile.", named=True),
        Never("chat:write", "It would let us write in your name.", named=True),
        Never("*:write", "We read; nothing of ours changes anything in your account."),
        Never("*:write:*", "We read; nothing of ours changes anything in your account."),
        Never("*:update:*", "We read; nothing of ours changes anything in your account."),
        Never("*:delete:*", "We read; nothing of ours removes anything from your account."),
        Never("chat*", "Chats are not needed."),
        Never("team_chat*", "Chats are not needed."),
        Never("imchat*", "Chats are not needed."),
        Never("*:admin", "It would open the whole account, not only your part of it."),
        Never("*:master", "It would open other accounts below yours."),
    ),
    flows=(
        Flow("in", "Recordings, transcripts and chat files of your cloud recordings"),
        Flow("in", "Title, time, length and participants of your meetings"),
        Flow("in", "Your name, e-mail address and account number at Zoom"),
    ),
    register="Zoom App Marketplace: a General app, user-managed, with exactly the scopes above; none of them optional.",
    aliases=(
        # Applications from before April 2024 that were not migrated have classic scopes only.
        Alias("user:read", ("user:read:user",)),
        Alias("meeting:read", tuple(scope.name for scope in SCOPES if scope.spec == "meeting:read")),
        Alias("recording:read", tuple(scope.name for scope in SCOPES if scope.spec == "recording:read")),
    ),
    errors=(
        ErrorRule(Kind.APPLICATION, Reason.CLIENT_REFUSED, ("4702", "4704"), _CODES),
        ErrorRule(Kind.APPLICATION, Reason.REQUEST_REFUSED, ("4705", "4706", "4709"), _CODES),
        ErrorRule(Kind.PERMANENT, Reason.SCOPE_MISSING, ("4711",), _CODES),
        ErrorRule(Kind.APPLICATION, Reason.APPLICATION_DISABLED, ("4717",), _CODES),
        ErrorRule(Kind.PERMANENT, Reason.CODE_REFUSED, ("4733", "4734"), _CODES),
        ErrorRule(Kind.PERMANENT, Reason.ACCOUNT_GONE, ("4735",), _CODES),
        ErrorRule(Kind.PERMANENT, Reason.ADMIN_BLOCKED, ("4738",), _CODES),
        ErrorRule(Kind.PERMANENT, Reason.GRANT_ENDED, ("4737", "4740", "4741"), _CODES),
        ErrorRule(Kind.PERMANENT, Reason.TOKEN_REFUSED, ("124",), _CODES, steps=(Step.API,)),
    ),
    allow=tuple(
        Allowance("GET", path, scope)
        for path, scope in (
            ("/users/me", "user:read:user"),
            ("/users/me/meetings", "meeting:read:list_meetings"),
            ("/users/me/recordings", "cloud_recording:read:list_user_recordings"),
            ("/meetings/{meeting}", "meeting:read:meeting"),
            ("/meetings/{meeting}/recordings", "cloud_recording:read:list_recording_files"),
            ("/meetings/{meeting}/transcript", "cloud_recording:read:meeting_transcript"),
            ("/past_meetings/{meeting}", "meeting:read:past_meeting"),
            ("/past_meetings/{meeting}/participants", "meeting:read:list_past_participants"),
        )
    ),
    shares="Connecting the same Zoom user again with this application ends the earlier connection's tokens.",
    exempt=(
        Exempt("scopes in request", "Scopes are fixed at the registration; each token reply says what was granted, and that is compared."),
    ),
    unconfirmed=(
        "How long a refresh token lasts unused: 90 days in newer sources, 15 years on an older page of Zoom's; the shorter one counts.",
        "Whether a spent refresh token is taken for a short time: Zoom's pages disagree, so it counts as spent at once.",
        "The separator of scopes in the authorization request: none are sent.",
    ),
)
