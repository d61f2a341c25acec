"""Secrets and personal data sent through every path of a real service; then everything that is kept or printed is searched.

Design §13.1, rulings §11 and §15. The service is a process of its own on a PostgreSQL of its own: its tables, its write-ahead log, its
log, the service's output, `/metrics`, every error answer and the ledger are searched in every form that software writes values in.
"""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import asyncpg
import httpx
import pytest

from customhouse.app import Store, migrate_store
from customhouse.config import load
from customhouse.embedded.binaries import binaries
from customhouse.embedded.cluster import Cluster
from customhouse.embedded.throwaway import throwaway_cluster
from customhouse.types import Secret
from customhouse_sandbox.faults import FaultKind, Operation
from customhouse_sandbox.stripe import keys
from tests.canaries import files_below, forms, traces
from tests.receivers import Received, Recorder, recorder, status
from tests.sandboxes import NEEDED, Landing, Sandbox, consent, running, stripe_key
from tests.services import Service

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

PLATFORM_KEY = "ck_canary-platform-Xq7RmW2pLz9TvB4nKj6HsD1f"
WORK_EMAIL = "canary.work@allowed.example"
MARK = "Visible Marker Limited"
"""A tenant's name, which is kept in clear: it shows that the search finds what is there."""

SENT = {
    "phone": "+49 151 98765432",
    "bare phone": "+4915198765432",
    "personal email": "canary.home@private.example",
    "first name": "Canarybert-Jürgen",
    "street": "Kanarienvogelstraße 17b",
    "iban": "DE89370400440532013000",
    "card": "4111111111111111",
    "map key": "canary.key@private.example",
    "in a string of json": "canary.nested@private.example",
    "in a list": "canary.list@private.example",
    "in a query": "canary.query@private.example",
    "aws key": "AKIAIOSFODNN7CANARY1",
    "github token": "ghp_Canary0123456789abcdefABCDEF012345678",
    "refused value": "canary.refused@private.example",
    "schema value": "canary-schema-value-0815",
    "malformed value": "canary-malformed-value-4711",
    "key with a mail": "canary.idempotency@private.example",
    "unknown api key": "ck_canary-unknown-5f0c1d2e3b4a59687786950413223140",
    "url path": "canary-url-path-secret-c2VjcmV0",
    "changed url path": "canary-changed-path-secret-ZGF0YQ",
    "url user": "canaryuser:canary-url-password",
    "url query": "token=canary-url-query-secret",
    "correlation": "canary.correlation@private.example",
    "description in a body that is too large": "canary-too-large-value",
    "user's name": "Kanarina Vogelsang-Öztürk",
    "user's mail": "canary.user@private.example",
    "account's mail": "canary.account@private.example",
    "account's id": "canary-account-id-9f3b",
    "password of the mail relay": "canary-mail-relay-password-7e5d",
    "forged state": "canary-forged-state-abcdefghijklmnopqrstuvw",
    "secret key": "sk_test_51CanarySecretKey0123456789abcdef",
    "webhook secret": "whsec_CanaryWebhookSecret0123456789",
    "error of a provider": "canary-error-from-provider",
}


@dataclass
class Evidence:
    """What a run left behind."""

    secrets: dict[str, str] = field(default_factory=dict)
    answers: dict[str, bytes] = field(default_factory=dict)
    dump: bytes = b""
    tables: dict[str, bytes] = field(default_factory=dict)
    """Every value of every table, as a superuser reads it."""
    files: dict[str, bytes] = field(default_factory=dict)
    server_log: bytes = b""
    service_log: bytes = b""
    metrics: bytes = b""
    ledger: bytes = b""
    delivered: list[Received] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)


def person() -> dict[str, Any]:
    """Return data with a canary in every place that we can think of."""
    return {
        "person": {
            "person_id": "p_1",
            "work_email": WORK_EMAIL,
            "phone": SENT["phone"],
            "personal_email": SENT["personal email"],
            "first_name": SENT["first name"],
            "address": {"street": SENT["street"]},
            "custom": [{"deep": [SENT["in a list"], {"note": f"call {SENT['bare phone']} now"}]}],
        },
        "order": {
            "order_id": "o_1",
            "contacts": {SENT["map key"]: {"role": "buyer"}},
            "raw": json.dumps({"contact": {"email": SENT["in a string of json"], "x": "ü"}}),
            "link": f"https://shop.example/?email={SENT['in a query']}&x=1",
            "bank": SENT["iban"],
            "payment": SENT["card"],
            "number": int(SENT["card"]),
            "env": f"AWS_ACCESS_KEY_ID={SENT['aws key']}",
            "auth": SENT["github token"],
            "encoded": base64.b64encode(SENT["personal email"].encode()).decode(),
        },
    }


