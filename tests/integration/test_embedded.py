"""Embedded PostgreSQL: who may run it, where, beside what, and that it ends with its last user whatever way that one dies."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from customhouse.embedded import Cluster, Options, binaries, locks, open_cluster, throwaway_cluster
from customhouse.embedded.binaries import enterable, for_other_users
from customhouse.errors import DatabaseUnavailable, SettingsError

QUICK = Options(fsync=False)
SOURCE = Path(__file__).parents[2] / "src"
CANARY = "canary-4711-never-in-a-log"
PATIENCE = 30.0

# A service in miniature: it opens the folder, says so, and goes on as its last argument says.
SERVICE = """
import os, signal, sys
from pathlib import Path
from customhouse.embedded import Options, open_cluster
ending = sys.argv[2]
cluster = open_cluster(Path(sys.argv[1]), Options(fsync=False, binaries=Path(sys.argv[3]) if len(sys.argv) > 3 else None))
if ending == "deaf":
    signal.signal(signal.SIGINT, lambda *_: print("heard", flush=True))
print(cluster.owned, cluster.port, cluster.dsn(), flush=True)
if ending == "fork":
    child = os.fork()
    if child == 0:
        cluster.stop()
        os._exit(0)
    os.waitpid(child, 0)
    print("forked", flush=True)
if ending == "exception":
    raise RuntimeError
if ending == "exit":
    sys.exit(3)
while ending in {"wait", "deaf", "fork"}:
    signal.pause()
"""


def query(dsn: str, statement: str, *args: Any) -> Any:
    """Run one statement on a connection of its own."""

    async def run() -> Any:
        connection = await asyncpg.connect(dsn, timeout=10)
        try:
            return await connection.fetchval(statement, *args)
        finally:
            await connection.close()

    return asyncio.run(run())


def query_when_up(dsn: str, statement: str) -> Any:
    """Run one statement as soon as the server lets us in."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return query(dsn, statement)
        except (OSError, asyncpg.CannotConnectNowError, asyncpg.PostgresConnectionError):
            assert time.monotonic() < end, "the server did not come back"


def processes(directory: Path) -> list[psutil.Process]:
    """Return the guard and the server's processes of a folder: they all work in it."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if Path(process.cwd()).is_relative_to(directory):
                found.append(process)
    return found


def guard_of(directory: Path) -> psutil.Process:
    return next(process for process in processes(directory) if process.cmdline()[-1:] == ["guard"])


def postmaster_of(directory: Path) -> psutil.Process:
    return psutil.Process(int((directory / "pgdata" / "postmaster.pid").read_text(encoding="ascii").split()[0]))


def _lives(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def assert_all_end(found: list[psutil.Process]) -> None:
    """Wait until each has ended; one that only its adoptive parent has not yet reaped has."""
    assert found
    end = time.monotonic() + PATIENCE
    while alive := [process for process in found if _lives(process)]:
        assert time.monotonic() < end, alive
        psutil.wait_procs(alive, timeout=0.05)


@contextmanager
def service(directory: Path, ending: str = "wait", *, ready: bool = True) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Run the miniature service; yield it and the words that it said."""
    child = subprocess.Popen(
        [sys.executable, "-c", SERVICE, str(directory), ending],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(SOURCE), *sys.path])},
    )
    try:
        assert child.stdout is not None
        yield child, child.stdout.readline().split() if ready else []
    finally:
        child.kill()
        child.communicate()


@pytest.fixture(scope="module")
def shared() -> Iterator[Cluster]:
    with throwaway_cluster() as cluster:
        yield cluster


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "postgres"
    left = [process for process in processes(tmp_path) if _lives(process)]
    # pytest keeps the folders of the last runs; clusters are too large for that.
    shutil.rmtree(tmp_path, ignore_errors=True)
    assert not left, "something was left running"


@pytest.fixture(scope="module")
def whole() -> Iterator[Path]:
    """A cluster at rest, to be copied: quicker than making one."""
    with tempfile.TemporaryDirectory(prefix="customhouse-whole-") as place:
        open_cluster(Path(place, "postgres"), QUICK).stop()
        yield Path(place, "postgres")


