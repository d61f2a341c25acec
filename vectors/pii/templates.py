"""The templates of `corpus.jsonl`: person objects, free places, and documents without anything personal."""

from __future__ import annotations

import base64
import json
import random
import uuid
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from vectors.pii import pools
from vectors.pii.pools import Locale


@dataclass(slots=True)
class Document:
    """A document and its labels."""

    data: dict[str, Any]
    pii: dict[str, str] = field(default_factory=dict)
    """JSON pointer → class."""
    missed: dict[str, str] = field(default_factory=dict)
    """The same for what the guard does not claim to find."""

    def as_json(self) -> dict[str, Any]:
        """Return it as a line of the corpus."""
        return {"data": self.data, "pii": self.pii, "missed": self.missed}


def decoys(rng: random.Random, locale: Locale) -> dict[str, Any]:
    """Return members that only look personal: numbers, ids, digests, versions, times, prices, coordinates."""
    hexes = "0123456789abcdef"
    pool: dict[str, Any] = {
        "order_number": f"ORD-2026-{pools.digits(rng, 6)}",
        "invoice": f"{rng.choice(('INV', 'RE', 'FA'))}{pools.digits(rng, 8)}",
        "reference": f"{pools.digits(rng, 4)}/{pools.digits(rng, 4)}",
        "request_id": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        "sha256": "".join(rng.choices(hexes, k=64)),
        "commit": "".join(rng.choices(hexes, k=40)),
        "etag": '"' + "".join(rng.choices(hexes, k=16)) + '"',
        "version": f"{rng.randrange(9)}.{rng.randrange(30)}.{rng.randrange(30)}",
        "firmware": f"{rng.randrange(9)}.{rng.randrange(30)}.{rng.randrange(30)}.{rng.randrange(250)}",
        "created_at": f"2026-11-{rng.randrange(1, 29):02}T{rng.randrange(24):02}:{rng.randrange(60):02}:00Z",
        "valid_until": f"{rng.randrange(1, 29):02}.11.2026",
        "epoch_ms": 1764000000000 + rng.randrange(10**9),
        "epoch": str(1764000000 + rng.randrange(10**6)),
        "price": f"{rng.randrange(9)}.{pools.digits(rng, 3)},{pools.digits(rng, 2)} EUR",
        "amount": rng.randrange(10**6) / 100,
        "position": f"{rng.uniform(-80, 80):.6f}, {rng.uniform(-170, 170):.6f}",
        "lat": round(rng.uniform(-80, 80), 6),
        "gtin": "40" + pools.digits(rng, 11),
        "sku": f"AX-{pools.digits(rng, 3)}-{pools.digits(rng, 2)}",
        "size_mm": f"{rng.randrange(100)} x {rng.randrange(100)} x {rng.randrange(100)}",
        "url": f"https://shop.example/items/{pools.digits(rng, 5)}?page=2&sort=asc",
        "mac": ":".join("".join(rng.choices(hexes, k=2)) for _ in range(6)),
        "cidr": "10.0.0.0/8",
        "event": "evt_01k5tq4z8nfx3s9gq2v7d4h6" + rng.choice("abcdef") + "c",
        "summary": rng.choice(locale.plain),
        "asset": "logo@2x.png",
        "seats": f"{rng.randrange(10, 99)}-{rng.randrange(10, 99)}",
        "serial": f"SN{pools.digits(rng, 10)}",
        "counter": int(pools.digits(rng, 11)),
        "ratio": f"0.{pools.digits(rng, 9)}",
    }
    return {name: pool[name] for name in rng.sample(sorted(pool), 6)}


def members(rng: random.Random, locale: Locale) -> dict[str, tuple[Any, str]]:
    """Return members of a person object with their classes: known, unknown, nested."""
    pool: dict[str, tuple[Any, str]] = {
        "first_name": (rng.choice(locale.given), "name"),
        "lastName": (rng.choice(locale.family), "name"),
        "name": (pools.person_name(rng, locale), "name"),
        "phone": (pools.phone(rng, locale), "phone"),
        "Mobile-Phone": (pools.phone(rng, locale), "phone"),
        "personal_email": (pools.mail(rng, locale), "email"),
        "email": (pools.mail(rng, locale), "email"),
        "date_of_birth": (f"19{rng.randrange(40, 99)}-05-10", "date_of_birth"),
        "address": ({"street": locale.street, "city": locale.city}, "address"),
        "city": (locale.city, "address"),
        "iban": (pools.iban(rng, locale), "bank_account"),
        "tax_id": (pools.national_id(rng, locale), "national_id"),
        "last_ip": (pools.ip(rng), "ip_address"),
        "nickname": (rng.choice(locale.given), "name"),
        "username": (rng.choice(locale.given).lower() + "_" + pools.digits(rng, 2), "online_id"),
        "gender": (rng.choice(("f", "m", "x")), "other"),
        "job_title": ("Kapitän", "other"),
        "favourite_dish": ("soup", "other"),
        "score": (rng.randrange(100), "other"),
        "newsletter": (True, "other"),
        "social": ({"handles": [rng.choice(locale.given).lower()], "site": "https://blog.example"}, "other"),
        "remarks": (rng.choice(locale.notes).format(pools.phone(rng, locale)), "other"),
        "tags": (["vip", locale.city], "other"),
        "password": ("correct horse " + pools.digits(rng, 3), "credential"),
    }
    return {name: pool[name] for name in rng.sample(sorted(pool), rng.randrange(3, 9))}


