"""What the ways in which a relay can fail mean for an e-mail."""

from __future__ import annotations

import ssl

import aiosmtplib
import pytest

from customhouse.egress.smtp import Posting, judge

ADDRESS = "ada@example.com"


def refused(code: int) -> aiosmtplib.SMTPRecipientsRefused:
    return aiosmtplib.SMTPRecipientsRefused([aiosmtplib.SMTPRecipientRefused(code, f"no {ADDRESS}", ADDRESS)])


def over_tls() -> Exception:
    error = aiosmtplib.SMTPConnectError("no")
    error.__cause__ = ssl.SSLError("certificate verify failed")
    return error


@pytest.mark.parametrize(
    ("error", "reason", "lasting"),
    [
        (refused(550), "recipient_refused", True),
        (refused(450), "deferred", False),
        (aiosmtplib.SMTPDataError(554, ADDRESS), "message_refused", True),
        (aiosmtplib.SMTPDataError(452, ADDRESS), "deferred", False),
    ],
)
def test_a_refusal_of_one_email_says_nothing_of_the_next(error: Exception, reason: str, lasting: bool) -> None:
    assert judge(error) == Posting(taken=False, reason=reason, lasting=lasting, relay_fails=False)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (aiosmtplib.SMTPAuthenticationError(535, ADDRESS), "login_refused"),
        (aiosmtplib.SMTPNotSupported("no STARTTLS"), "relay_unfit"),
        (aiosmtplib.SMTPSenderRefused(553, ADDRESS, ADDRESS), "sender_refused"),
        (ssl.SSLError("certificate verify failed"), "tls_failed"),
        (over_tls(), "tls_failed"),
        (aiosmtplib.SMTPConnectError("no"), "relay_unreachable"),
        (aiosmtplib.SMTPHeloError(500, "no"), "relay_unreachable"),
        (aiosmtplib.SMTPServerDisconnected("gone"), "relay_unreachable"),
        (aiosmtplib.SMTPReadTimeoutError("slow"), "relay_unreachable"),
        (TimeoutError(), "relay_unreachable"),
        (ConnectionRefusedError(), "relay_unreachable"),
        (aiosmtplib.SMTPResponseException(421, "closing"), "deferred"),
        (aiosmtplib.SMTPException("what"), "relay_confused"),
        (ValueError("a line that cannot be sent"), "relay_confused"),
    ],
)
def test_a_failure_of_the_relay_is_never_the_end_of_an_email(error: Exception, reason: str) -> None:
    posting = judge(error)
    assert posting == Posting(taken=False, reason=reason, lasting=False, relay_fails=True)
    assert ADDRESS not in repr(posting)
