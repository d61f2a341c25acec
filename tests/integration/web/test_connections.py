"""Connections through the API: headers and signatures shown as they may be, and no hostile target taken (W2)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.web.conftest import Api, problem

pytestmark = pytest.mark.anyio

HOOK = {"provider": "webhook", "url": "http://hooks.example.com/in"}
CORPUS = json.loads((Path(__file__).parents[3] / "vectors" / "ssrf" / "targets.json").read_text(encoding="utf-8"))["targets"]


@pytest.fixture
def environ(environ: dict[str, str]) -> dict[str, str]:
    """As an operator starts out: no private network may be dialled."""
    return {name: text for name, text in environ.items() if name != "CUSTOMHOUSE_EGRESS_ALLOW"}


async def test_headers_are_shown_by_name_only(acme: Api) -> None:
    made = await acme("POST", "/v1/connections", {**HOOK, "headers": {"Authorization": "Bearer canary-1"}})
    assert made.status_code == 201
    path = f"/v1/connections/{made.json()['connection_id']}"
    changed = await acme("PATCH", path, {"headers": {"X-Key": "canary-2"}})
    answers = [made, changed, await acme("GET", path), await acme("GET", "/v1/connections"), await acme("GET", "/v1/audit")]
    assert [answer.json()["header_names"] for answer in answers[:3]] == [["Authorization"], ["X-Key"], ["X-Key"]]
    assert "canary" not in "".join(answer.text for answer in answers)
    refused = await acme("PATCH", path, {"headers": {"X-Canary-Name\r\n": "x"}})
    said = problem(refused, 422, "invalid_request")
    assert [fault["pointer"] for fault in said["errors"]] == ["/headers"]
    assert "Canary" not in refused.text


async def test_a_change_of_algorithm_answers_the_new_secret_once(acme: Api) -> None:
    made = (await acme("POST", "/v1/connections", HOOK)).json()
    path = f"/v1/connections/{made['connection_id']}"
    plain = (await acme("PATCH", path, {"signature_profile": "standard-webhooks"})).json()
    assert (plain["signature_profile"], plain["secrets"]) == ("standard-webhooks", None)
    said = (await acme("PATCH", path, {"signature_algorithm": "v1a"})).json()
    assert said["secrets"]["signing"]["secret"].startswith("whpk_")
    assert [key["state"] for key in said["signing_keys"]] == ["previous", "active"]
    assert said["signing_keys"][1]["key_id"] == said["secrets"]["signing"]["key_id"]
    problem(await acme("PATCH", path, {"signature_profile": "queast-v1"}), 422, "invalid_request")


async def test_a_pace_is_shown_changed_kept_and_taken_away(acme: Api) -> None:
    pace = {"retry_schedule": [10, 600], "rate_limit": {"per_second": 2.5}}
    made = await acme("POST", "/v1/connections", {**HOOK, **pace})
    assert made.status_code == 201
    path = f"/v1/connections/{made.json()['connection_id']}"
    steps: list[tuple[dict[str, Any], Any, Any]] = [
        ({"description": "kept"}, [10, 600], {"per_second": 2.5, "burst": 3}),
        ({"rate_limit": {"per_second": 0.1, "burst": 40}}, [10, 600], {"per_second": 0.1, "burst": 40}),
        ({"rate_limit": None}, [10, 600], None),
        ({"retry_schedule": [5], "rate_limit": {"per_second": 9, "burst": 1}}, [5], {"per_second": 9.0, "burst": 1}),
        ({"retry_schedule": None}, None, {"per_second": 9.0, "burst": 1}),
    ]
    for body, schedule, limit in steps:
        changed = await acme("PATCH", path, body)
        for answer in (changed, await acme("GET", path)):
            assert (answer.json()["retry_schedule"], answer.json()["rate_limit"]) == (schedule, limit)
    entries = (await acme("GET", "/v1/audit")).json()["data"]
    assert [entry["detail"]["changed"] for entry in entries if entry["type"] == "connection.changed"][:2] == [
        ["retry_schedule"],
        ["retry_schedule", "rate_limit"],
    ]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"retry_schedule": []}, "/retry_schedule"),
        ({"retry_schedule": [0]}, "/retry_schedule/0"),
        ({"retry_schedule": [5, 86401]}, "/retry_schedule/1"),
        ({"retry_schedule": [5] * 21}, "/retry_schedule"),
        ({"retry_schedule": [1.5]}, "/retry_schedule/0"),
        ({"retry_schedule": "5s"}, "/retry_schedule"),
        ({"rate_limit": {}}, "/rate_limit/per_second"),
        ({"rate_limit": {"per_second": 0}}, "/rate_limit/per_second"),
        ({"rate_limit": {"per_second": -1}}, "/rate_limit/per_second"),
        ({"rate_limit": {"per_second": 10_001}}, "/rate_limit/per_second"),
        ({"rate_limit": {"per_second": "5"}}, "/rate_limit/per_second"),
        ({"rate_limit": {"per_second": 1, "burst": 0}}, "/rate_limit/burst"),
        ({"rate_limit": {"per_second": 1, "burst": 1.5}}, "/rate_limit/burst"),
        ({"rate_limit": {"per_second": 1, "per_minute": 5}}, "/rate_limit"),
        ({"rate_limit": 5}, "/rate_limit"),
    ],
)
async def test_a_pace_that_is_none_is_refused_by_its_place(acme: Api, body: dict[str, Any], pointer: str) -> None:
    made = (await acme("POST", "/v1/connections", HOOK)).json()
    for method, path, said in (("POST", "/v1/connections", {**HOOK, **body}), ("PATCH", f"/v1/connections/{made['connection_id']}", body)):
        refused = problem(await acme(method, path, said), 422, "invalid_request")
        assert [fault["pointer"] for fault in refused["errors"]] == [pointer]


async def test_no_hostile_spelling_of_a_target_is_taken(acme: Api) -> None:
    made = (await acme("POST", "/v1/connections", HOOK)).json()
    path = f"/v1/connections/{made['connection_id']}"
    spelled = [entry for entry in CORPUS if "resolves_to" not in entry]
    assert len(spelled) > 50
    for entry in spelled:
        for method, place, body in (("PATCH", path, {}), ("POST", "/v1/connections", HOOK)):
            text = json.dumps({**body, "url": entry["url"]})
            said = await acme(method, place, content=text, headers={"Content-Type": "application/json"})
            assert said.status_code == 422, entry["name"]
            # These two do not get past the reader of JSON, which names no member.
            expected = "" if entry["name"] in {"NUL", "lone surrogate"} else "/url"
            assert [fault["pointer"] for fault in said.json()["errors"]] == [expected], entry["name"]
    assert [one["url"] for one in (await acme("GET", "/v1/connections")).json()["data"]] == [HOOK["url"]]
