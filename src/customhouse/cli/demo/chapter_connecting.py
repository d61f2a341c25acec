"""A user connects Zoom: asked on our page and at the provider's, compared, confirmed, sealed; and what is refused."""

from __future__ import annotations

import asyncio
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from customhouse.cli.demo.browser import Browser, Page
from customhouse.cli.demo.copy_of_database import CopyOfDatabase, holds
from customhouse.cli.demo.scene import Scene
from customhouse.cli.demo.stage import Stage
from customhouse.cli.loopback import Api, NoAnswer, must
from customhouse.types import Json
from customhouse_sandbox.faults import FaultKind, Operation

TITLE: Final = "A user connects Zoom"
USER: Final = "u_ada"
_OK: Final = 200
_CREATED: Final = 201
_SEE_OTHER: Final = 303
_FORBIDDEN: Final = 403
_SHOWN_BYTES: Final = 24
_SHOWN_NEVER: Final = 4
_PATIENCE: Final = 300.0
"""Seconds that somebody has who presses the buttons by hand."""
_TOO_MUCH: Final = "meeting:write"


async def tell(stage: Stage, scene: Scene) -> None:
    """Connect, and look at every station."""
    stage.chapter(TITLE)
    stage.say(f"a stand-in for Zoom listens on {scene.sandbox.base}: strict, and nobody's real account")
    manifest = must(await scene.acme.get("/v1/providers/zoom"), _OK)
    session = await invite(scene.acme)
    stage.say(f"acme invites Ada: {session['connect_url']}")
    connection = await (_by_hand if scene.by_hand else _driven)(stage, scene, session, manifest)
    if connection is None:
        return
    scene.zoom_id = connection["connection_id"]

    account = connection["account"]
    ada = scene.sandbox.realms["zoom"].people["ada"]
    stage.claim(f"identity: {account['label']}, account {account['id']}: asked of Zoom, not of the browser", account["label"] == ada.email)
    scopes = connection["scopes"]
    rows = [(name, "yes", "yes" if name in scopes["granted"] else "no") for name in scopes["requested"]]
    never = [one["pattern"] for one in manifest["not_requested"]]
    rows += [(name, "never", "yes" if name in scopes["granted"] else "no") for name in never[:_SHOWN_NEVER]]
    rows += [(f"… and {len(never) - _SHOWN_NEVER} more that are never asked for", "never", "no")]
    stage.table(("permission", "requested", "granted"), rows)
    stage.claim(
        f"requested and granted are the same {len(scopes['requested'])} permissions, none of them on the list of {len(never)}",
        set(scopes["requested"]) == set(scopes["granted"]) and not set(never) & set(scopes["granted"]) and scopes["missing"] == [],
    )
    await _look_into_the_database(stage, scene)
    await _refuse_more(stage, scene)


async def invite(api: Api, **more: Json) -> dict[str, Any]:
    """Make a link for Ada.

    Raises:
        NoAnswer: it was refused.
    """
    user: dict[str, Json] = {"id": USER, "display_name": "Ada Example"}
    return must(await api.post("/v1/connect-sessions", {"user": user, "provider": "zoom", **more}), _CREATED)


async def consent(session: dict[str, Any], account: str = "ada") -> tuple[Page, Page]:
    """Press both buttons; return what the browser was sent to the provider with, and our page at the end."""
    browser = Browser()
    sent = await browser.press(await browser.open(session["connect_url"]), ("decision", "consent"))
    at_provider = await browser.open(sent.location or "")
    decided = await browser.press(at_provider, ("decision", "allow"), ("account", account))
    return sent, await browser.open(decided.location or "")


async def confirmed(scene: Scene, session: dict[str, Any]) -> dict[str, Any]:
    """Say, as the host, that it was Ada.

    Raises:
        NoAnswer: it was refused.
    """
    return must(await scene.acme.post(f"/v1/connect-sessions/{session['session_id']}/confirm", {"user_id": USER}), _OK)


