"""A root key in a file: for development, the demo, and small installations that allow it explicitly.

The file holds three lines of text: the format, the id of the key, and its 32 bytes in hexadecimal. It is made once, with mode
0600, under a temporary name that is then linked to the final one: whoever reads the path finds a complete key or none, and of
two processes that start together one key wins.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

from customhouse.crypto.envelope import KEY_BYTES, RecordKey, open_sealed, seal
from customhouse.crypto.kms import Context, check_context
from customhouse.errors import CustomhouseError, KeyServiceUnavailable, SettingsError, Unsealable
from customhouse.types import Secret

_FORMAT: Final = "customhouse-local-key 1"
_FILE: Final = re.compile(rf"{_FORMAT}\n([0-9a-f-]{{36}})\n([0-9a-f]{{{2 * KEY_BYTES}}})\n".encode(), re.ASCII)
_LARGEST: Final = 1024
_OPEN_TO_OTHERS: Final = 0o077


class LocalKeyService:
    """A `KeyService` whose root key was read from a file."""

    __slots__ = ("_root",)

    def __init__(self, root: RecordKey) -> None:
        """Take the root key; `load_local_key` reads one."""
        self._root = root

    @property
    def name(self) -> str:
        """`file:` and the id of the key, not its path."""
        return f"file:{self._root.key_id}"

    async def generate(self, context: Mapping[str, str]) -> tuple[Secret, bytes]:
        """Return a fresh key and its wrapped form. Raises: see `KeyService`."""
        fresh = os.urandom(KEY_BYTES)
        bound = Context(context)
        if not bound.associated_data():
            raise CustomhouseError("an encryption context needs at least one pair and no empty text")
        return Secret(fresh), seal(self._root, bound, fresh)

    async def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> Secret:
        """Return the key in `wrapped`. Raises: see `KeyService`."""
        plaintext = open_sealed(self._root, Context(context), wrapped)
        if len(plaintext) != KEY_BYTES:
            raise Unsealable
        return Secret(plaintext)

    async def check(self) -> None:
        """Wrap and unwrap once. Raises: see `KeyService`."""
        context = check_context("local")
        fresh, wrapped = await self.generate(context)
        if await self.unwrap(wrapped, context) != fresh:  # pragma: no cover - the envelope authenticates
            raise KeyServiceUnavailable


def load_local_key(path: Path, *, create: bool = False) -> LocalKeyService:
    """Read the key file at `path`; with `create`, make it first where there is none.

    Raises:
        SettingsError: no file, not this format, not owned by this user (or root), or open to other users. The detail never
            holds what the file holds.
    """
    if create and not os.path.exists(path):  # noqa: PTH110 - unlike Path.exists, it does not raise where a folder is closed to us
        _create(path)
    return LocalKeyService(_read(path))


def _read(path: Path) -> RecordKey:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            # On the descriptor, not the path: what was checked is what is read.
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise SettingsError(f"the key file {path} is not a regular file")
            if found.st_mode & _OPEN_TO_OTHERS:
                raise SettingsError(f"the key file {path} is open to other users (mode {stat.S_IMODE(found.st_mode):04o}); chmod 600 it")
            if found.st_uid not in {os.geteuid(), 0}:
                raise SettingsError(f"the key file {path} belongs to another user; whoever owns it can replace the root key")
            text = os.read(descriptor, _LARGEST)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise SettingsError(f"the key file {path} cannot be read ({error.strerror}); CUSTOMHOUSE_KMS_KEY names it") from error
    match = _FILE.fullmatch(text)
    if match is None:
        raise SettingsError(f"the key file {path} is not of the format {_FORMAT!r}; restore it from its backup, never edit it")
    try:
        key_id = UUID(match[1].decode())
    except ValueError:
        raise SettingsError(f"the key file {path} names no valid key id; restore it from its backup") from None
    return RecordKey(key_id, Secret(bytes.fromhex(match[2].decode())))


def _create(path: Path) -> None:
    text = f"{_FORMAT}\n{uuid4()}\n{os.urandom(KEY_BYTES).hex()}\n".encode()
    draft = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            # A link, not a rename: it fails where another process was first, and then theirs is the key.
            with suppress(FileExistsError):
                os.link(draft, path)
        finally:
            draft.unlink()
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise SettingsError(f"the key file {path} cannot be made ({error.strerror})") from error
