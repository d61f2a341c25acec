"""The page about the API says what the routes say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from customhouse.web.asgi import _ROUTERS, reference
from customhouse.web.bodies import MANAGEMENT_CAP
from customhouse.web.pages import DEFAULT, MOST
from customhouse.web.protocol import BODY_SECONDS, HEAD_BYTES, HEAD_FIELDS, HEAD_SECONDS
from customhouse.web.publish import BATCH_BYTES, BATCH_EVENTS
from customhouse.web.routes import StrictRoute, router

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "api.md").read_text(encoding="utf-8")


def test_the_table_of_calls_is_the_routes() -> None:
    assert reference() in PAGE, "run `make schema`"


def test_every_private_call_names_its_scope() -> None:
    rows = re.findall(r"^\| `(\w+) (/\S*)` \| .+ \| (.+) \|$", reference(), re.MULTILINE)
    assert len(rows) >= 26
    for _, path, scopes in rows:
        assert (scopes != "–") == (path.startswith("/v1") or path == "/metrics"), path


def test_the_limits_on_the_page_are_those_in_the_code() -> None:
    for text in (
        f"| a batch | {BATCH_EVENTS} events, {BATCH_BYTES // 1024**2} MiB",
        f"| every other body | {MANAGEMENT_CAP // 1024} KiB |",
        f"| the head of a request | {HEAD_BYTES // 1024} KiB, {HEAD_FIELDS} fields, {HEAD_SECONDS:.0f} s |",
        f"| the time of a body | {BODY_SECONDS:.0f} s |",
        f"| a page | `limit` 1–{MOST}, default {DEFAULT} |",
    ):
        assert text in PAGE


def test_a_private_route_that_does_not_say_what_it_needs_does_not_load() -> None:
    async def open_to_all() -> None:
        """Forgotten."""

    with pytest.raises(TypeError, match="does not declare"):
        router("x").get("/v1/secrets")(open_to_all)
    assert router("x").get("/open")(open_to_all) is open_to_all


def test_operations_are_called_by_verb_and_thing_each_once() -> None:
    routes = (route for router in _ROUTERS for route in router.routes)
    names = [route.name for route in routes if isinstance(route, StrictRoute) and route.path.startswith("/v1")]

    assert len(names) == len(set(names)) > 20
    assert [name for name in names if not re.fullmatch(r"[a-z]+(_[a-z]+)+|disconnect", name)] == []
