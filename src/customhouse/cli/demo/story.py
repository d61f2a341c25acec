"""The whole story: chapters in order, and the end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from customhouse.cli.demo import (
    chapter_connecting,
    chapter_forging,
    chapter_keeping,
    chapter_ledger,
    chapter_opening,
    chapter_outage,
    chapter_privacy,
    chapter_publishing,
    chapter_tenancy,
)
from customhouse.cli.demo.scene import Scene
from customhouse.cli.demo.stage import Stage
from customhouse.errors import CustomhouseError

CHAPTERS: Final[tuple[Callable[[Stage, Scene], Awaitable[None]], ...]] = (
    chapter_publishing.tell,
    chapter_forging.tell,
    chapter_outage.tell,
    chapter_privacy.tell,
    chapter_tenancy.tell,
    chapter_connecting.tell,
    chapter_keeping.tell,
    chapter_ledger.tell,
)


async def tell_story(stage: Stage, directory: Path, *, by_hand: bool = False) -> None:
    """Tell it; each claim is kept on the stage. What cannot go on is a claim that did not hold.

    Args:
        stage: where it is shown.
        directory: empty; holds the service's data and log.
        by_hand: somebody presses the buttons of the consent page.
    """
    async with AsyncExitStack() as stack:
        try:
            scene = await chapter_opening.open_scene(stage, directory, stack)
            scene.by_hand = by_hand
            for tell in CHAPTERS:
                await tell(stage, scene)
        except CustomhouseError as error:
            stage.claim(f"the chapter comes to its end: {error.detail}", holds=False)
            return
        except (LookupError, StopIteration) as error:
            stage.claim(f"the chapter comes to its end: what it stands on is missing ({type(error).__name__})", holds=False)
            return
        stage.chapter("The end")
        with stage.working("ending the service"):
            code = await scene.service.stop()
        stage.claim("the service ends in order, and its PostgreSQL with it", code == 0 and _left_nothing(directory))


def _left_nothing(directory: Path) -> bool:
    return not list((directory / "data" / "postgres" / "pgdata").glob("postmaster.pid"))
