"""Named places at which a test may kill the process, so that promises of durability are proven where they could break.

`CUSTOMHOUSE_FAILPOINTS="accept.after_commit=kill:40"` ends the process (SIGKILL, nothing is flushed) at the 40th passage. The
setting is refused when `ENVIRONMENT` is `prod`. `docs/reference/failpoints.md` lists the names; a test compares it with the calls.
"""

from __future__ import annotations

import os
import signal
from typing import Final

from customhouse.errors import SettingsError

NAMES: Final = frozenset(
    {
        "accept.before_commit",
        "accept.after_commit",
        "connect.before_exchange",
        "connect.after_exchange",
        "connect.before_commit",
        "connect.after_commit",
        "connect.before_confirm",
        "deliver.before_send",
        "deliver.after_send",
        "read.before_commit",
        "read.after_commit",
        "refresh.after_claim",
        "refresh.after_call",
        "refresh.before_commit",
        "refresh.after_commit",
        "disconnect.before_commit",
        "disconnect.after_commit",
        "disconnect.after_key",
        "disconnect.before_revoke",
        "disconnect.after_revoke",
        "disconnect.before_close",
        "disconnect.after_close",
        "record.before_commit",
        "record.after_commit",
        "rotate.tenant_key_replaced",
        "rotate.wrapped",
        "rotate.made",
        "rotate.taken_over",
        "rotate.before_move",
        "rotate.moved",
        "rotate.ended",
    }
)


class Failpoints:
    """Counts passages and strikes at the armed ones. With nothing armed, `hit` is one look into an empty dictionary."""

    __slots__ = ("_armed",)

    def __init__(self, text: str = "") -> None:
        """Take `name=kill:N` items, separated by commas.

        Raises:
            SettingsError: an unknown name, another deed than `kill`, or a count below 1.
        """
        self._armed: dict[str, int] = {}
        for item in filter(None, text.split(",")):
            name, _, deed = item.partition("=")
            verb, _, count = deed.partition(":")
            if name not in NAMES or verb != "kill" or not count.isdecimal() or int(count) < 1:
                msg = f"CUSTOMHOUSE_FAILPOINTS: {item!r} is not NAME=kill:N with a name of docs/reference/failpoints.md"
                raise SettingsError(msg)
            self._armed[name] = int(count)

    def hit(self, name: str) -> None:
        """Pass the place called `name`; the armed passage does not return."""
        left = self._armed.get(name)
        if left is None:
            return
        if left <= 1:
            os.kill(os.getpid(), signal.SIGKILL)
        self._armed[name] = left - 1
