"""Where the first platform key goes: to a terminal, where a person reads it once, else into a file that only this user can read.

Never into a log: standard output that is not a terminal is collected by somebody (rulings §11).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, TextIO

from customhouse.errors import SettingsError
from customhouse.types import Secret

FILE_NAME: Final = "platform_key"


def hand_over(token: Secret, data_dir: Path, stream: TextIO) -> Path | None:
    """Show the key on a terminal, or write it to `data_dir/platform_key`, mode 0600.

    Returns:
        The file, or None where a terminal has shown it.

    Raises:
        SettingsError: the file cannot be written; the text says how to get another key.
    """
    if stream.isatty():
        stream.write(f"The first platform API key, shown this once:\n\n    {token.reveal().decode()}\n\n")
        stream.flush()
        return None
    path = data_dir / FILE_NAME
    draft = data_dir / f".{FILE_NAME}.{os.getpid()}"
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            # Not left to the umask: neither less for us nor more for others.
            os.fchmod(descriptor, 0o600)
            with open(descriptor, "wb", closefd=False) as file:
                file.write(token.reveal() + b"\n")
                file.flush()
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        draft.replace(path)
    except OSError as error:
        raise SettingsError(
            f"The first platform API key was made, but {path} cannot be written ({error.strerror}), so nobody has seen it. "
            "Make another with `customhouse api-key create --platform`, or set CUSTOMHOUSE_PLATFORM_KEY."
        ) from error
    return path
