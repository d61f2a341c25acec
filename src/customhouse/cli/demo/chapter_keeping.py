"""What was given is used, kept alive, changed by a new consent alone, and cut: with a receipt, and the provider refusing the old token."""

from __future__ import annotations

import asyncio
from typing import Any, Final
from urllib.parse import urlsplit

from customhouse.canonical import parse_object
from customhouse.cli.demo.browser import Browser
from customhouse.cli.demo.chapter_connecting import confirmed, consent, invite
from customhouse.cli.demo.scene import Scene
from customhouse.cli.demo.stage import Stage
from customhouse.cli.loopback import Answer, must, send
from customhouse.crypto import statements
from customhouse.errors import Invalid

TITLE: Final = "Used, renewed, changed by consent, and cut"
_OK: Final = 200
_UNAUTHORIZED: Final = 401
_FORBIDDEN: Final = 403
_CONFLICT: Final = 409
_CALLERS: Final = 12
_CALENDAR: Final = "google-calendar"
_STATEMENT: Final = "customhouse-receipt"
_KEYS: Final = "/.well-known/customhouse-keys.json"


async def tell(stage: Stage, scene: Scene) -> None:
    """Go through a connection's life."""
    stage.chapter(TITLE)
    if not stage.claim("Ada's connection is there", bool(scene.zoom_id)):
        return
    await _renew(stage, scene)
    await _ask_for_more(stage, scene)
    await _cut(stage, scene)


async def _call(scene: Scene, path: str) -> Answer:
    return await scene.acme.get(f"/v1/connections/{scene.zoom_id}/proxy{path}")


async def _renew(stage: Stage, scene: Scene) -> None:
    zoom = scene.sandbox
    answer = await _call(scene, "/users/me")
    stage.claim(
        "acme calls Zoom through the guarded proxy, without ever seeing a token",
        answer.status == _OK and answer.json().get("email") == "ada@example.com",
    )
    refused = await _call(scene, "/users/me/settings")
    stage.claim("a path that the manifest does not name is refused, and Zoom never asked", refused.status == _FORBIDDEN)

    before = must(await scene.acme.get(f"/v1/connections/{scene.zoom_id}"), _OK)["token"]["token_generation"]
    asked = _renewals(scene)
    zoom.expire("zoom")
    stage.say(f"at Zoom the access token ends early; {_CALLERS} callers come at once")
    answers = await asyncio.gather(*(_call(scene, "/users/me") for _ in range(_CALLERS)))
    token = must(await scene.acme.get(f"/v1/connections/{scene.zoom_id}"), _OK)["token"]
    stage.table(
        ("callers", "answered 200", "renewals at Zoom", "generation"),
        [
            (
                str(_CALLERS),
                str(sum(one.status == _OK for one in answers)),
                str(_renewals(scene) - asked),
                f"{before} → {token['token_generation']}",
            )
        ],
    )
    stage.claim(
        "all of them are answered, and Zoom was asked for a new token once",
        all(one.status == _OK for one in answers) and _renewals(scene) - asked == 1 and token["token_generation"] == before + 1,
    )


def _renewals(scene: Scene) -> int:
    return sum(call.operation == "refresh" and call.application == "zoom" for call in scene.sandbox.calls)


async def _ask_for_more(stage: Stage, scene: Scene) -> None:
    session = await invite(scene.acme, provider=_CALENDAR)
    await consent(session)
    watching = await confirmed(scene, session)
    connection_id = watching["connection_id"]
    more = await invite(scene.acme, provider=_CALENDAR, connection_id=connection_id, mode="act")
    page = await Browser().open(more["connect_url"])
    stage.say(f"Ada's calendar, connected to observe; now acme asks to act as well. The page says: {page.heading}")
    stage.table(
        ("permission", "she gave it before"), [(words, "no: marked as new" if name in page.new else "yes") for words, name in page.scopes]
    )
    unchanged = must(await scene.acme.get(f"/v1/connections/{connection_id}"), _OK)
    added = [name for _, name in page.scopes if name not in watching["scopes"]["requested"]]
    stage.claim(
        "the page marks exactly what is added, and until she has agreed nothing changes",
        bool(added) and page.new == added and unchanged["scopes"] == watching["scopes"] and unchanged["mode"] == "observe",
    )
    await consent(more)
    acting = await confirmed(scene, more)
    stage.claim(
        f"she agrees: the same connection acts, its grant is version {acting['grant_version']}",
        (acting["connection_id"], acting["mode"], acting["status"]) == (connection_id, "act", "active")
        and acting["scopes"]["missing"] == [],
    )


async def _cut(stage: Stage, scene: Scene) -> None:
    zoom = scene.sandbox
    old = [
        token.value for token in zoom.tokens("zoom") if token.grant.person == "ada" and token.kind == "access" and zoom.is_live(token.value)
    ]
    receipt: dict[str, Any] = must(await scene.acme.delete(f"/v1/connections/{scene.zoom_id}"), _OK)
    revocation = receipt["revocation"]
    rows = [
        ("revocation at Zoom", revocation["status"]),
        ("seen to be refused", "yes" if revocation["verified"] else "no"),
        ("calls that it took", str(revocation["attempts"])),
        ("tokens destroyed", "yes" if receipt["tokens_destroyed"] else "no"),
        ("their key destroyed", "yes" if receipt["key_destroyed"] else "no"),
        ("Ada was told", "yes" if receipt["notified"] else "no"),
    ]
    stage.table(("the receipt", ""), rows)
    stage.claim(
        "disconnected: revoked at Zoom and seen to be refused, tokens and key destroyed",
        revocation["status"] == "revoked" and revocation["verified"] and receipt["tokens_destroyed"] and receipt["key_destroyed"],
    )
    stage.claim("the receipt is signed, and checks out with the public keys of this installation", await _is_genuine(scene, receipt))
    stage.claim("Zoom refuses the old token (401)", len(old) == 1 and await _asked_with(scene, old[0]) == _UNAUTHORIZED)
    stage.claim("and through the proxy nothing goes any more", (await _call(scene, "/users/me")).status == _CONFLICT)


async def _asked_with(scene: Scene, token: str) -> int:
    """Call Zoom as somebody who kept a copy of the token."""
    parts = urlsplit(scene.sandbox.base)
    assert parts.port is not None  # it listens there
    return (await send(parts.port, "GET", "/zoom/v2/users/me", [("Authorization", f"Bearer {token}")])).status


async def _is_genuine(scene: Scene, receipt: dict[str, Any]) -> bool:
    signed = await scene.acme.get(f"/v1/connections/{scene.zoom_id}/receipt", format="signed")
    keys = await send(scene.service.port, "GET", _KEYS, [])
    try:
        stated = parse_object(statements.verify(keys.json(), _STATEMENT, signed.json()))
    except Invalid:
        return False
    return (stated["connection_id"], stated["revocation"]) == (receipt["connection_id"], receipt["revocation"])
