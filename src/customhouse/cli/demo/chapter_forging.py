"""Somebody has captured a genuine request, and tries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from customhouse.cli.demo.processes import Seen
from customhouse.cli.demo.scene import Scene
from customhouse.cli.demo.stage import Stage
from customhouse.cli.loopback import send
from customhouse.clock import SystemClock
from customhouse_receiver.testing import headers as signed

TITLE: Final = "A captured request, sent again and altered"
_STALE: Final = "timestamp_outside_tolerance"
_BEYOND: Final = 310
"""Seconds; more than the 300 that the receiver tolerates."""


async def tell(stage: Stage, scene: Scene) -> None:
    """Send what an attacker could send, straight to the receiver."""
    stage.chapter(TITLE)
    captured = next(one for one in scene.receiver.seen if one.event is not None)
    genuine = dict(captured.headers)
    now = int(SystemClock().now().timestamp())
    before = scene.receiver.verified()
    stranger = "whsec_" + "A" * 43 + "="
    for what, headers, body, expected in (
        ("the same request again", genuine, captured.body, "replayed"),
        ("one byte of the body changed", genuine, captured.body.replace(b"p_0", b"p_9", 1), "signature_mismatch"),
        ("signed with another secret", genuine | _sign(scene, captured, now, stranger), captured.body, "signature_mismatch"),
        ("genuinely signed, but five minutes ago", genuine | _sign(scene, captured, now - _BEYOND), captured.body, _STALE),
        ("genuinely signed, but from the future", genuine | _sign(scene, captured, now + _BEYOND), captured.body, _STALE),
        ("without a signature", _without(genuine, "x-queast-signature"), captured.body, "missing_header"),
    ):
        answer = await send(scene.receiver.port, "POST", "/hooks/customhouse", _sendable(headers), body)
        reason = str(answer.json().get("reason", "")) if answer.body else "taken"
        stage.claim(f"{what}: refused ({expected})", answer.status == 401 and reason == expected)  # noqa: PLR2004
    # In the same second the signature would be the same bytes, and the request a replay.
    again = _sendable(genuine | _sign(scene, captured, now + 1))
    retry = await send(scene.receiver.port, "POST", "/hooks/customhouse", again, captured.body)
    stage.claim(
        "the sender's own retry (freshly signed) is acknowledged as a duplicate and not worked on again",
        retry.status == 200 and retry.json() == {"duplicate": True},  # noqa: PLR2004
    )
    stage.claim("nothing of all this reached the customer's code", scene.receiver.verified() == before)


def _sign(scene: Scene, captured: Seen, timestamp: int, secret: str | None = None) -> dict[str, str]:
    made = signed(captured.body, timestamp, secret=secret or scene.secret.reveal().decode(), key_id=scene.key_id)
    return {name.lower(): value for name, value in made.items()}


def _without(headers: Mapping[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in headers.items() if key != name}


def _sendable(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the headers without those that belong to one connection alone."""
    return [(name, value) for name, value in headers.items() if name not in {"host", "content-length", "connection"}]
