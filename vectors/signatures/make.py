"""Makes the signature vectors: one file per case, the refused ones named by their defect.

Run `python vectors/signatures/make.py` to write them, with `--check` to compare them with what is committed. Nothing of Customhouse is
imported: the signatures come from hmac, hashlib and cryptography directly, so signer, verifier and vectors are three code paths.

A vector is a request (`headers`, `body_base64`) that arrives at `now` (unix seconds) at a receiver with these `secrets`, `tolerance`
and `header_prefix`; `expect` is `genuine`, or the reason of the refusal. The genuine ones of one key per profile also say, under `sign`,
what the signing side is given to make exactly these headers.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import json
import sys
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

FOLDER = Path(__file__).parent
NOW = 1_795_339_800
EVENT_ID = "evt_01kaz3v9xyf4c8r2m6n0p5q7st"

Header = tuple[str, str]


def raw_key(name: str) -> bytes:
    return hashlib.sha256(f"customhouse test vector: {name}".encode()).digest()


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def whsec(name: str) -> str:
    return "whsec_" + b64(raw_key(name))


def pair(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(raw_key(name))


def whsk(name: str) -> str:
    return "whsk_" + b64(raw_key(name))


def whpk(name: str) -> str:
    return "whpk_" + b64(pair(name).public_key().public_bytes_raw())


ENVELOPE: dict[str, Any] = {
    "schema_version": "1.0",
    "event_id": EVENT_ID,
    "event_type": "person.updated",
    "occurred_at": "2026-11-22T09:30:00Z",
    "tenant_id": "acme",
    "idempotency_key": "crm-sync-4711",
    "integration": {"connection_id": "con_01kaz3v9xyf4c8r2m6n0p5q7sv", "provider": "webhook"},
    "trace": {"correlation_id": "req-1"},
    "privacy": {"contains_pii": True, "pii_fields": ["person.work_email"], "removed_fields": ["person.phone"], "policy": "tenant:3"},
    "data": {"person": {"person_id": "p_4711", "work_email": "ada@example.com"}},
}


def body_of(**changes: Any) -> bytes:
    envelope = {name: value for name, value in {**ENVELOPE, **changes}.items() if value is not ...}
    return json.dumps(envelope, ensure_ascii=False, separators=(",", ":")).encode()


BODY = body_of()


def queast_mac(key: bytes, timestamp: object, body: bytes) -> str:
    return hmac.new(key, str(timestamp).encode() + b"." + body, hashlib.sha256).hexdigest()


def queast(
    body: bytes = BODY, *, secret: str | None = None, timestamp: object = NOW, key_id: str | None = "key_1", prefix: str = "X-Queast"
) -> list[Header]:
    mac = queast_mac((secret or whsec("one")).encode(), timestamp, body)
    headers = [(f"{prefix}-Timestamp", str(timestamp)), (f"{prefix}-Signature", f"v1={mac}")]
    return headers if key_id is None else [*headers, (f"{prefix}-Signature-Key-Id", key_id)]


def entry_v1(name: str, body: bytes = BODY, *, message_id: str = EVENT_ID, timestamp: object = NOW) -> str:
    content = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + b64(hmac.new(raw_key(name), content, hashlib.sha256).digest())


def entry_v1a(name: str, body: bytes = BODY, *, message_id: str = EVENT_ID, timestamp: object = NOW) -> str:
    return "v1a," + b64(pair(name).sign(f"{message_id}.{timestamp}.".encode() + body))


def standard(*entries: str, message_id: str = EVENT_ID, timestamp: object = NOW) -> list[Header]:
    return [("webhook-id", message_id), ("webhook-timestamp", str(timestamp)), ("webhook-signature", " ".join(entries))]


def case(
    name: str,
    about: str,
    headers: list[Header],
    expect: str,
    *,
    body: bytes = BODY,
    secrets: dict[str, str] | None = None,
    prefix: str = "X-Queast",
    sign: dict[str, Any] | None = None,
    matched: str = "key_1",
) -> tuple[str, dict[str, Any]]:
    vector: dict[str, Any] = {
        "about": about,
        "now": NOW,
        "tolerance": 300,
        "header_prefix": prefix,
        "secrets": secrets or {"key_1": whsec("one")},
        "headers": [list(header) for header in headers],
        "body_base64": b64(body),
        "expect": expect,
    }
    if expect == "genuine":
        vector["key_id"] = matched
    if sign is not None:
        vector["sign"] = sign
    return name, vector


def signing(profile: str, *keys: tuple[str, str], timestamp: int = NOW) -> dict[str, Any]:
    return {
        "profile": profile,
        "keys": [{"key_id": key_id, "secret": secret} for key_id, secret in keys],
        "event_id": EVENT_ID,
        "timestamp": timestamp,
    }


def genuine() -> list[tuple[str, dict[str, Any]]]:
    one, two = ("key_1", whsec("one")), ("key_2", whsec("two"))
    both = dict([one, two])
    unicode_body = body_of(data={"note": "Grüße, 世界 🌍\n"})
    unknown = body_of(added_later={"any": ["thing", None, 1.5]})
    return [
        case("queast-v1", "the spec's headers and canonical string", queast(), "genuine", sign=signing("queast-v1", one)),
        case(
            "queast-v1-other-prefix",
            "the header prefix is a setting",
            queast(prefix="X-Acme"),
            "genuine",
            prefix="X-Acme",
            sign=signing("queast-v1", one),
        ),
        case(
            "queast-v1-unicode-body",
            "the raw bytes are signed, whatever they say",
            queast(unicode_body),
            "genuine",
            body=unicode_body,
            sign=signing("queast-v1", one),
        ),
        case("queast-v1-without-key-id", "the key id is optional", queast(key_id=None), "genuine"),
        case("queast-v1-key-id-unknown", "an unknown key id falls back to all keys", queast(key_id="key_9"), "genuine", secrets=both),
        case("queast-v1-key-id-of-another-key", "so does one that names the wrong key", queast(key_id="key_2"), "genuine", secrets=both),
        case(
            "queast-v1-previous-key",
            "during the overlap the previous key still counts",
            queast(secret=whsec("two"), key_id="key_2"),
            "genuine",
            secrets=both,
            matched="key_2",
            sign=signing("queast-v1", two, one),
        ),
        case(
            "queast-v1-plain-text-secret",
            "any text may be the secret of this profile",
            queast(secret="a passphrase of a customer"),
            "genuine",
            secrets={"key_1": "a passphrase of a customer"},
        ),
        case("queast-v1-lowercase-headers", "header names have no case", [(n.lower(), v) for n, v in queast()], "genuine"),
        case(
            "queast-v1-at-the-early-edge",
            "300 s ahead is within the tolerance",
            queast(timestamp=NOW + 300),
            "genuine",
            sign=signing("queast-v1", one, timestamp=NOW + 300),
        ),
        case(
            "queast-v1-at-the-late-edge",
            "300 s ago is within the tolerance",
            queast(timestamp=NOW - 300),
            "genuine",
            sign=signing("queast-v1", one, timestamp=NOW - 300),
        ),
        case("queast-v1-unknown-field", "fields that were added later are ignored", queast(unknown), "genuine", body=unknown),
        case(
            "standard-v1",
            "Standard Webhooks with a shared secret",
            standard(entry_v1("one")),
            "genuine",
            sign=signing("standard-webhooks", one),
        ),
        case(
            "standard-v1-overlap",
            "one signature per key during the overlap",
            standard(entry_v1("two"), entry_v1("one")),
            "genuine",
            sign=signing("standard-webhooks", two, one),
        ),
        case(
            "standard-v1a",
            "Standard Webhooks with a key pair",
            standard(entry_v1a("pair")),
            "genuine",
            secrets={"key_1": whpk("pair")},
            sign=signing("standard-webhooks", ("key_1", whsk("pair"))),
        ),
        case(
            "standard-v1a-and-v1",
            "from a shared secret to a pair",
            standard(entry_v1a("pair"), entry_v1("one")),
            "genuine",
            sign=signing("standard-webhooks", ("key_2", whsk("pair")), one),
        ),
        case(
            "standard-unknown-version-beside",
            "versions that are not known are passed over",
            standard("v9,AAAA", entry_v1("one")),
            "genuine",
        ),
    ]


def replaced(headers: list[Header], name: str, value: str) -> list[Header]:
    return [(n, value if n.lower() == name.lower() else v) for n, v in headers]


def without(headers: list[Header], name: str) -> list[Header]:
    return [(n, v) for n, v in headers if n.lower() != name.lower()]


def refused_queast() -> list[tuple[str, dict[str, Any]]]:
    good = queast()
    signature = dict(good)["X-Queast-Signature"]
    tampered = BODY.replace(b"ada@", b"eve@")
    pretty = json.dumps(ENVELOPE, indent=1).encode()
    mismatch, malformed, missing, repeated = "signature_mismatch", "malformed_header", "missing_header", "repeated_header"
    text_key, decoded_key = whsec("one").encode(), raw_key("one")
    return [
        case("queast-v1-no-headers", "nothing is signed", [("Content-Type", "application/json")], missing),
        case("queast-v1-timestamp-missing", "rule 1 of the spec", without(good, "X-Queast-Timestamp"), missing),
        case("queast-v1-signature-missing", "rule 1 of the spec", without(good, "X-Queast-Signature"), missing),
        case("queast-v1-signature-empty", "an empty header is a missing one", replaced(good, "X-Queast-Signature", ""), missing),
        case(
            "queast-v1-signature-repeated", "two signatures: which one was checked?", [*good, ("x-queast-signature", signature)], repeated
        ),
        case("queast-v1-timestamp-repeated", "two times: which one was signed?", [*good, ("X-QUEAST-TIMESTAMP", str(NOW))], repeated),
        case("queast-v1-too-old", "301 s ago", queast(timestamp=NOW - 301), "timestamp_outside_tolerance"),
        case("queast-v1-too-new", "301 s ahead", queast(timestamp=NOW + 301), "timestamp_outside_tolerance"),
        case(
            "queast-v1-timestamp-moved",
            "a fresh timestamp on an old signature",
            replaced(good, "X-Queast-Timestamp", str(NOW + 1)),
            mismatch,
        ),
        case("queast-v1-timestamp-leading-zero", "a second spelling of one moment", queast(timestamp=f"0{NOW}"), malformed),
        case("queast-v1-timestamp-fraction", "seconds are whole", queast(timestamp=f"{NOW}.0"), malformed),
        case("queast-v1-timestamp-negative", "seconds are positive", queast(timestamp=-NOW), malformed),
        case("queast-v1-timestamp-milliseconds", "seconds, not milliseconds", queast(timestamp=NOW * 1000), malformed),
        case("queast-v1-timestamp-not-a-number", "words are no time", queast(timestamp="now"), malformed),
        case(
            "queast-v1-signature-truncated",
            "half a signature is none (W1)",
            replaced(good, "X-Queast-Signature", signature[:35]),
            malformed,
        ),
        case("queast-v1-signature-extended", "nor is one and a half", replaced(good, "X-Queast-Signature", signature + "00"), malformed),
        case(
            "queast-v1-signature-upper-case",
            "lowercase hex, one spelling",
            replaced(good, "X-Queast-Signature", "v1=" + signature[3:].upper()),
            mismatch,
        ),
        case(
            "queast-v1-signature-of-another-version",
            "v2 does not exist",
            replaced(good, "X-Queast-Signature", "v2=" + signature[3:]),
            malformed,
        ),
        case(
            "queast-v1-signature-without-version",
            "the version is part of it",
            replaced(good, "X-Queast-Signature", signature[3:]),
            malformed,
        ),
        case(
            "queast-v1-signature-list",
            "one signature, not a list",
            replaced(good, "X-Queast-Signature", f"{signature},{signature}"),
            malformed,
        ),
        case("queast-v1-body-tampered", "one word was changed", good, mismatch, body=tampered),
        case("queast-v1-body-reformatted", "the same JSON in other bytes", good, mismatch, body=pretty),
        case("queast-v1-body-newline-added", "one byte more", good, mismatch, body=BODY + b"\n"),
        case("queast-v1-secret-of-a-stranger", "signed by somebody else", queast(secret=whsec("stranger")), mismatch),
        case(
            "queast-v1-keyed-with-decoded-secret",
            "the text is the key, not what its base64 says",
            replaced(good, "X-Queast-Signature", "v1=" + queast_mac(decoded_key, NOW, BODY)),
            mismatch,
        ),
        case(
            "queast-v1-keyed-with-public-key",
            "a public key may never serve as an HMAC key",
            queast(secret=whpk("pair")),
            mismatch,
            secrets={"key_1": whpk("pair")},
        ),
        case(
            "queast-v1-body-alone-signed",
            "the timestamp is not covered",
            replaced(good, "X-Queast-Signature", "v1=" + hmac.new(text_key, BODY, hashlib.sha256).hexdigest()),
            mismatch,
        ),
        case("queast-v1-mixed-with-standard", "two profiles at once", [*good, *standard(entry_v1("one"))], "ambiguous_profile"),
    ]


def refused_standard() -> list[tuple[str, dict[str, Any]]]:
    good = standard(entry_v1("one"))
    entry = entry_v1("one")
    public = {"key_1": whpk("pair")}
    mismatch, malformed, missing = "signature_mismatch", "malformed_header", "missing_header"
    other_id = EVENT_ID[:-1] + "v"
    loose = entry[:-2] + chr(ord(entry[-2]) + 1) + "="  # other unused bits at the end, the same bytes when decoded leniently
    return [
        case("standard-id-missing", "the id is signed", without(good, "webhook-id"), missing),
        case(
            "standard-id-with-a-dot",
            "a full stop would let parts run into one another",
            standard(entry_v1("one", message_id="evt.1"), message_id="evt.1"),
            malformed,
        ),
        case("standard-id-swapped", "another id under the same signature", replaced(good, "webhook-id", other_id), mismatch),
        case(
            "standard-id-not-the-event",
            "the signed id must be the envelope's",
            standard(entry_v1("one", message_id=other_id), message_id=other_id),
            "envelope_malformed",
        ),
        case(
            "standard-too-old",
            "301 s ago",
            standard(entry_v1("one", timestamp=NOW - 301), timestamp=NOW - 301),
            "timestamp_outside_tolerance",
        ),
        case("standard-signature-truncated", "half a signature is none (W1)", standard(entry[:25]), malformed),
        case("standard-signature-without-comma", "no version", standard(entry[3:]), malformed),
        case("standard-signature-not-base64", "signs outside the alphabet", standard("v1,!!" + entry[5:]), malformed),
        case("standard-signature-loose-base64", "the same bytes spelt otherwise", standard(loose), mismatch),
        case("standard-signatures-too-many", "nine signatures", standard(*["v1," + b64(bytes(32))] * 8, entry), malformed),
        case("standard-signatures-comma-separated", "spaces separate them", standard(f"{entry},{entry}"), malformed),
        case("standard-only-unknown-versions", "none of them is known", standard("v9," + entry[3:]), mismatch),
        case("standard-v1-as-v1a", "a code under the name of a pair's signature", standard("v1a," + entry[3:]), malformed),
        case("standard-body-tampered", "one word was changed", good, mismatch, body=BODY.replace(b"ada@", b"eve@")),
        case(
            "standard-v1-keyed-with-public-key",
            "a public key may never serve as an HMAC key",
            standard(
                "v1,"
                + b64(hmac.new(pair("pair").public_key().public_bytes_raw(), f"{EVENT_ID}.{NOW}.".encode() + BODY, hashlib.sha256).digest())
            ),
            mismatch,
            secrets=public,
        ),
        case("standard-v1a-of-a-stranger", "another pair", standard(entry_v1a("stranger")), mismatch, secrets=public),
        case("standard-v1a-truncated", "half a signature is none", standard(entry_v1a("pair")[:60]), malformed, secrets=public),
        case(
            "standard-v1a-body-tampered",
            "one word was changed",
            standard(entry_v1a("pair")),
            mismatch,
            body=BODY.replace(b"ada@", b"eve@"),
            secrets=public,
        ),
    ]


def refused_envelope() -> list[tuple[str, dict[str, Any]]]:
    def signed(name: str, about: str, body: bytes, expect: str = "envelope_malformed") -> tuple[str, dict[str, Any]]:
        return case(name, about, queast(body), expect, body=body)

    twice = BODY[:-1] + b',"tenant_id":"globex"}'
    return [
        signed(
            "envelope-version-unknown",
            "a version that this receiver does not understand",
            body_of(schema_version="2.0"),
            "schema_version_unknown",
        ),
        signed("envelope-version-missing", "no version at all", body_of(schema_version=...)),
        signed("envelope-version-a-number", "1.0 the number is not the version", body_of(schema_version=1.0)),
        signed("envelope-event-id-missing", "nothing to recognise a replay by", body_of(event_id=...)),
        signed("envelope-event-id-with-a-dot", "not of the agreed form", body_of(event_id="evt.1")),
        signed("envelope-connection-missing", "no connection", body_of(integration={"provider": "webhook"})),
        signed("envelope-connection-with-a-colon", "it would run into the event id", body_of(integration={"connection_id": "con_1:evt_2"})),
        signed("envelope-data-a-list", "data is an object", body_of(data=[])),
        signed("envelope-type-with-a-newline", "it would break a log line", body_of(event_type="person\nupdated")),
        signed("envelope-name-twice", "which tenant is it?", twice),
        signed("envelope-nan", "NaN is not JSON", BODY.replace(b'"p_4711"', b"NaN")),
        signed("envelope-infinite", "too large to be a number", BODY.replace(b'"p_4711"', b"1e999")),
        signed("envelope-nested-deeply", "deeper than any stack", b'{"schema_version":"1.0","data":' + b"[" * 5_000 + b"]" * 5_000 + b"}"),
        signed("envelope-not-utf-8", "bytes that are no text", BODY.replace(b"ada", b"\xff\xfe\xfd")),
        signed("envelope-utf-16", "another encoding", BODY.decode().encode("utf-16")),
        signed("envelope-byte-order-mark", "JSON has none", b"\xef\xbb\xbf" + BODY),
        signed("envelope-a-list", "not an object", b"[1,2]"),
        signed("envelope-empty", "no bytes at all", b""),
    ]


def vectors() -> dict[str, str]:
    cases = [*genuine(), *refused_queast(), *refused_standard(), *refused_envelope()]
    texts = {f"{name}.json": json.dumps(vector, indent=2) + "\n" for name, vector in cases}
    if len(texts) != len(cases):
        raise SystemExit("two vectors have one name")
    return texts


def main() -> int:
    parser = argparse.ArgumentParser(description="Make or check the signature vectors.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a file differs, is missing or is one too many")
    wanted = vectors()
    present = {path.name: path.read_text() for path in FOLDER.glob("*.json")}
    if parser.parse_args().check:
        wrong = sorted(name for name in wanted.keys() | present.keys() if wanted.get(name) != present.get(name))
        print("\n".join(wrong) if wrong else f"{len(wanted)} vectors are as made")
        return 1 if wrong else 0
    for name in present.keys() - wanted.keys():
        (FOLDER / name).unlink()
    for name, text in wanted.items():
        (FOLDER / name).write_text(text)
    print(f"wrote {len(wanted)} vectors")
    return 0


if __name__ == "__main__":
    sys.exit(main())
