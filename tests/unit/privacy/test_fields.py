"""How a key is read."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from customhouse.privacy.classes import PiiClass
from customhouse.privacy.fields import KNOWN_FIELDS, PERSON_CONTAINERS, PERSON_FIELDS, canonical_name, read_name


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("phone", PiiClass.PHONE),
        ("phone2", PiiClass.PHONE),
        ("phone_12", PiiClass.PHONE),
        ("mobilephone", PiiClass.PHONE),
        ("Téléphone", PiiClass.PHONE),
        ("phone_e164", PiiClass.PHONE),
        ("customerPhone", PiiClass.PHONE),
        ("customer_billing_phone", PiiClass.PHONE),
        ("eMail", PiiClass.EMAIL),
        ("E-Mail-Address", PiiClass.EMAIL),
        ("IPAddress", PiiClass.IP_ADDRESS),
        ("ipv4", PiiClass.IP_ADDRESS),
        ("ipV6", PiiClass.IP_ADDRESS),
        ("user_name", PiiClass.ONLINE_ID),
        ("customer_name", PiiClass.NAME),
        ("owner.city", PiiClass.ADDRESS),
        ("contact[city]", PiiClass.ADDRESS),
        ("email_id", PiiClass.EMAIL),
        ("prénom", PiiClass.NAME),
        ("Geburtsdatum", PiiClass.DATE_OF_BIRTH),
    ],
)
def test_a_personal_name_is_recognised_in_its_disguises(key: str, expected: PiiClass) -> None:
    assert read_name(key).pii_class is expected


@pytest.mark.parametrize(
    "key",
    [
        "name",
        "city",
        "title",
        "user_agent",
        "lead_status",
        "email_count",
        "last_email",
        "is_mobile",
        "product_name",
        "x" * 200,
        "",
        "___",
        "1",
    ],
)
def test_a_common_name_means_nothing_by_itself(key: str) -> None:
    assert read_name(key).pii_class is None


@pytest.mark.parametrize("key", ["person", "Contacts", "account_owner", "billingContact", "attendees2", "end-users"])
def test_a_container_is_recognised(key: str) -> None:
    assert read_name(key).container


@pytest.mark.parametrize("key", ["order", "children", "parent", "account", "tenant", "customer_id", "customer_count"])
def test_what_holds_no_person_is_no_container(key: str) -> None:
    assert not read_name(key).container


@pytest.mark.parametrize("key", ["id", "person_id", "personId", "uuid", "hs_object_id"])
def test_an_id_is_recognised(key: str) -> None:
    assert read_name(key).opaque_id


@pytest.mark.parametrize("key", ["national_id", "email_id", "phone_id", "apple_id"])
def test_a_personal_field_that_ends_like_an_id_is_none(key: str) -> None:
    assert not read_name(key).opaque_id


@pytest.mark.parametrize("key", ["Ada Lovelace", "ada@example.com", "person.ada", "customer_ada", "x" * 65, "phone_491701234567"])
def test_a_key_that_may_be_data_is_not_printable(key: str) -> None:
    assert not read_name(key).printable


@pytest.mark.parametrize("key", ["person", "phone", "workEmail", "billing_phone", "customer_city", "id", "phone2"])
def test_a_key_of_the_closed_lists_is_printable(key: str) -> None:
    assert read_name(key).printable


@pytest.mark.parametrize("key", ["per\u200bson", "per\u00adson", "\ufeffperson", "\uff50erson", "p\u00e9rson", "billing\u2010contact"])
def test_a_container_is_recognised_whatever_hides_in_its_name(key: str) -> None:
    assert read_name(key).container


@pytest.mark.parametrize("key", ["per\u200bson", "pho\u2060ne", "first\u00a0name"])
def test_a_key_with_characters_that_cannot_be_seen_is_not_printable(key: str) -> None:
    assert not read_name(key).printable


def test_the_end_of_a_long_key_is_read_and_never_allowed() -> None:
    container, field, flat = read_name("x" * 80 + "_person"), read_name("x" * 80 + "_work_email"), read_name("x" * 80 + ".person.colour")

    assert container.container
    assert flat.in_person
    assert (field.name, flat.name) == ("", "")
    assert not any((one.printable or one.opaque_id or one.neutral) for one in (container, field, flat, read_name("x" * 80 + "_id")))


def test_every_listed_name_is_its_own_canonical_name() -> None:
    for name in (*KNOWN_FIELDS, *PERSON_FIELDS, *PERSON_CONTAINERS):
        assert canonical_name(canonical_name(name)) == canonical_name(name)
        assert read_name(name).printable


def test_no_name_is_in_both_lists() -> None:
    assert not KNOWN_FIELDS.keys() & PERSON_FIELDS.keys()
    assert not KNOWN_FIELDS.keys() & PERSON_CONTAINERS


@given(st.text(max_size=80))
@settings(max_examples=200, derandomize=True, deadline=None)
def test_any_key_is_read_and_its_canonical_name_is_stable(key: str) -> None:
    name = canonical_name(key)

    assert canonical_name(name) == name
    assert isinstance(read_name(key).name, str)
