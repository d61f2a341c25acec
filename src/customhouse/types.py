"""Types that carry meaning or proof, used on every floor."""

from __future__ import annotations

import hmac
from typing import Final, NewType, NoReturn, TypeAlias

TenantId = NewType("TenantId", str)
"""The host application's own name for a customer organisation."""
ConnectionId = NewType("ConnectionId", str)
"""`con_…`"""

PLATFORM: Final = TenantId("_platform")
"""The reserved tenant of the operator: platform API keys, shared event types, operational events."""

Json: TypeAlias = "None | bool | int | float | str | list[Json] | dict[str, Json]"
"""What strict JSON text can say (`canonical.parse`)."""
JsonObject: TypeAlias = "dict[str, Json]"


class Secret:
    """Bytes that never show: `repr`, `str`, `format`, pickles and copies give nothing away.

    `reveal()` is the only way in, so that `grep reveal` lists every place that touches plaintext.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        """Take the secret bytes."""
        self._value = value

    def reveal(self) -> bytes:
        """Return the plaintext."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    def __hash__(self) -> NoReturn:
        msg = "a Secret is not hashable"
        raise TypeError(msg)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        msg = "a Secret is not serialisable"
        raise TypeError(msg)

    def __len__(self) -> int:
        return len(self._value)
