"""`POST /v1/connections/{connection_id}/secrets/rotate`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.integration.web.conftest import Api, problem

pytestmark = pytest.mark.anyio

HOOK = {"provider": "webhook", "url": "http://127.0.0.1:9/hook"}
KEY = {"Idempotency-Key": "call-1"}


async def _connected(api: Api) -> tuple[str, dict[str, Any]]:
    made = (await api("POST", "/v1/connections", HOOK)).json()
    return f"/v1/connections/{made['connection_id']}", made


async def test_a_rotation_shows_the_next_secret_once_and_says_when(acme: Api) -> None:
    path, made = await _connected(acme)
    answer = await acme("POST", f"{path}/secrets/rotate", {"overlap_seconds": 60})
    assert answer.status_code == 200
    said = answer.json()
    assert set(said) == {"key_id", "secret", "secret_already_shown", "activates_at", "previous_valid_until"}
    assert said["secret"].startswith("whsec_")
    assert said["secret"] != made["secrets"]["signing"]["secret"]
    begins, ends = (datetime.fromisoformat(said[name]) for name in ("activates_at", "previous_valid_until"))
    assert ends - begins == timedelta(seconds=60)
    assert timedelta(minutes=59) < begins - datetime.now(UTC) < timedelta(minutes=61)
    shown = await acme("GET", path)
    first, second = shown.json()["signing_keys"]
    assert (first["key_id"], first["state"], first["valid_until"]) == (
        made["secrets"]["signing"]["key_id"],
        "active",
        said["previous_valid_until"],
    )
    assert (second["key_id"], second["state"], second["activates_at"]) == (said["key_id"], "next", said["activates_at"])
    assert said["secret"] not in shown.text
    problem(await acme("POST", f"{path}/secrets/rotate", {}), 409, "conflict")
    (entry,) = (await acme("GET", "/v1/audit?type=signing_key.rotated")).json()["data"]
    assert said["secret"] not in str(entry)
    assert entry["subject"] == said["key_id"]


async def test_a_leaked_key_is_replaced_at_once(acme: Api) -> None:
    path, _ = await _connected(acme)
    said = (await acme("POST", f"{path}/secrets/rotate", {"activate_at": "now", "overlap_seconds": 0})).json()
    assert said["activates_at"] == said["previous_valid_until"]
    assert [key["state"] for key in (await acme("GET", path)).json()["signing_keys"]] == ["destroyed", "active"]


async def test_a_repeated_rotation_is_the_same_one_without_its_secret(acme: Api) -> None:
    path, _ = await _connected(acme)
    first = (await acme("POST", f"{path}/secrets/rotate", {"activate_at": "now"}, headers=KEY)).json()
    again = (await acme("POST", f"{path}/secrets/rotate", {"activate_at": "now"}, headers=KEY)).json()
    assert again == {**first, "secret": None, "secret_already_shown": True}
    problem(await acme("POST", f"{path}/secrets/rotate", {}, headers=KEY), 409, "idempotency_conflict")
    other, _ = await _connected(acme)
    made = (await acme("POST", f"{other}/secrets/rotate", {"activate_at": "now"}, headers=KEY)).json()
    assert made["key_id"] != first["key_id"], "the key is of one connection"


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"activate_at": "soon"}, "/activate_at"),
        ({"activate_at": "2020-01-01T00:00:00Z"}, "/activate_at"),
        ({"activate_at": 7}, "/activate_at"),
        ({"activate_at": True}, "/activate_at"),
        ({"overlap_seconds": -1}, "/overlap_seconds"),
        ({"overlap_seconds": 2_592_001}, "/overlap_seconds"),
        ({"overlap_seconds": 1.5}, "/overlap_seconds"),
        ({"overlap_seconds": None}, "/overlap_seconds"),
    ],
)
async def test_times_that_are_none_are_refused_by_their_place(acme: Api, body: dict[str, Any], place: str) -> None:
    path, _ = await _connected(acme)
    said = problem(await acme("POST", f"{path}/secrets/rotate", body), 422, "invalid_request")
    assert [fault["pointer"] for fault in said["errors"]] == [place]
    assert len((await acme("GET", path)).json()["signing_keys"]) == 1
