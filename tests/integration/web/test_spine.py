"""Publish over HTTP, from the first call to the delivery."""

from __future__ import annotations

import pytest

from tests.integration.web.conftest import Api
from tests.receivers import Recorder

pytestmark = pytest.mark.anyio


async def test_an_event_published_over_http_reaches_its_endpoint(acme: Api, receiver: Recorder) -> None:
    made = await acme("POST", "/v1/connections", {"provider": "webhook", "url": receiver.url("/hook")})
    assert made.status_code == 201, made.text
    assert made.json()["secrets"]["signing"]["secret"]

    answer = await acme("POST", "/v1/events", {"event_type": "invoice.paid", "data": {"amount": 12}})

    assert answer.status_code == 202, answer.text
    assert answer.json()["duplicate"] is False
    [delivery] = answer.json()["deliveries"]
    assert delivery["connection_id"] == made.json()["connection_id"]
    [request] = await receiver.wait_for(1)
    assert request.headers["x-queast-signature"].startswith("v1=")
