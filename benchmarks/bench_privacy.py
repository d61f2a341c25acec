"""What the PII guard costs and how well it sees: `python benchmarks/bench_privacy.py [--json] [--quick]`.

Cost: median over interleaved runs of `inspect` on documents of about 1 KiB. Sight: precision and recall over `vectors/pii/*.jsonl` with
an empty allow-list. *Recall* is the share of the labelled places of a class that were removed, whatever the guard called them;
*precision* the share of the places removed under a class at which there was something personal; *named* the share of the removed places
of a class that were called by it. `--quick` leaves the cost out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from customhouse.privacy.declaration import NOTHING_DECLARED
from customhouse.privacy.inspect import inspect
from customhouse.privacy.policy import DEFAULT_ALLOWED, Policy
from customhouse.privacy.walk import walk

CORPUS = Path(__file__).parent.parent / "vectors" / "pii"
DEFAULT = Policy("tenant:1", DEFAULT_ALLOWED)

CLEAN: dict[str, Any] = {
    "order": {
        "order_id": "ord_01k5tq4z8nfx3s9gq2v7d4h6bc",
        "number": "INV-2026-000123",
        "status": "paid",
        "currency": "EUR",
        "total": "1499.00",
        "created_at": "2026-11-22T09:30:00Z",
        "updated_at": "2026-11-22T09:31:12.123456Z",
        "lines": [
            {"sku": "BOOK-4411", "title": "A book about ships", "quantity": 2, "unit_price": "249.50"},
            {"sku": "PEN-0042", "title": "Blue pen with cap", "quantity": 10, "unit_price": "1.50"},
            {"sku": "LAMP-77", "title": "Desk lamp, warm white", "quantity": 1, "unit_price": "85.00"},
        ],
        "shipping": {
            "method": "standard",
            "carrier": "parcel",
            "tracking_url": "https://track.example.com/p/8f14e45f",
            "estimate": "2026-11-25",
        },
        "checksum": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "location": {"lat": 52.520008, "lng": 13.404954},
        "request_id": "550e8400-e29b-41d4-a716-446655440000",
        "source": "checkout-service",
        "version": "2.14.3",
        "tags": ["priority", "gift", "eu-central"],
        "note": "Leave the parcel in the rack behind the counter, please.",
    }
}
PERSON: dict[str, Any] = {**CLEAN, "person": {"person_id": "p_4711", "work_email": "ada@example.com", "phone": "+49 30 23125 123"}}
DIRTY: dict[str, Any] = {
    **PERSON,
    "remark": "please call +49 30 23125 123 or 030 23125 124, or write to ada@example.com",
    "by_address": {"ada@example.com": 1},
    "raw": '{"customer": {"nickname": "Countess"}}',
}


def cost(rounds: int = 7, calls: int = 300) -> dict[str, dict[str, float]]:
    """Return µs per call and bytes for each kind of document."""
    documents = {"clean": CLEAN, "one person, else clean": PERSON, "dirty in five places": DIRTY}
    taken: dict[str, list[float]] = {name: [] for name in documents}
    for _ in range(rounds):
        for name, document in documents.items():
            before = time.perf_counter()
            for _ in range(calls):
                inspect(document, DEFAULT, NOTHING_DECLARED)
            taken[name].append((time.perf_counter() - before) / calls * 1e6)
    return {
        name: {"bytes": len(json.dumps(documents[name])), "median_us": round(statistics.median(runs), 1), "best_us": round(min(runs), 1)}
        for name, runs in taken.items()
    }


def score(path: Path) -> dict[str, Any]:
    """Return the figures of one file of the corpus."""
    labels, removed_labels, named = Counter[str](), Counter[str](), Counter[str]()
    removals, right_removals = Counter[str](), Counter[str]()
    leaks, wrong, missed = [], [], Counter[str]()
    documents = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for document in documents:
        places = removed_places(document["data"], frozenset())
        in_person = document["id"].startswith("person")
        for pointer, pii_class in document["pii"].items():
            called = next((found for place, found in places.items() if pointer == place or pointer.startswith(place + "/")), None)
            if in_person:
                if called is None:
                    leaks.append(f"{document['id']} {pointer}")
                continue
            labels[pii_class] += 1
            removed_labels[pii_class] += called is not None
            named[pii_class] += called == pii_class
        for place, pii_class in places.items():
            right = any(pointer == place or pointer.startswith(place + "/") for pointer in document["pii"])
            removals[pii_class] += 1
            right_removals[pii_class] += right
            if not right:
                wrong.append(f"{document['id']} {place} {pii_class}")
        if in_person:
            kept = removed_places(document["data"], DEFAULT.allowed_fields)
            leaks += [
                f"{document['id']} {pointer} (default policy)"
                for pointer in document["pii"]
                if not pointer.endswith("/work_email") and not any(pointer == p or pointer.startswith(p + "/") for p in kept)
            ]
        missed.update(document["missed"].values())
    classes = {
        name: {
            "labels": labels[name],
            "recall": ratio(removed_labels[name], labels[name]),
            "named": ratio(named[name], removed_labels[name]),
            "precision": ratio(right_removals[name], removals[name]),
        }
        for name in sorted(labels | removals)
    }
    return {
        "documents": len(documents),
        "locales": len({document["locale"] for document in documents}),
        "classes": classes,
        "recall": ratio(removed_labels.total(), labels.total()),
        "precision": ratio(right_removals.total(), removals.total()),
        "leaks_in_person_objects": leaks,
        "labels_in_person_objects": sum(len(d["pii"]) for d in documents if d["id"].startswith("person")),
        "wrongly_removed": wrong,
        "out_of_scope": dict(missed),
        "missed": [
            f"{document['id']} {pointer}"
            for document in documents
            if not document["id"].startswith("person")
            for pointer in document["pii"]
            if not any(pointer == place or pointer.startswith(place + "/") for place in removed_places(document["data"], frozenset()))
        ],
    }


def removed_places(data: dict[str, Any], allowed: frozenset[str]) -> dict[str, str]:
    """Return JSON pointer → class of what the guard takes out."""
    _, found = walk(data, allowed, NOTHING_DECLARED.root)
    return {
        "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in one.path): str(one.pii_class)
        for one in found
        if one.removed
    }


def ratio(part: int, whole: int) -> float | None:
    """Return a share, or None of nothing."""
    return round(part / whole, 4) if whole else None


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quick", action="store_true", help="leave the cost out")
    options = parser.parse_args()
    figures: dict[str, Any] = {"sight": {name: score(CORPUS / f"{name}.jsonl") for name in ("corpus", "heldout")}}
    if not options.quick:
        figures["cost"] = cost()
    if options.json:
        print(json.dumps(figures, indent=1))
        return
    console = Console()
    for name, seen in figures["sight"].items():
        table = Table(title=f"{name}: {seen['documents']} documents, {seen['locales']} locales")
        for column in ("class", "labels", "recall", "precision", "named"):
            table.add_column(column, justify="left" if column == "class" else "right")
        for pii_class, row in seen["classes"].items():
            table.add_row(
                pii_class, str(row["labels"]), *(f"{row[k]:.3f}" if row[k] is not None else "–" for k in ("recall", "precision", "named"))
            )
        console.print(table)
        console.print(
            f"all: recall {seen['recall']:.3f}, precision {seen['precision']:.3f}; out of scope and not found: {seen['out_of_scope']}"
        )
        console.print(f"leaks in person objects: {len(seen['leaks_in_person_objects'])} of {seen['labels_in_person_objects']} labels")
        for line in (
            seen["leaks_in_person_objects"] + [f"missed {x}" for x in seen["missed"]] + [f"wrong {x}" for x in seen["wrongly_removed"]]
        ):
            console.print("  " + line, markup=False, highlight=False)
    for name, row in figures.get("cost", {}).items():
        console.print(f"{name}: {row['median_us']} µs (best {row['best_us']}) for {row['bytes']} bytes")


if __name__ == "__main__":
    main()
