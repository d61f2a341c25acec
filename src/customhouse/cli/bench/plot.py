"""The latency plot of a measurement as SVG: how long deliveries took, what share arrived within what time, how many came each second.

Pure: samples in, text out. A PNG is made from it by `rsvg-convert`, where that is installed.
"""

from __future__ import annotations

import math
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

from customhouse.errors import CustomhouseError

_WIDTH: Final = 960
_HEIGHT: Final = 596
_MARGIN: Final = 40
_BINS: Final = 64
_CURVE_POINTS: Final = 240
_LEAST_MS: Final = 0.01
_MOST_TICKS: Final = 10
_INK: Final = "#0f172a"
_SOFT: Final = "#64748b"
_LINE: Final = "#e2e8f0"
_BLUE: Final = "#2563eb"
_TEAL: Final = "#0d9488"
_AMBER: Final = "#d97706"
_FONT: Final = "Inter,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif"
_SECONDS: Final = 120


class PlotError(CustomhouseError):
    """The plot could not be made: there is nothing to show, or no program that makes a PNG."""

    code = "plot_failed"


@dataclass(frozen=True, slots=True)
class Samples:
    """Deliveries in the order of their arrival: milliseconds since the first one, and milliseconds from accept to arrival."""

    at_ms: Sequence[float]
    latency_ms: Sequence[float]


@dataclass(frozen=True, slots=True)
class _Box:
    """A panel's plotting area in pixels."""

    left: float
    top: float
    width: float
    height: float

    @property
    def bottom(self) -> float:
        return self.top + self.height

    @property
    def right(self) -> float:
        return self.left + self.width


@dataclass(frozen=True, slots=True)
class _LogScale:
    """Milliseconds to pixels, equal factors to equal lengths."""

    low: float
    high: float
    box: _Box

    def x(self, value: float) -> float:
        share = (math.log10(max(value, self.low)) - math.log10(self.low)) / (math.log10(self.high) - math.log10(self.low))
        return self.box.left + min(1.0, share) * self.box.width

    def ticks(self) -> list[float]:
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        inside: list[float] = []
        for steps in ((1, 2, 5), (1, 3), (1,)):
            found = [step * 10.0**power for power in range(first, last + 1) for step in steps]
            inside = [value for value in found if self.low <= value <= self.high]
            if len(inside) <= _MOST_TICKS:
                break
        return inside


