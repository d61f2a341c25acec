"""Write the generated parts of `docs/providers/*.md`, and enter the scopes of each manifest version into the ledger of manifests."""

# ruff: noqa: INP001 - a script, run by path
from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from customhouse.providers import reference
from customhouse.providers.catalogue import BUILT_IN
from customhouse.providers.manifest import Provider
from customhouse.providers.scopes import names, requested

ROOT = Path(__file__).parents[1]
LEDGER = ROOT / "vectors" / "providers" / "manifests.json"
BEGIN, END = "<!-- generated: `make schema` -->\n", "<!-- end -->"


def entered(ledger: dict[str, Any], provider: Provider) -> dict[str, Any]:
    """Return the ledger's entry for a provider.

    Raises:
        SystemExit: its scopes changed and its version did not: users would not be asked again.
    """
    entry = {"version": provider.version, "scopes": {mode: list(names(requested(provider, mode))) for mode in provider.modes}}
    before = ledger.get(provider.id)
    if before is not None and before["scopes"] != entry["scopes"] and provider.version <= before["version"]:
        sys.exit(f"{provider.id}: the scopes changed, so raise `version` in its manifest: users have to be asked again")
    return entry


def write(page: Path, generated: str) -> None:
    """Put the generated part into a page; the text around it is kept."""
    head, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    page.write_text(f"{head}{BEGIN}{generated}{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    ledger = json.loads(LEDGER.read_text(encoding="utf-8"))
    entries = {provider.id: entered(ledger, provider) for provider in BUILT_IN}
    LEDGER.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")  # noqa: TID251 - a file for people
    write(ROOT / "docs" / "providers" / "README.md", reference.index())
    for provider in BUILT_IN:
        write(ROOT / provider.docs, reference.page(provider))
    sys.stdout.write("docs/providers written\n")
