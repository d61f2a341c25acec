"""The pages that a person sees at a provider: consent, and a refusal. No script; everything from outside is escaped."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import Final

_STYLE: Final = (
    ":root{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}"
    "body{max-width:34rem;margin:3rem auto;padding:0 1rem}"
    "h1{font-size:1.4rem;margin-bottom:0}small{opacity:.7}"
    "fieldset{border:1px solid #8886;border-radius:.5rem;margin:1rem 0}"
    "label{display:block;margin:.4rem 0}code{font-size:.85em;opacity:.8}"
    "button,select{font:inherit;padding:.5rem 1.2rem;border-radius:.4rem;border:1px solid #888;margin-right:.5rem}"
    "button.allow{background:#1a6fb0;color:#fff;border-color:#1a6fb0}"
)


@dataclass(frozen=True, slots=True)
class Choice:
    """One scope on the page."""

    scope: str
    words: str
    fixed: bool = False
    """It cannot be unticked."""


def consent(provider: str, application: str, people: Iterable[tuple[str, str]], choices: Iterable[Choice]) -> str:
    """Return the consent page; its form goes to the page's own address, so that the request stays in the query."""
    options = "".join(f'<option value="{escape(login)}">{escape(name)}</option>' for login, name in people)
    boxes = "".join(_box(choice) for choice in choices)
    return framed(
        f"{provider} (sandbox)",
        f"<p>The application <b>{escape(application)}</b> asks for access to an account.</p>"
        '<form method="post"><input type="hidden" name="ticks" value="yes">'
        f'<label>Account<br><select name="account">{options}</select></label>'
        f"<fieldset><legend>It would be able to</legend>{boxes or 'see who you are'}</fieldset>"
        '<button class="allow" name="decision" value="allow">Allow</button>'
        '<button name="decision" value="deny">Deny</button></form>',
    )


def refusal(provider: str, why: str) -> str:
    """Return the page of a request that leads nowhere."""
    return framed(f"{provider} (sandbox)", f"<p><b>This request is refused.</b></p><p>{escape(why)}</p>")


def _box(choice: Choice) -> str:
    name = escape(choice.scope)
    kept = f'<input type="hidden" name="scope" value="{name}">' if choice.fixed else ""
    state = "checked disabled" if choice.fixed else f'name="scope" value="{name}" checked'
    return f'<label>{kept}<input type="checkbox" {state}> {escape(choice.words)}<br><code>{name}</code></label>'


def framed(title: str, inner: str) -> str:
    """Return a whole page; what stands in it is escaped already."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><main><h1>{escape(title)}</h1>"
        f"<small>A stand-in on this machine: no real account is touched.</small>{inner}</main></body></html>"
    )
