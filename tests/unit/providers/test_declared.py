"""The providers file: what it may say, and that everything else is named by its place, never by its value."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from customhouse.errors import Invalid, NotFound, ProviderNotConfigured
from customhouse.providers.catalogue import BUILT_IN, Catalogue
from customhouse.providers.contract.judge import judge
from customhouse.providers.contract.recordings import standard
from customhouse.providers.contract.subject import Subject
from customhouse.providers.declared import read
from customhouse.providers.manifest import Allowance, OAuth2
from customhouse.providers.tables import Reference
from customhouse.providers.vocabulary import ClientAuth, Extent, Mode, Reuse, Risk, Rotation
from customhouse.types import Secret

CANARY = "canary-4711-do-not-show"
ACME = """
[acme-idp]
kind = "oauth2"
name = "Acme"
authorize_url = "https://id.acme.example/auth"
token_url = "https://id.acme.example/token"
revoke_url = "https://id.acme.example/revoke"
identity_url = "https://id.acme.example/me"
api_base = "https://api.acme.example"
client_id = "acme-client"
client_secret = {env = "ACME_SECRET"}
scopes.observe = [{name = "read", why = "read your records"}]
scopes.act = [{name = "write", why = "change your records"}]
not_requested = ["admin"]
allow = [{method = "GET", path = "/api/*", scope = "read"}, {method = "POST", path = "/api/*", scope = "write", approval = true}]
"""
ZOOM = """
[zoom]
client_id = "zoom-client"
client_secret = {env = "ZOOM_CLIENT_SECRET"}
webhook_secret = {file = "/run/secrets/zoom"}
"""


def resolve(place: Reference) -> Secret:
    if place.env == "MISSING":
        raise ValueError("its environment variable is not set")
    return Secret(f"{place.env or place.file}-{CANARY}".encode())


def catalogue(text: str, *, https_required: bool = True) -> Catalogue:
    return read(text.encode(), resolve, https_required=https_required)


def faults(text: str, *, https_required: bool = True) -> dict[str, str]:
    with pytest.raises(Invalid) as refused:
        catalogue(text, https_required=https_required)
    said = {fault.pointer: fault.detail for fault in refused.value.faults}
    assert CANARY not in repr(said) + refused.value.detail
    return said or {"": refused.value.detail}


def test_without_a_file_the_built_in_providers_are_there_and_none_is_set_up() -> None:
    found = Catalogue()
    assert found.providers == BUILT_IN
    assert found.get("zoom").name == "Zoom"
    with pytest.raises(ProviderNotConfigured, match="Zoom is not set up here"):
        found.client("zoom")
    for ask in (found.get, found.client):
        with pytest.raises(NotFound):
            ask("nobody")


def test_an_empty_file_changes_nothing() -> None:
    assert catalogue("") == Catalogue()


def test_a_registration_gives_client_and_webhook_secret() -> None:
    found = catalogue(ZOOM)
    assert found.client("zoom").id == "zoom-client"
    assert found.client("zoom").secret == Secret(f"ZOOM_CLIENT_SECRET-{CANARY}".encode())
    assert found.webhook_secrets == {"zoom": Secret(f"/run/secrets/zoom-{CANARY}".encode())}
    assert found.providers == BUILT_IN
    assert CANARY not in repr(found)


def test_an_overridden_endpoint_is_trusted_by_its_exact_origin() -> None:
    found = catalogue(
        '[zoom]\ntoken_url = "http://127.0.0.1:8400/zoom/oauth/token"\napi_base = "https://sandbox.example"', https_required=False
    )
    zoom = found.get("zoom")
    assert zoom.endpoints.token_url == "http://127.0.0.1:8400/zoom/oauth/token"
    assert zoom.endpoints.revoke_url == "https://zoom.us/oauth/revoke"
    assert set(zoom.trusts) == {"http://127.0.0.1:8400", "https://sandbox.example"}
    assert (zoom.hosts, zoom.scopes, zoom.not_requested) == tuple(
        getattr(Catalogue().get("zoom"), name) for name in ("hosts", "scopes", "not_requested")
    )


def test_plain_http_is_for_development() -> None:
    assert "https" in faults('[zoom]\ntoken_url = "http://127.0.0.1:8400/token"')["/zoom/token_url"]


def test_a_provider_of_ones_own_is_a_whole_provider() -> None:
    found = catalogue(ACME)
    acme = found.get("acme-idp")
    auth = acme.auth
    assert isinstance(auth, OAuth2)
    assert [provider.id for provider in found.providers] == [*(provider.id for provider in BUILT_IN), "acme-idp"]
    assert (acme.name, acme.risk, acme.version, acme.modes) == ("Acme", Risk.HIGH, 1, (Mode.OBSERVE, Mode.ACT))
    assert [(scope.name, scope.mode, scope.words, scope.writes) for scope in acme.scopes] == [
        ("read", Mode.OBSERVE, "read your records", False),
        ("write", Mode.ACT, "change your records", True),
    ]
    assert [never.pattern for never in acme.not_requested] == ["admin"]
    assert acme.allow == (Allowance("GET", "/api/*", "read"), Allowance("POST", "/api/*", "write", approval=True))
    assert (auth.client_auth, auth.pkce, auth.refresh.rotation, auth.refresh.reuse) == (
        ClientAuth.BASIC,
        True,
        Rotation.SINGLE_USE,
        Reuse.REFUSED,
    )
    assert auth.revocation.supported
    assert acme.trusts == ("https://api.acme.example", "https://id.acme.example")
    assert found.client("acme-idp").id == "acme-client"


def test_a_provider_of_ones_own_may_say_how_it_differs() -> None:
    acme = catalogue(
        ACME.replace('revoke_url = "https://id.acme.example/revoke"\n', "")
        + """
