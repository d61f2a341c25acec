"""What the ledger says about all this."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from customhouse.cli.demo.scene import PERSONAL_EMAIL, PHONE, WORK_EMAIL, Scene
from customhouse.cli.demo.stage import Stage
from customhouse.cli.loopback import must

TITLE: Final = "The ledger"
_OK: Final = 200
_EXPECTED: Final = frozenset({"tenant.created", "tenant_key.created", "api_key.created", "connection.created", "data_key.created"})


async def tell(stage: Stage, scene: Scene) -> None:
    """Read acme's entries."""
    stage.chapter(TITLE)
    answer = await scene.acme.get("/v1/audit", limit=200)
    entries: list[dict[str, Any]] = must(answer, _OK)["data"]
    told = Counter(_told(one) for one in entries)
    first = {_told(one): str(one["at"])[11:23] for one in entries}
    rows = [(first[line], *line[:2], str(told[line]), line[2]) for line in reversed(first)]
    stage.table(("first at", "what", "who", "times", "about"), sorted(rows))
    tags = {one["type"] for one in entries}
    stage.claim("it tells who made the tenant, its keys and its connection", tags >= _EXPECTED)
    ada = scene.sandbox.realms["zoom"].people["ada"]
    values = (ada.email, ada.name, PHONE, PERSONAL_EMAIL, WORK_EMAIL, scene.secret.reveal().decode(), scene.acme_key.reveal().decode())
    stage.claim("it holds no personal value and no secret", not any(value.encode() in answer.body for value in values))


def _told(entry: dict[str, Any]) -> tuple[str, str, str]:
    return str(entry["type"]), str(entry["actor"]["type"]), _what(entry)


def _what(entry: dict[str, Any]) -> str:
    detail: dict[str, Any] = entry["detail"]
    named = entry["subject"] or entry["connection_id"] or ""
    more = [str(detail[name]) for name in ("purpose", "host", "provider", "reason", "outcome") if name in detail]
    return " ".join([named, *more]).strip()