class Run:
    """One service, used by somebody who sends secrets everywhere."""

    def __init__(self, service: Service, receiver: Recorder, http: httpx.AsyncClient, sandbox: Sandbox) -> None:
        self.service = service
        self.sandbox = sandbox
        self.receiver = receiver
        self.http = http
        self.evidence = Evidence(secrets={"platform key": PLATFORM_KEY})

    async def call(self, method: str, path: str, body: Any = None, *, key: str = PLATFORM_KEY, kept: bool = True, **options: Any) -> Any:
        """Call the service; what it answers is searched too, unless it is where a secret is shown once."""
        headers = {"Authorization": f"Bearer {key}", **options.pop("headers", {})}
        if body is not None:
            options["json"] = body
        answer = await self.http.request(method, self.service.base + path, headers=headers, **options)
        self.evidence.statuses.append(answer.status_code)
        # A connection shows its address to its owner.
        if kept and not (path.startswith("/v1/connections") and answer.is_success):
            self.evidence.answers[f"{len(self.evidence.answers)} {method} {path.partition('?')[0]} {answer.status_code}"] = (
                answer.content + repr(sorted(answer.headers.items())).encode()
            )
        return answer.json() if answer.content and "json" in answer.headers.get("content-type", "") else None

    async def play(self) -> None:
        """Do everything that a tenant does, and everything that goes wrong for one."""
        call, evidence = self.call, self.evidence
        await call("POST", "/v1/tenants", {"tenant_id": "acme", "name": MARK})
        await call("POST", "/v1/tenants", {"tenant_id": SENT["personal email"], "name": "x"})
        scopes = [
            "events:write",
            "connections:read",
            "connections:write",
            "audit:read",
            "payloads:read",
            "tokens:read",
            "actions:write",
            "admin",
        ]
        made = await call("POST", "/v1/api-keys", {"tenant_id": "acme", "name": "all", "scopes": scopes}, kept=False)
        key = evidence.secrets["api key"] = made["api_key"]
        gone = await call("POST", "/v1/api-keys", {"tenant_id": "acme", "name": "gone", "scopes": ["admin"]}, kept=False)
        evidence.secrets["revoked key"] = gone["api_key"]
        await call("DELETE", f"/v1/api-keys/{gone['key_id']}", key=key)
        for wrong in (gone["api_key"], SENT["unknown api key"], f"{key}x", SENT["phone"]):
            await call("GET", "/v1/connections", key=wrong)

        hook = self.receiver.url(f"/{SENT['url path']}?{SENT['url query']}")
        for profile in ("queast-v1", "standard-webhooks"):
            wish = {"provider": "webhook", "url": hook, "signature_profile": profile, "description": "the canary's"}
            made = await call("POST", "/v1/connections", wish, key=key, kept=False)
            evidence.secrets[f"signing secret of {profile}"] = made["secrets"]["signing"]["secret"].partition("_")[2]
        connection = made["connection_id"]
        host = self.receiver.url().partition("//")[2]
        for url in (
            f"http://{SENT['url user']}@{host}{SENT['url path']}",
            f"http://169.254.169.254/{SENT['url path']}?{SENT['url query']}",
            f"nonsense://{SENT['url path']}",
            f"http://[::1/{SENT['url path']}",
            f"http://{host}{SENT['url path']}#{SENT['url query']}",
        ):
            await call("POST", "/v1/connections", {"provider": "webhook", "url": url}, key=key)
            await call("PATCH", f"/v1/connections/{connection}", {"url": url}, key=key)

        # A receiver that fails and says back all that it got, in body and headers.
        def echo(request: Received) -> bytes:
            return status(500, f"x-echo: {request.path}", "set-cookie: a=" + WORK_EMAIL, body=request.body + repr(request.headers).encode())

        self.receiver.answer = echo
        event = {"event_type": "person.updated", "data": person(), "idempotency_key": "k-1"}
        accepted = await call("POST", "/v1/events", event, key=key)
        await call("POST", "/v1/events", event, key=key)
        await call("POST", "/v1/events", {**event, "data": {"changed": SENT["personal email"]}}, key=key)
        await call("POST", "/v1/events/batch", {"events": [{**event, "idempotency_key": "k-2"}, {"event_type": SENT["phone"]}]}, key=key)
        await self.receiver.wait_for(4)

        await call("POST", "/v1/events", {**event, "idempotency_key": SENT["key with a mail"]}, key=key)
        await call("POST", "/v1/events", event, key=key, headers={"Idempotency-Key": SENT["key with a mail"]})
        await call("POST", "/v1/events", {**event, "event_id": SENT["iban"]}, key=key)
        await call("POST", "/v1/events", {**event, "correlation_id": SENT["correlation"]}, key=key)
        named = {"X-Correlation-Id": SENT["correlation"], "X-Request-Id": SENT["correlation"], "User-Agent": SENT["correlation"]}
        await call("POST", "/v1/events", {"event_type": "a.b", "data": {}}, key=key, headers=named)
        for content in (
            f'{{"event_type": "a", "data": {{"x": "{SENT["malformed value"]}"',
            f'{{"{SENT["malformed value"]}": 1, "{SENT["malformed value"]}": 2}}',
            f'["{SENT["malformed value"]}"]',
            f'{{"event_type": "a", "data": {{}}, "{SENT["malformed value"]}": 1}}',
            SENT["malformed value"] + "\ufffe",
        ):
            await call("POST", "/v1/events", key=key, content=content.encode(), headers={"Content-Type": "application/json"})
        huge = {"event_type": "a", "data": {"x": SENT["description in a body that is too large"] * 20_000}}
        await call("POST", "/v1/events", huge, key=key)

        schema = {"type": "object", "properties": {"code": {"type": "integer"}}, "additionalProperties": False}
        await call("POST", "/v1/event-types", {"event_type": "order.coded", "description": "", "schema": schema}, key=key)
        unfit: list[dict[str, Any]] = [
            {"code": SENT["schema value"]},
            {SENT["schema value"]: 1},
            {"code": {SENT["map key"]: SENT["schema value"]}},
        ]
        for data in unfit:
            await call("POST", "/v1/events", {"event_type": "order.coded", "data": data}, key=key)

        await call("PUT", "/v1/tenants/acme/privacy-policy", {"allowed_fields": ["work_email"], "on_violation": "refuse"}, key=key)
        refused: list[dict[str, Any]] = [
            {"person": {"email": SENT["refused value"]}},
            {"deep": [{SENT["refused value"]: SENT["refused value"]}]},
        ]
        for data in refused:
            await call("POST", "/v1/events", {"event_type": "person.updated", "data": data}, key=key)
        await call("PUT", "/v1/tenants/acme/privacy-policy", {"allowed_fields": [SENT["phone"]], "on_violation": SENT["phone"]}, key=key)

        await self.paste(key)
        await self.connect(key)
        changed = {"url": self.receiver.url(f"/{SENT['changed url path']}")}
        await call("PATCH", f"/v1/connections/{connection}", changed, key=key)
        for path in (
            "/v1/deliveries", f"/v1/events/{accepted['event_id']}", f"/v1/deliveries/{accepted['deliveries'][0]['delivery_id']}",
            f"/v1/events/{SENT['map key']}", f"/v1/deliveries?status={SENT['map key']}", f"/{SENT['map key']}?{SENT['url query']}",
            "/v1/api-keys", "/v1/event-types", "/readyz", "/openapi.json",
        ):  # fmt: skip
            await call("GET", path, key=key)
        await call("GET", "/v1/tenants/acme")
        operator = {"Authorization": f"Bearer {PLATFORM_KEY}"}
        evidence.metrics = (await self.http.get(f"{self.service.base}/metrics", headers=operator)).content
        pages = [await call("GET", "/v1/audit?limit=200", key=key), await call("GET", "/v1/audit?tenant_id=_platform")]
        evidence.ledger = json.dumps(pages).encode()
        evidence.delivered = list(self.receiver.received)

    async def paste(self, key: str) -> None:
        """Paste keys of every kind: kept, replaced, switched off, and refused by a provider that repeats what it was shown."""
        self.sandbox.set_fact("stripe", "refusals_show_key", "whole")
        realm = self.sandbox.realms["stripe"]
        self.evidence.secrets["account of the keys"] = realm.people["ada"].organisation

        async def sent(api_key: str, **more: str) -> Any:
            wish = {"provider": "stripe", "user_id": "u1", "credentials": {"api_key": api_key, **more}}
            return await self.call(
                "POST", "/v1/connections", wish, key=key, headers={"Idempotency-Key": f"paste-{len(self.evidence.statuses)}"}
            )

        kept = await sent(stripe_key(self.sandbox)[1], webhook_secret=SENT["webhook secret"])
        path = f"/v1/connections/{kept['connection_id']}"
        for more, signs in (("refund", SENT["webhook secret"]), ("balance", SENT["secret key"])):
            await sent(keys.make(realm, "ada", {**NEEDED, more: "read"})[1], webhook_secret=signs)
        await sent(SENT["secret key"])
        await sent(stripe_key(self.sandbox, kind="publishable")[1])
        dead_id, dead = stripe_key(self.sandbox)
        keys.delete(realm, dead_id)
        await sent(dead)
        await self.call("POST", f"{path}/credentials", {"credentials": {"api_key": dead}}, key=key)
        await self.call("POST", f"{path}/credentials", {"credentials": {"api_key": stripe_key(self.sandbox)[1]}}, key=key)
        await self.call("GET", f"{path}/proxy/customers", key=key)
        await self.call("POST", f"{path}/access-token", key=key)
        ended = await sent(stripe_key(self.sandbox)[1], webhook_secret=SENT["webhook secret"])
        await self.call("DELETE", f"/v1/connections/{ended['connection_id']}", key=key)

    async def connect(self, key: str) -> None:
        """Connect users, and let each flow go wrong in another way."""
        await self.granted(key, "google-calendar", mode="act")
        held = await self.granted(key, "gmail")
        await self.granted(key, "gmail", connection_id=held["connection_id"], mode="act")
        # Ended for good, and ended while the provider says so and does nothing: those tokens stay in escrow.
        for lies in (False, True):
            ended = await self.granted(key, "zoom")
            await self.use(key, f"/v1/connections/{ended['connection_id']}", over=not lies)
            if lies:
                self.sandbox.order("zoom", FaultKind.REVOCATION_LIES, times=None)
            await self.call("DELETE", f"/v1/connections/{ended['connection_id']}", key=key)
        self.sandbox.clear()
        echo = json.dumps({"error": "invalid_grant", "error_description": SENT["error of a provider"], "reason": SENT["user's mail"]})
        for provider, fault, operation, values in (
            ("gmail", FaultKind.SCOPE_MORE, Operation.EXCHANGE, {"scopes": ["https://mail.google.com/"]}),
            ("google-drive", FaultKind.SCOPE_MORE, Operation.EXCHANGE, {"scopes": ["https://www.googleapis.com/auth/contacts.readonly"]}),
            ("google-drive", FaultKind.LOST, Operation.EXCHANGE, {}),
            ("google-meet", FaultKind.UNREACHED, Operation.EXCHANGE, {}),
            ("google-meet", FaultKind.STATUS, Operation.EXCHANGE, {"status": 500}),
            ("zoom", FaultKind.REPLY, Operation.EXCHANGE, {"body": echo, "status": 400}),
            ("google-drive", FaultKind.REPLY, Operation.EXCHANGE, {"body": SENT["error of a provider"]}),
            ("google-drive", FaultKind.REPLY, Operation.IDENTITY, {"body": echo, "status": 403}),
            ("google-drive", FaultKind.IDENTITY_MISSING, Operation.IDENTITY, {}),
        ):
            self.sandbox.order(provider, fault, operation, **values)
            await self.returned(*(await self.begun(key, provider))[1:])
        # Left alone, confirmed as somebody else, and answered by a provider that says too much.
        await self.returned(*(await self.begun(key, "google-drive"))[1:])
        made, _, landing = await self.begun(key, "google-meet")
        await self.returned("google-meet", landing)
        await self.call("POST", f"/v1/connect-sessions/{made['session_id']}/confirm", {"user_id": "u2"}, key=key)
        _, _, landing = await self.begun(key, "zoom", decision="deny")
        await self.returned("zoom", landing)
        _, _, landing = await self.begun(key, "zoom")
        said = {"state": landing["state"], "error": SENT["error of a provider"], "error_description": SENT["user's mail"]}
        await self.returned("zoom", Landing(f"{landing.place}?{urlencode(said)}"))
        _, page, link = await self.opened(key, "gmail")
        await self.press(link, page, decision="decline")
        await self.press(link, page)
        await self.call("GET", "/v1/notices?user_id=u1", key=key)
        self.evidence.secrets["browser"] = next(iter(self.http.cookies.values()))
        self.http.cookies.clear()
        forged = Landing(f"{self.service.base}/oauth/callback/zoom?state={SENT['forged state']}&code={SENT['aws key']}")
        await self.returned("zoom", forged)
        await self.returned("zoom", (await self.begun(key, "zoom"))[2], without_cookie=True)
        for place, value in enumerate(dict.fromkeys(self.sandbox.secrets())):
            self.evidence.secrets[f"of the sandbox {place}"] = value

    async def use(self, key: str, path: str, *, over: bool) -> None:
        """Read tokens, call the provider through the proxy, and let tokens be renewed; `over`: the provider refuses, and says too much."""
        await self.call("POST", f"{path}/access-token", key=key)
        for tail in (f"users/me/meetings?next_page_token={SENT['in a query']}", f"users/{SENT['map key']}", f"users/me?x={SENT['phone']}"):
            await self.call("GET", f"{path}/proxy/{tail}", key=key)
        self.sandbox.expire("zoom")
        if over:
            echo = json.dumps({"error": "invalid_grant", "error_code": 4741, "reason": SENT["error of a provider"]})
            self.sandbox.order("zoom", FaultKind.REPLY, Operation.REFRESH, body=echo, status=400)
        await self.call("GET", f"{path}/proxy/users/me", key=key)
        await self.call("POST", f"{path}/access-token", key=key)

    async def granted(self, key: str, provider: str, **body: Any) -> Any:
        """Connect from end to end; return the connection, whose answer names the account and is not searched."""
        made, _, landing = await self.begun(key, provider, **body)
        await self.returned(provider, landing)
        path = f"/v1/connect-sessions/{made['session_id']}/confirm"
        return await self.call("POST", path, {"user_id": "u1"}, key=key, kept=False)

    async def opened(self, key: str, provider: str, **body: Any) -> tuple[Any, httpx.Response, str]:
        """Invite somebody, and open the link in the browser; the page names the person and is not searched."""
        user = {"id": "u1", "display_name": SENT["user's name"], "email": SENT["user's mail"]}
        made = await self.call("POST", "/v1/connect-sessions", {"user": user, "provider": provider, **body}, key=key, kept=False)
        link = self.service.base + urlsplit(made["connect_url"]).path
        self.keep("link", link.rpartition("/")[2])
        return made, await self.http.get(link), link

    async def press(self, link: str, page: httpx.Response, decision: str = "consent") -> httpx.Response:
        """Send our form."""
        csrf = page.text.split('name="csrf" value="')[1].split('"')[0]
        self.keep("form", csrf)
        answer = await self.http.post(link, data={"csrf": csrf, "decision": decision}, headers={"Origin": self.service.base})
        self.evidence.answers[f"{decision} {len(self.evidence.answers)}"] = answer.content
        return answer

    async def begun(self, key: str, provider: str, decision: str = "allow", **body: Any) -> tuple[Any, str, Landing]:
        """Go on to the provider and decide there."""
        made, page, link = await self.opened(key, provider, **body)
        sent = await self.press(link, page)
        landing = await consent(self.http, sent.headers["location"], decision=decision)
        self.keep("state", landing["state"])
        return made, provider, landing

    async def returned(self, provider: str, landing: Landing, *, without_cookie: bool = False) -> None:
        """Take the browser back, twice."""
        if without_cookie:
            self.http.cookies.clear()
        for tries in range(2):
            back = await self.http.get(landing.url)
            name = f"callback of {provider} {len(self.evidence.answers)} {tries}"
            self.evidence.answers[name] = back.content + repr(sorted(back.headers.items())).encode()

    def keep(self, what: str, value: str) -> None:
        """Remember a value that may be nowhere."""
        self.evidence.secrets[f"{what} {len(self.evidence.secrets)}"] = value