async def _driven(stage: Stage, scene: Scene, session: dict[str, Any], manifest: dict[str, Any]) -> dict[str, Any] | None:
    page = await Browser().open(session["connect_url"])
    stage.say(f"the page says: {page.heading}, {page.who}. Customhouse can then …")
    stage.table(("in words", "permission"), page.scopes)
    stage.say(f"what is never asked for: {' '.join(page.never[:_SHOWN_NEVER])}")
    asked = [(one["words"], one["name"]) for one in manifest["scopes"]["observe"]]
    named = "Ada Example" in page.who and "Acme" in page.who
    stage.claim(f"the page names Ada, Acme and the {len(asked)} permissions of the manifest, each in words", named and page.scopes == asked)
    sent, end = await consent(session)
    said = parse_qs(urlsplit(sent.location or "").query)
    stage.claim(
        "the browser went on to Zoom with a state and a PKCE challenge (S256), and came back with a code",
        sent.status == _SEE_OTHER and said.get("code_challenge_method") == ["S256"] and end.code == "granted",
    )
    return await _confirm(stage, scene, session)


async def _by_hand(stage: Stage, scene: Scene, session: dict[str, Any], _manifest: dict[str, Any]) -> dict[str, Any] | None:
    stage.say("open it in a browser on this machine, and press the buttons: on our page, then on Zoom's, as Ada")
    loop = asyncio.get_running_loop()
    end = loop.time() + _PATIENCE
    with stage.working("waiting for you"):
        while loop.time() < end:
            if must(await scene.acme.get("/v1/connections", provider="zoom"), _OK)["data"]:
                break
            await asyncio.sleep(0.3)
        else:
            raise NoAnswer("Nobody connected in five minutes.")
    return await _confirm(stage, scene, session)


async def _confirm(stage: Stage, scene: Scene, session: dict[str, Any]) -> dict[str, Any] | None:
    waiting = must(await scene.acme.get("/v1/connections", provider="zoom"), _OK)["data"]
    stage.claim(
        "until acme says who came back, the connection is `pending` and good for nothing",
        [(one["status"], one["scopes"]["granted"]) for one in waiting] == [("pending", [])],
    )
    connection = await confirmed(scene, session)
    held = stage.claim("acme confirms that it was Ada: the connection is active", connection["status"] == "active")
    return connection if held else None


async def _look_into_the_database(stage: Stage, scene: Scene) -> None:
    cluster = await asyncio.to_thread(CopyOfDatabase, scene.service.data_dir)
    try:
        sealed, dump = await asyncio.gather(cluster.sealed_token(), cluster.dump())
    finally:
        await asyncio.to_thread(cluster.close)
    stage.say(f"the access token as PostgreSQL's owner reads it: {sealed[:_SHOWN_BYTES].hex(' ')} … ({len(sealed)} bytes)")
    secrets = list(dict.fromkeys(scene.sandbox.secrets()))
    log = scene.service.log.read_bytes()
    stage.claim(
        f"sealed: of the {len(secrets)} secrets that the stand-ins know (tokens, codes, verifiers, client secrets) a pg_dump holds none",
        bool(secrets) and not any(holds(dump, secret) for secret in secrets),
    )
    stage.claim("nor does the service's log", not any(secret.encode() in log for secret in secrets))


async def _refuse_more(stage: Stage, scene: Scene) -> None:
    zoom = scene.sandbox
    zoom.order("zoom", FaultKind.SCOPE_MORE, Operation.EXCHANGE, scopes=[_TOO_MUCH])
    _, end = await consent(await invite(scene.acme), account="grace")
    stage.claim(
        f"a grant that carries `{_TOO_MUCH}` is refused, on a page that says why", (end.status, end.code) == (_FORBIDDEN, "scope_forbidden")
    )
    live = {token.grant.person for token in zoom.tokens("zoom") if zoom.is_live(token.value)}
    stage.claim("and handed back: at Zoom its tokens are dead, those of Ada's connection live", live == {"ada"})
    browser = Browser()
    said = await browser.press(await browser.open((await invite(scene.acme))["connect_url"]), ("decision", "decline"))
    stage.claim("“Not now” is a button, and ends the link", (said.status, said.code) == (_OK, "declined"))
