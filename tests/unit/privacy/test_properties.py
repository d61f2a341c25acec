"""What holds for every document and every policy."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from customhouse.errors import PolicyViolation
from customhouse.privacy import keys
from customhouse.privacy.classes import PiiClass
from customhouse.privacy.declaration import NOTHING_DECLARED, Declaration
from customhouse.privacy.detectors import detect
from customhouse.privacy.fields import KNOWN_FIELDS, PERSON_CONTAINERS, PERSON_FIELDS
from customhouse.privacy.inspect import inspect
from customhouse.privacy.keys import read_key
from customhouse.privacy.policy import DEFAULT_ALLOWED, OnViolation, Policy
from customhouse.privacy.survey import survey
from customhouse.privacy.walk import walk

PERSONAL = st.sampled_from(
    [
        "ada@example.com",
        "+49 30 23125 123",
        "192.0.2.17",
        "4111 1111 1111 1111",
        "DE89370400440532013000",
        "Ada",
        "ada",
        "u_17",
        "?phone=1234",
    ]
)
KEYS = st.one_of(
    st.sampled_from([*sorted(PERSON_CONTAINERS)[::9], "person", "customers"]),
    st.sampled_from([*sorted(KNOWN_FIELDS)[::7], *sorted(PERSON_FIELDS)[::7], "work_email", "phone", "person.nick", "customer_city"]),
    st.sampled_from(["id", "person_id", "note", "rows", "total", "version", "e_mail_id"]),
    PERSONAL,
    st.text(max_size=8),
)
PLAIN_NAMES = ["note", "rows", "total", "version", "sku", "lines"]
PLAIN = st.sampled_from(PLAIN_NAMES)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    PERSONAL,
    st.builds(lambda key, value: json.dumps({key: value}), KEYS, PERSONAL),
)
DOCUMENTS: st.SearchStrategy[Any] = st.dictionaries(
    KEYS,
    st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12),
    max_size=5,
)
NAMES = st.frozensets(
    st.sampled_from(["work_email", "phone", "first_name", "address", "name", "ip", "colour", "iban", "api_key", "id"]), max_size=5
)
POINTERS = st.dictionaries(
    st.sampled_from(["", "/person", "/rows/*", "/*/note", "/total", "/rows/0/id", "/note"]), st.sampled_from([*PiiClass, "x"]), max_size=2
)
many = settings(max_examples=150, derandomize=True, deadline=None)


def is_within(part: Any, whole: Any) -> bool:
    """Tell whether a document is another one with members and items taken out."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(key in whole and is_within(value, whole[key]) for key, value in part.items())
    if isinstance(part, list) and isinstance(whole, list):
        rest = iter(whole)
        return all(any(is_within(item, other) for other in rest) for item in part)
    return type(part) is type(whole) and part == whole


def strings_of(node: Any, name: str = "") -> list[tuple[str, str]]:
    if isinstance(node, dict):
        return [("", key) for key in node] + [found for key, value in node.items() for found in strings_of(value, key)]
    if isinstance(node, list):
        return [found for item in node for found in strings_of(item, name)]
    return [(name, node)] if isinstance(node, str) else []


@given(DOCUMENTS, NAMES, POINTERS)
@many
def test_the_result_is_a_part_of_the_input_and_inspecting_it_again_removes_nothing(
    data: Any, names: frozenset[str], pointers: dict[str, str]
) -> None:
    policy, declaration = Policy("tenant:1", names), Declaration(pointers)
    before = json.dumps(data)

    once = inspect(data, policy, declaration)
    twice = inspect(once.data, policy, declaration)

    assert is_within(once.data, data)
    assert json.dumps(data) == before
    assert twice.data == once.data
    assert twice.removed_fields == ()
    assert twice.pii_fields == once.pii_fields
    assert once.contains_pii == bool(once.pii_fields)


@given(DOCUMENTS)
@many
def test_with_an_empty_allow_list_no_detector_finds_anything_in_what_is_left(data: Any) -> None:
    result = inspect(data, Policy("tenant:1", frozenset()), NOTHING_DECLARED)

    assert not result.contains_pii
    for name, text in strings_of(result.data):
        if text[:1] not in ('"', "{", "["):
            assert detect(text, neutral=name == "version") == ()


