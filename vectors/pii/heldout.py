"""The templates of `heldout.jsonl`: other shapes, names and sentences than `templates`.

Written before the first measurement; `csv_cell` got more rows after it.
"""

from __future__ import annotations

import json
import random
import uuid
from typing import Any

from vectors.pii import pools
from vectors.pii.pools import Locale
from vectors.pii.templates import Document


def clutter(rng: random.Random) -> dict[str, Any]:
    """Return members without anything personal."""
    pool: dict[str, Any] = {
        "trackingNumber": f"{rng.choice('ABC')}{pools.digits(rng, 9)}{rng.choice('XYZ')}",
        "ticket": f"#{pools.digits(rng, 6)}",
        "build": f"20{pools.digits(rng, 2)}.{pools.digits(rng, 2)}.{pools.digits(rng, 1)}.{pools.digits(rng, 3)}",
        "image": f"registry.example/app@sha256:{''.join(rng.choices('0123456789abcdef', k=64))}",
        "package": f"@scope/pkg@{rng.randrange(9)}.{rng.randrange(9)}.0",
        "trace": f"00-{''.join(rng.choices('0123456789abcdef', k=32))}-{''.join(rng.choices('0123456789abcdef', k=16))}-01",
        "range": f"{pools.digits(rng, 4)}-{pools.digits(rng, 4)}",
        "when": f"Sun, {rng.randrange(10, 29)} Nov 2026 09:30:00 GMT",
        "duration": f"PT{rng.randrange(60)}M{rng.randrange(60)}S",
        "geo": {"type": "Point", "coordinates": [round(rng.uniform(-170, 170), 7), round(rng.uniform(-80, 80), 7)]},
        "isbn": f"978-3-{pools.digits(rng, 2)}-{pools.digits(rng, 6)}-{pools.digits(rng, 1)}",
        "total": {"value": f"{pools.digits(rng, 4)}.{pools.digits(rng, 2)}", "currency": "SEK"},
        "node": str(uuid.UUID(int=rng.getrandbits(128), version=4)).upper(),
        "cron": "*/5 0 1-15 * 1",
        "quantity": f"{rng.randrange(1, 9)} 000 000",
        "snowflake": "17" + pools.digits(rng, 16),
        "batch": f"{pools.digits(rng, 8)}-{pools.digits(rng, 6)}",
        "hex": "0x" + "".join(rng.choices("0123456789ABCDEF", k=16)),
        "score": f"{pools.digits(rng, 1)}:{pools.digits(rng, 1)}",
        "path": f"/var/lib/app/{pools.digits(rng, 4)}/{pools.digits(rng, 4)}.bin",
    }
    return {name: pool[name] for name in rng.sample(sorted(pool), 5)}


def crm_record(rng: random.Random, locale: Locale) -> Document:
    fields: dict[str, tuple[Any, str]] = {
        "firstname": (rng.choice(locale.given), "name"),
        "lastname": (rng.choice(locale.family), "name"),
        "hs_email": (pools.mail(rng, locale), "email"),
        "mobilephone": (pools.phone(rng, locale), "phone"),
        "zip": (pools.digits(rng, 5), "address"),
        "lifecyclestage": ("customer", "other"),
        "hs_lead_score": (rng.randrange(100), "other"),
    }
    made = Document(
        {"object": "contact", "contact": {"id": int(pools.digits(rng, 7)) + 1, **{k: v for k, (v, _) in fields.items()}}, **clutter(rng)}
    )
    made.pii = {f"/contact/{name}": pii_class for name, (_, pii_class) in fields.items()}
    return made


def meeting(rng: random.Random, locale: Locale) -> Document:
    people = [
        {
            "participant_id": f"z-{pools.digits(rng, 3)}",
            "display_name": pools.person_name(rng, locale),
            "joinIp": pools.ip(rng),
            "dial_in": pools.phone(rng, locale),
        }
        for _ in range(2)
    ]
    made = Document({"meeting": {"topic": "Planning", "duration": 45, "participants": people}, **clutter(rng)})
    made.pii = {
        f"/meeting/participants/{i}/{name}": pii_class
        for i in range(2)
        for name, pii_class in (("display_name", "name"), ("joinIp", "ip_address"), ("dial_in", "phone"))
    }
    return made


def map_of_persons(rng: random.Random, locale: Locale) -> Document:
    keys = [f"k{pools.digits(rng, 3)}{i}" for i in range(2)]
    made = Document(
        {"employees": {key: {"given_name": rng.choice(locale.given), "pay": rng.randrange(9999)} for key in keys}, **clutter(rng)}
    )
    made.pii = {f"/employees/{key}": "person" for key in keys}
    return made