purpose = "Records"
risk = "low"
risk_why = "test data"
version = 7
hosts = ["files.acme.example"]
client_auth = "client_secret_post"
pkce = false
rotation = "stable"
access_seconds = 600
scope_separator = ","
authorize_extra = {prompt = "consent"}
issuer = "https://id.acme.example"
identity = {account = ["/org", "/id"], label = ["/mail"], organisation = "/org"}
harmless = [{name = "email", why = "Comes with every answer."}]
flows = [{direction = "in", what = "Records"}, {direction = "out", what = "Changes"}]
"""
    ).get("acme-idp")
    auth = acme.oauth2
    assert (acme.purpose, acme.risk, acme.version, acme.hosts) == ("Records", Risk.LOW, 7, ("files.acme.example",))
    assert (auth.client_auth, auth.pkce, auth.separator) == (ClientAuth.BODY, False, ",")
    assert (auth.refresh.rotation, auth.refresh.access_seconds) == (Rotation.STABLE, 600)
    assert (auth.issuer, auth.names_issuer) == ("https://id.acme.example", True)
    assert [one.name for one in acme.harmless] == ["email"]
    assert auth.authorize_extra == (("prompt", "consent"),)
    assert (auth.identity.account, auth.identity.organisation) == (("/org", "/id"), "/org")
    assert (auth.revocation.supported, auth.revocation.extent) == (False, Extent.NOTHING)
    assert auth.revocation.advice
    assert [flow.direction for flow in acme.flows] == ["in", "out"]


def test_without_act_scopes_there_is_no_act_mode() -> None:
    text = ACME.replace('scopes.act = [{name = "write", why = "change your records"}]\n', "")
    text = text[: text.index("allow")]
    assert catalogue(text).get("acme-idp").modes == (Mode.OBSERVE,)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (f'[zom]\nclient_id = "{CANARY}"', "/zom/kind"),
        (f'[webhook]\nclient_id = "{CANARY}"', "/webhook"),
        (f'[Zoom]\nclient_id = "{CANARY}"', "/Zoom"),
        (f'["a b"]\nclient_id = "{CANARY}"', "/a b"),
        (f'[zoom]\nclient_id = "{CANARY}"', "/zoom/client_secret"),
        ('[zoom]\nclient_secret = {env = "A"}', "/zoom/client_id"),
        (f'[zoom]\nclient_id = "a"\nclient_secret = "{CANARY}"', "/zoom/client_secret"),
        (f'[zoom]\nclient_id = "a"\nclient_secret = {{env = "A", file = "/{CANARY}"}}', "/zoom/client_secret"),
        (f'[zoom]\nclient_id = "a"\nclient_secret = {{value = "{CANARY}"}}', "/zoom/client_secret"),
        (f'[zoom]\nclient_id = "a"\nclient_secret = {{file = "{CANARY}"}}', "/zoom/client_secret"),
        (f'[zoom]\nclient_id = "a"\nclient_secret = {{env = "{CANARY}"}}', "/zoom/client_secret"),
        ('[zoom]\nclient_id = "a"\nclient_secret = {env = "MISSING"}', "/zoom/client_secret"),
        ("[zoom]\nclient_id = 7\nclient_secret = {env = 7}", "/zoom/client_id"),
        (f'[zoom]\nclient_idd = "{CANARY}"', "/zoom/client_idd"),
        (f'[zoom]\nscopes = ["{CANARY}"]', "/zoom/scopes"),
        (f'[zoom]\nintrospect_url = "https://{CANARY}.example/"', "/zoom/introspect_url"),
        (f'[zoom]\ntoken_url = "https://{CANARY}@zoom.us/"', "/zoom/token_url"),
        (f'[zoom]\ntoken_url = "https://zoom.us/{CANARY}/../x"', "/zoom/token_url"),
        ('[zoom]\ntoken_url = "https://ZOOM.us/"', "/zoom/token_url"),
        ('[zoom]\ntoken_url = "https://zoom.us/#x"', "/zoom/token_url"),
        ('[zoom]\ntoken_url = "https://zoom.us:99999/"', "/zoom/token_url"),
        ('[zoom]\ntoken_url = "ftp://zoom.us/"', "/zoom/token_url"),
        ('[zoom]\ntoken_url = ""', "/zoom/token_url"),
        ("zoom = 7", "/zoom"),
        (ACME.replace('kind = "oauth2"', 'kind = "saml"'), "/acme-idp/kind"),
        (ACME.replace('name = "Acme"\n', ""), "/acme-idp/name"),
        (ACME.replace('identity_url = "https://id.acme.example/me"\n', ""), "/acme-idp/identity_url"),
        (ACME.replace('not_requested = ["admin"]\n', ""), "/acme-idp/not_requested"),
        (ACME.replace('["admin"]', "[]"), "/acme-idp/not_requested"),
        (ACME.replace('["admin"]', '["two words"]'), "/acme-idp/not_requested/0/pattern"),
        (ACME.replace('["admin"]', "[7]"), "/acme-idp/not_requested/0/pattern"),
        (ACME.replace('scopes.observe = [{name = "read", why = "read your records"}]', "scopes.observe = []"), "/acme-idp/scopes/observe"),
        (ACME.replace('why = "read your records"', 'because = "x"'), "/acme-idp/scopes/observe/0/because"),
        (ACME.replace('{name = "write"', '{name = "read"'), "/acme-idp/scopes/act/0/name"),
        (ACME.replace("scopes.act", "scopes.admin"), "/acme-idp/scopes/admin"),
        (ACME.replace(", approval = true", ""), "/acme-idp/allow/1/approval"),
        (ACME.replace('scope = "write"', 'scope = "read"'), "/acme-idp/allow/1/scope"),
        (ACME.replace('scope = "write"', 'scope = "other"'), "/acme-idp/allow/1/scope"),
        (ACME.replace('"/api/*", scope = "read"', '"/api/../x", scope = "read"'), "/acme-idp/allow/0/path"),
        (ACME.replace('"/api/*", scope = "read"', '"/api/%2e", scope = "read"'), "/acme-idp/allow/0/path"),
        (ACME.replace('method = "GET"', 'method = "get"'), "/acme-idp/allow/0/method"),
        (ACME + 'risk = "none"', "/acme-idp/risk"),
        (ACME + 'issuer = "acme"', "/acme-idp/issuer"),
        (ACME + 'harmless = ["email"]', "/acme-idp/harmless"),
        (ACME + 'harmless = [{name = "email"}]', "/acme-idp/harmless/0/why"),
        (ACME + "version = 0", "/acme-idp/version"),
        (ACME + "version = true", "/acme-idp/version"),
        (ACME + 'pkce = "yes"', "/acme-idp/pkce"),
        (ACME + "identity = 7", "/acme-idp/identity"),
        (ACME + "identity = {account = []}", "/acme-idp/identity/account"),
        (ACME + 'identity = {account = ["sub"]}', "/acme-idp/identity/account"),
        (ACME + "hosts = 7", "/acme-idp/hosts"),
        (ACME + "flows = [7]", "/acme-idp/flows"),
        (ACME + 'authorize_extra = {"Prompt!" = "x"}', "/acme-idp/authorize_extra/Prompt!"),
        (ACME + "authorize_extra = {prompt = 7}", "/acme-idp/authorize_extra/prompt"),
    ],
)
def test_what_is_wrong_is_named_by_its_place(text: str, place: str) -> None:
    assert place in faults(text)


def test_everything_that_is_wrong_is_told_at_once() -> None:
    assert {"/zoom/client_idd", "/gmail/token_url", "/acme/name"} <= set(
        faults('[zoom]\nclient_idd = "a"\n[gmail]\ntoken_url = "http://a"\n[acme]\nkind = "oauth2"')
    )


def test_a_word_that_is_nearly_right_is_suggested() -> None:
    assert "client_id" in faults('[zoom]\nclient_idd = "a"')["/zoom/client_idd"]


def test_what_is_no_toml_is_refused_by_line_without_quoting_it() -> None:
    assert faults(f'[zoom]\nclient_id = "{CANARY}')[""].startswith("The providers file is not TOML, ")
    with pytest.raises(Invalid, match="not UTF-8"):
        read(b"\xff", resolve, https_required=True)
    with pytest.raises(Invalid, match="larger than"):
        read(b"#" * 1_048_577, resolve, https_required=True)


def test_two_google_integrations_in_one_project_are_noticed() -> None:
    one = '[{id}]\nclient_id = "{client}"\nclient_secret = {{env = "A"}}\n'
    ids = {"gmail": "123-a.apps.googleusercontent.com", "google-drive": "123-b.apps.googleusercontent.com"}
    shared = catalogue("".join(one.format(id=name, client=client) for name, client in ids.items()))
    assert shared.shared_projects() == (("gmail", "google-drive"),)
    ids["google-drive"] = "124-b.apps.googleusercontent.com"
    assert catalogue("".join(one.format(id=name, client=client) for name, client in ids.items())).shared_projects() == ()
    same = "".join(one.format(id=name, client="own-client") for name in ("gmail", "google-meet"))
    assert catalogue(same).shared_projects() == (("google-meet", "gmail"),)


toml_values = st.recursive(
    st.booleans()
    | st.integers(-9, 99)
    | st.sampled_from(["oauth2", "read", "https://a.example/x", "/api/*", "GET", "in", "/sub", ""])
    | st.text(max_size=8),
    lambda below: (
        st.lists(below, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "why", "env", "file", "method", "path", "scope", "observe", "act", "account"]), below, max_size=3
        )
    ),
    max_leaves=6,
)


def toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str):
        return '"' + "".join(f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}" for char in value) + '"'
    return str(value)


@given(
    st.sampled_from(["zoom", "acme"]),
    st.dictionaries(
        st.sampled_from(
            [
                "kind",
                "name",
                "authorize_url",
                "token_url",
                "identity_url",
                "api_base",
                "client_id",
                "client_secret",
                "scopes",
                "not_requested",
                "allow",
                "identity",
                "flows",
                "authorize_extra",
                "hosts",
                "version",
                "pkce",
                "risk",
                "scope_separator",
            ]
        ),
        toml_values,
        max_size=12,
    ),
)
def test_any_table_is_a_catalogue_or_a_refusal(name: str, values: dict[str, Any]) -> None:
    text = f"[{name}]\n" + "".join(f"{key} = {toml(value)}\n" for key, value in values.items())
    try:
        sound = catalogue(text).get(name).id == name
    except Invalid as refused:
        sound = bool(refused.faults) or "not TOML" in refused.detail
    assert sound


@given(st.binary(max_size=80))
def test_any_bytes_are_a_catalogue_or_a_refusal(raw: bytes) -> None:
    try:
        read(raw, resolve, https_required=True)
    except Invalid:
        return


more = st.fixed_dictionaries(
    {},
    optional={
        "purpose": st.text(max_size=12),
        "hosts": st.lists(st.sampled_from(["a.example", "*.a.example", "https://a.example", ""]), max_size=2),
        "pkce": st.booleans(),
        "client_auth": st.sampled_from(["client_secret_basic", "client_secret_post"]),
        "rotation": st.sampled_from([str(rotation) for rotation in Rotation]),
        "access_seconds": st.integers(0, 9000),
        "scope_separator": st.sampled_from([" ", ",", ";"]),
        "issuer": st.sampled_from(["https://id.acme.example", "acme"]),
        "authorize_extra": st.dictionaries(st.sampled_from(["prompt", "state", "scope", "client_secret"]), st.text(max_size=8), max_size=3),
        "identity": st.fixed_dictionaries(
            {}, optional={"account": st.lists(st.sampled_from(["/sub", "/a/b", "/a", "/*"]), max_size=3), "label": st.just(["/a/b"])}
        ),
        "harmless": st.lists(st.fixed_dictionaries({"name": st.sampled_from(["read", "email"]), "why": st.just("w")}), max_size=2),
    },
)


@given(more)
def test_whatever_is_accepted_can_be_judged(values: dict[str, Any]) -> None:
    text = ACME + "".join(f"{key} = {toml(value)}\n" for key, value in values.items())
    try:
        found = catalogue(text)
    except Invalid as refused:
        said = bool(refused.faults)
    else:
        acme = found.get("acme-idp")
        said = all(fault.detail for fault in judge(Subject(acme, standard(acme))))
    assert said