@pytest.fixture
def prepared(directory: Path, whole: Path) -> Path:
    subprocess.run(["cp", "-a", whole, directory], check=True)
    return directory


# What is promised of a running server


def test_the_service_role_owns_nothing_and_may_nothing(shared: Cluster) -> None:
    role = query(
        shared.dsn(),
        "select array[rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls, rolcanlogin] from pg_roles"
        " where rolname = current_user",
    )
    assert role == [False, False, False, False, False, True]
    assert query(shared.dsn(), "select pg_get_userbyid(datdba) from pg_database where datname = 'customhouse'") == "customhouse_owner"
    for statement in ("create table t ()", "create schema s", "create temporary table t ()"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            query(shared.dsn(), statement)
    for database in ("postgres", "template1"):
        with pytest.raises(asyncpg.PostgresError):
            query(shared.dsn(database=database), "select 1")


def test_the_owner_may_make_databases_and_use_them(shared: Cluster) -> None:
    query(shared.dsn("owner"), "create database copy template customhouse")
    assert query(shared.dsn("owner", "copy"), "select current_database() || ' ' || current_user") == "copy customhouse_owner"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("server_encoding", "UTF8"),
        ("data_checksums", "on"),
        ("listen_addresses", "127.0.0.1"),
        ("unix_socket_directories", ""),
        ("password_encryption", "scram-sha-256"),
        ("TimeZone", "UTC"),
        ("wal_level", "replica"),
        ("fsync", "off"),
    ],
)
def test_a_parameter_is_as_promised(shared: Cluster, name: str, value: str) -> None:
    assert query(shared.dsn("owner"), "select current_setting($1)", name) == value


def test_text_is_ordered_by_bytes_wherever_it_runs(shared: Cluster) -> None:
    assert query(shared.dsn(), "select array_agg(t order by t) from unnest(array['b', 'a', 'ä', 'B']) t") == ["B", "a", "b", "ä"]
    assert query(shared.dsn(), "select lower('Ä')") == "ä"


def test_nobody_gets_in_without_the_password(shared: Cluster) -> None:
    for user in ("customhouse_app", "customhouse_owner"):
        for password in ("", "wrong", user):
            with pytest.raises((asyncpg.InvalidPasswordError, asyncpg.InterfaceError)):
                query(f"postgresql://{user}:{password}@127.0.0.1:{shared.port}/customhouse?sslmode=disable", "select 1")
    with pytest.raises(asyncpg.PostgresError):
        query(f"postgresql://nobody:x@127.0.0.1:{shared.port}/customhouse?sslmode=disable", "select 1")


def test_it_listens_on_the_loopback_address_alone(shared: Cluster) -> None:
    family = [process.net_connections(kind="all") for process in (postmaster_of(shared.directory),)]
    listening = [entry for entries in family for entry in entries if entry.status == psutil.CONN_LISTEN or entry.family == socket.AF_UNIX]
    assert [(entry.laddr.ip, entry.laddr.port) for entry in listening] == [("127.0.0.1", shared.port)]


def test_secrets_are_for_their_owner_alone(shared: Cluster) -> None:
    modes = {path.name: stat.S_IMODE(path.lstat().st_mode) for path in (shared.directory, *shared.directory.iterdir())}
    assert modes.pop(shared.directory.name) == 0o700
    assert modes.pop("pgdata") == 0o700
    assert set(modes) >= {"secrets", "postgresql.log", "users", "port"}
    assert set(modes.values()) == {0o600}
    assert (shared.directory / "secrets").stat().st_uid == os.geteuid()


def test_no_password_shows(shared: Cluster) -> None:
    words = (shared.directory / "secrets").read_text(encoding="ascii").split()
    assert len(words) == 2
    assert len(set(words)) == 2
    told = repr(shared) + str(shared) + (shared.directory / "postgresql.log").read_text(encoding="utf-8")
    told += "".join(" ".join(process.cmdline()) + str(process.environ()) for process in processes(shared.directory))
    assert not [word for word in words if word in told]


