"""`customhouse send`: publish one event over HTTP, as the host application does, and show what becomes of it."""

from __future__ import annotations

import os
import re
import socket
import ssl
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from customhouse import ids
from customhouse.cli.options import AsJson, Dev, aside, say_json
from customhouse.cli.remote import (
    Base,
    NotReached,
    Refused,
    Remote,
    base_of,
    base_of_settings,
    key_of,
    key_of_file,
    key_of_settings,
    read_object,
)
from customhouse.config import DEV_DEFAULTS, from_environment
from customhouse.errors import SettingsError
from customhouse.types import JsonObject, Secret

_ENDED: Final = frozenset({"delivered", "failed", "cancelled", "expired"})
_KEY: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_LARGEST_DATA: Final = 16 * 1024 * 1024
_TRIES: Final = 5
_LONGEST_PAUSE: Final = 5
_BUSY: Final = frozenset({429, 503})
_NEVER_SENT: Final = (ConnectionRefusedError, socket.gaierror, ssl.SSLCertVerificationError)
_FIRST_LOOK: Final = 0.05
_LAST_LOOK: Final = 1.0


def send(
    event_type: Annotated[str, typer.Argument(help="Such as order.created.")],
    data: Annotated[str | None, typer.Argument(help="The data, a JSON object.", show_default=False)] = None,
    data_file: Annotated[
        str | None, typer.Option("--data-file", metavar="FILE", help="Read the data from a file instead; - for standard input.")
    ] = None,
    tenant: Annotated[
        str | None, typer.Option("--tenant", metavar="TENANT_ID", help="Whose event it is; needed with a platform key.")
    ] = None,
    idempotency_key: Annotated[
        str | None, typer.Option("--idempotency-key", metavar="KEY", help="The same key makes the same event only once. Unset: a new one.")
    ] = None,
    event_id: Annotated[str | None, typer.Option("--event-id", metavar="ID", help="Your own id of the event.")] = None,
    ordering_key: Annotated[
        str | None, typer.Option("--ordering-key", metavar="KEY", help="Events of one key arrive one after the other.")
    ] = None,
    correlation_id: Annotated[str | None, typer.Option("--correlation-id", metavar="ID", help="Travels with the event.")] = None,
    connection: Annotated[
        list[str] | None, typer.Option("--connection", metavar="CONNECTION_ID", help="Only to this one; may be repeated.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Show how each delivery ends. Exit code 1 where one did not arrive.")] = False,
    within: Annotated[float, typer.Option(min=1, max=86400, help="Seconds to wait at most.")] = 60.0,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="Where the service is. Unset: on this machine, at LISTEN.", show_default=False)
    ] = None,
    key_file: Annotated[Path | None, typer.Option("--key-file", metavar="FILE", help="A file that holds the API key.")] = None,
    key_env: Annotated[
        str | None,
        typer.Option(
            "--key-env", metavar="NAME", help="An environment variable that holds it. Neither: PLATFORM_KEY, or the one in DATA_DIR."
        ),
    ] = None,
    dev: Dev = False,
    as_json: AsJson = False,
) -> None:
    """Publish an event, and with --wait show what becomes of its deliveries.

    The service has to run; it is called as your application calls it. A call that finds it busy, or gets no answer, is repeated under
    the same idempotency key, so there is one event at most.
    """
    if idempotency_key is not None and not _KEY.fullmatch(idempotency_key):
        raise typer.BadParameter("1-128 characters of A-Z a-z 0-9 _ . : -", param_hint="--idempotency-key")
    body: JsonObject = {"event_type": event_type, "data": _data(data, data_file)}
    more = {"tenant_id": tenant, "event_id": event_id, "ordering_key": ordering_key, "correlation_id": correlation_id}
    body |= {name: value for name, value in more.items() if value is not None}
    if connection:
        body["connection_ids"] = [*connection]
    remote = _remote(url, key_file, key_env, dev=dev)
    accepted = _publish(remote, body, idempotency_key or f"send_{ids.show('evt', ids.new()).removeprefix('evt_')}")
    deliveries = accepted["deliveries"]
    if not as_json:
        _tell(accepted)
    if wait:
        deliveries = _follow(remote, [one["delivery_id"] for one in deliveries], tenant, within, quiet=as_json)
    if as_json:
        say_json({**accepted, "deliveries": deliveries})
    if wait and any(one["status"] != "delivered" for one in deliveries):
        raise typer.Exit(1)


def _data(text: str | None, source: str | None) -> JsonObject:
    if (text is None) == (source is None):
        raise typer.BadParameter("give the data either as an argument or with --data-file", param_hint="DATA")
    try:
        return read_object(text.encode("utf-8", "surrogateescape") if text is not None else _read(str(source)))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="DATA" if source is None else "--data-file") from None