@given(DOCUMENTS, NAMES, NAMES)
@example({"rows": [{"work_email": 0}]}, frozenset({"work_email"}), frozenset())
@many
def test_a_narrower_policy_lets_out_a_part_of_what_the_wider_one_does(data: Any, wide: frozenset[str], other: frozenset[str]) -> None:
    """But for what is no personal data and stands where some is expected: `{"emails": 12}`. An allowed field holds nothing else."""
    policy = Policy("tenant:1", wide)
    narrow = policy.narrowed_by(other, "tenant:1/connection:1")

    assert narrow.allowed_fields <= policy.allowed_fields
    less, more = inspect(data, narrow, NOTHING_DECLARED), inspect(data, policy, NOTHING_DECLARED)
    assert set(less.pii_fields) <= set(more.pii_fields)
    assert is_within(inspect(less.data, policy, NOTHING_DECLARED).data, more.data)


@given(DOCUMENTS, POINTERS)
@many
def test_refuse_refuses_just_what_remove_would_change(data: Any, pointers: dict[str, str]) -> None:
    declaration = Declaration(pointers)
    removed = inspect(data, Policy("tenant:1", DEFAULT_ALLOWED), declaration).removed_fields
    refusing = Policy("tenant:1", DEFAULT_ALLOWED, OnViolation.REFUSE)
    if removed:
        with pytest.raises(PolicyViolation) as refused:
            inspect(data, refusing, declaration)
        assert refused.value.faults
    else:
        assert inspect(data, refusing, declaration).removed_fields == ()


@given(DOCUMENTS)
@many
def test_the_metadata_prints_only_names_of_the_closed_lists(data: Any) -> None:
    result = inspect(data, Policy("tenant:1", DEFAULT_ALLOWED), NOTHING_DECLARED)

    for path in result.pii_fields + result.removed_fields:
        assert "@" not in path
        assert "23125" not in path
        assert "Ada" not in path


@given(st.dictionaries(st.text(max_size=12), st.text(max_size=12), max_size=4))
@many
def test_any_declaration_is_taken_or_judged_personal(pii: dict[str, str]) -> None:
    declaration = Declaration(pii)

    assert inspect({"a": 1}, Policy("tenant:1", DEFAULT_ALLOWED), declaration).data in ({"a": 1}, {})


@given(DOCUMENTS, NAMES, POINTERS)
@many
def test_the_survey_changes_nothing_of_what_the_walk_finds(data: Any, names: frozenset[str], pointers: dict[str, str]) -> None:
    root, allowed = Declaration(pointers).root, Policy("tenant:1", names).allowed_fields

    without = walk(data, allowed, root)
    for _ in range(2):
        # The second time, the survey knows the keys.
        assert walk(data, allowed, root, survey(data)) == without


ROWS: st.SearchStrategy[Any] = st.lists(
    st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(PLAIN, inner, max_size=4), max_leaves=12)
)


FEW_KEYS = st.sampled_from(["note", "rows", "version", "person", "phone", "email", "colour"])
SMALL: st.SearchStrategy[Any] = st.dictionaries(
    FEW_KEYS,
    st.recursive(
        st.sampled_from(["ada@example.com", "192.0.2.17", "blue", 1, 4111111111111111]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FEW_KEYS, inner, max_size=4),
        max_leaves=12,
    ),
)


@given(SMALL, st.lists(FEW_KEYS), NAMES)
@many
def test_whatever_keys_are_known_beforehand_the_survey_changes_nothing(data: Any, learned: list[str], names: frozenset[str]) -> None:
    allowed = Policy("tenant:1", names).allowed_fields
    without = walk(data, allowed, NOTHING_DECLARED.root)
    keys._keys.clear()
    keys.PLAIN_KEYS.clear()
    for key in learned:
        read_key(key)

    assert walk(data, allowed, NOTHING_DECLARED.root, survey(data)) == without


@given(ROWS)
@many
def test_in_what_the_survey_calls_plain_the_walk_finds_nothing(rows: Any) -> None:
    for key in PLAIN_NAMES:
        read_key(key)
    data: Any = {"rows": rows, "lines": [{"note": "kept"}]}
    seen = survey(data)

    parts = [data, rows, *rows, data["lines"]]
    for part in parts:
        if id(part) in seen.plain:
            assert walk({"note": part}, frozenset(), NOTHING_DECLARED.root) == ({"note": part}, [])
    assert {id(part) for part in parts if isinstance(part, dict | list)} & seen.plain


