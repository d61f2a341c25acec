"""What passes the guard, what does not, and what the metadata says about it."""

import json
from typing import Any

import pytest

from customhouse.errors import PolicyViolation
from customhouse.privacy.declaration import NOTHING_DECLARED, Declaration
from customhouse.privacy.inspect import inspect
from customhouse.privacy.policy import DEFAULT_ALLOWED, OnViolation, Policy
from customhouse.types import JsonObject

DEFAULT = Policy("tenant:1", DEFAULT_ALLOWED)


def allowing(*names: str) -> Policy:
    return Policy("tenant:1", frozenset(names))


def left(data: Any, policy: Policy = DEFAULT, declaration: Declaration = NOTHING_DECLARED) -> JsonObject:
    return inspect(data, policy, declaration).data


def test_the_example_of_the_data_contract_reads_as_designed() -> None:
    data: Any = {"person": {"person_id": "p_4711", "work_email": "ada@example.com", "phone": "+49 30 23125 123"}}

    result = inspect(data, DEFAULT, NOTHING_DECLARED)

    assert result.data == {"person": {"person_id": "p_4711", "work_email": "ada@example.com"}}
    assert result.contains_pii
    assert result.pii_fields == ("person.work_email",)
    assert result.removed_fields == ("person.phone",)


def test_the_input_is_not_changed() -> None:
    data: Any = {"person": {"person_id": "p_1", "phone": "+49 30 23125 123"}}
    before = json.dumps(data)

    inspect(data, DEFAULT, NOTHING_DECLARED)

    assert json.dumps(data) == before


def test_an_empty_allow_list_lets_no_personal_field_out() -> None:
    assert left({"person": {"person_id": "p_1", "work_email": "ada@example.com"}}, allowing()) == {"person": {"person_id": "p_1"}}


@pytest.mark.parametrize("name", ["work_email", "workEmail", "WorkEmail", "WORK_EMAIL", "work-email", "workemail", "Work Email"])
def test_a_name_is_the_same_in_every_spelling(name: str) -> None:
    assert left({"person": {name: "ada@example.com"}}) == {"person": {name: "ada@example.com"}}


def test_unknown_fields_and_nested_objects_of_a_person_are_removed() -> None:
    data: Any = {"person": {"id": 7, "shoe_size": 44, "nested": {"work_email": "ada@example.com"}, "flag": True, "list": ["x"]}}

    assert left(data) == {"person": {"id": 7}}


@pytest.mark.parametrize("container", ["person", "people", "contacts", "billing_contact", "accountOwner", "Attendees", "cc"])
def test_every_person_container_is_guarded(container: str) -> None:
    assert left({container: [{"x": "Ada"}, {"y_id": "a-1"}]}) == {container: [{}, {"y_id": "a-1"}]}


@pytest.mark.parametrize(
    "value", ["+49 30 23125 123", "ada@example.com +49 30 23125 123", "Ada Lovelace", "Ada <ada@example.com>", 4930, ["Ada"], {"a": 1}]
)
def test_what_is_smuggled_into_an_allowed_field_is_removed(value: Any) -> None:
    expected: Any = {"work_email": type(value)()} if isinstance(value, list | dict) else {}

    assert left({"person": {"work_email": value}}) == {"person": expected}
    assert left(json.loads(json.dumps({"work_email": value}))) in (expected, {"work_email": {"a": 1}})


def test_an_absent_value_of_an_allowed_field_passes_and_is_no_personal_data() -> None:
    result = inspect({"person": {"work_email": None}}, DEFAULT, NOTHING_DECLARED)

    assert result.data == {"person": {"work_email": None}}
    assert not result.contains_pii


@pytest.mark.parametrize(
    "identifier", ["0170-1234567", "ada@example.com", "+491701234567", "a b", "", "x" * 65, 1.5, True, ["p_1"], "DE89370400440532013000"]
)
def test_an_id_that_is_not_opaque_is_removed(identifier: Any) -> None:
    assert left({"person": {"person_id": identifier}}) == {"person": {}}


@pytest.mark.parametrize("name", ["email_id", "phone_id", "apple_id", "passport_id", "national_id", "tax_id", "facebook_id"])
def test_an_id_that_is_a_personal_field_is_removed(name: str) -> None:
    assert left({"person": {name: "x1"}, name: "491701234567"}) == {"person": {}}


