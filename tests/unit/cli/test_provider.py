"""`customhouse provider`: the catalogue as people and programs see it, and the judgement over a providers file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from customhouse.cli.main import run
from customhouse.providers.catalogue import BUILT_IN
from tests.contract.subjects import ACME

CANARY = "canary-4711-do-not-show"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PROVIDERS_FILE", "ENVIRONMENT"):
        monkeypatch.delenv(f"CUSTOMHOUSE_{name}", raising=False)
    monkeypatch.setenv("CUSTOMHOUSE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("ACME_SECRET", CANARY)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "providers.toml"
    path.write_bytes(ACME + b'client_id = "acme-client"\nclient_secret = {env = "ACME_SECRET"}\n')
    return path


def test_the_list_names_every_provider_and_whether_it_is_set_up(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["provider", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["data"]
    assert [(one["provider"], one["set_up"]) for one in listed] == [(one.id, one.id == "stripe") for one in BUILT_IN]
    monkeypatch.setenv("CUSTOMHOUSE_PROVIDERS_FILE", str(file))
    assert run(["provider", "list"]) == 0
    shown = capsys.readouterr().out
    assert [provider.id for provider in BUILT_IN if f" {provider.id} " not in shown] == []
    assert " acme " in shown
    assert CANARY not in shown


@pytest.mark.parametrize("provider", BUILT_IN, ids=lambda provider: provider.id)
def test_a_provider_is_shown_with_all_that_it_asks_for_and_never_asks_for(provider: object, capsys: pytest.CaptureFixture[str]) -> None:
    (one,) = [known for known in BUILT_IN if known is provider]
    assert run(["provider", "show", one.id]) == 0
    shown = capsys.readouterr().out
    assert run(["provider", "show", one.id, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert set(said["scopes"]) == set(one.modes)
    for scope in one.scopes:
        assert scope.name in shown
        assert scope.words in shown
    assert [never["scope"] for never in said["not_requested"]] == [never.pattern for never in one.not_requested]


def test_an_unknown_provider_is_a_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["provider", "show", "nobody"]) == 2
    assert "provider list" in capsys.readouterr().err


def test_a_sound_file_is_in_order(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["provider", "check", str(file)]) == 0
    assert capsys.readouterr().out == "acme: in order\n1 set up, 1 of this installation's own.\n"
    assert run(["provider", "check", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "in_order": True,
        "providers": [{"provider": "acme", "faults": []}],
        "shared_projects": [],
    }


def test_a_file_that_is_not_in_order_is_told_place_by_place(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_bytes(ACME.replace(b'not_requested = ["admin"]', f'clients = "{CANARY}"'.encode()))
    assert run(["provider", "check", str(file)]) == 1
    said = capsys.readouterr().err
    assert "/acme/not_requested: must be a list" in said
    assert "/acme/clients: there is no such key" in said
    assert CANARY not in said


def test_a_provider_that_breaks_the_contract_is_told_check_by_check(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_bytes(ACME.replace(b'["admin"]', b'["re*"]') + b"pkce = false\n")
    assert run(["provider", "check", str(file)]) == 1
    said = capsys.readouterr().out
    assert "acme: not in order" in said
    assert "the scope `read` is asked for and" in said
    assert "no S256 challenge is sent (check 4)" in said


def test_recorded_replies_are_judged_where_they_are_given(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "recorded" / "acme"
    folder.mkdir(parents=True)
    identity = {
        "source": "made for this test",
        "sort": "identity",
        "step": "api",
        "status": 200,
        "body": {"sub": ""},
        "expect": {"account": "a"},
    }
    (folder / "identity.json").write_text(json.dumps(identity), encoding="utf-8")
    assert run(["provider", "check", str(file), "--recordings", str(tmp_path / "recorded")]) == 1
    said = capsys.readouterr().out
    assert "identity: the identity cannot be read (check 5)" in said
    assert "no recording shows the token reply of a refresh" in said


def test_plain_http_is_accepted_in_development_only(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_bytes(b'[zoom]\ntoken_url = "http://127.0.0.1:8400/token"\n')
    assert run(["provider", "check", str(file)]) == 1
    assert "/zoom/token_url: must begin with https://" in capsys.readouterr().err
    assert run(["provider", "check", str(file), "--dev"]) == 0


def test_two_integrations_of_one_project_are_refused(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = '[{}]\nclient_id = "123-{}.apps.googleusercontent.com"\nclient_secret = {{env = "ACME_SECRET"}}\n'
    file.write_text(one.format("gmail", "a") + one.format("google-drive", "b"), encoding="utf-8")
    assert run(["provider", "check", str(file)]) == 1
    assert "gmail and google-drive share a project" in capsys.readouterr().out


@pytest.mark.parametrize("content", [None, b"x" * 1_048_577, b"\xff"], ids=["missing", "too large", "not text"])
def test_a_file_that_cannot_be_read_is_one_line(content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "file.toml"
    if content is not None:
        path.write_bytes(content)
    assert run(["provider", "check", str(path)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_an_installation_without_its_secret_says_which_place(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CUSTOMHOUSE_PROVIDERS_FILE", str(file))
    monkeypatch.delenv("ACME_SECRET")
    assert run(["provider", "list"]) == 1
    assert "/acme/client_secret: its environment variable is not set" in capsys.readouterr().err
