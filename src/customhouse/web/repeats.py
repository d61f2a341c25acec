"""`Idempotency-Key` on the calls that create."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header

from customhouse.canonical import dump_sorted
from customhouse.tenants.idempotency import Once, key_of
from customhouse.types import TenantId
from customhouse.web.auth import Caller
from customhouse.web.routes import Body

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="The same key and body gives the same ids for 7 days; a secret is not shown again.",
        json_schema_extra={"pattern": "^[A-Za-z0-9_.:-]{1,128}$"},
    ),
]
"""Declares the header; `once` reads it from the call, where a repeated one is noticed."""


async def once(caller: Caller, tenant: TenantId, operation: str, body: Body) -> Once:
    """Return what keeps a call from creating twice.

    Args:
        caller: who calls; the key is in the header.
        tenant: whose key it is.
        operation: the same key on another operation is another key.
        body: what is to be created.

    Raises:
        Invalid: the key is not of the form, or given twice.
        KeyServiceUnavailable: the key of the hashes cannot be had.
    """
    text = caller.call.idempotency_key()
    key = None if text is None else key_of(text)
    said = dump_sorted(body.model_dump(mode="json", exclude_unset=True))
    return await Once.prepare(caller.app.vault, tenant, operation, key, said)
