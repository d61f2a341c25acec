"""`customhouse send` against a service that runs, and against what goes wrong."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.authorities import Authority
from tests.commands import PROGRAM, call, surroundings
from tests.receivers import Recorder, status
from tests.services import Service, free_port

pytestmark = pytest.mark.anyio

TOKEN = "ck_send-suite-0123456789abcdefghijklmnopqrstuvwxyz"
DATA = '{"order_id":"o_1","person":{"person_id":"p_1","work_email":"ada@example.com","phone":"+49 30 23125 014"}}'


@pytest.fixture
async def service(environ: dict[str, str], tmp_path: Path, receiver: Recorder) -> AsyncIterator[Service]:
    """A service with the tenant acme and one connection."""
    made = Service({**environ, "CUSTOMHOUSE_PLATFORM_KEY": TOKEN, "CUSTOMHOUSE_RETRY_SCHEDULE": "1s"}, tmp_path)
    del made.environ["CUSTOMHOUSE_LISTEN"]
    try:
        await made.start()
        async with httpx.AsyncClient(base_url=made.base, trust_env=False, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
            (await client.post("/v1/tenants", json={"tenant_id": "acme", "name": "Acme"})).raise_for_status()
            wish = {"tenant_id": "acme", "provider": "webhook", "url": receiver.url("/hook")}
            (await client.post("/v1/connections", json=wish)).raise_for_status()
        yield made
    finally:
        made.stop()


async def send(service: Service, *arguments: str, stdin: bytes = b"", **more: str) -> subprocess.CompletedProcess[bytes]:
    """Call `send` with the service's own settings."""
    own = {name.removeprefix("CUSTOMHOUSE_"): value for name, value in service.environ.items()}
    settings = own | {"LISTEN": f"127.0.0.1:{service.port}"} | more
    return await asyncio.to_thread(
        subprocess.run,
        [*PROGRAM, "send", *arguments],
        env=surroundings(settings),
        input=stdin,
        capture_output=True,
        timeout=90,
        check=False,
    )


async def test_an_event_is_published_and_its_delivery_followed_to_its_end(service: Service, receiver: Recorder) -> None:
    done = await send(service, "order.created", DATA, "--tenant", "acme", "--wait")
    assert done.returncode == 0, done.stderr
    (received,) = receiver.received
    envelope = json.loads(received.body)
    lines = done.stdout.decode().splitlines()
    assert lines[0] == f"{envelope['event_id']} accepted, for 1 connection"
    assert "delivered; attempt 1: 204 in " in lines[-1]
    # What the policy took out is named, and its value is nowhere.
    assert b"person.phone" in done.stderr
    assert b"23125" not in done.stdout + done.stderr + received.body


