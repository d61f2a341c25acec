"""The examples of the README run."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from receiver.tests.django_project import configured

from customhouse_receiver import Event, Reason, Receiver, testing
from customhouse_receiver.redis import RedisReplayCache

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


def examples() -> list[dict[str, Any]]:
    configured()
    names: list[dict[str, Any]] = [{"__name__": "__main__"} for _ in re.findall(r"```python\n", README)]
    for namespace, source in zip(names, re.findall(r"```python\n(.*?)```", README, re.DOTALL)):
        exec(compile(source, "README.md", "exec"), namespace)
    return names


def test_the_first_example_answers_as_it_says() -> None:
    handle = examples()[0]["handle"]
    body = testing.body()
    now = int(time.time())
    headers = testing.headers(body, now, secret=SECRET)
    worked: list[Event] = []

    def fail(event: Event) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        handle(headers, body, fail)
    assert [handle(headers, body, worked.append), handle(headers, body, worked.append), handle({}, body, worked.append)] == [204, 401, 401]
    assert handle(testing.headers(body, now + 1, secret=SECRET), body, worked.append) == 204
    assert len(worked) == 1


def test_every_other_example_builds() -> None:
    others = examples()[1:]
    assert [isinstance(names["receiver"], Receiver) for names in others] == [True] * 6
    assert [callable(names.get("app") or names["take"]) for names in others[:-1]] == [True] * 5
    assert isinstance(others[-1]["replay"], RedisReplayCache)


def test_every_reason_stands_in_the_table() -> None:
    table = README.partition("## What is checked")[2].partition("##")[0]
    assert {reason.value for reason in Reason} <= set(re.findall(r"`([a-z_]+)`", table))
