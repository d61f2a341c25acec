"""`keys status|rotate` as an operator runs them, each in a process of its own."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from customhouse.app import App, Store
from customhouse.audit.log import SYSTEM
from customhouse.cli.main import run
from customhouse.config import load
from customhouse.types import PLATFORM, TenantId
from tests.commands import call
from tests.conftest import NOT_REPEATED, Server
from tests.scenes import connect

pytestmark = pytest.mark.anyio

ACME = TenantId("acme")
AGED = """
    with keys as (
      update data_keys set created_at = created_at - interval '1 hour', retired_at = retired_at - interval '1 hour'
    )
    update tenant_keys set created_at = created_at - interval '1 hour', retired_at = retired_at - interval '1 hour'
"""
"""An hour passes for the keys."""


@pytest.fixture
def given(tmp_path: Path, database_server: Server) -> dict[str, str]:
    """Settings, without the prefix."""
    return {
        "ENVIRONMENT": "dev",
        "DATA_DIR": str(tmp_path / "data"),
        "DATABASE_URL": database_server.app,
        "KMS_CACHE_TTL": "10",
        "KMS_KEY": f"file:{tmp_path / 'first.key'}",
    }


@pytest.fixture
async def at_rest(given: dict[str, str]) -> AsyncIterator[App]:
    """A service that does no work of its own, with three endpoints of one tenant."""
    app = await opened(given)
    try:
        await app.start()
        await app.tenants.create(ACME, "Acme", SYSTEM, NOT_REPEATED)
        for number in range(3):
            await connect(app, ACME, f"https://example.com/{number}")
        yield app
    finally:
        await app.stop()


async def opened(given: dict[str, str]) -> App:
    settings = load({f"CUSTOMHOUSE_{name}": value for name, value in given.items()})
    assert settings.database_url is not None
    return await App.open(settings, Store(settings.database_url))


def said(given: dict[str, str], *arguments: str) -> Any:
    done = call("keys", *arguments, "--json", settings=given)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout)


async def test_a_rotation_is_begun_goes_on_and_ends_and_the_status_tells_where_it_is(
    given: dict[str, str], at_rest: App, owner: asyncpg.Connection
) -> None:
    before = said(given, "status")
    assert before["data_keys"]["connection"]["active"] == 3
    assert before["under_way"] == {"waiting": 0, "replaced": 0, "overdue": 0, "due_at": None}
    first = said(given, "rotate", "--no-wait")
    assert (first["resumed"], first["connection_keys_made"], first["tenant_keys_made"]) == (False, 3, 2)
    assert (first["waiting"], first["connection_keys_taken_over"]) == (3, 0)
    assert first["due_at"] is not None
    status = said(given, "status", "--tenant", "acme")
    assert status["under_way"]["waiting"] == 3
    assert [key["state"] for key in status["tenant_keys_listed"]] == ["retired", "active"]
    await owner.execute(AGED)
    second = said(given, "rotate", "--kind", "connection", "--older-than", "30d", "--no-wait")
    assert (second["connection_keys_made"], second["connection_keys_taken_over"]) == (0, 3)
    await owner.execute(AGED)
    # Nothing is left to wait for: it ends by itself.
    third = said(given, "rotate", "--older-than", "30d")
    assert (third["connection_keys_ended"], third["waiting"], third["replaced"]) == (3, 0, 0)
    assert third["tenant_keys_ended"] + second["tenant_keys_ended"] == 2
    after = said(given, "status", "--tenant", "acme")
    counts = after["data_keys"]["connection"]
    assert (counts["active"], counts["retired"], counts["next"], counts["destroyed"]) == (3, 0, 0, 3)
    assert [key["state"] for key in after["tenant_keys_listed"]] == ["destroyed", "active"]
    fresh = await opened(given)
    try:
        assert len((await fresh.rosters.get(ACME)).endpoints) == 3
    finally:
        await fresh.stop()


async def test_another_root_key_takes_over_and_the_one_before_can_go(
    given: dict[str, str], at_rest: App, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    moved = given | {"KMS_KEY": f"file:{tmp_path / 'second.key'}"}
    alone = call("keys", "rotate", "--no-wait", settings=moved)
    assert alone.returncode == 1
    assert "CUSTOMHOUSE_KMS_PREVIOUS_KEYS" in alone.stderr
    both = moved | {"KMS_PREVIOUS_KEYS": given["KMS_KEY"]}
    status = said(both, "status")
    assert status["tenant_keys"]["due"] == 2
    assert len(status["roots"]) == 1
    assert status["root"] not in status["roots"]
    # Whatever their age: what another root key wrapped is due.
    done = said(both, "rotate", "--kind", "tenant", "--older-than", "30d", "--no-wait")
    assert (done["tenant_keys_made"], done["data_keys_wrapped"] > 3) == (2, True)
    await owner.execute(AGED)
    assert said(both, "rotate", "--kind", "tenant", "--older-than", "30d")["tenant_keys_ended"] == 2
    assert said(moved, "status")["roots"] == {status["root"]: 2}
    fresh = await opened(moved)
    try:
        assert len((await fresh.rosters.get(ACME)).endpoints) == 3
        await fresh.vault.mac_key(PLATFORM, "suite")
    finally:
        await fresh.stop()


async def test_a_person_reads_a_picture(given: dict[str, str], at_rest: App) -> None:
    assert call("keys", "rotate", "--no-wait", "--rate", "100", settings=given).stdout.count("connection keys made") == 1
    nobody = call("keys", "status", "--tenant", "nobody", settings=given)
    assert (nobody.returncode, "There is no tenant nobody" in nobody.stderr) == (1, True), nobody.stderr
    done = call("keys", "status", settings=given)
    assert done.returncode == 0, done.stderr
    for words in ("root key         file:", "3 in use", "█", "under 30 days", "3 new keys wait to take over", "due"):
        assert words in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("rotate", "--older-than", "soon"), "--older-than"),
        (("rotate", "--rate", "0"), "--rate"),
        (("rotate", "--kind", "payload"), "--kind"),
        (("status", "--tenant", "no such name"), "tenant_id"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", *arguments]) in {1, 2}
    assert words in capsys.readouterr().err
