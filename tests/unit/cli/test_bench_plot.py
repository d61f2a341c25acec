"""The latency plot: sound SVG for whatever was measured, and a clear word where it cannot be made."""

from __future__ import annotations

import shutil
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from customhouse.cli.bench.plot import PlotError, Samples, draw, save, usable

SVG = "{http://www.w3.org/2000/svg}"
MILLIS = st.floats(-1000, 1e7, allow_nan=False)


@given(
    st.lists(st.tuples(st.floats(0, 120_000), MILLIS), min_size=1, max_size=60),
    st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn"))),
)
@example([(0.0, 0.0)], "one & <only>")
@example([(0.0, 5.0), (0.0, 5.0)], "two at once")
@example([(0.0, -3.0), (999.9, 1e7)], "a clock that went back")
def test_any_deliveries_give_a_sound_drawing_inside_its_frame(found: list[tuple[float, float]], title: str) -> None:
    svg = draw(Samples([at for at, _ in found], [late for _, late in found]), title)
    root = ET.fromstring(svg)
    assert root.get("aria-label") == title
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert f"{len(found):,}" in texts
    for bar in root.iter(f"{SVG}rect"):
        x, y, wide, tall = (float(bar.get(name, "0")) for name in ("x", "y", "width", "height"))
        assert 0 <= x <= x + wide <= width + 1
        assert 0 <= y <= y + tall <= height + 1
    for curve in root.iter(f"{SVG}polyline"):
        points = [tuple(map(float, point.split(","))) for point in curve.attrib["points"].split()]
        assert [x for x, _ in points] == sorted(x for x, _ in points), "a share never falls with time"
        assert all(0 <= x <= width and 0 <= y <= height for x, y in points)


def test_the_figures_above_the_drawing_are_those_of_the_deliveries() -> None:
    svg = draw(Samples([number * 10.0 for number in range(101)], [float(number) for number in range(1, 102)]), "t")
    texts = [element.text for element in ET.fromstring(svg).iter(f"{SVG}text")]
    assert texts[2:14:2] == ["101", "101", "51.0 ms", "91.0 ms", "100 ms", "101 ms"]


def test_nothing_delivered_is_no_plot() -> None:
    with pytest.raises(PlotError):
        draw(Samples([], []), "nothing")
    with pytest.raises(PlotError):
        draw(Samples([1.0], []), "lopsided")


@pytest.mark.parametrize("name", ["plot.pdf", "plot", "missing/plot.svg"])
def test_what_cannot_be_saved_is_said_before_the_measurement(tmp_path: Path, name: str) -> None:
    with pytest.raises(PlotError):
        usable(tmp_path / name)


def test_a_png_needs_a_program_and_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PlotError, match="librsvg2-bin"):
        usable(tmp_path / "plot.png")
    with pytest.raises(PlotError, match="librsvg2-bin"):
        save("<svg/>", tmp_path / "plot.png")
    with pytest.raises(PlotError, match=r"plot\.txt"):
        save("<svg/>", tmp_path / "plot.txt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fails", [False, True])
def test_a_png_is_what_the_program_makes_of_the_drawing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    shell, cat = shutil.which("sh"), shutil.which("cat")
    program = tmp_path / "rsvg-convert"
    program.write_text(f"#!{shell}\n{'exit 1' if fails else f'exec {cat}'}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    target = tmp_path / "plot.png"
    usable(target)
    if fails:
        with pytest.raises(PlotError):
            save("<svg/>", target)
        assert not target.exists()
    else:
        save("<svg/>", target)
        assert target.read_text() == "<svg/>"
