"""Draw `flow.svg`: an event's way through Customhouse. Plain shapes, own background, readable in light and dark pages."""

# ruff: noqa: INP001 - a script, run by path
from __future__ import annotations

import sys
from html import escape
from pathlib import Path

PICTURE = Path(__file__).with_name("flow.svg")
WIDTH, HEIGHT = 960, 380
INK, SOFT, LINE, FACE = "#1f2933", "#52606d", "#9aa5b1", "#ffffff"
SEA, SAND = "#e6f1fb", "#fff6e0"
FONTS = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif"
LABEL = "An event is inspected, sealed, stored, signed, delivered and verified; each step is written into the ledger"
STATIONS = (
    ("Inspect", "what may not", "leave is removed"),
    ("Seal", "under keys of", "this tenant"),
    ("Store", "with the intent", "to deliver: 202"),
    ("Sign", "each attempt,", "the raw bytes"),
    ("Deliver", "vetted address,", "with retries"),
)


def text(x: float, y: float, words: str, *, size: int = 13, weight: int = 400, fill: str = INK) -> str:
    """Return centred text."""
    return f'<text x="{x}" y="{y}" font-size="{size}" font-weight="{weight}" fill="{fill}" text-anchor="middle">{escape(words)}</text>'


def box(x: float, y: float, width: float, height: float, *, fill: str, stroke: str = LINE) -> str:
    """Return a rounded box."""
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="{fill}" stroke="{stroke}"/>'


def arrow(x1: float, y1: float, x2: float, y2: float, *, dashed: bool = False) -> str:
    """Return an arrow."""
    dash = ' stroke-dasharray="4 4"' if dashed else ""
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{SOFT}" stroke-width="1.5"{dash} marker-end="url(#head)"/>'


def draw() -> str:
    """Return the picture."""
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{FONTS}" role="img" aria-label="{LABEL}">',
        '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">',
        f'<path d="M0 0 L10 5 L0 10 z" fill="{SOFT}"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="12" fill="{FACE}"/>',
        box(16, 92, 116, 76, fill=SAND),
        text(74, 124, "Your product", weight=600),
        text(74, 144, "POST /v1/events", size=12, fill=SOFT),
        f'<rect x="164" y="24" width="632" height="196" rx="12" fill="{SEA}" stroke="{LINE}"/>',
        text(480, 52, "Customhouse", size=16, weight=700),
        box(828, 92, 116, 76, fill=SAND),
        text(886, 116, "Customer", weight=600),
        text(886, 136, "verifies, once,", size=12, fill=SOFT),
        text(886, 152, "by the library", size=12, fill=SOFT),
    ]
    width, gap, left = 110, 13, 179
    for number, (name, first, second) in enumerate(STATIONS):
        x = left + number * (width + gap)
        middle = x + width / 2
        parts += [box(x, 86, width, 88, fill=FACE), text(middle, 113, name, size=14, weight=600)]
        parts += [text(middle, 136, first, size=11, fill=SOFT), text(middle, 152, second, size=11, fill=SOFT)]
        if number:
            parts.append(arrow(x - gap, 130, x, 130))
    parts += [
        arrow(132, 130, 179, 130),
        arrow(left + 5 * width + 4 * gap, 130, 828, 130),
        text(480, 204, "every tenant behind row-level security · every deed an entry", size=12, fill=SOFT),
    ]
    for x, name, about in (
        (204, "PostgreSQL", "events, queue, payloads"),
        (394, "Ledger", "who did what, no values"),
        (584, "AWS KMS", "the root key, or a file in dev"),
    ):
        parts += [box(x, 276, 192 - 20, 64, fill=FACE), text(x + 86, 303, name, size=14, weight=600)]
        parts += [text(x + 86, 323, about, size=11, fill=SOFT), arrow(x + 86, 220, x + 86, 276, dashed=True)]
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
    sys.stdout.write(f"{PICTURE.name} written\n")
