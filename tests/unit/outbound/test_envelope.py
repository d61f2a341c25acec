"""The envelope: built once, assembled per connection, valid against its published schema, byte-identical each time."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import jsonschema_rs
from hypothesis import given
from hypothesis import strategies as st

from customhouse.canonical import parse_object
from customhouse.outbound.envelope import JSON_SCHEMA, SCHEMA_VERSION, assemble, build, integration_of
from customhouse.types import TenantId
from tests.unit.test_canonical import text, values

validator = jsonschema_rs.Draft202012Validator(JSON_SCHEMA, validate_formats=True)
word = st.from_regex(r"[A-Za-z0-9_:-]{1,64}", fullmatch=True)
envelopes = st.fixed_dictionaries(
    {
        "event_id": word,
        "event_type": word,
        "occurred_at": st.datetimes(timezones=st.just(UTC)),
        "tenant": word.map(TenantId),
        "idempotency_key": word,
        "correlation_id": word,
        "privacy": st.fixed_dictionaries(
            {
                "contains_pii": st.booleans(),
                "pii_fields": st.lists(text, max_size=3),
                "removed_fields": st.lists(text, max_size=3),
                "policy": text,
            }
        ),
        "data": st.dictionaries(text, values, max_size=4),
    }
)


@given(envelopes, word, st.sampled_from(["webhook", "zoom"]))
def test_every_body_is_json_that_says_what_was_given_and_fits_the_published_schema(made: dict[str, Any], shown: str, provider: str) -> None:
    body = assemble(build(**made), integration_of(shown, provider))
    said = parse_object(body)
    assert list(said) == list(JSON_SCHEMA["required"])  # type: ignore[arg-type]
    assert said["schema_version"] == SCHEMA_VERSION
    assert said["event_id"] == made["event_id"]
    assert said["event_type"] == made["event_type"]
    assert said["tenant_id"] == made["tenant"]
    assert said["idempotency_key"] == made["idempotency_key"]
    assert said["integration"] == {"connection_id": shown, "provider": provider}
    assert said["trace"] == {"correlation_id": made["correlation_id"]}
    assert said["privacy"] == made["privacy"]
    assert said["data"] == made["data"]
    assert datetime.fromisoformat(str(said["occurred_at"])) == made["occurred_at"]
    assert validator.is_valid(said)


@given(envelopes, word)
def test_the_same_event_gives_the_same_bytes_each_time(made: dict[str, Any], shown: str) -> None:
    first, again = build(**made), build(**made)
    assert first == again
    assert assemble(first, integration_of(shown, "webhook")) == assemble(again, integration_of(shown, "webhook"))


@given(envelopes, word, word)
def test_two_connections_get_the_same_event_but_for_who_they_are(made: dict[str, Any], one: str, other: str) -> None:
    variant = build(**made)
    bodies = [json.loads(assemble(variant, integration_of(shown, "webhook"))) for shown in (one, other)]
    assert [body.pop("integration")["connection_id"] for body in bodies] == [one, other]
    assert bodies[0] == bodies[1]


def test_the_bytes_are_these() -> None:
    variant = build(
        event_id="evt_1",
        event_type="person.updated",
        occurred_at=datetime(2026, 11, 22, 9, 30, tzinfo=UTC),
        tenant=TenantId("acme"),
        idempotency_key="crm-sync-4711",
        correlation_id="c-1",
        privacy={"contains_pii": False, "pii_fields": [], "removed_fields": ["person.phone"], "policy": "tenant:3"},
        data={"person": {"name": "Zoë"}, "n": 1.5},
    )
    assert assemble(variant, integration_of("con_1", "webhook")).decode() == (
        '{"schema_version":"1.0","event_id":"evt_1","event_type":"person.updated","occurred_at":"2026-11-22T09:30:00Z","tenant_id":"acme",'
        '"idempotency_key":"crm-sync-4711","integration":{"connection_id":"con_1","provider":"webhook"},"trace":{"correlation_id":"c-1"},'
        '"privacy":{"contains_pii":false,"pii_fields":[],"removed_fields":["person.phone"],"policy":"tenant:3"},'
        '"data":{"person":{"name":"Zoë"},"n":1.5}}'
    )
