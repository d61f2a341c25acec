"""`webhook sign` and `webhook verify`: what one signs the other knows, and a refusal says what probably happened."""

from __future__ import annotations

import base64
import io
import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from customhouse.cli.main import run
from customhouse.cli.webhook.diagnosis import hint
from customhouse.cli.webhook.sources import headers_of
from customhouse.errors import Invalid
from customhouse_receiver import Reason, testing
from tests.commands import PROGRAM, surroundings

NOW = 1_795_339_800
VECTORS = sorted((Path(__file__).parents[3] / "vectors" / "signatures").glob("*.json"))
OTHER = "whsec_" + "A" * 43 + "="


class Desk:
    """A folder with a body and a secret, and the commands on it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.capsys = capsys
        self.body = self.put("body.json", testing.body())
        self.secret = self.put("secret", testing.SECRET + "\n")

    def put(self, name: str, content: str | bytes) -> str:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    def call(self, *arguments: str) -> tuple[int, str]:
        code = run(["webhook", *arguments])
        captured = self.capsys.readouterr()
        return code, captured.out + captured.err

    def verify(self, headers: dict[str, str], *more: str, body: bytes | None = None, secret: str | None = None) -> tuple[int, Any]:
        self.put("headers", "".join(f"{name}: {value}\n" for name, value in headers.items()))
        source = self.body if body is None else self.put("other", body)
        code, said = self.call(
            "verify", source, "--headers", str(self.folder / "headers"), "--secret-file", secret or self.secret, "--json", *more
        )
        return code, json.loads(said)


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


@pytest.mark.parametrize("profile", ["queast-v1", "standard-webhooks"])
def test_what_sign_signs_verify_knows(desk: Desk, profile: str) -> None:
    code, lines = desk.call("sign", desk.body, "--secret-file", desk.secret, "--profile", profile)
    assert code == 0
    headers = desk.put("headers", f"POST /hooks HTTP/1.1\n> X-Other: 1\n\n{lines}")
    code, said = desk.call("verify", desk.body, "--headers", headers, "--secret-file", desk.secret)
    assert code == 0
    assert f"genuine   person.updated  evt_test  {profile}, secret {desk.secret}, signed " in said
    code, said = desk.call("sign", desk.body, "--secret-file", desk.secret, "--profile", profile, "--json")
    headers = desk.put("headers", said)
    code, said = desk.call("verify", desk.body, "--headers", headers, "--secret-file", desk.secret, "--json", "--data")
    assert (code, json.loads(said)["verdict"], json.loads(said)["data"]) == (0, "genuine", {"person": {"person_id": "p_1"}})


def test_sign_makes_what_the_service_makes(desk: Desk) -> None:
    _, lines = desk.call("sign", desk.body, "--secret-file", desk.secret, "--at", str(NOW), "--key-id", "key_7")
    expected = testing.headers(testing.body(), NOW, key_id="key_7")
    assert lines == "".join(f"{name}: {value}\n" for name, value in expected.items())


def test_the_signatures_of_a_rotation_are_both_there(desk: Desk) -> None:
    old = desk.put("old", OTHER)
    _, said = desk.call("sign", desk.body, "--secret-file", desk.secret, "--secret-file", old, "--profile", "standard-webhooks", "--json")
    headers = json.loads(said)
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in (desk.secret, old):
        code, verdict = desk.verify(headers, secret=secret)
        assert (code, verdict["verdict"], verdict["secret"]) == (0, "genuine", secret)
    assert desk.call("sign", desk.body, "--secret-file", desk.secret, "--secret-file", old)[0] == 2


def test_the_curl_line_sends_the_same_bytes_and_headers(desk: Desk) -> None:
    path = desk.put("it's a body.json", testing.body())
    code, line = desk.call("sign", path, "--secret-file", desk.secret, "--at", str(NOW), "--curl", "http://127.0.0.1:9000/a b")
    words = subprocess.run(["sh", "-c", f"printf '%s\\n' {line}"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert (code, words[0], words[-1]) == (0, "curl", "http://127.0.0.1:9000/a b")
    assert f"@{path}" in words
    assert {f"{name}: {value}" for name, value in testing.headers(testing.body(), NOW).items()} <= set(words)
    assert desk.call("sign", "-", "--secret-file", desk.secret, "--curl", "http://127.0.0.1")[0] == 2


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_verify_ends_each_vector_as_it_says(desk: Desk, path: Path) -> None:
    vector = json.loads(path.read_text())
    headers = desk.put("headers", json.dumps(vector["headers"]))
    files = [word for name, secret in vector["secrets"].items() for word in ("--secret-file", desk.put(name, secret))]
    body = desk.put("vector", base64.b64decode(vector["body_base64"]))
    options = ["--at", str(vector["now"]), "--tolerance", str(vector["tolerance"]), "--header-prefix", vector["header_prefix"], "--json"]
    code, said = desk.call("verify", body, "--headers", headers, *files, *options)
    verdict = json.loads(said)
    assert (code, verdict.get("reason", verdict["verdict"])) == (int(vector["expect"] != "genuine"), vector["expect"])
    if "key_id" in vector:
        assert Path(verdict["secret"]).name == vector["key_id"]


def test_a_refusal_says_what_probably_happened(desk: Desk) -> None:
    at = ("--at", str(NOW))
    genuine = testing.headers(testing.body(), NOW)
    pretty = json.dumps(testing.envelope(), indent=2).encode()
    spaced = testing.body() + b"\n"
    said = {
        "newline": desk.verify(genuine, *at, body=spaced),
        "cut": desk.verify(testing.headers(spaced, NOW), *at),
        "parsed": desk.verify(genuine, *at, body=pretty),
        "key": desk.verify(testing.headers(testing.body(), NOW, secret=OTHER, key_id="key_9"), *at),
        "unknown": desk.verify(testing.headers(testing.body(), NOW, secret=OTHER, profile="standard-webhooks"), *at),
        "old": desk.verify(testing.headers(testing.body(), NOW - 400), *at),
        "ahead": desk.verify(testing.headers(testing.body(), NOW + 400), *at),
        "prefix": desk.verify(testing.headers(testing.body(), NOW, header_prefix="X-Acme"), *at),
        "dropped": desk.verify({"X-Queast-Signature": genuine["X-Queast-Signature"]}, *at),
        "nothing": desk.verify({"Content-Type": "application/json"}, *at),
        "malformed": desk.verify({**genuine, "X-Queast-Signature": "v1=abc"}, *at),
    }
    expected = {
        "newline": "without the line end",
        "cut": "something removed it",
        "parsed": "verify the raw bytes",
        "key": "names the key key_9",
        "unknown": "another connection's",
        "old": "400 s old",
        "ahead": "400 s ahead",
        "prefix": "header prefix is X-Acme",
        "dropped": "a proxy may have dropped the others",
        "nothing": "no signature header at all",
        "malformed": "not of the agreed form",
    }
    assert {name: code for name, (code, _) in said.items()} == dict.fromkeys(said, 1)
    assert {name: text for name, text in expected.items() if text not in said[name][1]["detail"]} == {}


def test_the_payload_stays_hidden_unless_it_is_asked_for(desk: Desk) -> None:
    body = testing.body(data={"person": {"work_email": "ada@example.com", "note": "\x1b[2J\u202e"}})
    desk.put("headers", json.dumps(testing.headers(body, NOW)))
    call = ("verify", desk.put("other", body), "--headers", str(desk.folder / "headers"), "--secret-file", desk.secret, "--at", str(NOW))
    assert "ada" not in desk.call(*call)[1] + desk.call(*call, "--json")[1]
    shown = desk.call(*call, "--data")[1]
    assert "ada@example.com" in shown
    assert "\x1b[2J" not in shown
    assert "\u202e" not in shown


def test_secrets_come_from_files_and_variables_and_never_from_arguments(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", testing.SECRET)
    headers = testing.headers(testing.body(), NOW)
    desk.put("headers", json.dumps(headers))
    call = ("verify", desk.body, "--headers", str(desk.folder / "headers"), "--at", str(NOW))
    code, said = desk.call(*call, "--secret-env", "HOOK_SECRET", "--secret-file", desk.put("old", OTHER), "--json")
    assert (code, json.loads(said)["secret"]) == (0, "HOOK_SECRET")
    assert desk.call(*call, "--secret", testing.SECRET)[0] == 2
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    code, said = desk.call(*call)
    assert (code, "--secret-file FILE or --secret-env NAME" in said) == (2, True)


def test_on_a_terminal_the_secret_is_asked_for_and_not_shown(desk: Desk) -> None:
    keyboard, terminal = os.openpty()
    process = subprocess.Popen(
        [*PROGRAM, "webhook", "sign", desk.body, "--at", str(NOW)],
        env=surroundings({}),
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # without this run's own terminal, if it has one
    )
    assert process.stderr is not None
    asked = b""
    while (char := process.stderr.read(1)) and not asked.endswith(b"shown):"):
        asked += char
    os.write(keyboard, testing.SECRET.encode() + b"\n")
    out, rest = process.communicate(timeout=20)
    shown = os.read(keyboard, 1000) if select.select([keyboard], [], [], 0)[0] else b""
    os.close(keyboard)
    os.close(terminal)
    assert (process.returncode, asked) == (0, b"Signing secret (not shown):")
    assert out.decode() == "".join(f"{name}: {value}\n" for name, value in testing.headers(testing.body(), NOW).items())
    assert testing.SECRET.encode() not in shown + rest


def test_headers_in_json_must_be_texts(desk: Desk) -> None:
    for wrong in ('{"a": 1}', '["a"]', '[["a", "b", "c"]]', "{"):
        code, said = desk.call("verify", desk.body, "--headers", desk.put("headers", wrong), "--secret-file", desk.secret)
        assert (code, said.startswith("customhouse: The headers")) == (1, True)
    code, said = desk.call("verify", desk.body, "--headers", desk.put("headers", b"\xff: 1"), "--secret-file", desk.secret)
    assert (code, "not UTF-8" in said) == (1, True)


def test_what_is_missing_or_unreadable_is_one_clear_line(desk: Desk) -> None:
    headers = desk.put("headers", "X-Queast-Timestamp: 1\n")
    end = ("--headers", headers, "--secret-file", desk.secret)
    lines = {
        "cannot be read from": desk.call("verify", "nowhere", *end),
        "is not set": desk.call("verify", desk.body, "--headers", headers, "--secret-env", "NO_SUCH_VARIABLE"),
        "holds no secret": desk.call("verify", desk.body, "--headers", headers, "--secret-file", desk.put("empty", "\n")),
        "holds no text": desk.call("verify", desk.body, "--headers", headers, "--secret-file", desk.put("bytes", b"\xff" * 20)),
        "secret cannot be read": desk.call("verify", desk.body, "--headers", headers, "--secret-file", "nowhere"),
        "headers cannot be read": desk.call("verify", desk.body, "--headers", "nowhere", "--secret-file", desk.secret),
        "Line 1 of the headers": desk.call("verify", desk.body, "--headers", desk.put("words", "words"), "--secret-file", desk.secret),
        "shorter than 16 bytes": desk.call("verify", desk.body, "--headers", headers, "--secret-file", desk.put("short", "short")),
        "header prefix": desk.call("verify", desk.body, *end, "--header-prefix", "X Queast"),
        "no event_id": desk.call("sign", desk.put("none", "{}"), "--secret-file", desk.secret, "--profile", "standard-webhooks"),
        "larger than 16 MiB": desk.call("verify", desk.put("large", b" " * (16 * 1024 * 1024 + 1)), *end),
    }
    assert {text: (code, said) for text, (code, said) in lines.items() if code != 1 or text not in said or said.count("\n") != 1} == {}


def test_a_body_may_come_from_standard_input(desk: Desk) -> None:
    done = subprocess.run(
        [*PROGRAM, "webhook", "sign", "-", "--secret-env", "HOOK_SECRET", "--at", str(NOW)],
        input=testing.body(),
        env=surroundings({}) | {"HOOK_SECRET": testing.SECRET},
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode() == "".join(f"{name}: {value}\n" for name, value in testing.headers(testing.body(), NOW).items())


@given(raw=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_whatever_a_headers_file_holds_it_is_pairs_or_a_refusal(raw: bytes) -> None:
    try:
        pairs = headers_of(raw)
    except Invalid:
        return
    assert {type(text) for pair in pairs for text in pair} <= {str}


@given(
    reason=st.sampled_from(Reason),
    headers=st.lists(
        st.tuples(st.sampled_from(["X-Queast-Timestamp", "X-Queast-Signature", "webhook-signature", "A-Signature"]), st.text())
    ),
    body=st.binary(max_size=50),
)
def test_a_hint_is_always_a_printable_sentence_or_nothing(reason: Reason, headers: list[tuple[str, str]], body: bytes) -> None:
    said = hint(reason, headers, body, {"key_1": testing.SECRET}, header_prefix="X-Queast", tolerance=300, now=time.time())
    assert said is None or (said.isprintable() and len(said) < 250)