def draw(samples: Samples, title: str) -> str:
    """Return the plot as SVG.

    Args:
        samples: at least one; both sequences have the same length.
        title: one line, what was measured.

    Raises:
        PlotError: there is nothing to show.
    """
    if not samples.latency_ms or len(samples.latency_ms) != len(samples.at_ms):
        raise PlotError("There are no deliveries to plot.")
    # A clock that was set back must not make a logarithm impossible.
    ordered = sorted(max(value, _LEAST_MS) for value in samples.latency_ms)
    half = (_WIDTH - 3 * _MARGIN - 40) / 2
    first = _Box(_MARGIN + 24, 158, half, 170)
    second = _Box(_WIDTH - _MARGIN - half, 158, half, 170)
    third = _Box(_MARGIN + 24, 410, _WIDTH - 2 * _MARGIN - 24, 130)
    low, high = ordered[0] * 0.8, max(ordered[-1], ordered[0] * 10) * 1.1
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" '
        f'font-family="{escape(_FONT)}" role="img" aria-label="{escape(title)}">'
    )
    parts = [
        head,
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        _text(_MARGIN, 46, "From accept to delivered", size=22, weight=650),
        _text(_MARGIN, 68, title, size=13, fill=_SOFT),
        *_figures(samples, ordered),
        *_histogram(_LogScale(low, high, first), ordered),
        *_curve(_LogScale(low, high, second), ordered),
        *_rate(third, samples.at_ms),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def save(svg: str, path: Path) -> None:
    """Write a plot to `*.svg`, or to `*.png` where `rsvg-convert` (Debian: librsvg2-bin) is installed.

    Raises:
        PlotError: the name has another ending, or there is no such program, or it failed.
        OSError: the file cannot be written.
    """
    if path.suffix == ".svg":
        path.write_text(svg, encoding="utf-8")
        return
    if path.suffix != ".png":
        raise PlotError(f"{path.name}: a plot is an .svg or a .png file.")
    program = shutil.which("rsvg-convert")
    if program is None:
        raise PlotError("A PNG needs rsvg-convert (Debian: librsvg2-bin). Name an .svg file, or install it.")
    done = subprocess.run(  # noqa: S603 - a program of the machine, with our own text
        [program, "--zoom", "2", "--format", "png"], input=svg.encode(), capture_output=True, check=False, timeout=_SECONDS
    )
    if done.returncode or not done.stdout:
        raise PlotError("rsvg-convert did not make a PNG of the plot.")
    path.write_bytes(done.stdout)


def usable(path: Path) -> None:
    """Check before a long measurement whether its plot can be saved there.

    Raises:
        PlotError: it cannot.
    """
    if path.suffix not in {".svg", ".png"}:
        raise PlotError(f"{path.name}: a plot is an .svg or a .png file.")
    if path.suffix == ".png" and shutil.which("rsvg-convert") is None:
        raise PlotError("A PNG needs rsvg-convert (Debian: librsvg2-bin). Name an .svg file, or install it.")
    if not path.parent.is_dir():
        raise PlotError(f"{path.parent} is not a folder.")


def _at(ordered: Sequence[float], share: float) -> float:
    """Return the value below which `share` of them lie (nearest rank)."""
    return ordered[max(0, min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1))]


def _figures(samples: Samples, ordered: Sequence[float]) -> list[str]:
    span = (max(samples.at_ms) - min(samples.at_ms)) / 1000
    rate = f"{len(ordered) / span:,.0f}" if span > 0 else "–"
    shown = [("delivered", f"{len(ordered):,}"), ("per second", rate)]
    shown += [(name, _ms(_at(ordered, share))) for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("slowest", 1.0))]
    width = (_WIDTH - 2 * _MARGIN) / len(shown)
    parts = []
    for place, (name, value) in enumerate(shown):
        left = _MARGIN + place * width
        parts += [_text(left, 106, value, size=19, weight=600), _text(left, 123, name, size=11, fill=_SOFT)]
    return parts


def _histogram(scale: _LogScale, ordered: Sequence[float]) -> list[str]:
    box = scale.box
    parts = [_text(box.left, box.top - 10, "How long they took", size=12, weight=600), *_log_axis(scale)]
    counts = Counter(min(_BINS - 1, int((scale.x(value) - box.left) / box.width * _BINS)) for value in ordered)
    most = max(counts.values())
    width = box.width / _BINS
    for place, count in sorted(counts.items()):
        height = max(1.0, count / most * (box.height - 22))
        parts.append(_rect(box.left + place * width + 0.5, box.bottom - height, width - 1, height, _BLUE))
    for name, share, color in (("p50", 0.5, _TEAL), ("p99", 0.99, _AMBER)):
        x = scale.x(_at(ordered, share))
        parts.append(_line(x, box.top, x, box.bottom, color, dash="4 3"))
        parts.append(_text(x + 4, box.top + 9, name, size=11, fill=color, weight=600))
    return parts


def _curve(scale: _LogScale, ordered: Sequence[float]) -> list[str]:
    box = scale.box
    parts = [_text(box.left, box.top - 10, "Share that had arrived within", size=12, weight=600)]
    for share in (0.0, 0.5, 0.9, 0.99):
        y = box.bottom - share * box.height
        # 99 and 90 % lie close together: the upper one's label stands above its line.
        parts += [_line(box.left, y, box.right, y), _text(box.left - 6, y + (0 if share > 0.95 else 4), f"{share:.0%}", anchor="end")]  # noqa: PLR2004
    parts += _log_axis(scale)
    points = [f"{_n(box.left)},{_n(box.bottom)}"]
    for place in range(_CURVE_POINTS + 1):
        share = place / _CURVE_POINTS
        points.append(f"{_n(scale.x(_at(ordered, share)))},{_n(box.bottom - share * box.height)}")
    points.append(f"{_n(box.right)},{_n(box.top)}")
    parts.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="{_BLUE}" stroke-width="2" stroke-linejoin="round"/>')
    return parts


