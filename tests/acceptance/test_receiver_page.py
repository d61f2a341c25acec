"""The page for receivers: its functions decide each shared vector as it says, in every language of this machine; its commands run.

`REQUIRE_SUITES=all` (as `.ci/run` sets it) demands all the languages.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from customhouse_receiver import Reason
from customhouse_receiver.testing import body

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "receive-webhooks.md").read_text(encoding="utf-8")
SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
GENUINE_SIGNATURE = {"genuine", "envelope_malformed", "schema_version_unknown"}


@dataclass(frozen=True)
class Language:
    """How a language runs the function of the page.

    Attributes:
        heading: on the page.
        program: that must be there.
        file: its name; what stands before the function, and after it.
        command: to run it; `{}` is the folder.
    """

    heading: str
    program: str
    file: str
    before: str
    after: str
    command: tuple[str, ...]


# Each reads lines of: now, timestamp, signature, body, secrets (comma-separated); texts in base64, "-" for what is missing.
LANGUAGES = {
    "python": Language(
        "Python",
        sys.executable,
        "genuine.py",
        "",
        """
import base64, sys
text = lambda word: None if word == "-" else base64.b64decode(word).decode()
for line in sys.stdin:
    now, timestamp, signature, body, secrets = line.rstrip("\\n").split("\\t")
    said = genuine(text(timestamp), text(signature), base64.b64decode(body), [text(one) for one in secrets.split(",")], int(now))
    print(str(said).lower())
""",
        (sys.executable, "{}/genuine.py"),
    ),
    "node": Language(
        "Node.js",
        "node",
        "genuine.js",
        "",
        """
const bytes = (word) => Buffer.from(word, "base64");
const text = (word) => (word === "-" ? undefined : bytes(word).toString());
for (const line of require("node:fs").readFileSync(0, "utf8").trimEnd().split("\\n")) {
  const [now, timestamp, signature, body, secrets] = line.split("\\t");
  console.log(genuine(text(timestamp), text(signature), bytes(body), secrets.split(",").map(text), Number(now)));
}
""",
        ("node", "{}/genuine.js"),
    ),
    "java": Language(
        "Java",
        "javac",
        "Genuine.java",
        """
class Genuine {
    static String text(String word) {
        return word.equals("-") ? null : new String(bytes(word), java.nio.charset.StandardCharsets.UTF_8);
    }
    static byte[] bytes(String word) { return java.util.Base64.getDecoder().decode(word); }
    public static void main(String[] arguments) throws Exception {
        var lines = new java.io.BufferedReader(new java.io.InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] words = line.split("\\t", -1);
            var secrets = new java.util.ArrayList<String>();
            for (String word : words[4].split(",")) secrets.add(text(word));
            System.out.println(Webhook.genuine(text(words[1]), text(words[2]), bytes(words[3]), secrets, Long.parseLong(words[0])));
        }
    }
}
""",
        "",
        ("java", "{}/Genuine.java"),
    ),
    "php": Language(
        "PHP",
        "php",
        "genuine.php",
        "",
        """
function text(string $word): ?string { return $word === '-' ? null : base64_decode($word); }
while (($line = fgets(STDIN)) !== false) {
    [$now, $timestamp, $signature, $body, $secrets] = explode("\\t", rtrim($line, "\\n"));
    $said = genuine(text($timestamp), text($signature), base64_decode($body), array_map('text', explode(',', $secrets)), (int) $now);
    echo $said ? "true\\n" : "false\\n";
}
""",
        ("php", "{}/genuine.php"),
    ),
    "perl": Language(
        "Perl",
        "perl",
        "genuine.pl",
        "",
        """
