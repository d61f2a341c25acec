"""How long signing and verifying take, beside the peers, in one run.

`python benchmarks/bench_signatures.py [--json] [--quick]`. Every contestant works on the same body (1 KiB envelope) and, where its
profile allows, the same headers; rounds are interleaved, so that a slow moment of the machine hits all alike. Medians, in µs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import standardwebhooks.webhooks
import svix.webhooks

from customhouse.crypto.signatures import Algorithm, Profile, SigningKey, new_secret, shown, signer
from customhouse_receiver import MemoryReplayCache, Receiver, testing
from customhouse_receiver.headers import HeaderNames
from customhouse_receiver.keys import Keyring
from customhouse_receiver.verify import Rules, check

BODY_BYTES = 1024
EVENT_ID = "evt_test"


def contestants() -> dict[str, Callable[[], object]]:
    """Return what is measured, by name."""
    secret, pair = new_secret(Algorithm.V1), new_secret(Algorithm.V1A)
    text, now = shown(secret), int(time.time())
    filler = BODY_BYTES - len(testing.body(data={"note": ""}))
    body = testing.body(data={"note": "x" * filler})
    keys = [SigningKey("key_1", secret)]
    queast, standard = signer(Profile.QUEAST_V1, keys), signer(Profile.STANDARD_WEBHOOKS, keys)
    ed25519 = signer(Profile.STANDARD_WEBHOOKS, [SigningKey("key_1", pair)])
    others = {"content-type": "application/json", "user-agent": "customhouse", "host": "example.com"}
    by_queast = {**others, **queast.headers(EVENT_ID, now, body)}
    by_standard = {**others, **standard.headers(EVENT_ID, now, body)}
    by_pair = {**others, **ed25519.headers(EVENT_ID, now, body)}
    keyring, rules = Keyring({"key_1": text}), Rules(HeaderNames("X-Queast"), 300, BODY_BYTES)
    public = Keyring({"key_1": shown(pair)})
    receiver = Receiver({"key_1": text}, replay=MemoryReplayCache())
    std, svx = standardwebhooks.webhooks.Webhook(text), svix.webhooks.Webhook(text)
    moment, as_text = datetime.fromtimestamp(now, UTC), body.decode()
    return {
        "sign queast-v1": lambda: queast.headers(EVENT_ID, now, body),
        "sign standard-webhooks v1": lambda: standard.headers(EVENT_ID, now, body),
        "sign standard-webhooks v1a": lambda: ed25519.headers(EVENT_ID, now, body),
        "sign, standardwebhooks": lambda: std.sign(EVENT_ID, moment, as_text),
        "sign, svix": lambda: svx.sign(EVENT_ID, moment, as_text),
        "check queast-v1": lambda: check(by_queast, body, keyring, rules, now=now),
        "check standard-webhooks v1": lambda: check(by_standard, body, keyring, rules, now=now),
        "check standard-webhooks v1a": lambda: check(by_pair, body, public, rules, now=now),
        "check, standardwebhooks": lambda: std.verify(body, by_standard, json_parse=False),
        "check, svix": lambda: svx.verify(body, by_standard),
        "all of queast-v1: contract, claim, release": lambda: receiver.verify(by_queast, body).release(),
        "all of standard-webhooks: contract, claim, release": lambda: receiver.verify(by_standard, body).release(),
        "check and JSON, standardwebhooks": lambda: std.verify(body, by_standard),
    }


def measure(rounds: int, calls: int) -> dict[str, float]:
    """Return the median µs per call of each contestant."""
    samples: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, call in contestants().items():
            call()
            start = time.perf_counter()
            for _ in range(calls):
                call()
            samples.setdefault(name, []).append((time.perf_counter() - start) / calls * 1e6)
    return {name: statistics.median(values) for name, values in samples.items()}


def ratios(micros: dict[str, float]) -> dict[str, float]:
    """Return how many times as long the peers take for the same work."""
    return {
        f"{peer} / check {profile}": round(micros[f"check, {peer}"] / micros[f"check {profile}"], 2)
        for peer in ("standardwebhooks", "svix")
        for profile in ("queast-v1", "standard-webhooks v1")
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Signatures: ours beside the peers.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="few calls, for a check that it runs")
    given = parser.parse_args()
    micros = measure(*((3, 50) if given.quick else (9, 4000)))
    result: dict[str, Any] = {
        "body_bytes": BODY_BYTES,
        "micros": {name: round(value, 2) for name, value in micros.items()},
        "ratios": ratios(micros),
    }
    if given.json:
        json.dump(result, sys.stdout)
        print()
        return 0
    for name, value in micros.items():
        print(f"{name:<55}{value:8.2f} µs")
    for name, value in result["ratios"].items():
        print(f"{name:<55}{value:8.2f} x")
    return 0


if __name__ == "__main__":
    sys.exit(main())
