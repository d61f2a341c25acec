"""The door of the command line: help, exit codes, and errors in one line."""

from __future__ import annotations

import subprocess
import sys

import pytest

from customhouse import __version__
from customhouse.cli.complaint import explain, surprise
from customhouse.cli.main import run
from customhouse.cli.reference import commands
from customhouse.cli.table import entries
from customhouse.errors import Fault, Invalid, NotFound
from tests.commands import call


def test_help_lists_every_command_and_is_a_success(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    assert [entry.name for entry in entries() if f"  {entry.name} " not in shown] == []
    assert {entry.name for entry in entries()} >= {"demo", "up", "serve", "doctor", "db", "tenant", "api-key"}


def test_the_list_says_what_the_commands_say_of_themselves() -> None:
    helps = dict(commands())
    for entry in entries():
        paragraph = helps[f"customhouse {entry.name}"].split("\n\n")[1]
        assert " ".join(paragraph.split()) == entry.summary


def test_help_imports_neither_the_service_nor_its_libraries() -> None:
    code = (
        "import sys; from customhouse.cli.main import run; assert run(['--help']) == 0;"
        "heavy = {'asyncpg', 'fastapi', 'uvicorn', 'boto3', 'structlog', 'pydantic', 'customhouse.app'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"customhouse {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing-of-the-kind"],
        ["up", "--nothing"],
        ["tenant"],
        ["api-key", "create", "--name", "n", "--scope", "events:write"],
        ["api-key", "create", "--name", "n", "--scope", "events:write", "--tenant", "acme", "--platform"],
        ["api-key", "create", "--name", "n", "--scope", "everything", "--tenant", "acme"],
        ["api-key", "create", "--name", "n", "--scope", "events:write", "--tenant", "acme", "--expires-in", "soon"],
        ["api-key", "create", "--name", "n", "--scope", "events:write", "--tenant", "acme", "--expires-in", "0"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2_and_says_what_is_wrong(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    said = capsys.readouterr()
    assert said.err
    assert "Traceback" not in said.err


def test_a_failure_is_exit_code_1_and_tells_what_to_do_without_a_traceback() -> None:
    done = call("serve", settings={"KMS_KEY": "secret-in-the-wrong-place"})
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("customhouse: 2 settings are not in order:")
    assert "CUSTOMHOUSE_KMS_KEY: expected" in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret-in-the-wrong-place" not in done.stderr


def test_an_unknown_setting_stops_a_command_before_it_does_anything() -> None:
    for command in (["up"], ["db", "status"]):
        done = call(*command, settings={"EGRES_ALLOW": "10.0.0.0/8"})
        assert done.returncode == 1
        assert "do you mean CUSTOMHOUSE_EGRESS_ALLOW?" in done.stderr


def test_each_fault_of_an_input_is_named() -> None:
    assert explain(Invalid("The key is not acceptable.", (Fault("/name", "1–200 characters"),))) == (
        "The key is not acceptable.\n- /name: 1–200 characters"
    )
    assert explain(NotFound()) == "No such thing in this tenant."


def test_a_surprise_is_told_without_its_message() -> None:
    said = surprise(ValueError("ada@example.com"))
    assert "ValueError" in said
    assert "ada@example.com" not in said
