"""The documents name commands that exist, with options that they have."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from customhouse.cli.reference import commands, reference

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "reference" / "cli.md"
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/*.md"), *ROOT.glob("receiver/*.md")]
CALL = re.compile(r"(?:^|[`$(\s/])customhouse((?: [a-z][a-z-]*)+)((?:[^`\n]|\\\n)*)")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def test_the_page_holds_the_help_of_today() -> None:
    generated = PAGE.read_text(encoding="utf-8").split("<!-- generated: `make schema` -->\n")[1].split("<!-- end -->")[0]
    assert generated == reference(), "run `make schema`"


def test_every_command_that_a_document_names_exists_with_its_options() -> None:
    helps = dict(commands())
    groups = {path for path in helps if any(other.startswith(f"{path} ") for other in helps)}
    wrong = []
    named = 0
    for page in PAGES:
        if page == PAGE or page.name == "CHANGELOG.md":
            continue
        for code in re.findall(r"```sh\n(.*?)```|(`customhouse [^`]*`)", page.read_text(encoding="utf-8"), re.DOTALL):
            for words, rest in CALL.findall("".join(code)):
                path = "customhouse " + words.split()[0]
                if path in groups and len(words.split()) > 1:
                    path = f"{path} {words.split()[1]}"
                named += 1
                options = OPTION.findall(rest.split("#")[0]) if path in helps else []
                if path not in helps or [option for option in options if option not in helps[path]]:
                    wrong.append((page.relative_to(ROOT).as_posix(), path, options))
    assert wrong == []
    assert named > 10


def test_the_picture_is_what_its_script_draws() -> None:
    script = ROOT / "docs" / "images" / "make_flow.py"
    code = f"import runpy; print(runpy.run_path({str(script)!r})['draw'](), end='')"
    drawn = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert drawn == (ROOT / "docs" / "images" / "flow.svg").read_bytes()
