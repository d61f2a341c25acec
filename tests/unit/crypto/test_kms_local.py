"""A root key in a file: made once, readable by its owner alone, bound to the context."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from customhouse.crypto.envelope import RecordKey, seal
from customhouse.crypto.kms import Context
from customhouse.crypto.kms_local import LocalKeyService, load_local_key
from customhouse.errors import CustomhouseError, SettingsError, Unsealable
from customhouse.types import Secret

CONTEXT = {"tenant_id": "acme", "purpose": "tenant-key", "environment": "dev"}


@pytest.mark.anyio
async def test_a_wrapped_key_opens_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "with space" / "root.key"
    fresh, wrapped = await load_local_key(path, create=True).generate(CONTEXT)
    again = load_local_key(path)
    assert len(fresh) == 32
    assert await again.unwrap(wrapped, dict(reversed(CONTEXT.items()))) == fresh
    assert again.name.startswith("file:")
    await again.check()


@pytest.mark.anyio
@pytest.mark.parametrize(
    "context",
    [
        {},
        {"tenant_id": "acme"},
        {**CONTEXT, "tenant_id": "other"},
        {**CONTEXT, "environment": "prod"},
        {**CONTEXT, "more": "x"},
        {**CONTEXT, "purpose": ""},
    ],
)
async def test_another_context_does_not_open(tmp_path: Path, context: Mapping[str, str]) -> None:
    service = load_local_key(tmp_path / "root.key", create=True)
    _, wrapped = await service.generate(CONTEXT)
    with pytest.raises(Unsealable):
        await service.unwrap(wrapped, context)


@pytest.mark.anyio
@pytest.mark.parametrize("context", [{}, {"tenant_id": ""}, {"": "acme"}])
async def test_an_empty_context_wraps_nothing(tmp_path: Path, context: Mapping[str, str]) -> None:
    with pytest.raises(CustomhouseError):
        await load_local_key(tmp_path / "root.key", create=True).generate(context)


@pytest.mark.anyio
async def test_another_root_key_altered_bytes_and_foreign_plaintexts_do_not_open(tmp_path: Path) -> None:
    service = load_local_key(tmp_path / "one.key", create=True)
    _, wrapped = await service.generate(CONTEXT)
    with pytest.raises(Unsealable):
        await load_local_key(tmp_path / "two.key", create=True).unwrap(wrapped, CONTEXT)
    with pytest.raises(Unsealable):
        await service.unwrap(wrapped[:-1] + bytes([wrapped[-1] ^ 1]), CONTEXT)
    root = RecordKey(uuid4(), Secret(os.urandom(32)))
    with pytest.raises(Unsealable):
        await LocalKeyService(root).unwrap(seal(root, Context(CONTEXT), b"not a key"), CONTEXT)


def test_the_file_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "root.key"
    load_local_key(path, create=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["root.key"]


def test_an_existing_key_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "root.key"
    names = {load_local_key(path, create=True).name for _ in range(3)}
    assert len(names) == 1


def test_of_processes_that_start_together_one_key_wins(tmp_path: Path) -> None:
    path = tmp_path / "root.key"
    with ThreadPoolExecutor(8) as pool:
        names = set(pool.map(lambda _: load_local_key(path, create=True).name, range(24)))
    assert len(names) == 1


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o601])
def test_a_file_that_others_may_open_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "root.key"
    load_local_key(path, create=True)
    path.chmod(mode)
    with pytest.raises(SettingsError, match="chmod 600"):
        load_local_key(path, create=True)


def test_a_file_that_belongs_to_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "root.key"
    load_local_key(path, create=True)
    if os.geteuid() == 0:
        os.chown(path, 65534, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(SettingsError, match="another user"):
        load_local_key(path)


def test_a_missing_file_is_not_made_unless_allowed(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load_local_key(tmp_path / "root.key")
    assert not list(tmp_path.iterdir())


def test_a_place_where_no_file_can_be_made_is_a_settings_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SettingsError, match="cannot be made"):
        load_local_key(tmp_path / "file" / "root.key", create=True)


def test_a_folder_or_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(SettingsError):
            load_local_key(path)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"customhouse-local-key 2\n" + str(uuid4()).encode() + b"\n" + b"0" * 64 + b"\n",
        b"customhouse-local-key 1\n" + b"-" * 36 + b"\n" + b"0" * 64 + b"\n",
        b"customhouse-local-key 1\n" + str(uuid4()).encode() + b"\n" + b"0" * 62 + b"\n",
        b"customhouse-local-key 1\n" + str(uuid4()).encode() + b"\n" + b"0" * 64 + b"\nmore\n",
    ],
    ids=["empty", "version", "key id", "short", "trailing"],
)
def test_another_format_is_refused(tmp_path: Path, text: bytes) -> None:
    _write(tmp_path / "root.key", text)
    with pytest.raises(SettingsError):
        load_local_key(tmp_path / "root.key", create=True)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(text=st.binary(max_size=2000))
def test_whatever_the_file_holds_the_refusal_does_not_show_it(tmp_path_factory: pytest.TempPathFactory, text: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.key"
    _write(path, b"canary" + text)
    with pytest.raises(SettingsError) as caught:
        load_local_key(path)
    assert "canary" not in str(caught.value)


def _write(path: Path, text: bytes) -> None:
    path.write_bytes(text)
    path.chmod(0o600)
