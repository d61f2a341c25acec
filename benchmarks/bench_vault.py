"""How long sealing and opening take, and how many bytes a sealed record is longer, beside the peers, in one run.

`python benchmarks/bench_vault.py [--json] [--quick]`. Every contestant works on the same record (a token of 200 bytes, a payload of 1 KiB);
rounds are interleaved, so that a slow moment of the machine hits all alike. Medians, in µs. The floor is AES-256-GCM with a kept key and no
commitment; the AWS Encryption SDK takes part where it is installed (it is not a dependency), with cached materials and commitment.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from customhouse.crypto.envelope import OVERHEAD, Place, RecordKey, open_sealed, seal
from customhouse.crypto.mac import mac
from customhouse.types import Secret

TOKEN_BYTES, PAYLOAD_BYTES = 200, 1024
MOST_MICROSECONDS, MOST_OVERHEAD = 10.0, 100
KEY = RecordKey(UUID(int=7), Secret(os.urandom(32)))
PLACE = Place("prod", "acme", "con_01k9zzzzzzzzzzzzzzzzzzzzzz", "integration_tokens", "access_token", "con_01k9zzzzzzzzzzzzzzzzzzzzzz", 3)


@dataclass(frozen=True, slots=True)
class Contestant:
    """One way to seal and open a record."""

    seal: Callable[[bytes], bytes]
    open: Callable[[bytes], bytes]


def plain() -> Contestant:
    """AES-256-GCM with a key object that is kept, and a random nonce: binds a place, commits to no key."""
    aead = AESGCM(KEY.material.reveal())

    def seal_plain(plaintext: bytes) -> bytes:
        nonce = os.urandom(12)
        return nonce + aead.encrypt(nonce, plaintext, PLACE.associated_data())

    return Contestant(seal_plain, lambda sealed: aead.decrypt(sealed[:12], sealed[12:], PLACE.associated_data()))


def encryption_sdk() -> Contestant:
    """The AWS Encryption SDK with a raw AES key, key commitment, no signing, and cached materials."""
    sdk: Any = importlib.import_module("aws_encryption_sdk")
    names: Any = importlib.import_module("aws_encryption_sdk.identifiers")
    wrapping: Any = importlib.import_module("aws_encryption_sdk.internal.crypto.wrapping_keys").WrappingKey(
        names.WrappingAlgorithm.AES_256_GCM_IV12_TAG16_NO_PADDING, KEY.material.reveal(), names.EncryptionKeyType.SYMMETRIC
    )
    raw: Any = importlib.import_module("aws_encryption_sdk.key_providers.raw")

    class Provider(raw.RawMasterKeyProvider):  # type: ignore[misc]  # the package has no types
        provider_id = "bench"

        def _get_raw_key(self, key_id: bytes) -> Any:  # noqa: ARG002 - the signature is theirs
            return wrapping

    provider = Provider()
    provider.add_master_key("bench")
    materials = sdk.CachingCryptoMaterialsManager(
        master_key_provider=provider, cache=sdk.LocalCryptoMaterialsCache(capacity=100), max_age=300.0, max_messages_encrypted=2**30
    )
    client = sdk.EncryptionSDKClient()
    suite = names.Algorithm.AES_256_GCM_HKDF_SHA512_COMMIT_KEY
    context = {"tenant_id": "acme", "row": PLACE.row}
    return Contestant(
        lambda plaintext: client.encrypt(source=plaintext, materials_manager=materials, algorithm=suite, encryption_context=context)[0],
        lambda sealed: client.decrypt(source=sealed, materials_manager=materials)[0],
    )


def contestants() -> dict[str, Contestant]:
    """Return who takes part, by name."""
    found = {
        "customhouse": Contestant(lambda plaintext: seal(KEY, PLACE, plaintext), lambda sealed: open_sealed(KEY, PLACE, sealed)),
        "plain AES-256-GCM (the floor)": plain(),
    }
    if importlib.util.find_spec("aws_encryption_sdk") is not None:
        found["AWS Encryption SDK, cached, commitment"] = encryption_sdk()
    return found


def measure(*, rounds: int, seconds: float) -> dict[str, Any]:
    """Return medians of interleaved rounds, in µs, and the overheads in bytes."""
    works: dict[str, Callable[[], object]] = {}
    overheads: dict[str, int] = {}
    for name, contestant in contestants().items():
        for what, size in (("token", TOKEN_BYTES), ("payload", PAYLOAD_BYTES)):
            plaintext = os.urandom(size)
            sealed = contestant.seal(plaintext)
            if contestant.open(sealed) != plaintext:
                raise SystemExit(f"{name} does not open what it sealed")
            overheads[name] = len(sealed) - size
            works[f"{name}: seal {what}"] = lambda c=contestant, p=plaintext: c.seal(p)  # type: ignore[misc]
            works[f"{name}: open {what}"] = lambda c=contestant, s=sealed: c.open(s)  # type: ignore[misc]
    part = os.urandom(40)
    works["customhouse: keyed hash of 40 bytes"] = lambda: mac(KEY, "api-keys", part)
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            found[name].append(_once(work, seconds))
    return {"microseconds": {name: round(statistics.median(times), 2) for name, times in found.items()}, "overhead_bytes": overheads}


def _once(work: Callable[[], object], seconds: float) -> float:
    done, begin = 0, time.perf_counter()
    end = begin + seconds
    while (now := time.perf_counter()) < end:
        for _ in range(50):
            work()
        done += 50
    return (now - begin) / done * 1e6


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and fail where sealing or opening passes its bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="one short round: for seeing that it runs")
    options = parser.parse_args(arguments)
    found = measure(rounds=1, seconds=0.01) if options.quick else measure(rounds=5, seconds=0.4)
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        for name, microseconds in found["microseconds"].items():
            print(f"{microseconds:10.2f} µs  {name}")
        for name, overhead in found["overhead_bytes"].items():
            print(f"{overhead:10d} bytes  {name}")
    slow = {name for name, took in found["microseconds"].items() if name.startswith("customhouse: ") and took > MOST_MICROSECONDS}
    return 1 if OVERHEAD > MOST_OVERHEAD or (slow and not options.quick) else 0


if __name__ == "__main__":
    sys.exit(main())
