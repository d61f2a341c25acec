"""What never left, and what happens when the same fact is published twice."""

from __future__ import annotations

from typing import Any, Final

from customhouse.cli.demo.scene import PERSONAL_EMAIL, PHONE, Scene, person_updated
from customhouse.cli.demo.stage import Stage

TITLE: Final = "What never left, and the same event twice"
_NUMBER: Final = 1


async def tell(stage: Stage, scene: Scene) -> None:
    """Compare what was published with what arrived."""
    stage.chapter(TITLE)
    published: Any = person_updated(_NUMBER)["data"]
    arrived: Any = next(one.event for one in scene.receiver.seen if one.event_id == f"demo-{_NUMBER:03}") or {}
    names = list(published["person"])
    person = arrived["data"]["person"]
    stage.table(("field of the person", "published", "arrived"), [(name, "yes", "yes" if name in person else "removed") for name in names])
    stage.claim("only the allow-listed address and the opaque id arrived", person.keys() == {"person_id", "work_email"})
    everything = b"".join(one.body for one in scene.receiver.seen)
    stage.claim(
        f"in all {len(scene.receiver.seen)} requests that the receiver ever got, there is no `phone` and no `personal_email`",
        not any(text.encode() in everything for text in (PHONE, PERSONAL_EMAIL, '"phone"', '"personal_email"')),
    )
    privacy = arrived["privacy"]
    stage.say(f"the envelope says: removed_fields {', '.join(privacy['removed_fields'])}; pii_fields {', '.join(privacy['pii_fields'])}")
    named = set(privacy["removed_fields"])
    stage.claim("the envelope names what was removed, never the value", named == {"person.phone", "person.personal_email"})

    again = await scene.acme.post("/v1/events", person_updated(_NUMBER))
    stage.claim("the same event published again: `duplicate: true`, the same id", again.status == 202 and again.json()["duplicate"] is True)  # noqa: PLR2004
    changed = person_updated(_NUMBER) | {"data": {"person": {"person_id": "p_other"}}}
    other = await scene.acme.post("/v1/events", changed)
    stage.claim("the same event id with other contents: refused (409)", other.status == 409)  # noqa: PLR2004
    stage.claim("it was delivered once", scene.receiver.verified()[f"demo-{_NUMBER:03}"] == 1)
