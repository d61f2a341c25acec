"""Name resolution: bounded, shared, and every answer vetted."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Sequence
from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from customhouse.clock import SystemClock
from customhouse.egress.addresses import Allow
from customhouse.egress.resolver import ResolutionError, Resolver, SystemLookup
from customhouse.errors import EgressRefused

LOOPBACK: Allow = (ip_network("127.0.0.0/8"),)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def resolver(*answers: str, allow: Allow = LOOPBACK, capacity: int = 4096) -> Resolver:
    async def lookup(_: str) -> Sequence[str]:
        return answers

    return Resolver(allow=allow, clock=SystemClock(), lookup=lookup, capacity=capacity)


@given(st.lists(st.one_of(st.ip_addresses().map(str), st.text(max_size=12), st.just("127.0.0.1")), max_size=5))
@settings(max_examples=150, derandomize=True, deadline=None)
def test_any_answers_give_one_of_them_or_one_typed_refusal(answers: list[str]) -> None:
    async def run() -> str | None:
        try:
            return await resolver(*answers).resolve("hooks.test")
        except (EgressRefused, ResolutionError):
            return None

    address = asyncio.run(run())
    assert address is None or address == answers[0]


@pytest.mark.anyio
async def test_the_number_of_remembered_names_is_bounded() -> None:
    names = resolver("127.0.0.1", capacity=3)
    for number in range(10):
        await names.resolve(f"h{number}.test")
    assert [names.known(f"h{number}.test") is not None for number in range(10)] == [False] * 7 + [True] * 3


@pytest.mark.anyio
async def test_shuffled_answers_keep_the_address_and_a_failed_one_is_moved_behind() -> None:
    names = resolver("127.0.0.1", "127.0.0.2", "127.0.0.3")
    assert await names.resolve("hooks.test") == "127.0.0.1"
    names.turn("hooks.test", "127.0.0.1")
    assert names.known("hooks.test") == "127.0.0.2"
    names.turn("hooks.test", "127.0.0.1")  # somebody else's older failure
    assert names.known("hooks.test") == "127.0.0.2"
    names.turn("unknown.test", "127.0.0.1")
    assert names.known("unknown.test") is None


@pytest.mark.anyio
async def test_a_refusal_is_repeated_with_its_reason() -> None:
    names = resolver("10.0.0.1")
    for _ in range(2):
        with pytest.raises(EgressRefused, match="private"):
            await names.resolve("hooks.test")
    assert names.known("hooks.test") is None


@pytest.mark.anyio
async def test_one_caller_giving_up_does_not_take_the_answer_from_the_others() -> None:
    release = asyncio.Event()
    asked = asyncio.Event()

    async def lookup(_: str) -> Sequence[str]:
        asked.set()
        await release.wait()
        return ["127.0.0.1"]

    names = Resolver(allow=LOOPBACK, clock=SystemClock(), lookup=lookup)
    first, second = (asyncio.ensure_future(names.resolve("hooks.test")) for _ in range(2))
    await asked.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    release.set()
    assert await second == "127.0.0.1"


@pytest.mark.anyio
async def test_closing_ends_the_lookups_under_way() -> None:
    asked = asyncio.Event()

    async def lookup(_: str) -> Sequence[str]:
        asked.set()
        await asyncio.Event().wait()
        return []

    names = Resolver(allow=LOOPBACK, clock=SystemClock(), lookup=lookup)
    waiting = asyncio.ensure_future(names.resolve("hooks.test"))
    await asked.wait()
    await names.aclose()
    with pytest.raises(ResolutionError):
        await waiting


@pytest.mark.anyio
async def test_the_system_lookup_asks_in_bounded_threads_that_do_not_hold_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    inside: list[threading.Thread] = []
    full = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(host: bytes, *_: object, **__: object) -> list[tuple[object, ...]]:
        inside.append(threading.current_thread())
        if len(inside) == 2:
            loop.call_soon_threadsafe(full.set)
        gate.wait(10)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))] * 2

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    lookup = SystemLookup(threads=2)
    tasks = [asyncio.ensure_future(lookup(f"h{number}.test")) for number in range(5)]
    await full.wait()
    assert len(inside) == 2
    assert all(thread.daemon for thread in inside)
    tasks[0].cancel()
    gate.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert answers[1:] == [["127.0.0.1"]] * 4


def test_an_answer_that_comes_after_the_loop_has_ended_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    threads: list[threading.Thread] = []

    def slow(*_: object, **__: object) -> list[tuple[object, ...]]:
        threads.append(threading.current_thread())
        gate.wait(10)
        raise socket.gaierror(socket.EAI_AGAIN, "late")

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(SystemLookup()("hooks.test"), 0.05)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    asyncio.run(give_up())
    gate.set()
    threads[0].join(10)
    assert not threads[0].is_alive()