use MIME::Base64;
sub text { return $_[0] eq '-' ? undef : decode_base64($_[0]); }
while (my $line = <STDIN>) {
    chomp $line;
    my ($now, $timestamp, $signature, $body, $secrets) = split /\\t/, $line, -1;
    my $said = genuine(text($timestamp), text($signature), decode_base64($body), [map { text($_) } split /,/, $secrets], $now);
    print $said ? "true\\n" : "false\\n";
}
""",
        ("perl", "{}/genuine.pl"),
    ),
}
PRESENT = sorted(name for name, language in LANGUAGES.items() if shutil.which(language.program))


def vectors() -> dict[str, tuple[str, bool]]:
    """Return, by name, the line for a program and whether the signature is genuine: those of the profile that the functions know."""
    found = {}
    for path in sorted((ROOT / "vectors" / "signatures").glob("*.json")):
        vector: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if (
            path.stem.startswith("standard-")
            or "mixed" in path.stem
            or any(text.startswith("whpk_") for text in vector["secrets"].values())
        ):
            continue  # the other profile, and keys that are none of these functions'
        found[path.stem] = (_line(vector), vector["expect"] in GENUINE_SIGNATURE)
    return found


def _line(vector: dict[str, Any]) -> str:
    def joined(name: str) -> str:
        values = [value for header, value in vector["headers"] if header.lower() == f"{vector['header_prefix']}-{name}".lower()]
        return _encoded(", ".join(values).encode()) if values else "-"

    secrets = ",".join(_encoded(secret.encode()) for secret in vector["secrets"].values())
    return "\t".join([str(vector["now"]), joined("timestamp"), joined("signature"), vector["body_base64"], secrets])


def _encoded(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def section(heading: str) -> str:
    """Return the code under a heading."""
    found = re.search(rf"^### {re.escape(heading)}\n.*?^```\w+\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert found, heading
    return found[1]


@pytest.mark.parametrize("name", PRESENT)
def test_the_function_of_each_language_decides_every_vector_as_it_says(name: str, tmp_path: Path) -> None:
    language = LANGUAGES[name]
    (tmp_path / language.file).write_text(f"{_main(name)}{language.after}", encoding="utf-8")
    expected = vectors()
    lines = "".join(f"{line}\n" for line, _ in expected.values())
    command = [word.format(tmp_path) for word in language.command]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    said = dict(zip(expected, done.stdout.split(), strict=True))
    assert {vector: word for vector, word in said.items() if word != str(expected[vector][1]).lower()} == {}
    assert {"true", "false"} == set(said.values())


def _main(name: str) -> str:
    language = LANGUAGES[name]
    code = section(language.heading)
    if name != "java":
        return language.before + code
    # One file, as `java File.java` runs it: the imports, the class that is run, the function's class.
    imports, _, rest = code.partition("final class")
    return f"{imports}{language.before}final class{rest}"


def test_the_page_shows_five_languages_and_where_all_is_demanded_they_all_run() -> None:
    assert [language.heading for language in LANGUAGES.values()] == re.findall(r"^### (.+)$", PAGE, re.MULTILINE)
    assert len(LANGUAGES) == 5
    assert "python" in PRESENT
    if os.environ.get("REQUIRE_SUITES") == "all":
        assert sorted(LANGUAGES) == PRESENT


def test_the_table_explains_every_reason() -> None:
    table = PAGE.partition("## Troubleshooting")[2]
    assert {reason.value for reason in Reason} == set(re.findall(r"^\| `([a-z_]+)` \|", table, re.MULTILINE))


def test_the_quick_start_takes_the_request_that_sign_makes(tmp_path: Path) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[0], names)
    (tmp_path / "secret").write_text(SECRET, encoding="utf-8")
    (tmp_path / "body.json").write_bytes(body(event_id="evt_1"))
    command = [sys.executable, "-m", "customhouse.cli", "webhook", "sign", "body.json", "--secret-file", "secret", "--json"]
    signed = json.loads(subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout)
    client = names["app"].test_client()
    answers = [client.post("/hooks", data=body(event_id="evt_1"), headers=signed) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [204, 401]
    assert answers[1].json == {"reason": "replayed", "retryable": False}


def test_the_commands_of_the_page_run_as_they_stand(tmp_path: Path) -> None:
    """What `sign` prints is sent by curl to what `listen` shows."""
    (tmp_path / "secret").write_text(SECRET, encoding="utf-8")
    (tmp_path / "body.json").write_bytes(body(event_id="evt_1"))
    shown = [code.strip() for code in re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)]
    sign, listen, verify = (next(code for code in shown if f"webhook {name}" in code).split()[2:] for name in ("sign", "listen", "verify"))
    program = [sys.executable, "-m", "customhouse.cli", "webhook"]
    listening = subprocess.Popen(
        [*program, *listen[:-1], "0", "--count", "1", "--json"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert listening.stderr is not None
        port = int(re.findall(r":(\d+)/", listening.stderr.readline())[0])
        line = subprocess.run([*program, *sign[:-1], f"http://127.0.0.1:{port}/"], cwd=tmp_path, capture_output=True, text=True, check=True)
        told = subprocess.run(["sh", "-c", f"printf '%s\\n' {line.stdout}"], capture_output=True, text=True, check=True).stdout.splitlines()
        headers = [told[at + 1] for at, word in enumerate(told) if word == "-H"]
        assert told[-1] == f"http://127.0.0.1:{port}/"
        conn = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        conn.request("POST", "/", (tmp_path / "body.json").read_bytes(), dict(header.split(": ", 1) for header in headers))
        assert conn.getresponse().status == 204
        conn.close()
        out, _ = listening.communicate(timeout=20)
        assert json.loads(out)["verdict"] == "genuine"
    finally:
        listening.kill()
        listening.communicate()
    (tmp_path / "headers.txt").write_text("\n".join(headers), encoding="utf-8")
    judged = [*verify[:-1], str(int(time.time()))]
    assert subprocess.run([*program, *judged], cwd=tmp_path, capture_output=True, check=False).returncode == 0
