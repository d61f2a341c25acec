"""The generated part of `docs/reference/sandbox.md`."""

from __future__ import annotations

from customhouse_sandbox.admin import ADMIN, COMMANDS
from customhouse_sandbox.faults import MEANING
from customhouse_sandbox.sandbox import VENDORS


def reference() -> str:
    """Return the tables of faults, open facts, commands and routes, in Markdown."""
    parts = ["## Faults\n\n| fault | what the call does |\n| --- | --- |\n"]
    parts += [f"| `{kind}` | {meaning} |\n" for kind, meaning in MEANING.items()]
    parts.append("\n## Open facts\n\nThe first answer is the one that is assumed.\n\n| provider | fact | answers | question |\n")
    parts.append("| --- | --- | --- | --- |\n")
    for vendor in VENDORS:
        for fact in vendor.facts:
            answers = ", ".join(f"`{choice}`" for choice in fact.choices)
            parts.append(f"| {vendor.name} | `{fact.name}` | {answers} | {fact.question} ({fact.cites}) |\n")
    parts.append("\n## Commands\n\nA member with `*` is needed.\n\n| command | members | does |\n| --- | --- | --- |\n")
    for command in COMMANDS:
        members = ", ".join(f"`{member}`" for member in command.members)
        parts.append(f"| `{command.method} /{ADMIN}{command.path}` | {members or '–'} | {command.does} |\n")
    for vendor in VENDORS:
        parts.append(f"\n## Routes of `/{vendor.name}`\n\n| route | counts as | imitates |\n| --- | --- | --- |\n")
        parts += [f"| `{route.method} {route.path}` | `{route.operation}` | {route.cites} |\n" for route in vendor.routes]
    return "".join(parts)