def person(rng: random.Random, locale: Locale, pointer: str, document: Document) -> dict[str, Any]:
    """Return a person object and write its labels into the document."""
    made: dict[str, Any] = {"person_id": f"p_{pools.digits(rng, 4)}"}
    for name, (value, pii_class) in members(rng, locale).items():
        made[name] = value
        document.pii[f"{pointer}/{name}"] = pii_class
    if rng.random() < 0.4:
        made["work_email"] = pools.mail(rng, locale)
        document.pii[f"{pointer}/work_email"] = "email"
    return made


def one_person(rng: random.Random, locale: Locale) -> Document:
    document = Document(decoys(rng, locale))
    container = rng.choice(("person", "contact", "customer", "user", "employee", "Sender", "accountOwner", "assigned_user", "Author"))
    document.data[container] = person(rng, locale, f"/{container}", document)
    return document


def list_of_persons(rng: random.Random, locale: Locale) -> Document:
    document = Document(decoys(rng, locale))
    container = rng.choice(("persons", "contacts", "attendees", "Participants", "team-members", "leads", "recipients"))
    document.data[container] = [person(rng, locale, f"/{container}/{index}", document) for index in range(rng.randrange(1, 4))]
    return document


def nested_person(rng: random.Random, locale: Locale) -> Document:
    document = Document(decoys(rng, locale))
    document.data["deal"] = {
        "stage": "won",
        "history": [{"step": 1}, {"step": 2, "lead": person(rng, locale, "/deal/history/1/lead", document)}],
        "value": 12,
    }
    return document


def person_in_a_string(rng: random.Random, locale: Locale) -> Document:
    inner = Document({})
    held = {"customer": person(rng, locale, "/customer", inner), "n": 1}
    document = Document({**decoys(rng, locale), "raw": json.dumps(held, ensure_ascii=rng.random() < 0.5)})
    document.pii["/raw"] = "person"
    return document


def flattened_person(rng: random.Random, locale: Locale) -> Document:
    document = Document(decoys(rng, locale))
    separator = rng.choice((".", "/", "_"))
    for name, (value, pii_class) in (("first_name", (rng.choice(locale.given), "name")), ("phone", (pools.phone(rng, locale), "phone"))):
        key = f"customer{separator}{name}"
        document.data[key] = value
        document.pii["/" + key.replace("/", "~1")] = pii_class
    return document


def bare_persons(rng: random.Random, locale: Locale) -> Document:
    document = Document(decoys(rng, locale))
    document.data |= {"owner": pools.person_name(rng, locale), "approver": pools.mail(rng, locale), "assignee": f"u_{pools.digits(rng, 3)}"}
    document.data["participants"] = [rng.choice(locale.given), f"u_{pools.digits(rng, 3)}", pools.phone(rng, locale)]
    document.pii |= {"/owner": "person", "/approver": "email", "/participants/0": "person", "/participants/2": "phone"}
    return document


PERSONS = (one_person, list_of_persons, nested_person, person_in_a_string, flattened_person, bare_persons, one_person, list_of_persons)


def _value(rng: random.Random, locale: Locale) -> tuple[str, str]:
    pii_class = rng.choice(
        ("email", "email", "phone", "phone", "phone", "bank_account", "payment_card", "national_id", "ip_address", "credential")
    )
    value = {
        "email": lambda: pools.mail(rng, locale),
        "phone": lambda: pools.phone(rng, locale),
        "bank_account": lambda: pools.iban(rng, locale),
        "payment_card": lambda: pools.card(rng),
        "national_id": lambda: pools.national_id(rng, locale),
        "ip_address": lambda: pools.ip(rng),
        "credential": lambda: pools.credential(rng),
    }[pii_class]()
    return value, pii_class


def in_a_note(rng: random.Random, locale: Locale) -> Document:
    document = Document({**decoys(rng, locale), "notes": []})
    for number in range(3):
        value, pii_class = _value(rng, locale)
        document.data["notes"].append({"at": f"2026-11-{10 + number}", "text": rng.choice(locale.notes).format(value)})
        document.pii[f"/notes/{number}/text"] = pii_class
    return document


