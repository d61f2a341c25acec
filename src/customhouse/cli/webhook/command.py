"""The commands."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from customhouse.canonical import dump, parse_object
from customhouse.cli.surroundings import AsJson, aside, say_json
from customhouse.cli.webhook import sources
from customhouse.cli.webhook.listener import Server, Watched, bound, explain, receiver
from customhouse.cli.webhook.verdict import DUPLICATE, GENUINE, REFUSED, Verdict
from customhouse.clock import SystemClock
from customhouse.crypto.signatures import DEFAULT_HEADER_PREFIX, Profile, SigningKey
from customhouse.crypto.signatures import sign as signed
from customhouse.errors import Invalid
from customhouse.types import Secret
from customhouse_receiver import WebhookRejected

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)

_LATEST: Final = 10**12

Body = Annotated[str, typer.Argument(metavar="BODY", help="The file with the body, byte by byte; - for standard input.")]
Prefix = Annotated[str, typer.Option("--header-prefix", help="Of the signature headers.")]
Tolerance = Annotated[float, typer.Option("--tolerance", min=1, max=86400, help="Seconds that a request may be old, or ahead.")]
Data = Annotated[bool, typer.Option("--data", help="Show the payload as well; it may be personal.")]


@app.callback()
def _webhook() -> None:
    """Webhooks from the receiving end: listen on this machine, sign a body, verify a request."""


@app.command("listen")
def listen(
    files: sources.SecretFiles = [],  # noqa: B006 - typer's way to say "none"; never changed
    variables: sources.SecretVariables = [],  # noqa: B006
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 9000,
    host: Annotated[str, typer.Option(help="The address; anything but loopback lets others reach it.")] = "127.0.0.1",
    status: Annotated[int, typer.Option(min=200, max=599, help="Answer genuine events so; not 2xx: the sender tries again.")] = 204,
    count: Annotated[int | None, typer.Option(min=1, help="End after so many requests.")] = None,
    header_prefix: Prefix = DEFAULT_HEADER_PREFIX,
    tolerance: Tolerance = 300,
    data: Data = False,
    as_json: AsJson = False,
) -> None:
    """Receive webhooks on this machine and show each as it arrives: verified, or why not.

    One line per request, or one JSON object with --json. It answers like the receiver library: 204 for a genuine event, 200 for a
    duplicate, 401 and the like for what is refused. Ctrl-C ends it.
    """
    secrets = _texts(sources.secrets(files, variables))
    console = Console(highlight=False, soft_wrap=True)
    tally = dict.fromkeys((GENUINE, DUPLICATE, REFUSED), 0)

    def tell(verdict: Verdict) -> None:
        tally[verdict.verdict] += 1
        if as_json:
            sys.stdout.write(f"{dump(verdict.json(data=data)).decode()}\n")
            sys.stdout.flush()
        else:
            console.print(verdict.text(data=data))
        if count is not None and sum(tally.values()) >= count:
            server.stop()

    server = Server(Watched(secrets, SystemClock(), tell, status=status, header_prefix=header_prefix, tolerance=tolerance))
    with bound(host, port) as listening:
        shown = f"[{host}]" if ":" in host else host
        aside(f"Listening on http://{shown}:{listening.getsockname()[1]}/ (any path); Ctrl-C ends it.")
        try:
            server.run(listening)
        finally:
            aside(", ".join(f"{number} {name}" for name, number in tally.items()))


@app.command("sign")
def sign(
    source: Body,
    files: sources.SecretFiles = [],  # noqa: B006
    variables: sources.SecretVariables = [],  # noqa: B006
    profile: Annotated[Profile, typer.Option(help="How to sign.")] = Profile.QUEAST_V1,
    key_id: Annotated[str, typer.Option("--key-id", help="The key's id; with several secrets, the first one's.")] = "key_1",
    event_id: Annotated[str | None, typer.Option("--event-id", help="For standard-webhooks; unset: the body's event_id.")] = None,
    at: Annotated[int | None, typer.Option(min=1, max=_LATEST - 1, help="Unix seconds; unset: now.")] = None,
    curl: Annotated[str | None, typer.Option("--curl", metavar="URL", help="Print a curl line that sends it there.")] = None,
    header_prefix: Prefix = DEFAULT_HEADER_PREFIX,
    as_json: AsJson = False,
) -> None:
    """Sign a body as Customhouse does, and print the headers.

    The bytes are signed as they are: what is sent must be the same, to the last newline. Several secrets make several signatures where
    the profile has room for them (standard-webhooks), as during a rotation.
    """
    if curl is not None and source == "-":
        raise typer.BadParameter("curl sends a file: give the body as one")
    given = list(sources.secrets(files, variables).values())
    raw = sources.body(source)
    keys = [SigningKey(key_id if number == 0 else f"{key_id}.{number}", secret) for number, secret in enumerate(given)]
    if profile is Profile.QUEAST_V1 and len(keys) > 1:
        raise typer.BadParameter("queast-v1 carries one signature: give one secret")
    timestamp = int(SystemClock().now().timestamp()) if at is None else at
    name = event_id or (_event_id(raw) if profile is Profile.STANDARD_WEBHOOKS else "")
    headers = signed(profile, keys, event_id=name, timestamp=timestamp, body=raw, header_prefix=header_prefix)
    if curl is not None:
        words = [word for pair in headers.items() for word in ("-H", ": ".join(pair))]
        sys.stdout.write(
            shlex.join(["curl", "-i", "-H", "Content-Type: application/json", *words, "--data-binary", f"@{source}", "--", curl]) + "\n"
        )
    elif as_json:
        say_json({**headers})
    else:
        sys.stdout.write("".join(f"{header}: {value}\n" for header, value in headers.items()))


@app.command("verify")
def verify(
    source: Body,
    headers: Annotated[Path, typer.Option("--headers", metavar="FILE", help="`Name: value` lines, or JSON.")],
    files: sources.SecretFiles = [],  # noqa: B006
    variables: sources.SecretVariables = [],  # noqa: B006
    at: Annotated[int | None, typer.Option(min=1, max=_LATEST - 1, help="Judge as of these unix seconds; unset: now.")] = None,
    header_prefix: Prefix = DEFAULT_HEADER_PREFIX,
    tolerance: Tolerance = 300,
    data: Data = False,
    as_json: AsJson = False,
) -> None:
    """Verify a captured request: genuine, or why not. Exit code 1 where it is refused.

    Checks what the receiver library checks: headers, time, signature over the raw bytes, envelope. Whether the event came before, only
    the receiver's own memory knows.
    """
    secrets = _texts(sources.secrets(files, variables))
    pairs, raw = sources.headers(headers), sources.body(source)
    clock = SystemClock() if at is None else _Then(at)
    now = clock.now()
    try:
        event = receiver(secrets, clock, header_prefix=header_prefix, tolerance=tolerance).verify(pairs, raw)
        verdict = Verdict(now, len(raw), event=event)
    except WebhookRejected as rejected:
        detail = explain(rejected.reason, pairs, raw, secrets, header_prefix=header_prefix, tolerance=tolerance, now=now.timestamp())
        verdict = Verdict(now, len(raw), reason=rejected.reason.value, detail=detail)
    if as_json:
        say_json(verdict.json(data=data))
    else:
        Console(highlight=False, soft_wrap=True).print(verdict.text(data=data))
    if verdict.verdict == REFUSED:
        raise typer.Exit(1)


class _Then:
    """A clock that shows one moment."""

    def __init__(self, seconds: int) -> None:
        self._moment = datetime.fromtimestamp(seconds, UTC)

    def now(self) -> datetime:
        return self._moment

    def monotonic(self) -> float:
        return 0.0


def _texts(secrets: Mapping[str, Secret]) -> dict[str, str]:
    return {name: secret.reveal().decode() for name, secret in secrets.items()}


def _event_id(raw: bytes) -> str:
    found = parse_object(raw).get("event_id")
    if not isinstance(found, str):
        raise Invalid("The body holds no event_id: name one with --event-id.")
    return found