@pytest.mark.parametrize(
    ("data", "pointers", "removed"),
    [
        ({"rows": [{"note": "blue"}]}, {"/rows/*/note": "name"}, ("*.*.note",)),
        ({"rows": [{"note": "blue"}], "person": {}}, {"/rows/*/note": "name"}, ("*.*.note",)),
        ({"note": "blue"}, {"/*": "name"}, ("note",)),
        ({"note": "blue"}, {"": "other"}, ("note",)),
        ({"lines": {"note": {"total": 1}}}, {"/lines/note": "person"}, ("*.note.*",)),
    ],
)
def test_what_is_declared_below_a_plain_part_is_removed(data: Any, pointers: dict[str, str], removed: tuple[str, ...]) -> None:
    for key in PLAIN_NAMES:
        read_key(key)

    assert inspect(data, Policy("tenant:1", frozenset()), Declaration(pointers)).removed_fields == removed


def test_a_name_of_the_tenants_own_is_counted_where_nothing_else_is_personal() -> None:
    read_key("colour")
    policy = Policy("tenant:1", frozenset({"colour"}))

    assert inspect({"colour": "blue"}, policy, NOTHING_DECLARED).pii_fields == ("*",)
    assert not inspect({"colour": "blue"}, Policy("tenant:1", frozenset()), NOTHING_DECLARED).contains_pii


@pytest.mark.parametrize(
    "text", ['{"phone"          : "12345"}', '"Ada L."', "[[[[[[1]]]]]]", ' {"rows": [1]}', "?first_name=Ada", "ada@example.com"]
)
def test_a_string_that_is_read_as_something_else_is_never_plain(text: str) -> None:
    for key in PLAIN_NAMES:
        read_key(key)
    part: Any = {"note": text}
    for beside in ([], [text], ["call +49 30 23125 123"]):
        data: Any = {"rows": [part, *beside], "person": {}}

        assert not {id(data), id(data["rows"]), id(part)} & survey(data).plain


def test_a_key_that_is_learned_on_the_way_was_not_surveyed() -> None:
    read_key("rows")
    fresh = "grommetcount"
    data: Any = {"email": {fresh: 1}, "rows": {"person": "u_1", fresh: "ada@example.com"}, "person": {}}

    result = inspect(data, Policy("tenant:1", DEFAULT_ALLOWED), NOTHING_DECLARED)

    assert result.data["rows"] == {"person": "u_1"}


@pytest.mark.parametrize("size", [2, 500])
def test_one_telling_string_among_many_parts_is_found_where_it_stands(size: int) -> None:
    data: Any = {
        "rows": [{"note": "packed in the usual way", "sku": f"SKU-{number:04}"} for number in range(size)],
        "person": {"id": "p_1"},
    }
    data["rows"][1]["note"] = "call +49 30 23125 123"
    policy = Policy("tenant:1", DEFAULT_ALLOWED)
    for _ in range(2):
        result = inspect(data, policy, NOTHING_DECLARED)

        assert result.removed_fields == ("*.*.note",)
        assert result.data["rows"] == [row if number != 1 else {"sku": "SKU-0001"} for number, row in enumerate(data["rows"])]


def test_of_very_many_strings_that_need_a_second_look_the_telling_one_is_still_found() -> None:
    for key in PLAIN_NAMES:
        read_key(key)
    rows = [{"note": f"https://track.example.com/parcels/{number}", "sku": "blue"} for number in range(300)]
    data: Any = {"rows": rows, "lines": {"note": "kept"}}
    rows[7]["note"] = "call +49 30 23125 123"

    result = inspect(data, Policy("tenant:1", DEFAULT_ALLOWED), NOTHING_DECLARED)

    assert result.data == {"rows": [row if number != 7 else {"sku": "blue"} for number, row in enumerate(rows)], "lines": {"note": "kept"}}


def test_no_number_of_keys_fills_the_memory() -> None:
    for number in range(5000):
        read_key("k" + "".join(chr(97 + int(digit)) for digit in str(number)))
    assert len(keys._keys) <= 4096
    assert keys._keys.keys() >= keys.PLAIN_KEYS


@pytest.mark.parametrize("strange", [b"ada@example.com", ("ada@example.com",), object()])
def test_what_json_cannot_say_is_never_plain(strange: Any) -> None:
    read_key("rows")
    data: Any = {"rows": [strange]}

    assert not survey(data).plain
