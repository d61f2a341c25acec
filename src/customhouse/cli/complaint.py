"""What a person is told when a command fails: one clear line on standard error, and no value of anybody."""

from __future__ import annotations

import sys

from customhouse.errors import CustomhouseError, Invalid


def explain(error: CustomhouseError) -> str:
    """Say what went wrong in words that hold no value of anybody."""
    faults = [f"{fault.pointer}: {fault.detail}" for fault in error.faults] if isinstance(error, Invalid) else []
    return "\n- ".join([error.detail, *faults])


def surprise(error: BaseException) -> str:
    """Say that something happened which nobody foresaw: its class and place, never its message."""
    # The logs' own rule for exceptions; imported here, so that only a fault pays for it.
    from customhouse.logs import describe  # noqa: PLC0415

    said = describe(error)
    places = said.get("frames", [])
    where = f" at {places[-1]}" if places else ""
    return f"something unexpected happened ({said['error']}{where}). Please report it; the message is left out, it could hold a value."


def complain(text: str) -> None:
    """Say it."""
    sys.stderr.write(f"customhouse: {text}\n")