@pytest.mark.parametrize("reference", ["u_17", "p-4711", 12, 120, "3", True, None])
def test_an_opaque_reference_or_a_count_may_stand_for_a_person(reference: Any) -> None:
    assert left({"owner": reference}) == {"owner": reference}


@pytest.mark.parametrize("value", ["Ada", "ada-lovelace", "Ada Lovelace 2", "4917012345678", 491701234567, "ada@example.com", 2.5])
def test_a_bare_value_that_could_name_a_person_is_removed(value: Any) -> None:
    assert left({"owner": value, "users": [value, "u_17"]}) == {"users": ["u_17"]}


def test_a_detector_hit_in_a_free_place_is_removed_and_its_neighbours_stay() -> None:
    data: Any = {"note": "call +49 30 23125 123", "tags": ["blue", "ada@example.com", "red"], "status": "paid"}

    result = inspect(data, DEFAULT, NOTHING_DECLARED)

    assert result.data == {"tags": ["blue", "red"], "status": "paid"}
    assert not result.contains_pii
    assert result.removed_fields == ("note", "*.*")


def test_an_allowed_field_in_a_free_place_passes() -> None:
    result = inspect({"work_email": "ada@example.com"}, DEFAULT, NOTHING_DECLARED)

    assert result.pii_fields == ("work_email",)
    assert result.data == {"work_email": "ada@example.com"}


def test_a_number_that_is_a_telephone_by_name_is_removed() -> None:
    assert left({"phone": 491701234567, "mobile": 1701234567, "count": 491701234567}) == {"count": 491701234567}


def test_names_that_only_sound_personal_pass() -> None:
    data: Any = {
        "emails": 12,
        "mobile": "ios",
        "phone": None,
        "user_agent": "curl/8",
        "lead_status": "open",
        "email_count": 3,
        "contacts": 5,
    }

    assert left(data) == data


def test_a_payment_card_written_as_a_number_is_removed() -> None:
    assert left({"n": 4111111111111111, "m": 4111111111111112, "f": 4111111111111111.0}) == {"m": 4111111111111112}


def test_a_key_that_is_personal_data_goes_with_its_value_and_prints_as_a_star() -> None:
    result = inspect({"by_address": {"ada@example.com": 1, "+49 30 23125 123": 2, "total": 3}}, DEFAULT, NOTHING_DECLARED)

    assert result.data == {"by_address": {"total": 3}}
    assert result.removed_fields == ("*.*",)


@pytest.mark.parametrize("key", ["person.phone", "person[nick]", "contact/colour", "customer_phone", "customerCity", "user.name"])
def test_flattened_members_of_a_person_are_guarded(key: str) -> None:
    assert left({key: "4930 2312 5123", "kept": 1}) == {"kept": 1}


def test_stringified_json_is_inspected_as_what_it_holds() -> None:
    clean = json.dumps({"a": [1, 2], "person": {"person_id": "p_1", "work_email": "ada@example.com"}})
    dirty = json.dumps({"a": [1, 2], "person": {"nickname": "Countess"}})
    doubly = json.dumps(json.dumps({"person": {"nickname": "Countess"}}))

    result = inspect({"clean": clean, "dirty": dirty, "doubly": doubly}, DEFAULT, NOTHING_DECLARED)

    assert result.data == {"clean": clean}
    assert result.contains_pii
    assert result.pii_fields == ("*",)


def test_json_that_is_nested_too_deeply_in_strings_is_removed() -> None:
    text = "{}"
    for _ in range(6):
        text = json.dumps({"x": text})

    assert left({"x": text}) == {}


@pytest.mark.parametrize(
    "text",
    [
        '{"person": {"nickname": "Countess"}, "person": {}}',
        'log: {"first_name": "Ada"}',
        "{'contact': {'nick': 'Countess'}}",
        '{"first_name": "Ada"}\n{"first_name": "Bob"}',
        '"\\u007b\\"first_name\\": \\"Ada\\"',
        "https://example.com/?first_name=Ada&x=1",
        "https://example.com/?x=1&customer%5Bphone%5D=12345",
    ],
)
def test_text_that_gives_values_personal_names_is_removed(text: str) -> None:
    assert left({"raw": text}) == {}


