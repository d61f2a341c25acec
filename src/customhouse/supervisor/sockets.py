"""Sockets to listen on: one for a process alone, one per process where the kernel spreads connections over them."""

from __future__ import annotations

import contextlib
import socket
import sys
from typing import Final

from customhouse.config import Address
from customhouse.errors import SettingsError

SPREADS: Final = sys.platform == "linux"
"""Linux spreads connections over the sockets of one address (SO_REUSEPORT, `man 7 socket`). Elsewhere one socket is shared."""
UNREAD_SECONDS: Final = 60.0
"""A client that takes nothing of what was sent for so long is given up (Linux): its connection could be neither used nor closed."""


def bind(address: Address, *, spread: bool = False) -> socket.socket:
    """Return a bound socket; whoever uses it makes it listen.

    Args:
        address: where; port 0 takes a free one.
        spread: other sockets of this user may be bound to the same address.

    Raises:
        SettingsError: the address cannot be listened on.
    """
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, place = found[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise SettingsError(f"Cannot listen on {address}: {error.strerror}.") from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if spread:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if sys.platform == "linux":
            # What is accepted inherits it (`man 7 tcp`, TCP_USER_TIMEOUT).
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNREAD_SECONDS * 1000))
        bound.bind(place)
        bound.setblocking(False)  # noqa: FBT003 - as the socket module has it
    except OSError as error:
        bound.close()
        raise SettingsError(f"Cannot listen on {address}: {error.strerror}.") from error
    return bound


class Sockets:
    """The sockets of a group of processes, one number each.

    They belong to the parent, so a connection that waits in the queue of a process that was killed waits for its successor.
    """

    def __init__(self, address: Address, count: int, *, spread: bool = SPREADS) -> None:
        """Bind them all; none listens yet.

        Raises:
            SettingsError: the address cannot be listened on, or somebody listens there already.
        """
        self._spread = spread
        # Without SO_REUSEPORT first: two services of one user would else share a port without a word.
        first = bind(address)
        self.address = Address(address.host, first.getsockname()[1])
        """With its real port."""
        if not spread:
            self._sockets = [first] * count
            return
        first.close()
        self._sockets = [bind(self.address, spread=True) for _ in range(count)]

    def of(self, number: int) -> socket.socket:
        """Return the socket of a process."""
        return self._sockets[number]

    def renew(self, number: int) -> None:
        """Give a process's queue up, so that the kernel leads new connections to the others: its successor will not come at once."""
        if not self._spread:
            return
        # Where no other can be had, the old one has to do.
        with contextlib.suppress(SettingsError):
            fresh = bind(self.address, spread=True)
            self._sockets[number].close()
            self._sockets[number] = fresh

    def close(self) -> None:
        """Close our copies; those of the processes are theirs to close."""
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.close()