async def test_the_same_key_sends_once_and_json_is_all_that_is_printed(service: Service, receiver: Recorder, tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text('{"order_id":"o_2"}')
    options = ("--tenant", "acme", "--idempotency-key", "k-1", "--event-id", "order-2", "--correlation-id", "c-1", "--json", "--wait")
    first = await send(service, "order.created", "--data-file", str(path), *options)
    again = await send(service, "order.created", "--data-file", "-", *options, stdin=path.read_bytes())
    assert (first.returncode, again.returncode) == (0, 0), first.stderr + again.stderr
    said, repeated = json.loads(first.stdout), json.loads(again.stdout)
    assert (said["event_id"], said["duplicate"], repeated["duplicate"]) == ("order-2", False, True)
    assert [one["status"] for one in said["deliveries"]] == ["delivered"]
    assert len(receiver.received) == 1
    assert json.loads(receiver.received[0].body)["trace"]["correlation_id"] == "c-1"
    other = await send(service, "order.created", '{"order_id":"o_3"}', *options)
    assert other.returncode == 1
    assert other.stderr.startswith(b"customhouse: ")
    assert other.stdout == b""


async def test_a_delivery_that_does_not_arrive_is_told_and_fails_the_command(service: Service, receiver: Recorder) -> None:
    receiver.answer = status(500)
    failed = await send(service, "order.created", '{"order_id":"o_1"}', "--tenant", "acme", "--wait")
    assert failed.returncode == 1
    text = failed.stdout.decode()
    assert "retrying; attempt 1: 500 in " in text
    assert "failed; attempt 2: 500 in " in text
    gate = asyncio.Event()

    async def hold(_: object) -> bytes:
        await gate.wait()
        return status(204)

    receiver.answer = hold
    patient = await send(service, "order.created", '{"order_id":"o_2"}', "--tenant", "acme", "--wait", "--within", "1")
    gate.set()
    assert patient.returncode == 1
    assert b"1 not ended after 1 s; the service goes on with them" in patient.stderr


async def test_each_refusal_says_what_to_do(service: Service, tmp_path: Path) -> None:
    event = ("order.created", '{"order_id":"o_1"}')
    key = tmp_path / "key"
    key.write_text("ck_unknown-0123456789abcdefghijklmnopqrstuvw\n")
    cases = {
        "customhouse tenant create": await send(service, *event, "--tenant", "nobody"),
        "/tenant_id: required with a platform key": await send(service, *event),
        "customhouse api-key create": await send(service, *event, "--tenant", "acme", "--key-file", str(key)),
        "/event_type: customhouse. is reserved": await send(service, "customhouse.ping", "{}", "--tenant", "acme"),
        "--url says where": await send(service, *event, "--tenant", "acme", "--url", f"http://127.0.0.1:{free_port()}"),
        "The environment has no NOWHERE": await send(service, *event, "--key-env", "NOWHERE"),
    }
    for advice, done in cases.items():
        said = done.stderr.decode()
        assert (done.returncode, done.stdout) == (1, b""), advice
        assert said.startswith("customhouse: ")
        assert advice in said
        assert "Traceback" not in said
        assert TOKEN not in said
        assert "ck_unknown" not in said


async def test_with_address_and_key_given_no_setting_is_needed(service: Service, receiver: Recorder, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(TOKEN)
    arguments = ("send", "order.created", "{}", "--tenant", "acme", "--url", service.base, "--key-file", str(key), "--wait")
    done = await asyncio.to_thread(call, *arguments)
    assert done.returncode == 0, done.stderr
    assert len(receiver.received) == 1


async def test_what_answers_and_is_not_customhouse_is_said_so(service: Service, receiver: Recorder) -> None:
    receiver.answer = status(200, body=b"<html>")
    done = await send(service, "order.created", "{}", "--tenant", "acme", "--url", receiver.url(""))
    assert done.returncode == 1
    assert b"is not Customhouse" in done.stderr
    assert b"repeat with --idempotency-key send_" in done.stderr


async def test_a_busy_service_is_asked_again_under_the_same_key(service: Service, receiver: Recorder) -> None:
    busy = status(503, "retry-after: 1", "content-type: application/problem+json", body=b'{"detail":"Busy.","code":"overloaded"}')
    answer = b'{"event_id":"e-1","duplicate":false,"deliveries":[]}'
    receiver.answer = lambda _: busy if len(receiver.received) < 3 else status(202, body=answer)
    done = await send(service, "order.created", "{}", "--tenant", "acme", "--url", receiver.url(""))
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"e-1 accepted, and no connection subscribes to it\n"
    assert len({one.headers["idempotency-key"] for one in receiver.received}) == 1
    assert len(receiver.received) == 3


async def test_over_tls_the_certificate_has_to_be_genuine_before_the_key_is_shown(receiver: Recorder, tmp_path: Path) -> None:
    ours, other = Authority(), Authority("another authority")
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=ours.server(tmp_path, "localhost"))
    receiver.answer = status(202, body=b'{"event_id":"e-1","duplicate":false,"deliveries":[]}')
    url = f"https://localhost:{server.sockets[0].getsockname()[1]}"
    key = tmp_path / "key"
    key.write_text(TOKEN)
    roots = tmp_path / "roots.pem"
    try:
        results = []
        for authority in (other, ours):
            roots.write_bytes(authority.pem)
            arguments = [*PROGRAM, "send", "order.created", "{}", "--url", url, "--key-file", str(key)]
            environment = surroundings({}) | {"SSL_CERT_FILE": str(roots)}
            done = await asyncio.to_thread(subprocess.run, arguments, env=environment, capture_output=True, timeout=90, check=False)
            results.append((done.returncode, b"SSLCertVerificationError" in done.stderr, len(receiver.received)))
        assert results == [(1, True, 0), (0, False, 1)]
    finally:
        server.close()


@pytest.mark.parametrize(
    "arguments",
    [
        ["order.created"],
        ["order.created", "{}", "--data-file", "-"],
        ["order.created", "[]"],
        ["order.created", "{}", "--url", "http://customs.example.com"],
        ["order.created", "{}", "--key-file", "a", "--key-env", "B"],
        ["order.created", "--data-file", "/nonexistent"],
        ["order.created", "{}", "--idempotency-key", "a\r\nX-Other: b"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    done = call("send", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
