"""The law of the sandbox: every route says what it imitates, every open fact is tested with each of its answers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from customhouse_sandbox.facts import Fact
from customhouse_sandbox.reference import reference
from customhouse_sandbox.routing import Vendor
from customhouse_sandbox.sandbox import VENDORS

ROOT = Path(__file__).parents[2]
TESTS = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py") if path != Path(__file__))


@pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.name)
def test_every_route_and_fact_cites_what_it_imitates(vendor: Vendor) -> None:
    for cites in [*(route.cites for route in vendor.routes), *(fact.cites for fact in vendor.facts)]:
        assert re.match(r"§\d|RFC \d{4} §", cites)


FACTS = {f"{vendor.name}-{fact.name}": fact for vendor in VENDORS for fact in vendor.facts}


@pytest.mark.parametrize("fact", FACTS.values(), ids=FACTS.keys())
def test_every_open_fact_is_tested_with_each_answer(fact: Fact) -> None:
    assert len(fact.choices) > 1
    places = [found.start() for found in re.finditer(f'"{fact.name}"', TESTS)]
    assert places, f"no test switches {fact.name}"
    # The answers stand in the parameters of the test that switches it.
    near = "".join(TESTS[max(0, place - 700) : place + 200] for place in places)
    for choice in fact.choices:
        assert f'"{choice}"' in near, f"{fact.name} is not tested with {choice}"


def test_no_two_routes_answer_the_same_call() -> None:
    for vendor in VENDORS:
        shapes = [(route.method, re.sub(r"{\w+}", "{}", route.path)) for route in vendor.routes]
        assert len(shapes) == len(set(shapes))


def test_the_page_holds_the_tables_of_today() -> None:
    page = (ROOT / "docs" / "reference" / "sandbox.md").read_text(encoding="utf-8")
    assert page.split("<!-- generated: `make schema` -->\n")[1].split("<!-- end -->")[0] == reference(), "run `make schema`"