def test_as_root_the_server_is_a_user_that_nobody_else_is(shared: Cluster) -> None:
    uid = postmaster_of(shared.directory).uids().effective
    assert uid == (shared.directory / "pgdata").stat().st_uid
    assert (uid in range(60578, 61184)) if os.geteuid() == 0 else (uid == os.geteuid())


def test_nothing_of_the_services_environment_reaches_the_server(shared: Cluster) -> None:
    assert set(postmaster_of(shared.directory).environ()) <= {
        "PATH",
        "LC_ALL",
        "TZ",
        "HOME",
        "PGDATA",
        "PG_GRANDPARENT_PID",
        "LC_COLLATE",
        "LC_CTYPE",
        "LC_MESSAGES",
        "LC_MONETARY",
        "LC_NUMERIC",
        "LC_TIME",
        "PGLOCALEDIR",
        "PGSYSCONFDIR",
    }


def test_no_value_reaches_the_log(shared: Cluster) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(shared.dsn("owner", "customhouse"))
        await connection.execute("create table logged (id int primary key, word text unique)")
        await connection.execute("insert into logged values (1, $1)", CANARY)
        for statement, args in (
            ("insert into logged values (2, $1)", (CANARY,)),
            (f"select '{CANARY}'::int", ()),
            (f'select * from "{CANARY}"', ()),
            ("select ($1::text)::int", (CANARY,)),
        ):
            with pytest.raises(asyncpg.PostgresError):
                await connection.execute(statement, *args)
        # A crash report would print the running statement.
        pid = await connection.fetchval("select pg_backend_pid()")
        running = asyncio.ensure_future(connection.execute(f"select pg_sleep(60), '{CANARY}'"))
        other = await asyncpg.connect(shared.dsn("owner", "customhouse"))
        while not await other.fetchval("select query like '%' || $1 || '%' from pg_stat_activity where pid = $2", CANARY, pid):
            pass
        os.kill(pid, signal.SIGKILL)
        with pytest.raises((asyncpg.PostgresError, OSError, asyncpg.InterfaceError)):
            await running
        with suppress(asyncpg.PostgresError, OSError):
            await other.close()

    asyncio.run(run())
    assert query_when_up(shared.dsn("owner"), "select word from logged") == CANARY
    log = (shared.directory / "postgresql.log").read_text(encoding="utf-8")
    assert "was terminated by signal 9" in log
    assert CANARY not in log


# Places and company


@pytest.mark.parametrize(
    "name",
    ["with space", "ünï-ζ-文", "quote'\"$HOME`x`;&|*", "-D", "long-" + "/".join(["n" * 200] * 8)],
    ids=["space", "letters", "shell", "option", "long"],
)
def test_any_path_will_do(directory: Path, name: str) -> None:
    cluster = open_cluster(directory / name / "postgres", QUICK)
    try:
        assert query(cluster.dsn(), "select 1") == 1
    finally:
        cluster.stop()


def test_folders_closed_to_others_stay_closed(directory: Path) -> None:
    closed = directory / "closed" / "deeper"
    closed.mkdir(parents=True)
    for folder in (closed, closed.parent):
        folder.chmod(0o700)
    before = [(path, path.stat().st_mode, path.stat().st_uid) for path in (closed, *closed.parents)]
    cluster = open_cluster(closed / "postgres", QUICK)
    try:
        assert query(cluster.dsn(), "select 1") == 1
    finally:
        cluster.stop()
    assert [(path, path.stat().st_mode, path.stat().st_uid) for path in (closed, *closed.parents)] == before


def test_two_run_side_by_side(prepared: Path, shared: Cluster) -> None:
    cluster = open_cluster(prepared, QUICK)
    try:
        assert cluster.port != shared.port
        assert cluster.owned
        query(cluster.dsn("owner"), "create table only_here ()")
        assert query(shared.dsn("owner"), "select to_regclass('only_here')") is None
    finally:
        cluster.stop()
    assert query(shared.dsn(), "select 1") == 1


