"""The first platform key is seen by its operator and by nobody else."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import pytest

from customhouse.cli.platform_key import FILE_NAME, hand_over
from customhouse.errors import SettingsError
from customhouse.types import Secret
from tests.terminals import terminal

TOKEN = Secret(b"ck_" + b"k" * 43)


def test_a_terminal_shows_it_and_no_file_is_made(tmp_path: Path) -> None:
    with terminal() as (stream, screen):
        assert hand_over(TOKEN, tmp_path, stream) is None
    assert TOKEN.reveal() in screen.shown
    assert list(tmp_path.iterdir()) == []


def test_without_a_terminal_it_goes_into_a_file_of_its_owner_alone(tmp_path: Path) -> None:
    stream = io.StringIO()
    before = os.umask(0)
    try:
        path = hand_over(TOKEN, tmp_path / "data", stream)
    finally:
        os.umask(before)
    assert path == tmp_path / "data" / FILE_NAME
    assert path.read_bytes() == TOKEN.reveal() + b"\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stream.getvalue() == ""
    assert [entry.name for entry in path.parent.iterdir()] == [FILE_NAME]


def test_a_link_in_its_place_is_replaced_and_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("untouched")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / FILE_NAME).symlink_to(elsewhere)
    path = hand_over(TOKEN, tmp_path / "data", io.StringIO())
    assert path is not None
    assert not path.is_symlink()
    assert elsewhere.read_text() == "untouched"


def test_where_it_cannot_be_written_the_operator_is_told_how_to_get_another(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(SettingsError, match="api-key create --platform") as refused:
        hand_over(TOKEN, blocked, io.StringIO())
    assert TOKEN.reveal().decode() not in refused.value.detail
