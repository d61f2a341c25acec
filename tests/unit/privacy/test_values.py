"""Whether an allow-listed value is what its field claims."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from customhouse.privacy.classes import PiiClass
from customhouse.privacy.detectors import detect
from customhouse.privacy.mail import is_mail
from customhouse.privacy.values import fits, is_bare_reference, is_meant, is_opaque, names_person

GOOD: list[tuple[PiiClass, Any]] = [
    (PiiClass.EMAIL, "ada.lovelace+news@example.com"),
    (PiiClass.EMAIL, "δοκιμή@παράδειγμα.ελ"),
    (PiiClass.PHONE, "+49 30 23125 123"),
    (PiiClass.PHONE, "(202) 555-0123 ext. 7"),
    (PiiClass.PHONE, 493023125123),
    (PiiClass.NAME, "Ada Lovelace"),
    (PiiClass.NAME, "Göran O'Dwyer-Núñez"),
    (PiiClass.ADDRESS, "Lindenallee 12, 12345 Görlitz"),
    (PiiClass.DATE_OF_BIRTH, "1985-05-10"),
    (PiiClass.DATE_OF_BIRTH, "10.05.1985"),
    (PiiClass.DATE_OF_BIRTH, 1985),
    (PiiClass.NATIONAL_ID, "123.456.789-09"),
    (PiiClass.NATIONAL_ID, "C01X00T47"),
    (PiiClass.BANK_ACCOUNT, "DE89 3704 0044 0532 0130 00"),
    (PiiClass.BANK_ACCOUNT, "12345678"),
    (PiiClass.PAYMENT_CARD, "4111 1111 1111 1111"),
    (PiiClass.IP_ADDRESS, "192.0.2.17"),
    (PiiClass.IP_ADDRESS, "2001:db8::17"),
    (PiiClass.ONLINE_ID, "countess"),
    (PiiClass.OTHER, "blue"),
]
BAD: list[tuple[PiiClass, Any]] = [
    (PiiClass.EMAIL, "Ada <ada@example.com>"),
    (PiiClass.EMAIL, "ada@localhost"),
    (PiiClass.EMAIL, "ada@example.com, bob@example.com"),
    (PiiClass.EMAIL, "a" * 65 + "@example.com"),
    (PiiClass.EMAIL, ".ada@example.com"),
    (PiiClass.PHONE, "ada@example.com"),
    (PiiClass.PHONE, "987-65-4321"),
    (PiiClass.PHONE, "192.0.2.17"),
    (PiiClass.PHONE, "4111 1111 1111 1111"),
    (PiiClass.PHONE, "call me"),
    (PiiClass.NAME, "Ada, +49 30 23125 123"),
    (PiiClass.NAME, "x" * 600),
    (PiiClass.NAME, "{'phone': 4711}"),
    (PiiClass.NAME, True),
    (PiiClass.NAME, ["Ada"]),
    (PiiClass.ADDRESS, "Long Lane 1, ada@example.com"),
    (PiiClass.DATE_OF_BIRTH, "in May"),
    (PiiClass.NATIONAL_ID, "4111 1111 1111 1111"),
    (PiiClass.BANK_ACCOUNT, "DE89 3704 0044 0532 0130 01"),
    (PiiClass.PAYMENT_CARD, "4111 1111 1111 1112"),
    (PiiClass.IP_ADDRESS, "fe80::1%eth0"),
    (PiiClass.IP_ADDRESS, "1.2.3"),
    (PiiClass.CREDENTIAL, "anything"),
    (PiiClass.PERSON, "anything"),
    (PiiClass.OTHER, "ada@example.com"),
]


@pytest.mark.parametrize("number", range(len(GOOD)))
def test_a_value_that_is_what_it_claims_fits(number: int) -> None:
    claim, value = GOOD[number]

    assert fits(value, {claim}), (claim, value)


@pytest.mark.parametrize("number", range(len(BAD)))
def test_a_value_that_is_more_or_something_else_does_not(number: int) -> None:
    claim, value = BAD[number]

    assert not fits(value, {claim}), (claim, value)


def test_a_value_has_to_fit_every_claim() -> None:
    assert not fits("Ada", {PiiClass.NAME, PiiClass.EMAIL})
    assert fits("blue", ())
    assert not fits("ada@example.com", ())


def test_a_name_alone_condemns_only_what_can_be_meant() -> None:
    assert is_meant("4711", PiiClass.PHONE)
    assert not is_meant("ios", PiiClass.PHONE)
    assert is_meant("anything", PiiClass.EMAIL)
    assert not is_meant("  ", PiiClass.EMAIL)
    assert not is_meant(12, PiiClass.EMAIL)
    assert is_meant(12, PiiClass.NATIONAL_ID)
    assert not is_meant(None, PiiClass.PHONE)


@pytest.mark.parametrize("value", ["p_4711", 4711, "550e8400-e29b-41d4-a716-446655440000", "104901234567", -3])
def test_an_opaque_id_passes(value: Any) -> None:
    assert is_opaque(value)


@pytest.mark.parametrize("value", ["a@b", "", None, 1.5, "x" * 65, "ä", "4111111111111111", 5555555555554444, "0171-3920012"])
def test_what_is_no_opaque_id_does_not(value: Any) -> None:
    assert not is_opaque(value)


def test_a_bare_reference_mixes_letters_and_digits_or_is_short() -> None:
    assert is_bare_reference("u17")
    assert is_bare_reference(123456)
    assert not is_bare_reference(1234567)
    assert not is_bare_reference("1234567")
    assert not is_bare_reference("ada")
    assert not is_bare_reference("12-34")


_WORD = st.from_regex(r"[A-Za-z0-9]{1,12}", fullmatch=True)
_NAME = st.from_regex(r"[a-z][a-z0-9]{1,12}", fullmatch=True)
_MAIL = st.builds(
    lambda local, mark, domain, top: f"{mark.join(local)}@{'.'.join(domain)}.{top}",
    st.lists(_WORD, min_size=1, max_size=5),
    st.sampled_from("._-"),
    st.lists(_NAME, min_size=1, max_size=3),
    st.from_regex(r"[a-z]{2,12}", fullmatch=True),
)


@given(_MAIL)
@example("xoxb-1234567890ab@example.com")
@example("4111.1111.1111.1111@example.com")
@example("DE89370400440532013000@example.com")
@example("+491511234567@example.com")
def test_an_address_takes_the_short_way_only_where_the_long_one_ends_the_same(text: str) -> None:
    long_way = is_mail(text) and len(text) <= 512 and not names_person(text) and set(detect(text)) <= {PiiClass.EMAIL}
    assert fits(text, frozenset((PiiClass.EMAIL,))) == long_way