def _rate(box: _Box, at_ms: Sequence[float]) -> list[str]:
    begin = min(at_ms)
    counts = Counter(int((value - begin) / 1000) for value in at_ms)
    seconds = max(counts) + 1
    most = max(counts.values())
    step = _nice(most / 4)
    top = math.ceil(most / step) * step
    parts = [_text(box.left, box.top - 10, "Delivered in each second", size=12, weight=600)]
    for mark in range(round(top / step) + 1):
        y = box.bottom - mark * step / top * box.height
        parts += [_line(box.left, y, box.right, y), _text(box.left - 6, y + 4, f"{mark * step:,.0f}", anchor="end")]
    width = box.width / seconds
    gap = min(2.0, width * 0.2)
    for second, count in sorted(counts.items()):
        height = count / top * box.height
        # The last second is not whole.
        shade = "0.45" if second == seconds - 1 and seconds > 1 else "1"
        parts.append(_rect(box.left + second * width + gap / 2, box.bottom - height, width - gap, height, _TEAL, opacity=shade))
    every = max(1, round(_nice(seconds / 10)))
    parts += [
        _text(box.left + (second + 0.5) * width, box.bottom + 16, f"{second + 1}", anchor="middle") for second in range(0, seconds, every)
    ]
    parts.append(_text(box.right, box.bottom + 34, "seconds since the first delivery", anchor="end"))
    return parts


def _log_axis(scale: _LogScale) -> list[str]:
    box = scale.box
    parts = [_line(box.left, box.bottom, box.right, box.bottom, _SOFT)]
    for value in scale.ticks():
        x = scale.x(value)
        parts += [_line(x, box.bottom, x, box.bottom + 4, _SOFT), _text(x, box.bottom + 17, f"{value:g}", anchor="middle")]
    parts.append(_text(box.right, box.bottom + 34, "milliseconds", anchor="end"))
    return parts


def _nice(value: float) -> float:
    """Return the next of 1, 2, 5 times a power of ten, at least 1."""
    power: float = 10.0 ** math.floor(math.log10(max(value, 1.0)))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value or step == 10)  # noqa: PLR2004


def _ms(value: float) -> str:
    return f"{value / 1000:.1f} s" if value >= 10_000 else f"{value:,.0f} ms" if value >= 100 else f"{value:.1f} ms"  # noqa: PLR2004


def _n(value: float) -> str:
    return f"{value:.1f}"


def _text(x: float, y: float, text: str, *, size: int = 11, weight: int = 400, fill: str | None = None, anchor: str = "start") -> str:
    color = fill or (_SOFT if size <= 11 else _INK)  # noqa: PLR2004
    style = f'font-size="{size}" font-weight="{weight}" fill="{color}" text-anchor="{anchor}"'
    return f'<text x="{_n(x)}" y="{_n(y)}" {style}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, color: str = _LINE, *, dash: str = "") -> str:
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<line x1="{_n(x1)}" y1="{_n(y1)}" x2="{_n(x2)}" y2="{_n(y2)}" stroke="{color}"{dashed}/>'


def _rect(x: float, y: float, width: float, height: float, color: str, *, opacity: str = "1") -> str:
    place = f'x="{_n(x)}" y="{_n(y)}" width="{_n(max(width, 0.5))}" height="{_n(height)}"'
    return f'<rect {place} rx="1" fill="{color}" fill-opacity="{opacity}"/>'