def test_a_document_deeper_than_the_walk_is_cut_and_never_an_error() -> None:
    data: Any = {"phone": "+49 30 23125 123"}
    for _ in range(400):
        data = {"x": data}

    result = inspect(data, DEFAULT, NOTHING_DECLARED)

    assert "23125" not in repr(result.data)


def test_a_credential_is_removed_even_where_its_field_is_allowed() -> None:
    token = "gh" + "p_" + "A1b2C3d4E5f6G7h8I9j0K1l2M3n4"

    assert left({"api_key": token, "note": token}, allowing("api_key", "note")) == {}


def test_an_allowed_custom_field_passes_unless_a_detector_knows_better() -> None:
    policy = allowing("favourite_colour")

    result = inspect({"person": {"favourite_colour": "blue"}, "favouriteColour": "call +49 30 23125 123"}, policy, NOTHING_DECLARED)

    assert result.data == {"person": {"favourite_colour": "blue"}}
    assert result.pii_fields == ("person.*",)


def test_an_allowed_object_passes_members_of_its_own_class_only() -> None:
    policy = allowing("address")
    address: Any = {"street": "Long Lane 1", "city": "Springfield", "phone": "+49 30 23125 123", "door_code": "4711"}

    assert left({"customer": {"address": address}}, policy) == {"customer": {"address": {"street": "Long Lane 1", "city": "Springfield"}}}


def test_declared_fields_are_judged_by_their_declared_class() -> None:
    declaration = Declaration({"/callback": "phone", "/rows/*/who": "name", "/notes/*": "other", "/applicant": "person"})
    data: Any = {
        "callback": 4711,
        "rows": [{"who": "Ada", "n": 1}, {"who": "Bob", "n": 2}],
        "notes": {"k": "free text"},
        "applicant": {"x": "Ada", "work_email": "ada@example.com"},
    }

    result = inspect(data, DEFAULT, declaration)

    assert result.data == {"rows": [{"n": 1}, {"n": 2}], "notes": {}, "applicant": {"work_email": "ada@example.com"}}


def test_a_declaration_does_not_widen_what_a_name_means() -> None:
    declaration = Declaration({"/work_email": "other"})

    assert left({"work_email": "call the office"}, DEFAULT, declaration) == {}


def test_an_unknown_declared_class_counts_as_personal() -> None:
    assert left({"mood": "good"}, DEFAULT, Declaration({"/mood": "weather"})) == {}


def test_the_whole_document_may_be_declared_a_person() -> None:
    assert left({"id": "p_1", "colour": "blue"}, DEFAULT, Declaration({"": "person"})) == {"id": "p_1"}


def test_names_that_the_schema_declares_are_printed_and_others_are_not() -> None:
    declaration = Declaration({}, frozenset({"rows", "who"}))

    result = inspect({"rows": [{"who": "ada@example.com", "Ada Lovelace": "ada@example.com"}]}, DEFAULT, declaration)

    assert result.removed_fields == ("rows.*.who", "rows.*.*")


def test_refuse_names_pointers_and_no_values() -> None:
    policy = Policy("tenant:1", DEFAULT_ALLOWED, OnViolation.REFUSE)
    data: Any = {"person": {"phone": "+49 30 23125 123"}, "ada@example.com": 1, "rows": [1, "ada@example.com"]}

    with pytest.raises(PolicyViolation) as refused:
        inspect(data, policy, NOTHING_DECLARED)

    faults = refused.value.faults
    assert [fault.pointer for fault in faults] == ["/person/phone", "/*", "/*/*"]
    shown = repr(faults) + str(refused.value)
    assert "ada" not in shown
    assert "23125" not in shown


def test_refuse_lets_an_event_through_from_which_nothing_would_go() -> None:
    policy = Policy("tenant:1", DEFAULT_ALLOWED, OnViolation.REFUSE)

    assert inspect({"person": {"work_email": "ada@example.com"}}, policy, NOTHING_DECLARED).contains_pii


def test_a_policy_narrows_and_never_widens() -> None:
    tenant = allowing("work_email", "phone")

    narrowed = tenant.narrowed_by(frozenset({"workEmail", "first_name"}), "tenant:1/connection:2")

    assert narrowed.allowed_fields == {"work_email"}
    assert narrowed.version_label == "tenant:1/connection:2"
    assert narrowed.on_violation is tenant.on_violation
    assert tenant.narrowed_by(frozenset(), "none").allowed_fields == frozenset()
