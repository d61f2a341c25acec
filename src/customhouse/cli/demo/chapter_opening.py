"""The service starts, a tenant is made, a customer's endpoint is connected."""

from __future__ import annotations

import stat
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from customhouse.cli.demo.processes import ReceiverProcess, Service
from customhouse.cli.demo.scene import Scene
from customhouse.cli.demo.stage import Stage, masked
from customhouse.cli.loopback import HOST, Api, must, send
from customhouse.types import Secret
from customhouse_sandbox import random_seed, running

TITLE: Final = "A service, a tenant, a connection"
_OK: Final = 200
_CREATED: Final = 201
_SCOPES: Final = ("events:write", "connections:read", "connections:write", "actions:write", "audit:read")


async def open_scene(stage: Stage, directory: Path, stack: AsyncExitStack) -> Scene:
    """Start everything; `stack` ends it again.

    Raises:
        CustomhouseError: something did not come up.
    """
    stage.chapter(TITLE)
    service = Service(directory)
    stack.push_async_callback(service.stop)
    receiver = ReceiverProcess()
    stack.push_async_callback(receiver.stop)
    with stage.working("starting `customhouse serve` with a PostgreSQL of its own"):
        # Stand-ins for the providers: tokens of an earlier story must not be good in this one.
        sandbox = await stack.enter_async_context(running(public_url=service.public_url, seed=random_seed()))
        await service.start(sandbox.write(directory / "sandbox"))
        ready = await send(service.port, "GET", "/readyz", [])
    key = service.platform_key()
    checks = [check["name"] for check in ready.json()["checks"]]
    stage.say(f"process {service.process_id} listens on {HOST}:{service.port}; /readyz looked at {', '.join(checks)}")
    stage.claim("the service is ready: database migrated, key service answering", ready.status == _OK)
    mode = stat.S_IMODE((service.data_dir / "platform_key").stat().st_mode)
    stage.claim("the first platform key went into a file that only its owner reads (no terminal was there to show it)", mode == 0o600)  # noqa: PLR2004

    platform = Api(service.port, key)
    must(await platform.post("/v1/tenants", {"tenant_id": "acme", "name": "Acme"}), _CREATED)
    made = must(await platform.post("/v1/api-keys", {"tenant_id": "acme", "name": "demo", "scopes": [*_SCOPES]}), _CREATED)
    acme_key = Secret(made["api_key"].encode())
    acme = Api(service.port, acme_key)
    stage.say(f"tenant acme, with a key of its own: {masked(made['api_key'])}")

    url = f"http://{HOST}:{receiver.port}/hooks/customhouse"
    connection = must(await acme.post("/v1/connections", {"provider": "webhook", "url": url, "event_types": ["*"]}), _CREATED)
    signing = connection["secrets"]["signing"]
    await receiver.start({signing["key_id"]: signing["secret"]})
    stage.say(f"connection {connection['connection_id']} → {url}, signing secret {masked(signing['secret'])}, shown once")
    again = must(await acme.get(f"/v1/connections/{connection['connection_id']}"), _OK)
    stage.claim("the connection is active, and its secret is never shown again", again["status"] == "active" and "secrets" not in again)
    stage.claim("a wrong key is refused", (await Api(service.port, Secret(b"ck_" + b"0" * 43)).get("/v1/connections")).status == 401)  # noqa: PLR2004
    return Scene(
        service=service,
        receiver=receiver,
        platform=platform,
        acme=acme,
        acme_key=acme_key,
        connection_id=connection["connection_id"],
        key_id=signing["key_id"],
        secret=Secret(signing["secret"].encode()),
        sandbox=sandbox,
    )
