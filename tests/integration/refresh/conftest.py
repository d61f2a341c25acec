"""A service whose providers are the sandbox's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.connected import settings_of
from tests.sandboxes import Sandbox, running


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with running() as sandbox:
        yield sandbox


@pytest.fixture
def environ(environ: dict[str, str], sandbox: Sandbox, tmp_path: Path) -> dict[str, str]:
    return {**environ, **settings_of(sandbox, tmp_path / "sandbox")}