def quoted_twice(rng: random.Random, locale: Locale) -> Document:
    inner = json.dumps({"patient": {"surname": rng.choice(locale.family), "room": 4}})
    made = Document({"message": {"body": json.dumps({"v": 1, "inner": inner}), "headers": clutter(rng)}})
    made.pii = {"/message/body": "person"}
    return made


def subscriber(rng: random.Random, locale: Locale) -> Document:
    made = Document(
        {
            "subscription": {"plan": "gold", "subscriber": {"contact": {"tel": pools.phone(rng, locale)}, "since": 2024, "uuid": "a-1"}},
            **clutter(rng),
        }
    )
    made.pii = {"/subscription/subscriber/contact": "person", "/subscription/subscriber/since": "person"}
    return made


PERSONS = (crm_record, meeting, map_of_persons, quoted_twice, subscriber)


def chat_line(rng: random.Random, locale: Locale) -> Document:
    value, pii_class = rng.choice(
        ((pools.mail(rng, locale), "email"), (pools.phone(rng, locale), "phone"), (pools.iban(rng, locale), "bank_account"))
    )
    made = Document(
        {
            "messages": [
                {"ts": "1732267800.123456", "text": "ok"},
                {"ts": "1732267801.000200", "text": f"-> {value} <- ({locale.plain[0]})"},
            ],
            **clutter(rng),
        }
    )
    made.pii = {"/messages/1/text": pii_class}
    return made


def log_entry(rng: random.Random, _locale: Locale) -> Document:
    address = pools.ip(rng)
    made = Document(
        {"line": f'{address} - - [22/Nov/2026:09:30:00 +0000] "GET /a/{pools.digits(rng, 4)} HTTP/1.1" 200 512', **clutter(rng)}
    )
    made.pii = {"/line": "ip_address"}
    return made


def csv_cell(rng: random.Random, locale: Locale) -> Document:
    made = Document({"rows": ["no;value;city;date;price"], **clutter(rng)})
    for number in range(1, 5):
        value, pii_class = rng.choice(
            (
                (pools.phone(rng, locale), "phone"),
                (pools.card(rng), "payment_card"),
                (pools.mail(rng, locale), "email"),
                (pools.national_id(rng, locale), "national_id"),
                (pools.iban(rng, locale), "bank_account"),
            )
        )
        made.data["rows"].append(f"{number};{value};{locale.city};2026-11-22;12,50")
        made.pii[f"/rows/{number}"] = pii_class
    return made


def settings(rng: random.Random, _locale: Locale) -> Document:
    made = Document(
        {
            "config": {"endpoint": "https://api.example/v2", "header": f"Authorization: Bearer {pools.credential(rng)}", "retries": 3},
            **clutter(rng),
        }
    )
    made.pii = {"/config/header": "credential"}
    return made


def form(rng: random.Random, locale: Locale) -> Document:
    fields: dict[str, tuple[Any, str]] = {
        "Telephone": (pools.phone(rng, locale), "phone"),
        "surname": (rng.choice(locale.family), "name"),
        "birthday": ("10 May 1985", "date_of_birth"),
        "Email Address": (pools.mail(rng, locale), "email"),
        "social_security_number": (pools.digits(rng, 9), "national_id"),
        "homeAddress": (f"{locale.street}, {locale.city}", "address"),
    }
    made = Document({"answers": {name: value for name, (value, _) in fields.items()} | {"agreed": True, "page": 2}, **clutter(rng)})
    made.pii = {f"/answers/{name}": pii_class for name, (_, pii_class) in fields.items()}
    return made


def link(rng: random.Random, locale: Locale) -> Document:
    made = Document(
        {"href": f"https://crm.example/find?q={pools.mail(rng, locale)}&n=1", "alt": f"tel:{pools.phone(rng, locale)}", **clutter(rng)}
    )
    made.pii = {"/href": "email", "/alt": "phone"}
    return made


def signature_block(rng: random.Random, locale: Locale) -> Document:
    made = Document(
        {
            "mail": {
                "subject": locale.plain[0],
                "body": f"{locale.plain[1]}\n--\n{pools.person_name(rng, locale)}\n{locale.phone_label} {pools.phone(rng, locale)}",
            },
            **clutter(rng),
        }
    )
    made.pii = {"/mail/body": "phone"}
    return made


FREE = (chat_line, log_entry, csv_cell, settings, form, link, signature_block, chat_line)


def plain_record(rng: random.Random, locale: Locale) -> Document:
    return Document({"a": clutter(rng), "b": [clutter(rng)], "text": locale.plain[1]})


def plain_log(rng: random.Random, locale: Locale) -> Document:
    return Document({"lines": [f"{name}={value}" for name, value in clutter(rng).items()], "note": f"{locale.plain[0]} {locale.plain[1]}"})


CLEAN = (plain_record, plain_log)
