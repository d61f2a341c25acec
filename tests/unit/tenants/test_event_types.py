"""Event types: schemas that stand by themselves and run in linear time, faults that repeat no value."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from customhouse.errors import Invalid
from customhouse.privacy.classes import CLASS_NAMES
from customhouse.tenants.event_types import Checker, _check
from tests.unit.test_canonical import values

PERSON: dict[str, Any] = {
    "type": "object",
    "required": ["person"],
    "properties": {
        "person": {
            "type": "object",
            "properties": {"work_email": {"type": "string", "format": "email"}, "tags": {"type": "array", "items": {"type": "string"}}},
            "additionalProperties": {"type": "integer"},
        }
    },
}


def register(name: str, schema: dict[str, Any] | None, pii: dict[str, str], description: str = "") -> None:
    """Check a declaration as `EventTypes.register` does before it opens a transaction."""
    _check(name, description, schema, pii)
    Checker(schema, pii)


def test_data_that_fits_passes_and_other_data_is_refused_by_place_and_keyword() -> None:
    checker = Checker(PERSON, {})
    checker.check({"person": {"work_email": "ada@example.com", "tags": ["a"], "age": 3}})
    wrong: dict[str, Any] = {"person": {"work_email": "ada", "tags": ["a", 7], "ada@example.com": "secret"}}
    with pytest.raises(Invalid) as refused:
        checker.check(wrong)
    said = {(fault.pointer, fault.detail) for fault in refused.value.faults}
    assert {pointer for pointer, _ in said} == {"/data/person/work_email", "/data/person/tags/1", "/data/person/*"}
    # A name that nobody declared can be somebody's address.
    assert "ada" not in repr(said)
    assert "secret" not in repr(said)


@given(st.dictionaries(st.text(max_size=6), values, max_size=3))
def test_whatever_does_not_fit_its_value_is_not_repeated(data: dict[str, Any]) -> None:
    marked: dict[str, Any] = {"person": {"work_email": 12345.678, **{f"MARK{key}": f"MARK{value!r}" for key, value in data.items()}}}
    with pytest.raises(Invalid) as refused:
        Checker(PERSON, {}).check(marked)
    assert 1 <= len(refused.value.faults) <= 20
    assert "MARK" not in repr(refused.value.faults)
    assert "12345" not in repr(refused.value.faults)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "https://schemas.example.com/person.json"},
        {"$ref": "http://169.254.169.254/latest/meta-data/"},
        {"$ref": "file:///etc/passwd"},
        {"properties": {"a": {"$ref": "other.json"}}},
        {"allOf": [{"$dynamicRef": "https://schemas.example.com/x#y"}]},
    ],
)
def test_what_lies_outside_a_schema_is_not_fetched(schema: dict[str, Any]) -> None:
    started = time.perf_counter()
    with pytest.raises(Invalid) as refused:
        Checker(schema, {})
    assert time.perf_counter() - started < 1
    assert [fault.pointer for fault in refused.value.faults] == ["/schema"]


def test_a_schema_may_refer_to_itself() -> None:
    tree: dict[str, Any] = {"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "additionalProperties": {"$ref": "#/$defs/node"}}}}
    checker = Checker(tree, {})
    checker.check({"a": {"b": {}}})
    with pytest.raises(Invalid):
        checker.check({"a": {"b": 1}})


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|a)*$", r"^(\w+\s?)*$", "^(a?){50}a{50}$"])
def test_a_pattern_made_to_hang_costs_nothing(pattern: str) -> None:
    started = time.perf_counter()
    checker = Checker({"properties": {"x": {"type": "string", "pattern": pattern}}}, {})
    with pytest.raises(Invalid):
        checker.check({"x": "a" * 100_000 + "!"})
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize("pattern", ["(", "(?=a)b", r"(a)\1", "(?<!a)b"])
def test_a_pattern_that_cannot_run_in_linear_time_is_refused(pattern: str) -> None:
    with pytest.raises(Invalid):
        Checker({"properties": {"x": {"type": "string", "pattern": pattern}}}, {})


@pytest.mark.parametrize("schema", [{"type": "strang"}, {"properties": []}, {"required": "x"}, {"minimum": "1"}])
def test_what_is_no_schema_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        Checker(schema, {})


@pytest.mark.parametrize(
    ("name", "pii", "pointers"),
    [
        ("", {}, ["/event_type"]),
        ("a b", {}, ["/event_type"]),
        ("customhouse.ping", {}, ["/event_type"]),
        ("x" * 129, {}, ["/event_type"]),
        ("a", {"person": "phone"}, ["/pii"]),
        ("a", {"/person/~2": "phone"}, ["/pii"]),
        ("a", {"/person/phone": "telefon"}, ["/pii"]),
        ("a", {f"/f{number}": "phone" for number in range(201)}, ["/pii"]),
    ],
)
def test_a_declaration_that_says_nothing_is_refused(name: str, pii: dict[str, str], pointers: list[str]) -> None:
    with pytest.raises(Invalid) as refused:
        register(name, None, pii)
    assert [fault.pointer for fault in refused.value.faults] == pointers


def test_every_class_can_be_declared_and_a_schema_has_a_size() -> None:
    register("a", {"type": "object"}, {f"/f/{name}": name for name in CLASS_NAMES})
    with pytest.raises(Invalid) as refused:
        register("a", {"description": "x" * 70_000}, {})
    assert [fault.pointer for fault in refused.value.faults] == ["/schema"]


@pytest.mark.parametrize(
    ("pointer", "declared"),
    [
        ("/event_type", ("4111111111111111", None, {})),
        ("/event_type", ("004915112345678", None, {})),
        ("/pii", ("person.updated", None, {"/person/ada@example.com": "phone"})),
        ("/schema", ("person.updated", {"properties": {"person": {"properties": {"ada@example.com": {}}}}}, {})),
        ("/description", ("person.updated", None, {}, "ask ada@example.com")),
        ("/description", ("person.updated", None, {}, "with whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")),
        ("/description", ("person.updated", None, {}, "\x1b[31mred")),
    ],
)
def test_what_looks_like_personal_data_or_a_secret_is_no_part_of_a_declaration(pointer: str, declared: Any) -> None:
    with pytest.raises(Invalid) as refused:
        register(*declared)
    assert [fault.pointer for fault in refused.value.faults] == [pointer]
    assert "ada" not in repr(refused.value.faults)


def test_a_description_may_have_lines_and_letters_of_any_script() -> None:
    register("person.updated", None, {}, "A person changed.\n\tشخص تغيّر می‌شود 人が変わった")