async def collect(evidence: Evidence, cluster: Cluster) -> None:
    """Gather what PostgreSQL holds and has printed: a dump, and every file down to the write-ahead log."""
    conn = await asyncpg.connect(cluster.dsn("owner"))
    await conn.execute("checkpoint")
    assert await conn.fetchval("select rolsuper from pg_roles where rolname = current_user")
    for schema, table in await conn.fetch("select schemaname, tablename from pg_tables where schemaname <> 'pg_catalog'"):
        rows = await conn.fetch(f'select * from "{schema}"."{table}"')
        evidence.tables[table if schema != "information_schema" else f"{schema}.{table}"] = b"\n".join(
            value if isinstance(value, bytes) else str(value).encode() for row in rows for value in row.values()
        )
    await conn.close()
    evidence.dump = subprocess.run([binaries() / "pg_dump", cluster.dsn("owner")], capture_output=True, check=True).stdout
    evidence.files = {name: content.replace(bytes(4096), b"") for name, content in files_below(cluster.directory / "pgdata")}
    evidence.server_log = b"".join(path.read_bytes() for path in cluster.directory.glob("*.log*"))


@pytest.fixture(scope="module")
async def evidence(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Evidence]:
    directory: Path = tmp_path_factory.mktemp("canary")
    with throwaway_cluster() as cluster:
        environ = {
            "CUSTOMHOUSE_ENVIRONMENT": "dev",
            "CUSTOMHOUSE_DATA_DIR": str(directory / "data"),
            "CUSTOMHOUSE_DATABASE_URL": cluster.dsn("app"),
            "CUSTOMHOUSE_PLATFORM_KEY": PLATFORM_KEY,
            "CUSTOMHOUSE_EGRESS_ALLOW": "127.0.0.0/8",
            "CUSTOMHOUSE_LOG_LEVEL": "debug",
            "CUSTOMHOUSE_TOKEN_EXPORT": "on",
            # Nobody listens there: addresses stay sealed in the table.
            "CUSTOMHOUSE_SMTP_URL": f"smtp://canary:{SENT['password of the mail relay']}@127.0.0.1:9",
            "CUSTOMHOUSE_SMTP_FROM": "customhouse@host.example",
        }
        await migrate_store(Store(Secret(b""), cluster), load(environ))
        service = Service(environ, directory)
        try:
            async with (
                recorder() as receiver,
                running(public_url=service.base) as sandbox,
                httpx.AsyncClient(trust_env=False, timeout=30) as http,
            ):
                for realm in sandbox.realms.values():
                    realm.people["ada"] = replace(realm.people["ada"], id=SENT["account's id"], email=SENT["account's mail"])
                environ |= {"CUSTOMHOUSE_PUBLIC_URL": service.base, "CUSTOMHOUSE_PROVIDERS_FILE": str(directory / "providers.toml")}
                environ |= sandbox.environ()
                (directory / "providers.toml").write_text(sandbox.providers_file(), encoding="utf-8")
                await service.start()
                run = Run(service, receiver, http, sandbox)
                await run.play()
            assert await asyncio.to_thread(service.stop) == 0
            run.evidence.service_log = service.log.encode()
            await collect(run.evidence, cluster)
            yield run.evidence
        finally:
            await asyncio.to_thread(service.stop)