def bare_in_a_field(rng: random.Random, locale: Locale) -> Document:
    document = Document({**decoys(rng, locale), "result": {"ok": True}})
    for name in ("value", "before", "after"):
        document.data["result"][name], document.pii[f"/result/{name}"] = _value(rng, locale)
    return document


def in_a_list(rng: random.Random, locale: Locale) -> Document:
    value, pii_class = _value(rng, locale)
    return Document({**decoys(rng, locale), "tags": ["blue", value, "green", 7]}, {"/tags/1": pii_class})


def as_a_key(rng: random.Random, locale: Locale) -> Document:
    value, pii_class = _value(rng, locale)
    return Document(
        {**decoys(rng, locale), "by_key": {value: 3, "total": 3}}, {f"/by_key/{value.replace('~', '~0').replace('/', '~1')}": pii_class}
    )


def in_json_in_a_string(rng: random.Random, locale: Locale) -> Document:
    value, pii_class = _value(rng, locale)
    return Document({**decoys(rng, locale), "payload": json.dumps({"rows": [{"text": value}]})}, {"/payload": pii_class})


def hidden_mail(rng: random.Random, locale: Locale) -> Document:
    address = f"{rng.choice(('imogen', 'uwe', 'beau'))}@{rng.choice(('example.com', 'mail.example.org'))}"
    local, domain = address.split("@")
    form = rng.choice(
        (
            f"{local} [at] {domain.replace('.', ' [dot] ')}", f"{local}(at){domain}", f"{local} at {domain.replace('.', ' dot ')}",
            address.replace("@", "\uff20"), quote(address, safe=""), address.replace("@", "&#64;"),
            base64.b64encode(address.encode()).decode(),
            f"https://list.example/unsubscribe?u={quote(address, safe='')}", f"<{address}>", f"mailto:{address}",
        )
    )  # fmt: skip
    return Document({**decoys(rng, locale), "text": form}, {"/text": "email"})


def by_field_name(rng: random.Random, locale: Locale) -> Document:
    pool: dict[str, tuple[Any, str]] = {
        "phone": (int("9" + pools.digits(rng, 9)), "phone"),
        "mobileNumber": (pools.digits(rng, 9), "phone"),
        "firstName": (rng.choice(locale.given), "name"),
        "last_name": (rng.choice(locale.family), "name"),
        "dateOfBirth": (f"19{rng.randrange(40, 99)}-05-10", "date_of_birth"),
        "passport_number": ("X" + pools.digits(rng, 8), "national_id"),
        "billing_address": (f"{locale.street}, {locale.city}", "address"),
        "customer_name": (pools.person_name(rng, locale), "name"),
        "user_name": (rng.choice(locale.given).lower(), "online_id"),
        "cvv": (pools.digits(rng, 3), "payment_card"),
        "client_secret": ("example-" + pools.digits(rng, 8), "credential"),
    }
    chosen = rng.sample(sorted(pool), 2)
    document = Document(decoys(rng, locale))
    document.data["form"] = {name: pool[name][0] for name in chosen} | {"step": 2}
    document.pii = {f"/form/{name}": pool[name][1] for name in chosen}
    return document


def labelled_number(rng: random.Random, locale: Locale) -> Document:
    number = pools.digits(rng, 9).replace("0", "1")
    return Document({**decoys(rng, locale), "comment": f"{locale.phone_label}: {number}"}, {"/comment": "phone"})


def name_in_prose(rng: random.Random, locale: Locale) -> Document:
    sentence = rng.choice(locale.notes).format(pools.person_name(rng, locale))
    return Document({**decoys(rng, locale), "remark": sentence}, {}, {"/remark": "name"})


FREE = (
    in_a_note,
    bare_in_a_field,
    in_a_list,
    in_a_note,
    as_a_key,
    in_json_in_a_string,
    hidden_mail,
    by_field_name,
    labelled_number,
    name_in_prose,
)


def only_decoys(rng: random.Random, locale: Locale) -> Document:
    return Document({**decoys(rng, locale), "rows": [decoys(rng, locale), decoys(rng, locale)]})


def decoys_in_prose(rng: random.Random, locale: Locale) -> Document:
    parts = [str(value) for value in decoys(rng, locale).values()]
    return Document({"log": " | ".join(parts), "text": f"{locale.plain[0]} ({parts[0]})", "json": json.dumps({"parts": parts[:2]})})


def names_that_only_sound_personal(rng: random.Random, locale: Locale) -> Document:
    return Document(
        {
            **decoys(rng, locale),
            "emails": {"sent": rng.randrange(99), "opened": rng.randrange(99)},
            "mobile": "ios",
            "user_agent": "curl/8.5",
            "lead_status": "open",
            "contacts": rng.randrange(900),
            "name": "Blue pen",
            "title": locale.plain[0],
            "address": "/dev/ttyS0",
            "phone_verified": True,
            "email_count": 3,
        }
    )


CLEAN = (only_decoys, decoys_in_prose, only_decoys, names_that_only_sound_personal)
