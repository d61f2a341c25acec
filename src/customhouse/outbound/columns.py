"""A connection's row as a wish, and a wish as a row."""

from __future__ import annotations

from dataclasses import replace

from customhouse.crypto.credentials import ClientCertificate, Credential
from customhouse.db import Row
from customhouse.outbound.sealed import Sealed
from customhouse.outbound.throttle import Rate
from customhouse.outbound.wishes import Change, Wish
from customhouse.types import Json


def changed(sealed: Sealed, row: Row, change: Change) -> Wish:
    """Return what the connection would be after a change."""
    schedule, per_second, chain = row["retry_schedule"], row["rate_per_second"], sealed.chain(row)
    now = Wish(
        url=sealed.url(row),
        event_types=tuple(row["event_types"]),
        signature_profile=row["signature_profile"],
        signature_algorithm=row["signature_algorithm"],
        description=row["description"],
        headers=sealed.headers(row),
        retry_schedule=None if schedule is None else tuple(schedule),
        rate_limit=None if per_second is None else Rate(per_second, row["rate_burst"]),
        client_certificate=None if chain is None else described(chain),
    )
    return replace(now, **{name: getattr(change, name) for name in change.names() if name != "paused"})


def described(chain: bytes) -> ClientCertificate:
    """Return what a stored chain says of itself."""
    from customhouse.crypto.certificates import describe  # noqa: PLC0415 - X.509 costs memory

    return describe(chain)


def columns_of(wish: Wish) -> dict[str, object]:
    """Return what stands in the row in clear, in the order of the statements that write it."""
    rate = wish.rate_limit
    return {
        "event_types": list(wish.event_types),
        "signature_profile": wish.signature_profile,
        "signature_algorithm": wish.signature_algorithm,
        "retry_schedule": None if wish.retry_schedule is None else list(wish.retry_schedule),
        "rate_per_second": None if rate is None else rate.per_second,
        "rate_burst": None if rate is None else rate.burst,
    }


def chain_of(wish: Wish) -> bytes | None:
    """Return the certificates that the connection's MAC covers."""
    held = wish.client_certificate
    return held.certificate.pem if isinstance(held, Credential) else None if held is None else held.pem


def certificate_columns(sealed: Sealed, wish: Wish, row: Row | None) -> tuple[object, object, object]:
    """Return certificate, key and end of validity as they shall stand in the row; what is there already is not opened for that."""
    held = wish.client_certificate
    if isinstance(held, Credential):
        return sealed.seal_credential(held)
    if held is None or row is None:
        return None, None, None
    return row["client_certificate_sealed"], row["client_key_sealed"], row["certificate_expires_at"]


def certificate_detail(wish: Wish) -> dict[str, Json]:
    """Return what the ledger says of a certificate that is new."""
    held = wish.client_certificate
    return {"certificate": held.certificate.fingerprint} if isinstance(held, Credential) else {}
