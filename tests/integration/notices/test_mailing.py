"""E-mails about notices, through a relay that we did not write: at least once each, ids and a link, to nobody by accident."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest

from customhouse import ids
from customhouse.app import App
from customhouse.config import Settings, load
from customhouse.notices.mailing import Mailing
from customhouse.notices.ports import Recipient
from customhouse.types import TenantId
from tests.authorities import Authority
from tests.conftest import running
from tests.integration.notices.test_inbox import ADA, tell
from tests.relays import PASSWORD, USER, Relay, running_relay
from tests.scenes import make_tenant, still

pytestmark = pytest.mark.anyio

SENDER = "customhouse@host.example"


@pytest.fixture
def relay() -> Iterator[Relay]:
    with running_relay() as running:
        yield running


@pytest.fixture
def environ(environ: dict[str, str], relay: Relay) -> dict[str, str]:
    return with_mail(environ, f"smtp://127.0.0.1:{relay.port}")


def with_mail(environ: dict[str, str], url: str) -> dict[str, str]:
    return {**environ, "CUSTOMHOUSE_SMTP_URL": url, "CUSTOMHOUSE_SMTP_FROM": SENDER}


@pytest.fixture
async def app(app: App) -> App:
    """A service whose jobs run when a test says so."""
    await still(app, "jobs")
    return app


def mailing(app: App) -> Mailing:
    assert app.mailing is not None
    return app.mailing


async def hasten(owner: asyncpg.Connection) -> None:
    """Let every waiting e-mail be due now."""
    await owner.execute("update notices set mail_next_at = now() - interval '1 minute' where mail = 'pending'")


async def states(owner: asyncpg.Connection) -> list[tuple[str, str | None]]:
    rows = await owner.fetch("select mail, mail_reason, address_sealed is null as gone from notices order by notice_id")
    assert all(row["gone"] == (row["mail"] != "pending") for row in rows)
    return [(row["mail"], row["mail_reason"]) for row in rows]


async def test_an_email_says_that_something_is_there_and_where(app: App, tenant: TenantId, relay: Relay, owner: asyncpg.Connection) -> None:
    about = ids.new()
    notice_id = await tell(app, tenant, connection_id=about, detail={"provider": "zoom"})
    sealed = await owner.fetchval("select address_sealed from notices")
    assert b"ada" not in sealed
    assert await mailing(app).send_due() == 1
    (letter,) = relay.letters
    assert relay.envelopes == [(SENDER, ["ada@example.com"])]
    assert letter["To"] == "ada@example.com"
    assert letter["Message-ID"] == f"<{ids.show('ntc', notice_id)}@host.example>"
    text = letter.get_content()
    assert ids.show("ntc", notice_id) in text
    assert ids.show("con", about) in text
    assert f"{app.settings.public_url}/notices/connection.created" in text
    for hidden in ("u1", "zoom", "acme", "ada"):
        assert hidden not in text.casefold()
    assert await states(owner) == [("sent", None)]
    assert await mailing(app).send_due() == 0
    assert len(relay.received) == 1


async def test_two_processes_send_an_email_once(app: App, tenant: TenantId, relay: Relay, settings: Settings) -> None:
    for _ in range(5):
        await tell(app, tenant)
    async with running(settings) as other:
        await still(other, "jobs")
        sent = await asyncio.gather(mailing(app).send_due(), mailing(other).send_due())
    assert sum(sent) == 5
    assert len({letter["Message-ID"] for letter in relay.letters}) == len(relay.received) == 5


async def test_a_lost_reply_means_the_same_email_again_under_the_same_id(
    app: App, tenant: TenantId, relay: Relay, owner: asyncpg.Connection
) -> None:
    await tell(app, tenant)
    relay.loses_reply = True
    assert await mailing(app).send_due() == 0
    assert await states(owner) == [("pending", "relay_unreachable")]
    relay.loses_reply = False
    assert await mailing(app).send_due() == 0, "not before its time"
    await hasten(owner)
    assert await mailing(app).send_due() == 1
    assert await states(owner) == [("sent", None)]
    first, second = relay.received
    assert first == second


async def test_what_was_under_way_when_a_process_died_is_sent_by_another(
    app: App, tenant: TenantId, relay: Relay, owner: asyncpg.Connection
) -> None:
    await tell(app, tenant)
    async with app.database.transaction(tenant) as conn:
        await conn.execute("update notices set mail_attempts = 1, mail_next_at = now() + interval '10 minutes'")
    assert await mailing(app).send_due() == 0
    await hasten(owner)
    assert await mailing(app).send_due() == 1
    assert len(relay.received) == 1


async def test_a_refusal_for_now_is_tried_again_and_a_lasting_one_is_not(
    app: App, tenant: TenantId, relay: Relay, owner: asyncpg.Connection, capfd: pytest.CaptureFixture[str]
) -> None:
    await tell(app, tenant)
    for step, (recipient, data) in enumerate((("451 busy ada@example.com", "250 OK"), ("250 OK", "452 full")), 1):
        relay.recipient, relay.data = recipient, data
        await hasten(owner)
        assert await mailing(app).send_due() == 0
        assert await states(owner) == [("pending", "deferred")]
        assert await owner.fetchval("select mail_attempts from notices") == step
        assert await owner.fetchval("select mail_next_at > now() from notices")
    relay.recipient, relay.data = "550 no such user ada@example.com", "250 OK"
    await hasten(owner)
    await mailing(app).send_due()
    assert await states(owner) == [("failed", "recipient_refused")]

    said = capfd.readouterr()
    assert said.out.count("notice_mail_refused") == 3
    assert "example.com" not in said.out + said.err, "a relay's words can repeat the address"

    relay.recipient, relay.data = "250 OK", "554 spam"
    await tell(app, tenant)
    await mailing(app).send_due()
    assert await states(owner) == [("failed", "recipient_refused"), ("failed", "message_refused")]
    assert relay.received == []


async def test_one_refused_recipient_does_not_hold_up_the_next(app: App, tenant: TenantId, relay: Relay, owner: asyncpg.Connection) -> None:
    other = await make_tenant(app, "other")
    await tell(app, tenant, Recipient("u1", "ada@example.com\r\nBcc: eve@example.com"))
    await tell(app, tenant)
    await owner.execute(
        "update notices set address_sealed = set_byte(address_sealed, 60, 255 - get_byte(address_sealed, 60)) where mail = 'pending'"
    )
    await tell(app, other, Recipient("u9", "bob@example.com"))
    assert await mailing(app).send_due() == 1
    assert await states(owner) == [("failed", "address_unusable"), ("failed", "address_gone"), ("sent", None)]
    assert [letter["To"] for letter in relay.letters] == ["bob@example.com"]


async def test_an_address_that_was_moved_to_another_notice_is_not_written_to(
    app: App, tenant: TenantId, relay: Relay, owner: asyncpg.Connection
) -> None:
    await tell(app, tenant)
    await tell(app, tenant, Recipient("u2", "bob@example.com"))
    await owner.execute("update notices n set address_sealed = o.address_sealed from notices o where o.notice_id <> n.notice_id")
    assert await mailing(app).send_due() == 0
    assert await states(owner) == [("failed", "address_gone")] * 2
    assert relay.received == []


async def test_a_relay_that_is_away_is_asked_once_a_run_and_given_up_after_a_day(
    app: App, tenant: TenantId, environ: dict[str, str], owner: asyncpg.Connection, free_port: int
) -> None:
    for user in ("u1", "u2"):
        await tell(app, tenant, Recipient(user, "ada@example.com"))
    async with running(load(with_mail(environ, f"smtp://127.0.0.1:{free_port}"))) as away:
        await still(away, "jobs")
        assert await mailing(away).send_due() == 0
        assert sorted(await states(owner), key=str) == [("pending", "relay_unreachable"), ("pending", None)]
        await owner.execute("update notices set mail_attempts = 6")
        await hasten(owner)
        await mailing(away).send_due()
        await mailing(away).send_due()
    assert await states(owner) == [("failed", "relay_unreachable")] * 2


@pytest.fixture
def free_port() -> int:
    """A port on loopback at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """An authority that the machine of the service trusts."""
    made = Authority()
    file = tmp_path / "machine.pem"
    file.write_bytes(made.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    return made


@pytest.mark.parametrize("security", ["smtps", "starttls"])
async def test_a_relay_with_tls_is_verified_and_logged_in_to(
    security: str, app: App, tenant: TenantId, environ: dict[str, str], owner: asyncpg.Connection, authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "strange").mkdir()
    own = authority.server(tmp_path / "own", "127.0.0.1")
    strange = Authority("stranger").server(tmp_path / "strange", "127.0.0.1")
    await tell(app, tenant, ADA)

    async def attempt(relay: Relay, password: str) -> int:
        await hasten(owner)
        url = f"{security}://{USER}:{quote(password, safe='')}@127.0.0.1:{relay.port}"
        async with running(load(with_mail(environ, url))) as service:
            await still(service, "jobs")
            return await mailing(service).send_due()

    with running_relay(**{security: strange}) as relay:
        assert await attempt(relay, PASSWORD) == 0
        assert (relay.received, relay.logged_in) == ([], [])
    assert await states(owner) == [("pending", "tls_failed")]
    with running_relay(**{security: own}) as relay:
        assert await attempt(relay, "wrong") == 0
        assert await states(owner) == [("pending", "login_refused")]
        assert await attempt(relay, PASSWORD) == 1
        assert (any(relay.logged_in[:-1]), relay.logged_in[-1]) == (False, True)
        assert [letter["To"] for letter in relay.letters] == ["ada@example.com"]
    assert await states(owner) == [("sent", None)]


async def test_where_starttls_was_asked_for_there_is_no_way_without_it(
    app: App, tenant: TenantId, environ: dict[str, str], relay: Relay, owner: asyncpg.Connection
) -> None:
    await tell(app, tenant)
    url = f"starttls://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{relay.port}"
    async with running(load(with_mail(environ, url))) as service:
        await still(service, "jobs")
        assert await mailing(service).send_due() == 0
    assert (relay.received, relay.logged_in) == ([], [])
    assert [state for state, _ in await states(owner)] == ["pending"]