def _read(source: str) -> bytes:
    try:
        if source == "-":
            raw = sys.stdin.buffer.read(_LARGEST_DATA + 1)
        else:
            with Path(source).open("rb") as file:
                raw = file.read(_LARGEST_DATA + 1)
    except OSError as error:
        raise ValueError(f"it cannot be read ({error.strerror})") from None
    if len(raw) > _LARGEST_DATA:
        raise ValueError("it is larger than 16 MiB")
    return raw


def _remote(url: str | None, key_file: Path | None, key_env: str | None, *, dev: bool) -> Remote:
    if key_file is not None and key_env is not None:
        raise typer.BadParameter("give --key-file or --key-env, not both")
    try:
        base: Base | None = None if url is None else base_of(url)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--url") from None
    key: Secret | None = key_of_file(key_file) if key_file is not None else None
    if key_env is not None:
        # Named by the caller, and none of our settings.
        found = os.environ.get(key_env)  # noqa: TID251
        if found is None:
            raise SettingsError(f"The environment has no {key_env}.")
        key = key_of(found.encode("utf-8", "surrogateescape"), key_env)
    if base is None or key is None:
        # With both given, a machine without any settings will do.
        settings = from_environment(DEV_DEFAULTS if dev else None)
        base = base or base_of_settings(settings)
        key = key or key_of_settings(settings)
    return Remote(base, key)


def _publish(remote: Remote, body: JsonObject, key: str) -> dict[str, Any]:
    """Publish, and repeat where that is safe and may help."""
    for tries_left in range(_TRIES - 1, -1, -1):
        try:
            return remote.post("/v1/events", body, {"Idempotency-Key": key})
        except Refused as refused:
            if refused.status not in _BUSY or not tries_left:
                raise
            time.sleep(min(refused.retry_after or 1, _LONGEST_PAUSE))
        except NotReached as lost:
            # Refused at the door: it was certainly not carried out, and asking again will not help.
            if isinstance(lost.__cause__, _NEVER_SENT):
                raise
            if not tries_left:
                raise NotReached(
                    f"{lost.detail}\n- Whether the event was accepted is not known: repeat with --idempotency-key {key}."
                ) from None
            time.sleep(1)
    raise AssertionError


def _tell(accepted: dict[str, Any]) -> None:
    repeated = ", the same as before" if accepted["duplicate"] else ""
    deliveries = accepted["deliveries"]
    to = f"for {len(deliveries)} connection{'s' if len(deliveries) != 1 else ''}" if deliveries else "and no connection subscribes to it"
    sys.stdout.write(f"{accepted['event_id']} accepted{repeated}, {to}\n")
    removed = sorted({field for one in deliveries for field in one["privacy"]["removed_fields"]})
    if removed:
        aside(f"removed before anything was stored (privacy policy): {', '.join(removed)}")
    for one in deliveries:
        sys.stdout.write(f"  {one['delivery_id']}  {one['connection_id']}\n")
    sys.stdout.flush()


def _follow(remote: Remote, waiting: list[str], tenant: str | None, within: float, *, quiet: bool) -> list[dict[str, Any]]:
    """Look at deliveries until all have ended or the time is over; return them as they are then, in their order."""
    end = time.monotonic() + within
    query = {} if tenant is None else {"tenant_id": tenant}
    found: dict[str, dict[str, Any]] = {}
    shown: dict[str, str] = {}
    pause = _FIRST_LOOK
    while True:
        for one in waiting:
            if found.get(one, {}).get("status") in _ENDED:
                continue
            try:
                found[one] = remote.get(f"/v1/deliveries/{one}", query)
            except (NotReached, Refused) as error:
                # Away for a moment, perhaps; the deliveries go on without us.
                if time.monotonic() > end or (isinstance(error, Refused) and error.status not in _BUSY):
                    raise
                continue
            said = _outcome(found[one])
            if not quiet and shown.get(one) != said and found[one]["status"] in {*_ENDED, "retrying"}:
                shown[one] = said
                sys.stdout.write(f"  {one}  {said}\n")
                sys.stdout.flush()
        done = [found[one] for one in waiting if found.get(one, {}).get("status") in _ENDED]
        if len(done) == len(waiting) or time.monotonic() > end:
            break
        time.sleep(pause)
        pause = min(pause * 1.5, _LAST_LOOK)
    if len(done) < len(waiting):
        aside(f"customhouse: {len(waiting) - len(done)} not ended after {within:g} s; the service goes on with them")
    return [found[one] for one in waiting if one in found]


def _outcome(delivery: dict[str, Any]) -> str:
    attempts = delivery["attempts"]
    said = [delivery["status"]]
    if attempts:
        last = attempts[-1]
        answer = last["status_code"] if last["status_code"] is not None else last["error"] or last["reason"]
        took = f" in {last['latency_ms']} ms" if last["latency_ms"] is not None else ""
        said.append(f"attempt {len(attempts)}: {answer}{took}")
    if delivery["reason"]:
        said.append(str(delivery["reason"]))
    if delivery["status"] == "retrying" and delivery["next_attempt_at"]:
        said.append(f"again at {delivery['next_attempt_at']}")
    return "; ".join(said)
