"""The passwords of an embedded server's two roles: a file of mode 0600, and the SCRAM verifiers that the server is given."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from customhouse.embedded.options import APP, DATABASE, OWNER
from customhouse.errors import SettingsError
from customhouse.types import Secret

_ITERATIONS: Final = 4096
_LINES: Final = 2


@dataclass(frozen=True, slots=True)
class Passwords:
    """What the two roles log in with."""

    owner: Secret
    app: Secret


def load_or_create(path: Path, *, create: bool) -> Passwords:
    """Return the passwords in the file at `path`; make them, durably, when it is missing and `create` is true.

    Raises:
        SettingsError: missing while the cluster exists, or unreadable.
    """
    try:
        text = path.read_text("ascii")
    except FileNotFoundError:
        if not create:
            message = f"{path} is missing: restore it from a backup (it holds the passwords of the embedded database), or set DATABASE_URL"
            raise SettingsError(message) from None
        text = f"{secrets.token_urlsafe(32)}\n{secrets.token_urlsafe(32)}\n"
        _write(path, text)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read ({type(error).__name__}): it must belong to the user that runs Customhouse") from error
    lines = text.split()
    if len(lines) != _LINES:
        raise SettingsError(f"{path} is damaged: restore it from a backup, or set DATABASE_URL")
    return Passwords(Secret(lines[0].encode()), Secret(lines[1].encode()))


def _write(path: Path, text: str) -> None:
    draft = path.with_name(path.name + ".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
        os.write(descriptor, text.encode("ascii"))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    draft.replace(path)


def scram_verifier(password: Secret, salt: bytes) -> str:
    """Return PostgreSQL's stored form of a password (RFC 5802 §3, RFC 7677), so that the password itself is never sent."""
    salted = hashlib.pbkdf2_hmac("sha256", password.reveal(), salt, _ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")

    def text(value: bytes) -> str:
        return base64.b64encode(value).decode("ascii")

    return f"SCRAM-SHA-256${_ITERATIONS}:{text(salt)}${text(stored)}:{text(server)}"


def roles_sql(passwords: Passwords) -> str:
    """Return the statements, one a line, that make the roles and the database of a fresh cluster."""
    owner, app = (scram_verifier(password, secrets.token_bytes(16)) for password in (passwords.owner, passwords.app))
    return (
        f"ALTER ROLE {OWNER} PASSWORD '{owner}';\n"
        f"CREATE ROLE {APP} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD '{app}';\n"
        f"CREATE DATABASE {DATABASE} OWNER {OWNER};\n"
        # PostgreSQL lets everybody into every database, and make temporary tables there.
        f"REVOKE ALL ON DATABASE {DATABASE} FROM PUBLIC;\n"
        f"GRANT CONNECT ON DATABASE {DATABASE} TO {APP};\n"
        f"REVOKE ALL ON DATABASE postgres FROM PUBLIC;\n"
        f"REVOKE ALL ON DATABASE template1 FROM PUBLIC;\n"
    )
