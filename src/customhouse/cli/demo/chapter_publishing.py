"""Events go out: accepted, sealed, signed, delivered, verified."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final

from customhouse.cli.demo.copy_of_database import CopyOfDatabase, holds
from customhouse.cli.demo.scene import PERSONAL_EMAIL, PHONE, WORK_EMAIL, Scene
from customhouse.cli.demo.stage import Stage

TITLE: Final = "Twenty events: accepted, sealed, signed, delivered, verified"
_EVENTS: Final = 20
_ACCEPTED: Final = 202
_SECONDS: Final = 20.0
_FOR_EYES: Final = 0.06
"""Seconds between events where somebody watches."""
_SHOWN_BYTES: Final = 24
_SIGNATURE: Final = "x-queast-signature"


async def tell(stage: Stage, scene: Scene) -> None:
    """Publish, and look at every station."""
    stage.chapter(TITLE)
    accepted = 0
    with stage.counting(_EVENTS, ("accepted", "verified")) as counters:
        for number in range(1, _EVENTS + 1):
            status, _ = await scene.publish(number)
            accepted += status == _ACCEPTED
            counters.show("accepted", accepted)
            counters.show("verified", len(scene.receiver.verified()))
            if not stage.plain:
                await asyncio.sleep(_FOR_EYES)
        arrived = await scene.receiver.wait_for(lambda _: set(scene.published) <= scene.receiver.verified().keys(), _SECONDS)
        counters.show("verified", len(scene.receiver.verified()))
    stage.claim(f"accepted: {accepted} of {_EVENTS} answered 202, which promises delivery", accepted == _EVENTS)

    cluster = await asyncio.to_thread(CopyOfDatabase, scene.service.data_dir)
    try:
        payload, dump = await asyncio.gather(cluster.sealed_payload(), cluster.dump())
    finally:
        await asyncio.to_thread(cluster.close)
    stage.say(f"one payload as PostgreSQL's owner reads it: {payload[:_SHOWN_BYTES].hex(' ')} … ({len(payload)} bytes)")
    personal = (WORK_EMAIL, PHONE, PERSONAL_EMAIL)
    stage.claim("sealed: the payload cannot be read in the database", b"person" not in payload)
    stage.claim(
        f"sealed: in a pg_dump of everything ({len(dump) // 1000} kB) there is no address, no phone number",
        not any(holds(dump, value) for value in personal),
    )
    stage.claim(
        "sealed: nor the signing secret, nor the API key",
        not any(holds(dump, one.reveal().decode()) for one in (scene.secret, scene.acme_key)),
    )

    seen = [one for one in scene.receiver.seen if one.event_id in scene.published]
    if seen:
        headers = dict(seen[0].headers)
        for name in ("x-queast-timestamp", _SIGNATURE, "x-queast-signature-key-id"):
            stage.say(f"{name}: {headers.get(name, '')[:40]}{'…' if name == _SIGNATURE else ''}")
    stage.claim("signed: each request names the key and carries its signature", _signed(scene))
    statuses = Counter((await _settled(scene)).values())
    stage.claim(f"delivered: the service recorded {statuses['delivered']} of {_EVENTS}", statuses == {"delivered": _EVENTS})
    counts = scene.receiver.verified()
    stage.claim(
        f"verified: the receiver checked and took {len(counts)} of {_EVENTS}, each once",
        arrived and counts == dict.fromkeys(scene.published, 1),
    )


def _signed(scene: Scene) -> bool:
    requests = [dict(one.headers) for one in scene.receiver.seen if one.event is not None]
    return bool(requests) and all(
        one.get(_SIGNATURE, "").startswith("v1=") and one.get("x-queast-signature-key-id") == scene.key_id for one in requests
    )


async def _settled(scene: Scene) -> dict[str, str]:
    """Return the deliveries' statuses once the results, which are written in groups, are there."""
    loop = asyncio.get_running_loop()
    end = loop.time() + _SECONDS
    while True:
        statuses = await scene.statuses(scene.published)
        if loop.time() > end or (len(statuses) == _EVENTS and set(statuses.values()) == {"delivered"}):
            return statuses
        await asyncio.sleep(0.05)
