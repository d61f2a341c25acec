"""Credentials that customers make and hosts paste: how they look in a call. Nothing of them is ever answered or repeated."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from customhouse.types import Secret
from customhouse.web.routes import Body


class Credentials(Body):
    """A key that the customer made at the provider, and what their webhook endpoint there signs with."""

    api_key: Annotated[
        str,
        Field(
            min_length=1, max_length=512, repr=False, description="A restricted key. Probed before it is kept, sealed, never shown again."
        ),
    ]
    webhook_secret: Annotated[
        str | None,
        Field(min_length=1, max_length=512, repr=False, description="The signing secret of the customer's webhook endpoint there. Sealed."),
    ] = None

    def key(self) -> Secret:
        """Return the key."""
        return _secret(self.api_key)

    def inbound(self) -> Secret | None:
        """Return the secret of the webhook endpoint, if there is one."""
        return None if self.webhook_secret is None else _secret(self.webhook_secret)


def _secret(text: str) -> Secret:
    return Secret(text.encode("utf-8", "surrogatepass"))
