"""The way out for e-mail: one relay, whose host and port the operator named exactly; no other address is dialled."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from aiosmtplib import (
    SMTP,
    SMTPAuthenticationError,
    SMTPConnectError,
    SMTPDataError,
    SMTPException,
    SMTPHeloError,
    SMTPNotSupported,
    SMTPRecipientsRefused,
    SMTPResponseException,
    SMTPSenderRefused,
    SMTPServerDisconnected,
)

from customhouse.types import Secret

Security = Literal["smtp", "starttls", "smtps"]
_LASTING: Final = range(500, 600)
_GOODBYE: Final = 2.0


@dataclass(frozen=True, slots=True)
class Posting:
    """What came of one e-mail. The relay's own words are left out: they may repeat an address."""

    taken: bool
    """The relay has it; whether it arrives is the relay's care."""
    reason: str = ""
    """A code of ours, where it was not taken."""
    lasting: bool = False
    """The relay will never take it."""
    relay_fails: bool = False
    """It is not about this e-mail: the relay does not answer, or does not want us."""


TAKEN: Final = Posting(taken=True)


class Post(Protocol):
    """What sends one e-mail."""

    async def __call__(self, sender: str, to: str, message: bytes) -> Posting:
        """Send; whatever the relay does, a `Posting` comes out. A lost reply counts as not taken."""
        ...


class Smtp:
    """A relay. TLS is verified against its name (and the machine's authorities); where it was asked for, there is no way without."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        security: Security,
        user: str | None = None,
        password: Secret | None = None,
        greeting: str = "customhouse",
        timeout: float = 30.0,
    ) -> None:
        """Take the relay.

        Args:
            host: its name or address.
            port: its port.
            security: `smtp` in clear, `starttls` (RFC 3207), `smtps` (RFC 8314 §3.3).
            user: to log in with; None: no login.
            password: of the user.
            greeting: what we call ourselves (EHLO).
            timeout: seconds for connecting and logging in, and again for each e-mail.
        """
        self._host = host
        self._port = port
        self._security = security
        self._user = user
        self._password = password
        self._greeting = greeting
        self._timeout = timeout

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Post]:
        """Give what sends: over one connection, which is opened by the first e-mail and anew after it was lost."""
        held: list[SMTP] = []

        async def post(sender: str, to: str, message: bytes) -> Posting:
            try:
                async with asyncio.timeout(self._timeout):
                    if not held:
                        held.append(await self._connected())
                    await held[0].sendmail(sender, [to], message)
            except (SMTPException, OSError, TimeoutError, ValueError) as error:
                posting = judge(error)
                if posting.relay_fails or not held or not held[0].is_connected:
                    _drop(held)
                return posting
            return TAKEN

        try:
            yield post
        finally:
            for client in held:
                with suppress(SMTPException, OSError, TimeoutError):
                    async with asyncio.timeout(_GOODBYE):
                        await client.quit()
            _drop(held)

    async def _connected(self) -> SMTP:
        client = SMTP(
            hostname=self._host,
            port=self._port,
            local_hostname=self._greeting,
            timeout=self._timeout,
            use_tls=self._security == "smtps",
            start_tls=self._security == "starttls",
            tls_context=None if self._security == "smtp" else ssl.create_default_context(),
        )
        try:
            await client.connect()
            if self._user is not None and self._password is not None:
                await client.login(self._user, self._password.reveal().decode())
        except BaseException:
            client.close()
            raise
        return client


def judge(error: Exception) -> Posting:
    """Return what an exception of the SMTP client means for an e-mail."""
    if isinstance(error, SMTPRecipientsRefused):
        return _refused("recipient_refused", error.recipients[0].code if error.recipients else 0)
    if isinstance(error, SMTPDataError):
        return _refused("message_refused", error.code)
    if isinstance(error, SMTPAuthenticationError):
        return Posting(taken=False, reason="login_refused", relay_fails=True)
    if isinstance(error, SMTPNotSupported):
        # No STARTTLS, or no way to log in.
        return Posting(taken=False, reason="relay_unfit", relay_fails=True)
    if isinstance(error, SMTPSenderRefused):
        return Posting(taken=False, reason="sender_refused", relay_fails=True)
    if isinstance(error, ssl.SSLError) or isinstance(error.__cause__, ssl.SSLError):
        return Posting(taken=False, reason="tls_failed", relay_fails=True)
    if isinstance(error, SMTPConnectError | SMTPHeloError | SMTPServerDisconnected | OSError | TimeoutError):
        return Posting(taken=False, reason="relay_unreachable", relay_fails=True)
    return Posting(taken=False, reason="deferred" if isinstance(error, SMTPResponseException) else "relay_confused", relay_fails=True)


def _refused(reason: str, code: int) -> Posting:
    lasting = code in _LASTING
    return Posting(taken=False, reason=reason if lasting else "deferred", lasting=lasting)


def _drop(held: list[SMTP]) -> None:
    for client in held:
        client.close()
    held.clear()
