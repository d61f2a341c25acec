"""The receiver is down, and gets its event when it is back."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from customhouse.cli.demo.scene import Scene
from customhouse.cli.demo.stage import Stage
from customhouse.cli.loopback import must

TITLE: Final = "A receiver that is down gets its event later"
_NUMBER: Final = 100
_OK: Final = 200
_SECONDS: Final = 20.0
"""The first retry comes after five seconds, give or take a fifth."""


async def tell(stage: Stage, scene: Scene) -> None:
    """Kill the receiver, publish, start it again."""
    stage.chapter(TITLE)
    await scene.receiver.kill()
    stage.say("the receiver's process is killed")
    status, said = await scene.publish(_NUMBER)
    deliveries: Any = said.get("deliveries") or [{}]
    delivery_id = str(deliveries[0].get("delivery_id"))
    stage.claim("the event is accepted all the same (202)", status == 202)  # noqa: PLR2004
    waiting = await _await_status(scene, delivery_id, "retrying")
    first = (waiting["attempts"] or [{}])[0]
    stage.say(f"attempt 1: {first.get('error') or first.get('status_code')}; the next one at {waiting['next_attempt_at']}")
    planned = waiting["status"] == "retrying" and bool(waiting["next_attempt_at"])
    stage.claim("its delivery is `retrying`, with the time of the next attempt", planned)
    await scene.receiver.start()
    stage.say("the receiver is started again")
    with stage.working("waiting for the next attempt (five seconds, give or take one)"):
        arrived = await scene.receiver.wait_for(lambda _: scene.receiver.verified().get(f"demo-{_NUMBER}") == 1, _SECONDS)
    done = await _await_status(scene, delivery_id, "delivered")
    attempts = len(done["attempts"])
    stage.claim(f"it arrived, verified, at attempt {attempts}", arrived and done["status"] == "delivered" and attempts > 1)


async def _await_status(scene: Scene, delivery_id: str, status: str) -> dict[str, Any]:
    """Return the delivery once it has this status, or as it is when that takes too long."""
    loop = asyncio.get_running_loop()
    end = loop.time() + _SECONDS
    while True:
        delivery = must(await scene.acme.get(f"/v1/deliveries/{delivery_id}"), _OK)
        if delivery["status"] == status or loop.time() > end:
            return delivery
        await asyncio.sleep(0.05)
