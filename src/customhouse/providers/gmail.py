"""Gmail: threads that concern coaching, and in act mode follow-up messages."""

from __future__ import annotations

from typing import Final

from customhouse.providers import google
from customhouse.providers.manifest import Allowance, Flow, Implied, Never, Provider, Scope
from customhouse.providers.vocabulary import Mode, Risk

_GMAIL: Final = f"{google.AUTH}gmail."
_ALL: Final = "https://mail.google.com/"

PROVIDER: Final = Provider(
    id="gmail",
    name="Gmail",
    purpose="Follow-up emails, notifications",
    risk=Risk.HIGH,
    risk_why="email content",
    version=1,
    hosts=(*google.HOSTS, "gmail.googleapis.com"),
    endpoints=google.endpoints("https://gmail.googleapis.com/gmail/v1"),
    auth=google.OAUTH2,
    scopes=(
        *google.IDENTITY_SCOPES,
        Scope(
            f"{_GMAIL}readonly",
            words="read your e-mail",
            why="Reads threads with the participants or under the label that your organisation has set, and no others.",
            reaches="your messages, attachments and mailbox settings",
            narrowed=True,
        ),
        Scope(
            f"{_GMAIL}send",
            words="send e-mail in your name",
            why="Sends follow-up messages, each one after a person has approved its exact text.",
            reaches="what we send; it opens nothing for reading",
            mode=Mode.ACT,
            writes=True,
        ),
    ),
    not_requested=(
        Never(f"{_GMAIL}modify", "It would let us change, move and delete your messages.", named=True),
        Never(f"{_GMAIL}compose", "It would let us write drafts and send without this approval.", named=True),
        Never(_ALL, "It would open all of your mail, for deleting too."),
        Never(f"{_GMAIL}insert", "It would let us put messages into your mailbox."),
        Never(f"{_GMAIL}labels", "Your labels stay as they are."),
        Never(f"{_GMAIL}settings*", "It would let us change filters and forwarding."),
    ),
    flows=(
        Flow("in", "Threads that pass the filter of your organisation"),
        Flow("out", "In act mode: follow-up messages, each after approval"),
        Flow("in", "Your e-mail address and account number at Google"),
    ),
    register=google.register("Gmail API"),
    modes=(Mode.OBSERVE, Mode.ACT),
    # Threads are read under the filter that the organisation has set: the proxy cannot see whether a thread passes it.
    allow=(Allowance("POST", "/users/me/messages/send", f"{_GMAIL}send", approval=True),),
    implied=(
        Implied(f"{_GMAIL}compose", (f"{_GMAIL}send",)),
        Implied(f"{_GMAIL}modify", (f"{_GMAIL}readonly", f"{_GMAIL}compose", f"{_GMAIL}labels", f"{_GMAIL}insert")),
        Implied(_ALL, (f"{_GMAIL}modify",)),
    ),
    aliases=google.ALIASES,
    errors=google.ERRORS,
    shares=google.SHARES,
    project=google.PROJECT,
    unconfirmed=google.UNCONFIRMED,
)
