"""What a newcomer meets when the machine is not ready for `make setup`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout in a path with spaces, with nothing installed."""
    place = tmp_path / "a checkout with spaces"
    (place / ".ci").mkdir(parents=True)
    for name in (".ci/setup", ".ci/bootstrap.txt", "requirements-dev.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, place / name)
    return place


def set_up(checkout: Path, pythons: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    tools = checkout.parent / "tools"
    tools.mkdir()
    for tool in ("sh", "cat", "cksum", "dirname", "grep", "rm"):
        (tools / tool).symlink_to(shutil.which(tool) or tool)
    return subprocess.run(
        ["/bin/sh", checkout / ".ci" / "setup"],
        env={"PATH": f"{pythons}:{tools}", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def fake_python(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    (folder / name).chmod(0o755)


def test_an_old_python_is_refused_with_what_to_do(checkout: Path, tmp_path: Path) -> None:
    fake_python(tmp_path / "bin", "python3", "exit 1")
    done = set_up(checkout, tmp_path / "bin")
    assert done.returncode == 1
    assert "needs Python 3.11 or later" in done.stderr
    assert "PYTHON=" in done.stderr
    assert not (checkout / ".venv").exists()


def test_a_chosen_interpreter_that_is_too_old_is_not_replaced_by_another(checkout: Path, tmp_path: Path) -> None:
    fake_python(tmp_path / "bin", "python3.13", "exit 0")
    fake_python(tmp_path / "bin", "old", "exit 1")
    done = set_up(checkout, tmp_path / "bin", PYTHON="old")
    assert done.returncode == 1
    assert "PYTHON=old is not a Python of version 3.11 or later" in done.stderr


def test_a_python_without_venv_names_the_package_that_is_missing(checkout: Path, tmp_path: Path) -> None:
    fake_python(tmp_path / "bin", "python3.12", '[ "$1" = "-m" ] && exit 1; echo 3.12.0')
    done = set_up(checkout, tmp_path / "bin")
    assert done.returncode == 1
    assert "apt-get install python3-venv" in done.stderr
    assert not (checkout / ".venv").exists()


def test_an_environment_that_fits_the_locks_is_left_alone(checkout: Path, tmp_path: Path) -> None:
    state = "{ pwd -P; cat requirements-dev.txt pyproject.toml .ci/bootstrap.txt .ci/setup; } | cksum"
    made = subprocess.run(["/bin/sh", "-c", state], cwd=checkout, capture_output=True, text=True, check=True).stdout
    fake_python(checkout / ".venv", "python", "exit 1")
    (checkout / ".venv" / "bin").mkdir()
    (checkout / ".venv" / "python").rename(checkout / ".venv" / "bin" / "python")
    (checkout / ".venv" / ".ready").write_text(made, encoding="utf-8")
    (tmp_path / "bin").mkdir()
    done = set_up(checkout, tmp_path / "bin")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
