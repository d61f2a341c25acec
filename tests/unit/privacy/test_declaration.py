"""What an event type may declare, and which of its names become printable."""

from typing import Any

import pytest

from customhouse.errors import Invalid
from customhouse.privacy.declaration import declare

SCHEMA: Any = {
    "type": "object",
    "properties": {"rows": {"type": "array", "items": {"$ref": "#/$defs/row"}}, "total": {"type": "number"}},
    "patternProperties": {"^x": {"properties": {"extra": {}}}},
    "allOf": [{"properties": {"kind": {"enum": ["a"]}}}],
    "$defs": {"row": {"properties": {"who": {"type": "string"}}, "additionalProperties": {"properties": {"deep": True}}}},
    "examples": [{"properties": {"not_a_property": 1}}],
}


def test_every_declared_property_name_is_printable_and_examples_are_not() -> None:
    declaration = declare({"/rows/*/who": "name"}, SCHEMA)

    assert declaration.named_segments == {"rows", "total", "extra", "kind", "who", "deep"}
    assert declaration.fields == {"/rows/*/who": "name"}


@pytest.mark.parametrize("pointer", ["person", "person/phone", "#/person", "/a~2b", "/a~", "/" + "x" * 600])
def test_what_is_no_json_pointer_is_refused(pointer: str) -> None:
    with pytest.raises(Invalid) as refused:
        declare({pointer: "phone"}, {})

    assert [fault.pointer for fault in refused.value.faults] == ["/pii"]


def test_an_unknown_class_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(Invalid) as refused:
        declare({"/a": "phone", "/b": "weather"}, {})

    assert "member 2" in refused.value.faults[0].detail
    assert "date_of_birth" in refused.value.faults[0].detail


def test_escaped_pointers_reach_their_members() -> None:
    declaration = declare({"/a~1b/c~0d": "phone"}, {})

    node = declaration.root.children["a/b"].children["c~d"]
    assert node.pii_class == "phone"


def test_a_schema_that_is_nested_without_end_is_read_to_a_limit() -> None:
    schema: Any = {}
    for _ in range(2000):
        schema = {"properties": {"x": schema}}

    assert declare({}, schema).named_segments == {"x"}
