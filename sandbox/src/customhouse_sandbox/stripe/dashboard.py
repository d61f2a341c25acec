"""The dashboard's page on which a customer makes a key (§7.1, pre-filled creation link). No script."""

from __future__ import annotations

import re
from html import escape
from typing import Final

from customhouse_sandbox.faults import Operation
from customhouse_sandbox.http import Reply, as_html
from customhouse_sandbox.pages import framed
from customhouse_sandbox.routing import Ask, Route
from customhouse_sandbox.stripe import keys

_SLUG: Final = re.compile(r"rak_([a-z_]+)_(read|write)")
_TITLE: Final = "Stripe (sandbox)"


def page(ask: Ask) -> Reply:
    """`GET /apikeys/create`: the permissions of the link stand there already."""
    wanted = {}
    for name, value in ask.request.query:
        if name == "permissions[]" and (match := _SLUG.fullmatch(value)) and match[1] in keys.RESOURCES:
            wanted[match[1]] = match[2]
    people = "".join(
        f'<option value="{escape(one.login)}">{escape(f"{one.name} ({one.organisation})")}</option>' for one in ask.realm.people.values()
    )
    rows = "".join(_row(name, words, wanted.get(name, "none")) for name, words in keys.RESOURCES.items())
    modes = "".join(f"<option>{mode}</option>" for mode in keys.MODES)
    return as_html(
        200,
        framed(
            _TITLE,
            f"<p>Make a restricted key named <b>{escape(ask.query('name', 'no name'))}</b>.</p>"
            f'<form method="post"><label>Account<br><select name="account">{people}</select></label>'
            f'<label>Mode<br><select name="mode">{modes}</select></label>'
            f"<fieldset><legend>Permissions</legend>{rows}</fieldset>"
            '<button class="allow">Make the key</button></form>',
        ),
    )


def _row(name: str, words: str, level: str) -> str:
    options = "".join(f"<option{' selected' if one == level else ''}>{one}</option>" for one in keys.LEVELS)
    return f'<label>{escape(words)}<br><select name="{name}">{options}</select></label>'


def make(ask: Ask) -> Reply:
    """The page's form: shows the key, this once."""
    said = dict(ask.request.form())
    person, mode = said.pop("account", ""), said.pop("mode", keys.MODES[0])
    try:
        _, key = keys.make(ask.realm, person, said, mode=mode)
    except ValueError as error:
        return as_html(400, framed(_TITLE, f"<p><b>No key was made.</b></p><p>{escape(str(error))}</p>"))
    return as_html(200, framed(_TITLE, f"<p>The key is told once:</p><p><code>{escape(key)}</code></p>"))


ROUTES: Final = (
    Route("GET", "/apikeys/create", page, Operation.AUTHORIZE, "§7.1 (creation link)"),
    Route("POST", "/apikeys/create", make, Operation.AUTHORIZE, "§7.1 (creation link)"),
)
