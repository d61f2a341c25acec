"""The receiver reads the same vectors as the signer: genuine ones pass, each defect has its refusal."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from customhouse_receiver import Event, MemoryReplayCache, Reason, Receiver, WebhookRejected

VECTORS = sorted((Path(__file__).parents[2] / "vectors" / "signatures").glob("*.json"))


def verify(vector: dict[str, Any]) -> Event:
    receiver = Receiver(
        vector["secrets"],
        replay=MemoryReplayCache(),
        header_prefix=vector["header_prefix"],
        tolerance=vector["tolerance"],
        clock=lambda: vector["now"],
    )
    return receiver.verify([(name, value) for name, value in vector["headers"]], base64.b64decode(vector["body_base64"]))


def outcome(vector: dict[str, Any]) -> str:
    try:
        verify(vector)
    except WebhookRejected as rejected:
        return rejected.reason.value
    return "genuine"


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_each_vector_ends_as_it_says(path: Path) -> None:
    vector = json.loads(path.read_text())
    assert outcome(vector) == vector["expect"]


@pytest.mark.parametrize("path", [path for path in VECTORS if "key_id" in json.loads(path.read_text())], ids=lambda path: path.stem)
def test_a_genuine_vector_names_the_key_that_made_it(path: Path) -> None:
    vector = json.loads(path.read_text())
    assert verify(vector).key_id == vector["key_id"]


def test_every_refusal_that_a_request_alone_can_cause_has_a_vector() -> None:
    by_state = {Reason.REPLAYED, Reason.IN_PROGRESS, Reason.REPLAY_UNAVAILABLE}
    by_size_or_type = {Reason.BODY_TOO_LARGE, Reason.BODY_NOT_BYTES}
    seen = {json.loads(path.read_text())["expect"] for path in VECTORS}
    assert seen == {"genuine", *(reason.value for reason in set(Reason) - by_state - by_size_or_type)}
