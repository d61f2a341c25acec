"""Sockets of a group: one address, several queues, and nobody else's."""

from __future__ import annotations

import socket
import sys

import pytest

from customhouse.config import Address
from customhouse.errors import SettingsError
from customhouse.supervisor.sockets import SPREADS, Sockets, bind

ANY = Address("127.0.0.1", 0)
spreads = pytest.mark.parametrize("spread", [False, True] if sys.platform == "linux" else [False])


def connects(address: Address) -> bool:
    try:
        socket.create_connection((address.host, address.port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


@spreads
def test_a_group_has_one_address_and_is_reached_once_one_of_it_listens(spread: bool) -> None:
    group = Sockets(ANY, 2, spread=spread)
    try:
        assert group.address.port > 0
        assert group.of(0).getsockname() == group.of(1).getsockname() == ("127.0.0.1", group.address.port)
        assert not connects(group.address)
        group.of(1).listen()
        assert all(connects(group.address) for _ in range(8))
    finally:
        group.close()


@spreads
def test_two_services_cannot_share_a_port_without_a_word(spread: bool) -> None:
    first = Sockets(ANY, 2, spread=spread)
    try:
        first.of(0).listen()
        with pytest.raises(SettingsError, match=f"Cannot listen on {first.address}"):
            Sockets(first.address, 2, spread=spread)
        with pytest.raises(SettingsError, match="Cannot listen on"):
            bind(first.address)
    finally:
        first.close()


@spreads
def test_a_queue_without_a_process_is_given_up_and_the_others_go_on(spread: bool) -> None:
    group = Sockets(ANY, 2, spread=spread)
    try:
        for number in (0, 1):
            group.of(number).listen()
        group.renew(0)
        # What was listening under number 0 is closed; the new socket does not listen yet.
        assert all(connects(group.address) for _ in range(16))
        assert group.of(0).getsockname()[1] == group.address.port
    finally:
        group.close()
    assert not connects(group.address)


def test_an_address_that_does_not_exist_is_a_setting_to_change() -> None:
    with pytest.raises(SettingsError, match="Cannot listen on 256"):
        bind(Address("256.0.0.1", 0))
    with pytest.raises(SettingsError, match="Cannot listen on 192"):
        bind(Address("192.0.2.1", 0))


def test_the_kernel_spreads_connections_on_linux() -> None:
    assert SPREADS is (sys.platform == "linux")


@pytest.mark.skipif(sys.platform != "linux", reason="no such option elsewhere")
def test_a_client_that_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("customhouse.supervisor.sockets.UNREAD_SECONDS", 0.5)
    with bind(ANY) as listener:
        listener.listen()
        with socket.create_connection(listener.getsockname()):
            listener.settimeout(None)
            accepted, _ = listener.accept()
            with accepted, pytest.raises(TimeoutError):
                accepted.sendall(bytes(64_000_000))
