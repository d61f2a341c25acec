"""Microsoft Teams: recordings and transcripts of meetings, and in act mode messages in chats."""

from __future__ import annotations

from typing import Final

from customhouse.providers.manifest import (
    DAY,
    Allowance,
    Endpoints,
    ErrorRule,
    Exempt,
    Flow,
    Harmless,
    Identity,
    Implied,
    Never,
    OAuth2,
    Provider,
    Refresh,
    Revocation,
    Scope,
)
from customhouse.providers.vocabulary import ClientAuth, Extent, Kind, Mode, Reason, Reuse, Risk, Rotation, Step

_SERVER: Final = "https://login.microsoftonline.com/organizations/oauth2/v2.0"
_CODES: Final = ("/error_codes",)

PROVIDER: Final = Provider(
    id="microsoft-teams",
    name="Microsoft Teams",
    purpose="Session recording, notifications",
    risk=Risk.HIGH,
    risk_why="session data",
    version=1,
    hosts=("login.microsoftonline.com", "graph.microsoft.com"),
    endpoints=Endpoints(
        api_base="https://graph.microsoft.com/v1.0",
        # `organizations`: work and school accounts; personal ones have no such meetings.
        authorize_url=f"{_SERVER}/authorize",
        token_url=f"{_SERVER}/token",
        identity_url="https://graph.microsoft.com/v1.0/me?$select=id,displayName,mail,userPrincipalName",
    ),
    auth=OAuth2(
        client_auth=ClientAuth.BODY,
        pkce=True,
        refresh=Refresh(Rotation.RENEWED, access_seconds=3600, idle_seconds=90 * DAY, reuse=Reuse.WORKS, names_scopes=True),
        revocation=Revocation(
            Extent.NOTHING,
            advice="Microsoft offers no revocation: an administrator removes the application under Enterprise applications, or you do "
            "so yourself at https://myapps.microsoft.com. What we hold is destroyed here.",
        ),
        identity=Identity(
            account=("/tid", "/oid"), label=("/preferred_username", "/email", "/name"), organisation="/tid", by="id_token", needs="openid"
        ),
        authorize_extra=(("response_mode", "query"), ("prompt", "select_account")),
    ),
    scopes=(
        Scope(
            "openid", words="know that you signed in", why="Verifies which account was connected.", reaches="an account number", unsaid=True
        ),
        Scope(
            "profile", words="see your name", why="Shows you which account is connected.", reaches="your name and user name", unsaid=True
        ),
        Scope(
            "offline_access",
            words="keep the access that you give here until you end it",
            why="Finds recordings that are ready only after the session.",
            reaches="nothing more than the other permissions",
            unsaid=True,
        ),
        Scope(
            "User.Read",
            words="see your profile",
            why="Shows you which account is connected.",
            reaches="your name, e-mail address and job title",
        ),
        Scope(
            "OnlineMeetings.Read",
            words="see your online meetings",
            why="Names a recording by its meeting; a meeting is opened by its link or number, there is no list.",
            reaches="titles, times and participants of your meetings",
        ),
        Scope(
            "OnlineMeetingRecording.Read.All",
            words="download recordings of your meetings",
            why="Downloads session recordings; `OnlineMeetings.Read` gives none.",
            reaches="recordings of meetings that you organised",
            spec="OnlineMeetings.Read",
        ),
        Scope(
            "OnlineMeetingTranscript.Read.All",
            words="download transcripts of your meetings",
            why="Takes the meeting's transcript instead of making another one.",
            reaches="transcripts of meetings that you organised",
            spec="OnlineMeetings.Read",
        ),
        Scope(
            "Chat.ReadBasic",
            words="see the names and members of your chats, not the messages",
            why="Finds the chat that a message is for.",
            reaches="names and members of your chats",
            mode=Mode.ACT,
            spec="Chat.ReadWrite",
        ),
        Scope(
            "ChatMessage.Send",
            words="send messages in your chats in your name",
            why="Sends notification messages, each one after a person has approved it.",
            reaches="what we send; it opens no messages",
            mode=Mode.ACT,
            spec="Chat.ReadWrite",
            writes=True,
        ),
    ),
    not_requested=(
        Never("Mail.ReadWrite", "It would let us read and change your mail.", named=True),
        Never("Files.ReadWrite", "It would let us read and change your files.", named=True),
        Never("Mail.*", "Your mail is not needed."),
        Never("Files.*", "Your files are not needed."),
        Never("Sites.*", "SharePoint sites are not needed."),
        Never("Directory.*", "Your organisation's directory is not needed."),
        Never("*.ReadWrite.All", "It would let us change things of your whole organisation."),
        Never("*.FullControl*", "It would hand over whole sites."),
        Never("Chat.ReadWrite", "It would open every message of your chats; sending needs less."),
    ),
    flows=(
        Flow("in", "Recordings and transcripts of meetings that you organised"),
        Flow("in", "Titles, times and participants of your meetings"),
        Flow("out", "In act mode: messages in your chats, each after approval"),
        Flow("in", "Your name, e-mail address, account and organisation numbers at Microsoft"),
    ),
    register="Microsoft Entra admin centre: a multi-tenant web application with exactly these delegated permissions. Recordings and "
    "transcripts need the consent of the customer's administrator.",
    modes=(Mode.OBSERVE, Mode.ACT),
    implied=(Implied("Chat.ReadWrite", ("Chat.Read", "Chat.ReadBasic", "ChatMessage.Send")), Implied("Chat.Read", ("Chat.ReadBasic",))),
    scope_prefix="https://graph.microsoft.com/",
    harmless=(Harmless("email", "Replies name it beside `profile`; it shows the address that the profile shows as well."),),
    errors=(
        ErrorRule(Kind.PERMANENT, Reason.GRANT_ENDED, ("70008", "700082", "50173"), _CODES, steps=(Step.REFRESH,)),
        ErrorRule(Kind.PERMANENT, Reason.CODE_REFUSED, ("70008", "70000", "54005"), _CODES, steps=(Step.EXCHANGE,)),
        ErrorRule(Kind.PERMANENT, Reason.USER_NEEDED, ("50076", "50079", "53000", "53001", "53002", "53003", "70043"), _CODES),
        ErrorRule(Kind.PERMANENT, Reason.SCOPE_MISSING, ("65001",), _CODES),
        ErrorRule(Kind.PERMANENT, Reason.DENIED, ("65004",), _CODES),
        ErrorRule(Kind.PERMANENT, Reason.ADMIN_BLOCKED, ("90094", "700016"), _CODES),
        ErrorRule(Kind.PERMANENT, Reason.ACCOUNT_GONE, ("50057", "50034", "90002"), _CODES),
        ErrorRule(Kind.APPLICATION, Reason.CLIENT_REFUSED, ("7000215", "7000222"), _CODES),
        ErrorRule(
            Kind.PERMANENT,
            Reason.ADMIN_BLOCKED,
            ("GraphAccessToTranscriptsDisabled",),
            ("/error/innerError/code", "/error/code"),
            statuses=(403,),
            steps=(Step.API,),
        ),
    ),
    allow=(
        *(
            Allowance("GET", path, scope)
            for path, scope in (
                ("/me", "User.Read"),
                ("/me/onlineMeetings", "OnlineMeetings.Read"),
                ("/me/onlineMeetings/{meeting}", "OnlineMeetings.Read"),
                ("/me/onlineMeetings/{meeting}/recordings", "OnlineMeetingRecording.Read.All"),
                ("/me/onlineMeetings/{meeting}/recordings/{recording}", "OnlineMeetingRecording.Read.All"),
                ("/me/onlineMeetings/{meeting}/transcripts", "OnlineMeetingTranscript.Read.All"),
                ("/me/onlineMeetings/{meeting}/transcripts/{transcript}", "OnlineMeetingTranscript.Read.All"),
                ("/me/onlineMeetings/{meeting}/transcripts/{transcript}/content", "OnlineMeetingTranscript.Read.All"),
                ("/me/chats", "Chat.ReadBasic"),
                ("/chats/{chat}", "Chat.ReadBasic"),
                ("/chats/{chat}/members", "Chat.ReadBasic"),
            )
        ),
        Allowance("POST", "/chats/{chat}/messages", "ChatMessage.Send", approval=True),
    ),
    exempt=(
        Exempt("revocation", "There is no RFC 7009 endpoint; what Graph offers would end every application's sessions of the person."),
    ),
    unconfirmed=(
        "Which permissions need an administrator's consent: the permissions reference was not read again.",
        "The numeric error codes, which come from secondary sources.",
    ),
)
