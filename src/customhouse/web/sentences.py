"""What the pages of the connect flow say: one plain sentence per code, with its status; nothing of anybody in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from customhouse.providers.failures import MEANING
from customhouse.providers.vocabulary import Reason


@dataclass(frozen=True, slots=True)
class Said:
    """One page's words."""

    status: int
    title: str
    words: str
    advice: str
    mark: Literal["good", "calm", "warn"] = "warn"
    """What stands above it: a tick, a dash, an exclamation mark."""


_AGAIN: Final = "Go back to where you came from, and begin again from there."
_NOTHING: Final = "Nothing was connected, and nothing is kept."
_REVOKED: Final = "What was given to us is not kept here, and is handed back wherever the provider takes it back."

SAID: Final[dict[str, Said]] = {
    "link_unknown": Said(404, "This link leads nowhere", "It is not one of ours, or not complete.", _AGAIN),
    "link_over": Said(410, "This link was used, or is too old", "A link is good for one person, once, for ten minutes.", _AGAIN),
    "form_forged": Said(
        403,
        "This did not come from our page",
        "The consent has to be given on the page that the link opens, in the same browser, with cookies allowed.",
        "Open the link again and press the button there.",
    ),
    "not_now": Said(503, "Not just now", "A part of this service does not answer.", "Wait a moment and load this page again."),
    "state_unknown": Said(
        400, "This answer was not expected", f"It belongs to no connection in progress, or was used already. {_NOTHING}", _AGAIN
    ),
    "expired": Said(410, "That took too long", f"A connection has to be finished within ten minutes. {_NOTHING}", _AGAIN),
    "other_provider": Said(
        400, "This answer came the wrong way", f"It was meant for another provider than the one who sent it. {_NOTHING}", _AGAIN
    ),
    "other_browser": Said(
        403,
        "This is another browser",
        f"A connection has to be finished in the browser in which it was begun. {_NOTHING}",
        "If somebody sent you this address, close the page. Else begin again, and stay in one browser.",
    ),
    "other_issuer": Said(400, "This answer came from somebody else", f"The server that answered is not the one asked. {_NOTHING}", _AGAIN),
    "code_missing": Said(400, "The answer is not complete", f"The provider sent neither a code nor a reason. {_NOTHING}", _AGAIN),
    "reply_lost": Said(
        502,
        "The provider did not answer in time",
        "Whether it granted anything is not known; if it did, that is found out and handed back within minutes.",
        _AGAIN,
    ),
    "identity_unknown": Said(
        403, "Nobody can say whose account that is", f"The provider does not tell which account was connected. {_REVOKED}", _AGAIN
    ),
    "scope_wider": Said(
        403,
        "More was granted than asked for",
        f"We take exactly what the page names, and nothing more. {_REVOKED}",
        "Tell whoever runs this service: the application's registration at the provider asks for too much.",
    ),
    "scope_forbidden": Said(
        403,
        "Something was granted that is never asked for",
        f"It is on the list of what we do not want to be able to do. {_REVOKED}",
        "Tell whoever runs this service: the application's registration at the provider asks for too much.",
    ),
    "other_account": Said(
        409,
        "That is another account",
        f"This connection belongs to another account at the provider. {_REVOKED}",
        "Sign in there with the account that was connected before, or make a new connection.",
    ),
    "connection_ended": Said(410, "The connection has ended", f"It was disconnected in the meantime. {_REVOKED}", "Make a new connection."),
    Reason.DENIED: Said(
        403,
        "You did not agree",
        f"The provider says that consent was not given. {_NOTHING}",
        "That is fine. You can begin again at any time.",
    ),
    "declined": Said(
        200,
        "Nothing was connected",
        "You chose not to go on. What was connected before stays as it was, and this link is used up.",
        "That is fine. You can begin again at any time, from where you came.",
        mark="calm",
    ),
    "granted": Said(
        200,
        "Almost done",
        "The provider has agreed. The connection works as soon as the application confirms that it was you.",
        "Return to the application that sent you here; you can close this page.",
        mark="good",
    ),
}


def said_of(code: str) -> Said:
    """Return the words for a code; every reason of a provider's has some."""
    if code in SAID:
        return SAID[code]
    meaning = MEANING.get(Reason(code)) if code in set(Reason) else None
    return Said(502, "The provider refused", f"{meaning or 'It did not say why.'} {_NOTHING}", _AGAIN)
