"""The vocabulary of the ledger is closed, and what was written once keeps its meaning for ever."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from customhouse.audit import log, tags
from customhouse.audit.log import SYSTEM
from customhouse.audit.tags import TAGS, Tag
from customhouse.clock import SystemClock
from customhouse.db import Executor
from customhouse.types import TenantId

ROOT = Path(__file__).parents[2]
FROZEN = ROOT / "vectors" / "audit_tags.json"
pytestmark = pytest.mark.anyio


class Unused:
    """An executor that must not be reached."""

    async def execute(self, query: str, *args: Any) -> str:
        raise AssertionError(query)


def test_a_tag_keeps_its_name_number_and_fields_for_ever_and_only_grows() -> None:
    frozen = json.loads(FROZEN.read_text(encoding="utf-8"))
    now = {tag.name: {"number": tag.number, "fields": sorted(tag.fields)} for tag in TAGS.values()}
    for name, was in frozen.items():
        assert now[name]["number"] == was["number"], name
        assert set(was["fields"]) <= set(cast("list[str]", now[name]["fields"])), name
    assert frozen == now, "a new tag or field: add it to vectors/audit_tags.json, at its end"


def test_numbers_are_taken_once_and_without_a_gap() -> None:
    assert sorted(tag.number for tag in TAGS.values()) == list(range(1, len(TAGS) + 1))
    with pytest.raises(ValueError, match="is taken"):
        tags._tag("tenant.created", 999, "again")
    with pytest.raises(ValueError, match="is taken"):
        tags._tag("tenant.renamed", 1, "an old number")
    assert "tenant.renamed" not in TAGS


def test_the_page_shows_the_vocabulary_of_the_code() -> None:
    page = (ROOT / "docs" / "reference" / "audit.md").read_text(encoding="utf-8")
    assert page.split("<!-- generated: `make schema` -->\n")[1].split("<!-- end -->")[0] == tags.reference(), "run `make schema`"


@pytest.mark.parametrize("detail", [{"phone": "x"}, {"scopes": [], "token": "x"}, {"": 1}])
async def test_a_detail_that_the_tag_does_not_declare_is_not_written(detail: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="does not declare"):
        await log.append(cast("Executor", Unused()), SystemClock(), TenantId("acme"), SYSTEM, tags.API_KEY_CREATED, detail=detail)


async def test_a_tag_that_is_not_registered_is_not_written() -> None:
    for tag in (Tag("made.up", 77, frozenset(), "Never."), Tag("tenant.created", 1, frozenset({"name"}), "A copy with more to say.")):
        with pytest.raises(ValueError, match="audit tag"):
            await log.append(cast("Executor", Unused()), SystemClock(), TenantId("acme"), SYSTEM, tag)
