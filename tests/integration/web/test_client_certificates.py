"""Client certificates through the API: given, shown, replaced, taken away; the private key never comes back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.authorities import Authority, Issued, pem_of
from tests.integration.web.conftest import Api, problem

pytestmark = pytest.mark.anyio

HOOK = {"provider": "webhook", "url": "https://hooks.example.com/in"}
AUTHORITY = Authority()
GOOD = AUTHORITY.issue("customhouse.example.com")


def shown(issued: Issued) -> dict[str, str]:
    """What an answer says of a certificate, without its times."""
    return {
        "subject": issued.certificates[0].subject.rfc4514_string(),
        "issuer": "CN=test authority",
        "fingerprint_sha256": issued.certificates[0].fingerprint(hashes.SHA256()).hex(),
    }


def without_times(certificate: dict[str, str]) -> dict[str, str]:
    assert set(certificate) == {*shown(GOOD), "valid_from", "expires_at"}
    return {name: text for name, text in certificate.items() if name in shown(GOOD)}


async def test_a_certificate_is_shown_replaced_kept_and_taken_away(
    acme: Api, owner: asyncpg.Connection, capfd: pytest.CaptureFixture[str]
) -> None:
    made = await acme("POST", "/v1/connections", {**HOOK, "client_certificate": GOOD.as_body})
    assert made.status_code == 201
    path = f"/v1/connections/{made.json()['connection_id']}"
    second = AUTHORITY.issue("second")
    kept = await acme("PATCH", path, {"description": "kept"})
    replaced = await acme("PATCH", path, {"client_certificate": second.as_body})
    one, listed = await acme("GET", path), await acme("GET", "/v1/connections")
    assert [without_times(answer.json()["client_certificate"]) for answer in (made, kept, replaced, one)] == [
        shown(GOOD),
        shown(GOOD),
        shown(second),
        shown(second),
    ]
    assert one.json()["client_certificate"]["expires_at"] == second.certificates[0].not_valid_after_utc.isoformat().replace("+00:00", "Z")
    assert listed.json()["data"][0]["client_certificate"] == one.json()["client_certificate"]
    taken = await acme("PATCH", path, {"client_certificate": None})
    assert (taken.json()["client_certificate"], await owner.fetchval("select client_key_sealed from connections")) == (None, None)
    ledger = await acme("GET", "/v1/audit")
    assert [entry["detail"].get("certificate") for entry in ledger.json()["data"] if entry["type"] == "connection.changed"] == [
        None,
        shown(second)["fingerprint_sha256"],
        None,
    ]
    everything = "".join(answer.text for answer in (made, kept, replaced, one, listed, taken, ledger)) + "".join(capfd.readouterr())
    for issued in (GOOD, second):
        for line in (issued.private_key.splitlines()[1], issued.chain.splitlines()[1]):
            assert line not in everything


async def test_health_says_when_a_certificate_is_near_its_end(acme: Api) -> None:
    near = AUTHORITY.issue(end=timedelta(days=12))
    for issued, reason in ((GOOD, None), (near, "certificate_expiring")):
        made = (await acme("POST", "/v1/connections", {**HOOK, "client_certificate": issued.as_body})).json()
        assert (made["health"]["ok"], made["health"]["reason"]) == (True, reason)


async def test_the_same_call_with_another_key_is_another_call(acme: Api) -> None:
    repeated = {"headers": {"Idempotency-Key": "k-1"}}
    body = {**HOOK, "client_certificate": GOOD.as_body}
    first = await acme("POST", "/v1/connections", body, **repeated)
    again = await acme("POST", "/v1/connections", body, **repeated)
    assert (first.status_code, again.json()["connection_id"]) == (201, first.json()["connection_id"])
    other = AUTHORITY.issue()
    problem(await acme("POST", "/v1/connections", {**HOOK, "client_certificate": other.as_body}, **repeated), 409, "idempotency_conflict")


ENCRYPTED = pem_of(GOOD.key, b"pass phrase")
CHAIN, KEY = "/client_certificate/certificate", "/client_certificate/private_key"


@pytest.mark.parametrize(
    ("given", "pointers"),
    [
        ({"certificate": "junk", "private_key": GOOD.private_key}, [CHAIN]),
        ({"certificate": GOOD.chain, "private_key": "junk"}, [KEY]),
        ({"certificate": GOOD.chain, "private_key": ENCRYPTED}, [KEY]),
        ({"certificate": GOOD.chain, "private_key": AUTHORITY.issue().private_key}, [KEY]),
        ({"certificate": GOOD.private_key, "private_key": GOOD.chain}, [CHAIN, KEY]),
        (AUTHORITY.issue(end=timedelta(days=-1)).as_body, [CHAIN]),
        (AUTHORITY.issue(key=rsa.generate_private_key(65537, 1024)).as_body, [KEY]),
        (AUTHORITY.issue(use="server").as_body, [CHAIN]),
        ({"certificate": GOOD.chain}, [KEY]),
        ({"private_key": GOOD.private_key}, [CHAIN]),
        ({**GOOD.as_body, "password": "x"}, ["/client_certificate"]),
        (GOOD.chain, ["/client_certificate"]),
        ({"certificate": "", "private_key": ""}, [CHAIN, KEY]),
        ({"certificate": "x" * 32_769, "private_key": "x" * 8193}, [CHAIN, KEY]),
    ],
    ids=[
        "no certificate",
        "no key",
        "encrypted",
        "another's key",
        "the wrong way round",
        "expired",
        "weak key",
        "for servers",
        "without a key",
        "without a certificate",
        "a stranger",
        "a text",
        "empty",
        "too long",
    ],
)
async def test_what_cannot_be_shown_to_a_receiver_is_refused_by_its_place(acme: Api, given: Any, pointers: list[str]) -> None:
    made = (await acme("POST", "/v1/connections", HOOK)).json()
    body = {"client_certificate": given}
    for method, path, said in (("POST", "/v1/connections", {**HOOK, **body}), ("PATCH", f"/v1/connections/{made['connection_id']}", body)):
        refused = await acme(method, path, said)
        assert [fault["pointer"] for fault in problem(refused, 422, "invalid_request")["errors"]] == pointers
        assert GOOD.private_key.splitlines()[1] not in refused.text
        assert "junk" not in refused.text
    assert len((await acme("GET", "/v1/connections")).json()["data"]) == 1


async def test_a_certificate_for_a_plain_url_is_refused(acme: Api) -> None:
    body = {"provider": "webhook", "url": "http://hooks.example.com/in", "client_certificate": GOOD.as_body}
    refused = problem(await acme("POST", "/v1/connections", body), 422, "invalid_request")
    assert [fault["pointer"] for fault in refused["errors"]] == ["/client_certificate"]