def canaries(evidence: Evidence) -> dict[str, str]:
    """Return all values that may be nowhere; the allow-listed address too, which may be in sealed bytes only."""
    return {**SENT, **evidence.secrets, "work email": WORK_EMAIL}


# The search itself ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["canary/value+ü", "12345678", "canary.home@private.example", 'a"quoted\\canary'])
def test_the_search_finds_a_value_in_each_of_its_forms(value: str) -> None:
    for form, text in forms(value).items():
        assert traces({"v": value}, {"p": b"before" + text + b"after"}), form
    for before in (b"", b"x", b"xy", b"xyz"):
        for after in (b"", b"!", b"!!"):
            for encode in (base64.b64encode, base64.urlsafe_b64encode):
                assert traces({"v": value}, {"p": encode(before + value.encode() + after)}), (before, after)
    assert traces({"v": value}, {"p": b"nothing of the kind" * 10}) == []


TAGS = (b"token.read", b"token.refreshed", b"provider.called")
"""What the ledger says of connections that were used."""


async def test_the_run_did_what_it_was_for(evidence: Evidence) -> None:
    assert {200, 201, 202, 400, 401, 404, 409, 413, 422} <= set(evidence.statuses)
    assert not any(code >= 500 for code in evidence.statuses)
    assert len(evidence.delivered) >= 4
    assert all(WORK_EMAIL.encode() in request.body for request in evidence.delivered[:2])
    assert MARK.encode() in evidence.dump
    assert [name for name, content in evidence.files.items() if name.startswith("pg_wal/") and MARK.encode() in content]
    assert b"event_accepted" in evidence.service_log or b"http" in evidence.service_log
    assert b"customhouse_events_accepted_total" in evidence.metrics
    assert b"connection.created" in evidence.ledger
    assert {"api key", "browser"} <= evidence.secrets.keys()
    assert all(sum(name.startswith(kind) for name in evidence.secrets) > 10 for kind in ("link ", "form ", "state ", "of the sandbox "))
    for kind in ("sandbox-zoom-code-", "sandbox-google-code-", "sandbox-google-access-", "sandbox-google-refresh-", "GOCSPX-"):
        assert any(value.startswith(kind) for value in evidence.secrets.values()), kind
    assert [tag for tag in TAGS if tag not in evidence.ledger] == []
    # Each way in which a flow ends was gone.
    ways = ("granted", "reply_lost", "scope_forbidden", "scope_wider", "code_refused", "identity_unknown", "consent_denied", "declined",
            "other_browser", "state_unknown")  # fmt: skip
    assert [way for way in ways if not any(f"<code>{way}</code>".encode() in answer for answer in evidence.answers.values())] == []
    assert all(len(secret) >= 8 for secret in evidence.secrets.values())


