"""Client certificates on the wire: the receiver sees the right one, and who does not prove what it must gets nothing."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes

from customhouse.clock import SystemClock
from customhouse.egress import Egress, Outcome, identity_of, parse_target
from customhouse.egress import clients as pinned
from customhouse.types import Secret
from tests.authorities import Authority, Issued
from tests.receivers import recorder

pytestmark = pytest.mark.anyio
BODY = b'{"event_id":"evt_1"}'


@asynccontextmanager
async def going_out(*roots: Authority) -> AsyncIterator[Egress]:
    egress = Egress(
        allow=(ip_network("127.0.0.1/32"),), https_required=True, clock=SystemClock(), roots=tuple(authority.pem for authority in roots)
    )
    try:
        yield egress
    finally:
        await egress.aclose()


async def post(egress: Egress, url: str, issued: Issued | None) -> Outcome:
    target = parse_target(url, https_required=True)
    if issued is not None:
        target = replace(target, identity=identity_of(issued.chain.encode(), Secret(issued.private_key.encode())))
    return await egress.post(target, {}, BODY)


def fingerprint(issued: Issued) -> str:
    return issued.certificates[0].fingerprint(hashes.SHA256()).hex()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["tls 1.2", "tls 1.3"])
async def test_a_receiver_that_demands_a_certificate_takes_the_right_one_only(tmp_path: Path, version: ssl.TLSVersion) -> None:
    authority, stranger = Authority(), Authority("stranger")
    below = Authority("below", above=authority)
    tls = authority.server(tmp_path, "127.0.0.1", clients=authority)
    tls.minimum_version = tls.maximum_version = version
    right, chained = authority.issue(), below.issue()
    async with recorder(tls=tls) as receiver, going_out(authority) as egress:
        for issued in (right, chained):
            assert (await post(egress, receiver.url(), issued)).status_code == 204
        for refused in (None, stranger.issue(), authority.issue(end=timedelta(days=-1)), authority.issue(use="server")):
            outcome = await post(egress, receiver.url(), refused)
            assert outcome.status_code is None
            assert outcome.error in {"tls_failed", "connection_lost"}, "TLS 1.3 refuses after the client believes to be connected"
        assert [one.shown for one in receiver.received] == [fingerprint(right), fingerprint(chained)]
        assert [one.body for one in receiver.received] == [BODY, BODY]


async def test_a_receiver_that_does_not_ask_is_shown_nothing(tmp_path: Path) -> None:
    authority = Authority()
    async with recorder(tls=authority.server(tmp_path, "127.0.0.1")) as receiver, going_out(authority) as egress:
        assert (await post(egress, receiver.url(), authority.issue())).status_code == 204
        assert receiver.received[0].shown is None


@pytest.mark.parametrize("fault", ["unknown authority", "wrong name"])
async def test_whoever_does_not_prove_its_name_is_shown_no_certificate_and_no_event(tmp_path: Path, fault: str) -> None:
    authority, stranger = Authority(), Authority("stranger")
    signer = stranger if fault == "unknown authority" else authority
    tls = signer.server(tmp_path, "other.test" if fault == "wrong name" else "127.0.0.1", clients=authority)
    async with recorder(tls=tls) as receiver, going_out(authority) as egress:
        outcome = await post(egress, receiver.url(), authority.issue())
        assert (outcome.status_code, outcome.error) == (None, "tls_failed")
        assert receiver.received == []


async def test_connections_with_different_certificates_to_one_host_share_no_socket(tmp_path: Path) -> None:
    authority = Authority()
    tls = authority.server(tmp_path, "127.0.0.1", clients=authority)
    first, second = authority.issue("first"), authority.issue("second")
    async with recorder(tls=tls) as receiver, going_out(authority) as egress:
        for issued in (first, second, first, second):
            assert (await post(egress, receiver.url(), issued)).status_code == 204
        assert (await post(egress, receiver.url(), None)).status_code is None, "nobody else's connection is used"
        assert [one.shown for one in receiver.received] == [fingerprint(first), fingerprint(second)] * 2


async def test_a_client_with_a_certificate_is_let_go_after_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pinned, "IDENTITY_LIFE", 0.0)
    authority = Authority()
    tls = authority.server(tmp_path, "127.0.0.1", clients=authority)
    issued = authority.issue()
    async with recorder(tls=tls) as receiver, going_out(authority) as egress:
        for _ in range(3):
            assert (await post(egress, receiver.url(), issued)).status_code == 204
            async with asyncio.timeout(10):
                while len(egress._pool):
                    await asyncio.sleep(0)
        assert egress._pool._ends == {}


async def test_an_identity_that_is_none_sends_nothing(tmp_path: Path) -> None:
    authority = Authority()
    mixed = replace(authority.issue(), key=authority.issue().key)
    async with recorder(tls=authority.server(tmp_path, "127.0.0.1")) as receiver, going_out(authority) as egress:
        outcome = await post(egress, receiver.url(), mixed)
        assert (outcome.status_code, outcome.error) == (None, "tls_failed")
        assert receiver.received == []


async def refuse(tls: ssl.SSLContext, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Shake hands by hand, so that the alert about the certificate certainly arrives before the end of the connection."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    peer = tls.wrap_bio(incoming, outgoing, server_side=True)
    try:
        while True:
            try:
                peer.do_handshake()
                break
            except ssl.SSLWantReadError:
                writer.write(outgoing.read())
                incoming.write(await reader.read(65536))
            except ssl.SSLError:
                break
        writer.write(outgoing.read())
        writer.write_eof()
        while await reader.read(65536):
            pass
    except ConnectionError:
        pass
    finally:
        writer.close()


@pytest.mark.parametrize("shown", ["none", "of a stranger", "expired"])
async def test_an_alert_about_our_certificate_is_a_failure_of_tls(tmp_path: Path, shown: str) -> None:
    authority = Authority()
    tls = authority.server(tmp_path, "127.0.0.1", clients=authority)
    tls.minimum_version = ssl.TLSVersion.TLSv1_3
    issued = {"none": None, "of a stranger": Authority("stranger").issue(), "expired": authority.issue(end=timedelta(days=-1))}[shown]
    server = await asyncio.start_server(lambda reader, writer: refuse(tls, reader, writer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with going_out(authority) as egress:
            outcome = await post(egress, f"https://127.0.0.1:{port}/", issued)
            assert (outcome.status_code, outcome.error) == (None, "tls_failed")
    finally:
        server.close()
