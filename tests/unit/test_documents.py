"""Documents are checked like code: links lead somewhere, examples are Python, promises name tests that exist."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "adr/*.md", "receiver/*.md", "deploy/**/*.md", "vectors/**/*.md")
    for path in ROOT.glob(pattern)
    if "node_modules" not in path.parts
)
DECISIONS = sorted((ROOT / "adr").glob("*.md"))
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
by_path = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ +(.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@by_path
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    broken = []
    for target in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        aim = (page.parent / name).resolve() if name else page
        if not aim.exists() or (anchor and aim.suffix == ".md" and anchor not in anchors(aim)):
            broken.append(target)
    assert broken == []


@by_path
def test_every_python_example_is_python(page: Path) -> None:
    examples = [code for language, code in FENCE.findall(page.read_text(encoding="utf-8")) if language == "python"]
    for code in examples:
        ast.parse(code)
    assert page.read_text(encoding="utf-8").count("```python") == len(examples)


@by_path
def test_a_page_has_one_title_and_no_unfinished_place(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    if page != ROOT / "README.md" or text:
        assert len(re.findall(r"^# ", text, re.MULTILINE)) == 1
    assert re.findall(r"\b(?:TODO|FIXME|TBD|XXX)\b", text) == []


@pytest.mark.parametrize("decision", DECISIONS, ids=lambda page: page.name)
def test_a_decision_has_a_number_of_its_own_and_says_why(decision: Path) -> None:
    assert re.fullmatch(r"\d{4}-[a-z0-9-]+\.md", decision.name)
    assert [other.name for other in DECISIONS if other.name[:4] == decision.name[:4]] == [decision.name]
    text = decision.read_text(encoding="utf-8")
    for part in ("Status", "Context", "Decision"):
        assert re.search(rf"^(?:## |\*\*)?{part}\b", text, re.MULTILINE), f"{decision.name} lacks {part}"


def test_every_test_that_the_threat_page_names_exists() -> None:
    tests = "\n".join(
        path.read_text(encoding="utf-8") for folder in ("tests", "receiver/tests") for path in (ROOT / folder).rglob("test_*.py")
    )
    defined = set(re.findall(r"def (test_\w+)", tests))
    named = re.findall(r"`(test_\w+)`", (ROOT / "docs" / "explanation" / "threats.md").read_text(encoding="utf-8"))
    assert [name for name in named if name not in defined] == []
    assert len(named) >= 10


def test_the_makefile_explains_at_most_twelve_targets() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    # A pattern is one target: the suites of `make test-%` are listed by their own script.
    targets = re.findall(r"^([a-z0-9%-]+):", text, re.MULTILINE)
    shown = subprocess.run(["make", "-C", ROOT], capture_output=True, text=True, check=True).stdout
    assert len(targets) <= 12
    assert [target for target in targets if f"make {target} " not in shown] == []


def test_every_suite_that_make_test_leaves_out_is_named_at_its_end_and_run_by_ci() -> None:
    left_out = subprocess.run([sys.executable, ROOT / "tests" / "suites.py"], capture_output=True, text=True, check=True).stdout
    named = re.findall(r": make test-(\w+)$", left_out, re.MULTILINE)
    assert named == ["pg15", "redis", "oidc", "browser"]
    explained = next(line for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines() if line.startswith("test-%:"))
    run = re.search(r"for suite in ([\w ]+); do\n\s+make \"test-\$suite\"", (ROOT / ".ci" / "run").read_text(encoding="utf-8"))
    assert explained.endswith(", ".join(named))
    assert run is not None
    assert run[1].split() == named
    unknown = subprocess.run([sys.executable, ROOT / "tests" / "suites.py", "nothing"], capture_output=True, text=True, check=False)
    assert unknown.returncode == 2
    assert all(f"test-{name}" in unknown.stderr for name in named)


def test_no_lock_or_document_holds_an_index_address() -> None:
    files = [ROOT / "requirements.txt", ROOT / "requirements-dev.txt", ROOT / ".ci" / "bootstrap.txt", *PAGES]
    peer = ROOT / "tests" / "oidc" / "package-lock.json"
    assert "://" not in re.sub(r'"url": "[^"]*"', "", peer.read_text(encoding="utf-8"))
    option = "index" + "-url"
    assert [file.name for file in files if f"--{option}" in file.read_text(encoding="utf-8")] == []
    assert not (ROOT / "uv.lock").exists()


def test_the_figures_on_scaling_are_those_of_the_committed_runs_and_all_of_them_hold() -> None:
    spec = importlib.util.spec_from_file_location("make_scaling", ROOT / "docs" / "make_scaling.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    page = (ROOT / "docs" / "explanation" / "scaling-out.md").read_text(encoding="utf-8")
    assert script.filled(page) == page
    results = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (ROOT / "benchmarks" / "results").glob("*.json")}
    # Proofs, which have no table on that page.
    proofs = {"refresh_torture", "key_rotation"}
    assert results.keys() - proofs <= set(script.TABLES)
    assert [name for name, one in results.items() if not one["holds"] or one.get("run", name) != name] == []
