"""The e-mail about a notice: what it may hold, and that no address can add a line to its head."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from customhouse.notices.kinds import KINDS
from customhouse.notices.letters import compose, host_of, next_try, usable

NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
ABOUT: dict[str, Any] = {
    "kind": "connection.created",
    "notice_id": "ntc_01k0000000000000000000000a",
    "connection_id": "con_01k0000000000000000000000b",
    "sender": "customhouse@host.example",
    "to": "ada@example.com",
    "public_url": "https://customhouse.example",
    "at": NOW,
}


def read(raw: bytes) -> EmailMessage:
    return message_from_bytes(raw, policy=SMTP)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_an_email_holds_the_sentence_the_ids_and_a_link_and_nothing_else(kind: str) -> None:
    letter = read(compose(**{**ABOUT, "kind": kind}))
    assert {name: str(value) for name, value in letter.items()} == {
        "From": "customhouse@host.example",
        "To": "ada@example.com",
        "Subject": KINDS[kind].subject,
        "Date": "Sun, 22 Nov 2026 09:30:00 +0000",
        "Message-ID": "<ntc_01k0000000000000000000000a@host.example>",
        "Auto-Submitted": "auto-generated",
        "Content-Type": 'text/plain; charset="us-ascii"',
        "Content-Transfer-Encoding": "7bit",
        "MIME-Version": "1.0",
    }
    text = letter.get_content().replace("\r\n", "\n")
    words = " ".join(text.split())
    assert KINDS[kind].sentence in words
    assert KINDS[kind].advice in words
    assert "Notice: ntc_01k0000000000000000000000a\n" in text
    assert "Connection: con_01k0000000000000000000000b\n" in text
    assert f"https://customhouse.example/notices/{kind}\n" in text
    assert "ada" not in text


def test_a_notice_about_no_connection_names_none() -> None:
    assert "Connection:" not in read(compose(**{**ABOUT, "connection_id": None})).get_content()


def test_the_same_notice_gives_the_same_bytes() -> None:
    assert compose(**ABOUT) == compose(**ABOUT)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "ada",
        "@example.com",
        "ada@",
        "ada@example.com\r\nBcc: eve@example.com",
        "ada@example.com\n",
        "ada@exam\0ple.com",
        "ada@example.com, eve@example.com",
        "Ada <ada@example.com>",
        '"ada"@example.com',
        "ada@[127.0.0.1]",
        ".ada@example.com",
        "ada..l@example.com",
        "ada@-example.com",
        "ada@example..com",
        "ädä@example.com",
        "ada@exämple.com",
        f"{'a' * 65}@example.com",
        f"ada@{'a' * 64}.com",
        f"ada@{'a.' * 130}com",
    ],
)
def test_what_is_no_plain_address_is_not_written_to(address: str) -> None:
    assert not usable(address)
    for role in ("to", "sender"):
        with pytest.raises(ValueError, match="not a usable address"):
            compose(**{**ABOUT, role: address})
    with pytest.raises(ValueError, match="not a usable address"):
        host_of(address)


@pytest.mark.parametrize(
    "address", ["a@b", "ada.lovelace+x@mail.example.com", "o'hara=/?#!$%&*^_`{|}~-@example.com", f"{'a' * 64}@example.com"]
)
def test_plain_addresses_are_usable(address: str) -> None:
    assert usable(address)
    assert read(compose(**{**ABOUT, "to": address}))["To"] == address


@given(st.text(max_size=60) | st.from_regex(r"[a-z.+]{1,10}@[a-z.\r\n-]{1,20}"))
@example("a@b\r\nX: y")
def test_whatever_stands_for_an_address_gives_one_whole_head_or_a_refusal(address: str) -> None:
    if not usable(address):
        with pytest.raises(ValueError, match="not a usable address"):
            compose(**{**ABOUT, "to": address})
        return
    raw = compose(**{**ABOUT, "to": address})
    head, _, body = raw.partition(b"\r\n\r\n")
    assert len(head.split(b"\r\n")) == len(read(raw).keys()) == 9
    assert raw.isascii()
    assert body == compose(**ABOUT).partition(b"\r\n\r\n")[2]
    assert all(len(line) <= 998 for line in raw.split(b"\r\n"))


def test_an_unknown_kind_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="no kind of notice"):
        compose(**{**ABOUT, "kind": "weather.changed"})


def test_an_email_is_tried_for_about_a_day() -> None:
    moments = [next_try(attempts, NOW) for attempts in range(1, 7)]
    waits = [moment - NOW for moment in moments if moment is not None]
    assert waits == sorted(waits)
    assert len(waits) == 6
    assert timedelta(hours=20) < sum(waits, timedelta()) < timedelta(days=1, hours=1)
    assert next_try(7, NOW) is None
    assert next_try(0, NOW) is None
