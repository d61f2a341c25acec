"""Run the database tests on a PostgreSQL of one major version: a throw-away cluster on loopback, made from installed binaries.

`python tests/on_postgresql.py 15 [pytest arguments]` sets `TEST_DATABASE_URL` (a superuser's) for pytest. Missing binaries are a failure.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

SUITES = ("tests/integration", "tests/migration")
# These bring a server of their own, or none.
APART = ("tests/integration/test_embedded.py", "tests/integration/test_kms_aws.py", "tests/integration/test_egress.py")


def binaries(major: int) -> Path | None:
    """Return the folder with `postgres` and `initdb` of this major version: Debian's place, else the one on the PATH."""
    found = shutil.which("postgres")
    for folder in (Path(f"/usr/lib/postgresql/{major}/bin"), Path(found).resolve().parent if found else None):
        if folder is None or not (folder / "postgres").exists() or not (folder / "initdb").exists():
            continue
        version = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
        if f" {major}." in version:
            return folder
    return None


def _person() -> pwd.struct_passwd | None:
    """Return whom to become, because PostgreSQL refuses to run as root."""
    if os.getuid() != 0:
        return None
    with contextlib.suppress(KeyError):
        return pwd.getpwnam("postgres")
    return pwd.getpwnam("nobody")


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[str]:
    """Run a fresh cluster and yield the superuser's URL."""
    with tempfile.TemporaryDirectory(prefix="customhouse-pg-") as place:
        root, person, password = Path(place), _person(), secrets.token_urlsafe(24)
        (root / "password").write_text(password, encoding="utf-8")
        identity: dict[str, int | list[int]] = {}
        if person is not None:
            identity = {"user": person.pw_uid, "group": person.pw_gid, "extra_groups": []}
            for path in (root, root / "password"):
                os.chown(path, person.pw_uid, person.pw_gid)
        data = root / "data"
        initdb = [folder / "initdb", "-D", data, "-U", "postgres", "-A", "scram-sha-256", "--pwfile", root / "password"]
        subprocess.run([*initdb, "-E", "UTF8", "--locale=C", "--no-sync"], check=True, stdout=subprocess.DEVNULL, cwd=root, **identity)  # type: ignore[call-overload]
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        options = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "fsync": "off", "max_connections": 200}
        arguments = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        with (root / "log").open("wb") as log:
            server = subprocess.Popen([folder / "postgres", "-D", data, *arguments], stdout=log, stderr=log, cwd=root, **identity)  # type: ignore[call-overload]
            try:
                ask = [str(folder / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
                for _ in range(120):
                    if server.poll() is not None or subprocess.run(ask, check=False).returncode == 0:
                        break
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        server.wait(0.25)
                else:
                    server.kill()
                if server.poll() is not None:
                    raise SystemExit((root / "log").read_text(encoding="utf-8", errors="replace"))
                yield f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"
            finally:
                server.send_signal(signal.SIGINT)
                server.wait()


def main(arguments: Sequence[str]) -> int:
    """Run pytest on the asked major version and return its exit code."""
    major = int(arguments[0])
    folder = binaries(major)
    if folder is None:
        sys.stderr.write(f"PostgreSQL {major} is not installed; on Debian: apt-get install postgresql-{major}\n")
        return 1
    with cluster(folder) as url:
        chosen = [*arguments[1:], *SUITES, *(f"--ignore={path}" for path in APART)]
        environment = {**os.environ, "TEST_DATABASE_URL": url}
        command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "worksteal", *chosen]
        return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
