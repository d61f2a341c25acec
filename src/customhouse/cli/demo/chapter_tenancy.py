"""Another tenant's key opens nothing."""

from __future__ import annotations

from typing import Final

from customhouse.cli.demo.scene import Scene, person_updated
from customhouse.cli.demo.stage import Stage
from customhouse.cli.loopback import Api, must
from customhouse.types import Secret

TITLE: Final = "Another tenant sees nothing of it"
_CREATED: Final = 201
_NOT_FOUND: Final = 404


async def tell(stage: Stage, scene: Scene) -> None:
    """Ask for acme's things with the key of globex."""
    stage.chapter(TITLE)
    must(await scene.platform.post("/v1/tenants", {"tenant_id": "globex", "name": "Globex"}), _CREATED)
    scopes = ["events:write", "connections:read", "connections:write", "audit:read"]
    made = must(await scene.platform.post("/v1/api-keys", {"tenant_id": "globex", "name": "demo", "scopes": [*scopes]}), _CREATED)
    globex = Api(scene.service.port, Secret(made["api_key"].encode()))
    event_id = scene.published[0]
    for what, answer in (
        ("acme's connection", await globex.get(f"/v1/connections/{scene.connection_id}")),
        ("disconnecting it", await globex.delete(f"/v1/connections/{scene.connection_id}")),
        ("acme's event", await globex.get(f"/v1/events/{event_id}")),
        ("publishing as acme", await globex.post("/v1/events", person_updated(1) | {"tenant_id": "acme"})),
        ("acme's ledger", await globex.get("/v1/audit", tenant_id="acme")),
    ):
        stage.claim(f"{what}: 404, as if it were not there", answer.status == _NOT_FOUND)
    listed = (await globex.get("/v1/connections")).json()
    stage.claim("its own list of connections is empty", listed.get("data") == [])
    own = await globex.post("/v1/events", person_updated(1))
    stage.claim("the same event id is free in its own tenant", own.status == 202 and own.json()["duplicate"] is False)  # noqa: PLR2004
    still = (await scene.acme.get(f"/v1/connections/{scene.connection_id}")).json()
    stage.claim("and acme's connection is as it was", still.get("status") == "active")
