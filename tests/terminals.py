"""A terminal to write to, and everything that was written to it."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import TextIO


class Screen:
    """What a terminal was told; whole once the terminal was closed."""

    def __init__(self) -> None:
        self.shown = b""

    @property
    def text(self) -> str:
        """What was shown, decoded."""
        return self.shown.decode()


@contextlib.contextmanager
def terminal() -> Iterator[tuple[TextIO, Screen]]:
    """Give a terminal's stream, and the screen that is whole when the block is left.

    It is read while it is written: a terminal holds back a writer who is far ahead, and one read returns any part of what is there.
    """
    ours, theirs = os.openpty()
    screen = Screen()

    def read() -> None:
        # Linux answers EIO when the other end is closed and everything was read.
        with contextlib.suppress(OSError):
            while chunk := os.read(ours, 65536):
                screen.shown += chunk

    reader = threading.Thread(target=read)
    reader.start()
    try:
        with os.fdopen(theirs, "w") as stream:
            yield stream, screen
    finally:
        reader.join()
        os.close(ours)
