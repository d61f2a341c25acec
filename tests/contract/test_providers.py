"""Every provider keeps the contract, none is left out, and the contract itself is proven by providers that break it."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import replace

import pytest

from customhouse.providers import reference
from customhouse.providers.catalogue import BUILT_IN, RESERVED
from customhouse.providers.contract.judge import CHECKS, judge
from customhouse.providers.contract.recordings import recording, standard
from customhouse.providers.contract.subject import DEMANDS, Subject
from customhouse.providers.manifest import OAuth2, Provider, Refresh, RestrictedKey
from customhouse.providers.scopes import names, requested
from customhouse.providers.vocabulary import Rotation
from tests.contract.broken import BROKEN, Broken
from tests.contract.subjects import FOLDERS, ROOT, acme, recordings, sound

PACKAGE = ROOT / "src" / "customhouse"
MODULES = PACKAGE / "providers"
LEDGER = ROOT / "vectors" / "providers" / "manifests.json"
by_provider = pytest.mark.parametrize("provider", BUILT_IN, ids=lambda provider: provider.id)


@by_provider
def test_a_provider_keeps_the_contract(provider: Provider) -> None:
    assert [f"{fault.number}: {fault.detail}" for fault in judge(Subject(provider, recordings(provider.id)))] == []


def test_a_provider_of_ones_own_keeps_the_same_contract() -> None:
    assert judge(sound()) == ()


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_a_provider_that_breaks_one_demand_fails_with_its_message(broken: Broken) -> None:
    found = judge(broken.subject)
    assert [fault for fault in found if fault.number == broken.number and broken.says in fault.detail], found
    assert found[0].number == broken.number  # what follows from it comes later


def test_each_check_is_proven_by_a_provider_that_breaks_it() -> None:
    assert {check.number for check in CHECKS} | {15} == {broken.number for broken in BROKEN}
    assert [check.number for check in CHECKS] == sorted({check.number for check in CHECKS})


@by_provider
def test_module_id_page_and_recordings_have_one_name(provider: Provider) -> None:
    assert (MODULES / f"{provider.id.replace('-', '_')}.py").is_file()
    assert (ROOT / provider.docs).is_file(), f"write {provider.docs} (docs/how-to/add-a-provider.md)"
    assert (FOLDERS / provider.id).is_dir()


def test_no_module_page_or_recording_is_left_out() -> None:
    ids = {provider.id for provider in BUILT_IN}
    assert len(ids) == len(BUILT_IN)
    assert not ids & RESERVED
    declaring = {
        path.stem
        for path in MODULES.glob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "PROVIDER"
    }
    assert declaring == {name.replace("-", "_") for name in ids}, "add the module to BUILT_IN in catalogue.py"
    assert {folder.name for folder in FOLDERS.iterdir() if folder.is_dir()} == ids
    assert {page.stem for page in (ROOT / "docs" / "providers").glob("*.md")} - {"README"} == ids


@by_provider
def test_scopes_do_not_change_without_a_new_version(provider: Provider) -> None:
    ledger = json.loads(LEDGER.read_text(encoding="utf-8"))
    assert provider.id in ledger, "run `make schema`: it enters what is new"
    entry = ledger[provider.id]
    now = {mode: list(names(requested(provider, mode))) for mode in provider.modes}
    if entry["scopes"] != now:
        assert provider.version > entry["version"], "scopes changed: raise `version`, so that users are asked again; then run `make schema`"
    assert (entry["version"], entry["scopes"]) == (provider.version, now), "run `make schema`"


def test_nothing_else_in_the_service_names_a_provider() -> None:
    words = {provider.id for provider in BUILT_IN} | {provider.name for provider in BUILT_IN}
    pattern = re.compile("|".join(rf"(?<![\w-]){re.escape(word)}(?![\w-])" for word in sorted(words, key=len, reverse=True)), re.IGNORECASE)
    # The demo tells the story of one of them.
    elsewhere = [
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*")
        if path.suffix in {".py", ".sql", ".html", ".css"} and MODULES not in path.parents and PACKAGE / "cli" / "demo" not in path.parents
    ]
    naming = {name: found for name in elsewhere if (found := set(pattern.findall((PACKAGE / name).read_text(encoding="utf-8"))))}
    assert naming == {}


def test_no_provider_module_imports_another_provider_or_anything_that_acts() -> None:
    allowed = {"typing", "dataclasses", "__future__", *(f"customhouse.providers.{name}" for name in ("manifest", "vocabulary"))}
    for provider in BUILT_IN:
        tree = ast.parse((MODULES / f"{provider.id.replace('-', '_')}.py").read_text(encoding="utf-8"))
        imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        shared = [
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module == "customhouse.providers"
            for alias in node.names
        ]
        assert imported - allowed <= {"customhouse.providers"}
        assert set(shared) <= {"google"}
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import)]


def test_every_possible_exemption_is_one_that_somebody_needs() -> None:
    assert {one.demand for provider in BUILT_IN for one in provider.exempt} == set(DEMANDS)


def test_where_there_are_no_refresh_tokens_none_are_asked_for() -> None:
    provider = replace(acme(), auth=replace(acme().oauth2, refresh=Refresh(Rotation.NONE, access_seconds=None)))
    assert judge(Subject(provider, standard(provider))) == ()


def test_an_identity_deep_inside_a_reply_is_found() -> None:
    auth = acme().oauth2
    deep = replace(auth.identity, account=("/data/company/id", "/data/id"), label=("/data/id",))
    provider = replace(acme(), auth=replace(auth, identity=deep))
    assert judge(Subject(provider, standard(provider))) == ()


def test_a_restricted_key_is_probed_for_all_that_it_needs_and_for_what_it_must_not() -> None:
    keys = [provider for provider in BUILT_IN if isinstance(provider.auth, RestrictedKey)]
    assert keys
    for provider in keys:
        auth = provider.auth
        assert isinstance(auth, RestrictedKey)
        assert {probe.shows for probe in auth.allowed} == set(names(provider.scopes))
        assert {probe.shows for probe in auth.forbidden} <= {never.pattern for never in provider.not_requested}
        assert auth.forbidden
        assert auth.advice
        for scope in provider.scopes:
            assert f"permissions[]={scope.name}" in auth.create_url
        for refused in auth.refused:
            assert re.fullmatch(auth.pattern, f"{refused.prefix}test_{'a' * 24}") is None
        assert all(probe.path.startswith("/") for probe in (*auth.allowed, *auth.forbidden))


@by_provider
def test_what_is_sent_with_a_token_goes_over_the_manifests_own_addresses(provider: Provider) -> None:
    if isinstance(provider.auth, OAuth2):
        assert provider.endpoints.token_url
    assert provider.trusts == ()


@by_provider
def test_what_the_proxy_lets_through_stands_on_scopes_that_are_asked_for(provider: Provider) -> None:
    assert provider.allow
    for rule in provider.allow:
        assert rule.path.startswith("/")
        scope = next(one for one in provider.scopes if one.name == rule.scope)
        # Without an approval nothing is changed, whatever the method is called.
        if rule.method not in {"GET", "HEAD"} and not rule.approval:
            assert not scope.writes, rule


@pytest.mark.parametrize(
    ("raw", "place"),
    [
        (b'{"extra":1}', "/extra"),
        (b'{"sort":"webhook"}', "/sort"),
        (b'{"step":"later"}', "/step"),
        (b'{"mode":"admin"}', "/mode"),
        (b'{"status":7}', "/status"),
        (b'{"source":" "}', "/source"),
        (b'{"sort":"error","expect":{"account":"a"}}', "/expect"),
        (b"{}", "/body"),
    ],
)
def test_a_recording_that_is_not_in_order_is_refused_by_place(raw: bytes, place: str) -> None:
    from customhouse.errors import Invalid

    with pytest.raises(Invalid) as refused:
        recording("x", raw)
    assert place in {fault.pointer for fault in refused.value.faults}


def test_there_are_no_standard_replies_of_a_pasted_key() -> None:
    with pytest.raises(ValueError, match="stripe has no OAuth"):
        standard(next(provider for provider in BUILT_IN if provider.id == "stripe"))


HEADINGS = (
    "Scopes",
    "Never asked for",
    "What crosses",
    "Tokens and disconnecting",
    "Calls of the proxy",
    "Errors",
    "Not confirmed",
    "Set it up",
    "Good to know",
)


@by_provider
def test_a_page_has_the_headings_of_all_and_what_the_manifest_says_today(provider: Provider) -> None:
    text = (ROOT / provider.docs).read_text(encoding="utf-8")
    assert text.startswith(f"# {provider.name}\n")
    assert tuple(re.findall(r"^## (.+)$", text, re.MULTILINE)) == HEADINGS
    generated = text.split("<!-- generated: `make schema` -->\n")[1].split("<!-- end -->")[0]
    assert generated == reference.page(provider), "run `make schema`"
    for heading, part in re.findall(r"^## (.+)\n((?:(?!^## ).*\n?)*)", text.split("<!-- end -->")[1], re.MULTILINE):
        assert len(part.split()) > 10, f"{provider.docs}: say something under {heading}"


def test_the_table_of_providers_is_that_of_today() -> None:
    text = (ROOT / "docs" / "providers" / "README.md").read_text(encoding="utf-8")
    assert text.split("<!-- generated: `make schema` -->\n")[1].split("<!-- end -->")[0] == reference.index(), "run `make schema`"


def test_the_measure_of_adding_a_provider_is_the_one_of_today() -> None:
    text = (ROOT / "docs" / "how-to" / "add-a-provider.md").read_text(encoding="utf-8")
    lines = len((MODULES / "pipedrive.py").read_text(encoding="utf-8").splitlines())
    replies = len(list((FOLDERS / "pipedrive").glob("*.json")))
    assert f"| `src/customhouse/providers/pipedrive.py` | 1 | {lines} |" in text
    assert f"| `tests/providers/pipedrive/*.json` | {replies} |" in text
