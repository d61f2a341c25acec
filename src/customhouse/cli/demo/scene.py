"""What the chapters share: the processes, the keys, and what was published so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from customhouse.cli.demo.processes import ReceiverProcess, Service
from customhouse.cli.loopback import Api
from customhouse.types import Json, Secret
from customhouse_sandbox import Sandbox

PHONE: Final = "+49 151 23456789"
PERSONAL_EMAIL: Final = "ada.at.home@example.org"
WORK_EMAIL: Final = "ada@acme.example"
"""Example domains (RFC 2606) and a number that nobody has."""


@dataclass(slots=True)
class Scene:
    """A running service with a tenant, and a customer's receiver that is connected to it."""

    service: Service
    receiver: ReceiverProcess
    platform: Api
    """As the operator."""
    acme: Api
    """As the tenant `acme`."""
    acme_key: Secret
    connection_id: str
    key_id: str
    secret: Secret
    """The signing secret, as the customer was shown it once."""
    sandbox: Sandbox
    """The providers' stand-ins."""
    by_hand: bool = False
    """Whether somebody presses the buttons of the consent page."""
    zoom_id: str = ""
    """The connection of Ada's Zoom account, once it is there."""
    published: list[str] = field(default_factory=list)
    """Event ids of acme."""

    async def publish(self, number: int) -> tuple[int, dict[str, Json]]:
        """Publish that a person changed; returns the status and the answer."""
        answer = await self.acme.post("/v1/events", person_updated(number))
        said = answer.json()
        if not answer.refused:
            self.published.append(str(said["event_id"]))
        return answer.status, said

    async def statuses(self, event_ids: list[str]) -> dict[str, str]:
        """Return the status of each of these events' one delivery, as the API tells it."""
        found: dict[str, str] = {}
        page = (await self.acme.get("/v1/deliveries", connection_id=self.connection_id, limit=200)).json()
        for delivery in page.get("data", []):
            if delivery["event_id"] in event_ids:
                found[delivery["event_id"]] = delivery["status"]
        return found


def person_updated(number: int) -> dict[str, Json]:
    """Return an event about a person, with a phone number and a private address that must not leave."""
    return {
        "event_type": "person.updated",
        "event_id": f"demo-{number:03}",
        "data": {
            "person": {
                "person_id": f"p_{number:03}",
                "work_email": WORK_EMAIL,
                "phone": PHONE,
                "personal_email": PERSONAL_EMAIL,
            },
            "change": {"field": "title", "source": "crm"},
        },
    }
