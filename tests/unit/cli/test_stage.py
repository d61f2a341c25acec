"""How the story is shown, and what is kept of it."""

from __future__ import annotations

import io

import pytest

from customhouse.cli.demo.stage import Stage, masked
from tests.terminals import terminal


def tell(stage: Stage) -> None:
    stage.chapter("A chapter")
    stage.say("[bold]not markup[/bold]")
    stage.claim("water is wet", holds=True)
    stage.table(("name", "arrived"), [("phone", "removed"), ("work_email", "yes")])
    with stage.working("waiting"), stage.counting(2, ("accepted",)) as counters:
        counters.show("accepted", 2)
    stage.claim("pigs fly", holds=False)
    stage.panel("The end", ["✓ one", "✗ two"], good=False)
    stage.commands("Try next", ["customhouse up"])


def test_without_a_terminal_there_are_plain_lines() -> None:
    stream = io.StringIO()
    tell(Stage(stream))
    shown = stream.getvalue()
    assert "\x1b" not in shown
    assert "   ok  water is wet\n" in shown
    assert "   NOT pigs fly\n" in shown
    assert "[bold]not markup[/bold]" in shown
    assert "     phone       removed\n" in shown


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_a_terminal_that_asks_for_it_gets_plain_lines_too(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with terminal() as (stream, screen):
        stage = Stage(stream)
        stage.claim("water is wet", holds=True)
    assert stage.plain
    assert "\x1b" not in screen.text
    assert "ok  water is wet" in screen.text


def test_a_terminal_gets_ticks_and_markup_of_strangers_is_shown_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "TERM", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    with terminal() as (stream, screen):
        stage = Stage(stream)
        tell(stage)
    assert not stage.plain
    assert "✓" in screen.text
    assert "✗" in screen.text
    assert "[bold]not markup[/bold]" in screen.text


def test_a_silent_stage_shows_nothing_and_keeps_the_claims() -> None:
    stream = io.StringIO()
    stage = Stage(stream, silent=True)
    tell(stage)
    assert stream.getvalue() == ""
    assert [(claim.chapter, claim.sentence, claim.held) for claim in stage.claims] == [
        ("A chapter", "water is wet", True),
        ("A chapter", "pigs fly", False),
    ]
    assert not stage.all_held


def test_a_story_without_a_claim_has_not_held() -> None:
    assert not Stage(io.StringIO()).all_held


@pytest.mark.parametrize(
    ("secret", "shown"), [("ck_abcdefghijkl", "ck_abcd…"), ("whsec_0123456789", "whsec_0123…"), ("nothing-to-tell", "…")]
)
def test_a_secret_is_shown_by_its_beginning_only(secret: str, shown: str) -> None:
    assert masked(secret) == shown