# Nowhere ---------------------------------------------------------------------------------------------------------------------------


async def test_no_canary_is_in_a_dump_of_the_database(evidence: Evidence) -> None:
    assert traces(canaries(evidence), {"pg_dump": evidence.dump}) == []


async def test_no_canary_is_in_what_a_superuser_selects(evidence: Evidence) -> None:
    kept = {name: evidence.tables[name] for name in ("integration_tokens", "pending_grants", "connect_exchanges", "revocation_escrow")}
    assert all(kept.values()), "there is something in each place where tokens and codes lie"
    assert traces(canaries(evidence), evidence.tables) == []


async def test_no_canary_is_in_any_file_of_the_database_the_write_ahead_log_included(evidence: Evidence) -> None:
    assert sum(name.startswith("pg_wal/") for name in evidence.files) >= 1
    assert traces(canaries(evidence), evidence.files) == []


async def test_no_canary_is_in_the_log_of_the_database(evidence: Evidence) -> None:
    assert traces(canaries(evidence), {"postgresql.log": evidence.server_log}) == []


async def test_no_canary_is_in_what_the_service_printed(evidence: Evidence) -> None:
    assert len(evidence.service_log.splitlines()) > 20
    assert traces(canaries(evidence), {"output": evidence.service_log}) == []


async def test_no_canary_is_in_the_metrics(evidence: Evidence) -> None:
    assert traces(canaries(evidence), {"metrics": evidence.metrics}) == []


async def test_no_canary_is_in_the_ledger(evidence: Evidence) -> None:
    assert traces(canaries(evidence), {"ledger": evidence.ledger}) == []


async def test_no_canary_is_in_an_answer(evidence: Evidence) -> None:
    assert len(evidence.answers) > 40
    assert traces(canaries(evidence), evidence.answers) == []


async def test_no_canary_but_the_allowed_address_reached_the_receiver(evidence: Evidence) -> None:
    # The path of its own address is what it was called at.
    values = {name: value for name, value in canaries(evidence).items() if name not in {"work email", "url path", "url query"}}
    got = {f"request {place}": request.body + repr(request.headers).encode() for place, request in enumerate(evidence.delivered)}
    assert traces(values, got) == []