def _interpreter_for(uid: int, home: Path) -> str:
    """Return a Python that this user can run: root's own may lie where nobody else may go."""
    for candidate in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        with suppress(OSError):
            check = [candidate, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
            if subprocess.run(check, user=uid, group=uid, extra_groups=[], check=False, capture_output=True, cwd=home).returncode == 0:
                return candidate
    shutil.copytree(sys.base_prefix, home / "python", symlinks=True, ignore=shutil.ignore_patterns("site-packages", "test", "__pycache__"))
    return str(home / "python" / "bin" / f"python3.{sys.version_info.minor}")


@contextmanager
def service_of(uid: int, home: Path) -> Iterator[subprocess.Popen[str]]:
    """Run the miniature service as this user, from a copy of ours that it can read; its data are in `home/data`."""
    home.chmod(0o755)
    (home / "data").mkdir(mode=0o700)
    shutil.copytree(SOURCE / "customhouse", home / "src" / "customhouse", ignore=shutil.ignore_patterns("__pycache__"))
    identity: dict[str, Any] = {}
    programs, python = binaries(), sys.executable
    if os.geteuid() == 0:
        os.chown(home / "data", uid, uid)
        identity = {"user": uid, "group": uid, "extra_groups": []}
        programs, python = for_other_users(programs, home / "programs"), _interpreter_for(uid, home)
    child = subprocess.Popen(
        [python, "-c", SERVICE, str(home / "data" / "postgres"), "wait", str(programs)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=home,
        env={"PYTHONPATH": str(home / "src"), "PYTHONDONTWRITEBYTECODE": "1"},
        **identity,
    )
    try:
        yield child
    finally:
        child.terminate()
        child.communicate()


def test_a_normal_user_runs_one() -> None:
    uid = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid()
    with tempfile.TemporaryDirectory(prefix="customhouse-normal-") as place:
        with service_of(uid, Path(place)) as child:
            assert child.stdout is not None
            _, _, dsn = child.stdout.readline().split()
            assert query(dsn, "select 1") == 1
            running = processes(Path(place, "data"))
            assert {process.uids().effective for process in running} == {uid}
            assert len(running) > 3
        assert_all_end(running)


def test_what_is_in_the_way_of_a_copy_is_told(tmp_path: Path) -> None:
    closed = tmp_path / "closed" / "package" / "installation" / "bin"
    closed.mkdir(parents=True)
    (closed / "postgres").write_bytes(b"")
    (tmp_path / "closed").chmod(0o700)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SettingsError, match=r"out of reach for another user.*DATABASE_URL"):
        for_other_users(closed, tmp_path / "file" / "copies")
    # A place for copies that others cannot enter either.
    with pytest.raises(SettingsError, match=r"is not in order.*DATABASE_URL"):
        for_other_users(closed, tmp_path / "closed" / "copies")


def test_a_user_without_a_name_is_told_what_to_do() -> None:
    if os.geteuid() != 0:
        # Only root can become somebody else; whoever runs this has a name, so the embedded server works for him.
        assert pwd.getpwuid(os.geteuid()).pw_name
        return
    with tempfile.TemporaryDirectory(prefix="customhouse-nameless-") as place, service_of(54321, Path(place)) as child:
        _, said = child.communicate(timeout=PATIENCE)
        assert "user 54321 has none in /etc/passwd: add one, or set DATABASE_URL" in said


def test_somebody_elses_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path if os.geteuid() == 0 else Path("/usr")
    if os.geteuid() == 0:
        os.chown(folder, 54321, 54321)
    with pytest.raises(SettingsError, match="belongs to"):
        open_cluster(folder, QUICK)


def test_programs_out_of_reach_are_copied_and_run(directory: Path) -> None:
    closed = directory / "venv"
    package = binaries().parents[1]
    closed.mkdir(parents=True)
    closed.chmod(0o700)
    for source in (package, package.with_name(package.name + ".libs")):
        if source.is_dir():
            shutil.copytree(
                source, closed / source.name, symlinks=True, ignore=shutil.ignore_patterns("include", "pginstall", "*.py", "__pycache__")
            )
    folder = closed / package.name / "pginstall18" / "bin"
    with tempfile.TemporaryDirectory(prefix="customhouse-copies-") as place:
        Path(place).chmod(0o755)
        copied = for_other_users(folder, Path(place, "copies"))
        assert not enterable(folder)
        assert enterable(copied)
        assert for_other_users(folder, Path(place, "copies")) == copied
        assert all(path.is_symlink() or not path.stat().st_mode & 0o022 for path in Path(place, "copies").rglob("*"))
        cluster = open_cluster(directory / "postgres", Options(fsync=False, binaries=copied))
        try:
            assert postmaster_of(cluster.directory).exe() == str(copied / "postgres")
            assert query(cluster.dsn(), "select 1") == 1
        finally:
            cluster.stop()


# Attaching


def test_a_second_process_attaches_and_outlives_the_first(prepared: Path) -> None:
    with service(prepared) as (first, (owned, port, _)):
        assert owned == "True"
        cluster = open_cluster(prepared, QUICK)
        assert not cluster.owned
        assert cluster.port == int(port)
        first.kill()
        first.wait()
        assert query(cluster.dsn(), "select 1") == 1
        running = processes(prepared)
        cluster.stop()
        cluster.stop()
    assert_all_end(running)


def test_the_owner_may_leave_while_others_stay(prepared: Path) -> None:
    cluster = open_cluster(prepared, QUICK)
    with service(prepared) as (other, (owned, _, dsn)):
        assert owned == "False"
        cluster.stop()
        assert query(dsn, "select 1") == 1
        running = processes(prepared)
        other.kill()
        other.wait()
        assert_all_end([process for process in running if process.pid != other.pid])


def test_of_several_that_start_at_once_one_starts_it(directory: Path) -> None:
    with service(directory, ready=False) as (a, _), service(directory, ready=False) as (b, _), service(directory, ready=False) as (c, _):
        said = [child.stdout.readline().split() for child in (a, b, c) if child.stdout is not None]
        assert sorted(words[0] for words in said) == ["False", "False", "True"]
        assert len({words[1] for words in said}) == 1
        running = processes(directory)
    assert_all_end(running)


# Ends


@pytest.mark.parametrize("deed", ["SIGKILL", "SIGTERM", "SIGINT", "exception", "exit", "forgotten"])
def test_it_ends_with_the_service(prepared: Path, deed: str) -> None:
    number = getattr(signal, deed, None)
    with service(prepared, deed if number is None else "wait") as (child, (_, _, dsn)):
        running = [] if number is None else processes(prepared)
        if number is not None:
            assert query(dsn, "select 1") == 1
            child.send_signal(number)
        child.wait(timeout=PATIENCE)
    if number is not None:
        assert_all_end(running)
    else:
        # The interpreter's exit has waited for it.
        assert not processes(prepared)


def test_a_throwaway_cluster_goes_even_when_its_test_is_killed() -> None:
    script = "from customhouse.embedded import throwaway_cluster\nwith throwaway_cluster() as c: print(c.directory, flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    directory = Path(child.stdout.readline().strip())
    running = [process for process in processes(directory) if process.pid != child.pid]
    assert (directory / "pgdata").is_dir()
    child.kill()
    child.communicate()
    assert_all_end(running)
    assert not directory.exists()


def test_ctrl_c_in_the_terminal_does_not_reach_the_server(prepared: Path) -> None:
    with service(prepared, "deaf") as (child, (_, _, dsn)):
        os.killpg(child.pid, signal.SIGINT)
        assert child.stdout is not None
        assert child.stdout.readline() == "heard\n"
        assert query(dsn, "select 1") == 1
        guard = guard_of(prepared)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            guard.send_signal(number)
        assert query(dsn, "select 1") == 1
        running = processes(prepared)
    assert_all_end(running)


def test_the_end_is_orderly(prepared: Path) -> None:
    cluster = open_cluster(prepared, QUICK)
    query(cluster.dsn("owner"), "create table kept as select 1 as n")
    cluster.stop()
    assert "database system is shut down" in (prepared / "postgresql.log").read_text(encoding="utf-8")
    assert not (prepared / "pgdata" / "postmaster.pid").exists()
    again = open_cluster(prepared, QUICK)
    assert again.port == cluster.port
    assert again.dsn() == cluster.dsn()
    assert query(again.dsn("owner"), "select n from kept") == 1
    again.stop()
    assert "not properly shut down" not in (prepared / "postgresql.log").read_text(encoding="utf-8")


@pytest.mark.parametrize("moment", [0.02, 0.1, 0.14, 0.18, 0.3, 0.45])
def test_killed_at_any_moment_of_the_first_start_the_next_one_works(directory: Path, moment: float) -> None:
    with service(directory, ready=False) as (child, _):
        with suppress(subprocess.TimeoutExpired):
            child.wait(moment)
        child.kill()
    cluster = open_cluster(directory, QUICK)
    try:
        assert query(cluster.dsn(), "select count(*) from pg_database where datname = 'customhouse'") == 1
        assert not list(directory.glob("pgdata.new-*"))
    finally:
        cluster.stop()


def test_killed_during_initdb_nothing_is_left(directory: Path) -> None:
    with service(directory, ready=False) as (child, _):
        end = time.monotonic() + PATIENCE
        while not list(directory.glob("pgdata.new-*/base")):
            assert time.monotonic() < end
        running = [process for process in processes(directory) if process.pid != child.pid]
        child.kill()
    assert_all_end(running)
    assert not list(directory.glob("pgdata*"))


def test_a_guard_that_dies_while_one_attaches_is_replaced(prepared: Path) -> None:
    with service(prepared) as (_, (_, _, dsn)):
        guard = guard_of(prepared)
        # As if it were still at its first steps: there is a guard, and nothing is ready.
        (prepared / "ready").unlink()
        with ThreadPoolExecutor() as pool:
            opening = pool.submit(open_cluster, prepared, QUICK)
            while locks.is_free(prepared / "start.lock"):
                assert not opening.done()
            guard.kill()
            cluster = opening.result(PATIENCE)
        assert cluster.owned
        assert query(cluster.dsn(), "select 1") == 1
        assert cluster.dsn() == dsn
        running = processes(prepared)
    cluster.stop()
    assert_all_end([process for process in running if process.pid != os.getpid()])


def test_a_half_made_cluster_is_not_taken_for_one(directory: Path) -> None:
    leftover = directory / "pgdata.new-4711"
    leftover.mkdir(parents=True)
    (leftover / "PG_VERSION").write_text("18\n", encoding="ascii")
    cluster = open_cluster(directory, QUICK)
    try:
        assert not leftover.exists()
        assert query(cluster.dsn(), "select 1") == 1
    finally:
        cluster.stop()


# Crashes


def test_a_killed_server_comes_back_with_what_was_committed(prepared: Path) -> None:
    cluster = open_cluster(prepared)
    try:
        query(cluster.dsn("owner"), "create table kept as select g as n from generate_series(1, 1000) g")
        old = postmaster_of(prepared)
        old.kill()
        old.wait(PATIENCE)
        assert query_when_up(cluster.dsn("owner"), "select count(*) from kept") == 1000
        assert postmaster_of(prepared).pid != old.pid
        attached = open_cluster(prepared)
        assert attached.port == cluster.port
        attached.stop()
    finally:
        cluster.stop()


def test_after_a_power_cut_the_next_start_recovers(prepared: Path) -> None:
    cluster = open_cluster(prepared)
    query(cluster.dsn("owner"), "create table kept as select g as n from generate_series(1, 1000) g")
    running = processes(prepared)
    for process in sorted(running, key=lambda process: process.pid != guard_of(prepared).pid):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    assert_all_end(running)
    cluster.stop()
    assert (prepared / "pgdata" / "postmaster.pid").exists()
    # After a reboot the number in the file may be anybody's, even our own.
    pid_file = prepared / "pgdata" / "postmaster.pid"
    lines = pid_file.read_text(encoding="ascii").splitlines()
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n", encoding="ascii")
    again = open_cluster(prepared)
    try:
        assert query(again.dsn("owner"), "select count(*) from kept") == 1000
    finally:
        again.stop()


@pytest.mark.parametrize("text", ["", "rubbish", "4711\n"])
def test_a_damaged_pid_file_does_not_matter(prepared: Path, text: str) -> None:
    open_cluster(prepared, QUICK).stop()
    (prepared / "pgdata" / "postmaster.pid").write_text(text, encoding="ascii")
    cluster = open_cluster(prepared, QUICK)
    try:
        assert query(cluster.dsn(), "select 1") == 1
    finally:
        cluster.stop()


def test_a_server_does_not_outlive_its_guard(prepared: Path) -> None:
    cluster = open_cluster(prepared, QUICK)
    running = processes(prepared)
    guard = guard_of(prepared)
    guard.kill()
    guard.wait(PATIENCE)
    again = open_cluster(prepared, QUICK)
    assert_all_end(running)
    assert again.owned
    assert query(again.dsn(), "select 1") == 1
    cluster.stop()
    again.stop()


def test_a_server_that_somebody_started_by_hand_is_left_alone(prepared: Path) -> None:
    data = prepared / "pgdata"
    with subprocess.Popen([sys.executable, "-c", "input()"], cwd=data, stdin=subprocess.PIPE) as by_hand:
        (data / "postmaster.pid").write_text(f"{by_hand.pid}\n", encoding="ascii")
        with pytest.raises(DatabaseUnavailable, match="Customhouse did not start: end it first"):
            open_cluster(prepared, QUICK)
        assert by_hand.poll() is None


def test_processes_of_an_earlier_server_are_waited_for(prepared: Path) -> None:
    held = locks.acquire(prepared / "server.lock", 1)
    with ThreadPoolExecutor() as pool:
        opening = pool.submit(open_cluster, prepared, QUICK)
        with pytest.raises(TimeoutError):
            opening.result(0.3)
        assert not (prepared / "pgdata" / "postmaster.pid").exists()
        os.close(held)
        cluster = opening.result(PATIENCE)
    assert query(cluster.dsn(), "select 1") == 1
    cluster.stop()


def test_a_start_that_takes_too_long_is_given_up(prepared: Path) -> None:
    held = locks.acquire(prepared / "server.lock", 1)
    try:
        with pytest.raises(DatabaseUnavailable, match="not ready after"):
            open_cluster(prepared, Options(fsync=False, start_timeout=0.2))
    finally:
        left = processes(prepared)
        os.close(held)
    assert_all_end(left)


def test_a_guard_that_does_not_start_says_so(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for program in ("/bin/false", "/nonexistent"):
        monkeypatch.setattr(sys, "executable", program)
        with pytest.raises(DatabaseUnavailable, match="guard did not start"):
            open_cluster(prepared, QUICK)
    monkeypatch.undo()
    cluster = open_cluster(prepared, QUICK)
    assert query(cluster.dsn(), "select 1") == 1
    cluster.stop()


def test_a_cluster_that_cannot_start_says_why(prepared: Path) -> None:
    open_cluster(prepared, QUICK).stop()
    (prepared / "pgdata" / "global" / "pg_control").unlink()
    began = time.monotonic()
    with pytest.raises(DatabaseUnavailable, match="pg_control"):
        open_cluster(prepared, QUICK)
    assert time.monotonic() - began < 10


def test_a_wrong_parameter_says_so(prepared: Path) -> None:
    with pytest.raises(DatabaseUnavailable, match="shared_buffers"):
        open_cluster(prepared, Options(fsync=False, settings={"shared_buffers": "lots"}))
    cluster = open_cluster(prepared, Options(fsync=False, settings={"shared_buffers": "16MB"}))
    try:
        assert query(cluster.dsn("owner"), "select current_setting('shared_buffers')") == "16MB"
    finally:
        cluster.stop()


def test_a_taken_port_is_replaced_by_a_free_one(prepared: Path) -> None:
    first = open_cluster(prepared, QUICK)
    first.stop()
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", first.port))
        taken.listen()
        second = open_cluster(prepared, QUICK)
        try:
            assert second.port != first.port
            assert query(second.dsn(), "select 1") == 1
        finally:
            second.stop()


# Folders that are not in order


def test_a_cluster_of_another_version_is_left_alone(directory: Path) -> None:
    data = directory / "pgdata"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("16\n", encoding="ascii")
    with pytest.raises(SettingsError, match="was made by PostgreSQL 16"):
        open_cluster(directory, QUICK)


def test_programs_that_are_too_old_are_refused(directory: Path, tmp_path: Path) -> None:
    old = tmp_path / "bin"
    old.mkdir()
    (old / "postgres").write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 15.18'\n", encoding="ascii")
    (old / "postgres").chmod(0o755)
    with pytest.raises(SettingsError, match="needs PostgreSQL 16"):
        open_cluster(directory, Options(binaries=old))


def test_the_other_version_in_the_wheel_runs_too(directory: Path) -> None:
    cluster = open_cluster(directory, Options(fsync=False, binaries=binaries().parents[1] / "pginstall" / "bin"))
    try:
        assert query(cluster.dsn(), "select current_setting('server_version_num')::int / 10000") == 16
    finally:
        cluster.stop()


def test_lost_passwords_are_not_replaced_by_new_ones(prepared: Path) -> None:
    open_cluster(prepared, QUICK).stop()
    secrets = (prepared / "secrets").read_bytes()
    (prepared / "secrets").unlink()
    with pytest.raises(SettingsError, match="is missing: restore it"):
        open_cluster(prepared, QUICK)
    (prepared / "secrets").write_bytes(b"damaged")
    with pytest.raises(SettingsError, match="is damaged"):
        open_cluster(prepared, QUICK)
    (prepared / "secrets").write_bytes(b"\xff\xff")
    with pytest.raises(SettingsError, match="cannot be read"):
        open_cluster(prepared, QUICK)
    (prepared / "secrets").write_bytes(secrets)
    cluster = open_cluster(prepared, QUICK)
    assert query(cluster.dsn(), "select 1") == 1
    cluster.stop()


def test_a_folder_restored_from_an_archive_works(prepared: Path) -> None:
    """Plain files in place of FIFO and locks, wide modes, and everything owned by whoever unpacked it."""
    open_cluster(prepared, QUICK).stop()
    (prepared / "users").unlink()
    (prepared / "users").write_bytes(b"")
    prepared.chmod(0o755)
    for path in (prepared / "pgdata", *(prepared / "pgdata").rglob("*")):
        os.chown(path, os.geteuid(), os.getegid(), follow_symlinks=False)
    cluster = open_cluster(prepared, QUICK)
    try:
        assert query(cluster.dsn(), "select 1") == 1
        assert stat.S_IMODE(prepared.stat().st_mode) == 0o700
    finally:
        cluster.stop()


def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SettingsError, match="choose another DATA_DIR"):
        open_cluster(tmp_path / "file" / "postgres", QUICK)


def test_a_locked_folder_is_not_waited_for_for_ever(directory: Path) -> None:
    directory.mkdir(parents=True)
    held = locks.acquire(directory / "start.lock", 1)
    try:
        with pytest.raises(DatabaseUnavailable, match="locked"):
            open_cluster(directory, Options(start_timeout=0.1))
    finally:
        os.close(held)


def test_a_forked_child_does_not_end_its_parents_server(prepared: Path) -> None:
    with service(prepared, "fork") as (child, (_, _, dsn)):
        assert child.stdout is not None
        assert child.stdout.readline() == "forked\n"
        assert query(dsn, "select 1") == 1
        running = processes(prepared)
    assert_all_end(running)
