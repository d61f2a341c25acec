"""A mail relay for tests: aiosmtpd on loopback, in a thread with a loop of its own, which its STARTTLS needs."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP as POLICY

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

USER, PASSWORD = "customhouse", "p@ss:word/%"


@dataclass
class Relay:
    """What a relay got, and what it answers; the answers may be changed at any moment."""

    port: int = 0
    received: list[bytes] = field(default_factory=list)
    envelopes: list[tuple[str, list[str]]] = field(default_factory=list)
    recipient: str = "250 OK"
    data: str = "250 OK"
    loses_reply: bool = False
    """It takes the e-mail and is gone before it says so."""
    logged_in: list[bool] = field(default_factory=list)

    @property
    def letters(self) -> list[EmailMessage]:
        """The e-mails, read."""
        return [message_from_bytes(raw, policy=POLICY) for raw in self.received]

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """Take a recipient, or not."""
        if self.recipient.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.recipient

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        """Take an e-mail, or not."""
        if self.data.startswith("250"):
            assert isinstance(envelope.content, bytes)
            self.received.append(envelope.content)
            self.envelopes.append((envelope.mail_from or "", list(envelope.rcpt_tos)))
        if self.loses_reply:
            assert isinstance(server.transport, asyncio.WriteTransport)
            server.transport.abort()
        return self.data

    def login(self, _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: object) -> AuthResult:
        """Know one user."""
        right = isinstance(data, LoginPassword) and (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        self.logged_in.append(right)
        return AuthResult(success=right, handled=False)


@contextmanager
def running_relay(*, smtps: ssl.SSLContext | None = None, starttls: ssl.SSLContext | None = None) -> Iterator[Relay]:
    """Run a relay until the block ends; with TLS it wants a login."""
    relay = Relay()
    secured = smtps is not None or starttls is not None

    def protocol() -> SMTP:
        # Under `smtps` the connection is secure from its first byte, which aiosmtpd does not know.
        return SMTP(
            relay,
            hostname="relay.example",
            tls_context=starttls,
            require_starttls=starttls is not None,
            authenticator=relay.login if secured else None,
            # aiosmtpd warns of a login that it would demand without knowing of TLS.
            auth_required=starttls is not None,
            auth_require_tls=starttls is not None,
            enable_SMTPUTF8=True,
        )

    started: list[asyncio.AbstractEventLoop] = []
    ready = threading.Event()

    def run() -> None:
        asyncio.run(_serve(protocol, smtps, relay, started, ready))

    thread = threading.Thread(target=run, name="relay")
    thread.start()
    ready.wait(30)
    try:
        yield relay
    finally:
        for loop in started:
            loop.call_soon_threadsafe(_ended[loop].set)
        thread.join(30)


_ended: dict[asyncio.AbstractEventLoop, asyncio.Event] = {}


async def _serve(
    protocol: Callable[[], SMTP],
    tls: ssl.SSLContext | None,
    relay: Relay,
    started: list[asyncio.AbstractEventLoop],
    ready: threading.Event,
) -> None:
    loop = asyncio.get_running_loop()
    _ended[loop] = asyncio.Event()
    server = await loop.create_server(protocol, "127.0.0.1", 0, ssl=tls)
    relay.port = server.sockets[0].getsockname()[1]
    started.append(loop)
    ready.set()
    try:
        await _ended[loop].wait()
    finally:
        server.close()
        del _ended[loop]
