"""Lists, page by page: `limit` and an opaque `cursor` in, `data` and `next_cursor` out."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Annotated, Final, Generic, TypeVar
from uuid import UUID

from fastapi import Depends, Query

from customhouse.errors import Fault, Invalid
from customhouse.web.routes import Shape

Item = TypeVar("Item")
Row = TypeVar("Row")
DEFAULT: Final = 50
MOST: Final = 200
_LONGEST: Final = 200
_UUID_BYTES: Final = 16
_FORM: Final = "^[A-Za-z0-9_-]+$"


class Page(Shape, Generic[Item]):
    """One page; `next_cursor` is null on the last one."""

    data: list[Item]
    next_cursor: str | None


class Wanted:
    """Which page is asked for."""

    __slots__ = ("cursor", "limit")

    def __init__(
        self,
        limit: Annotated[int, Query(ge=1, le=MOST)] = DEFAULT,
        cursor: Annotated[
            str | None,
            Query(max_length=_LONGEST, description="The `next_cursor` of the page before.", json_schema_extra={"pattern": _FORM}),
        ] = None,
    ) -> None:
        """Take the query parameters."""
        self.limit = limit
        self.cursor = cursor

    def before(self) -> UUID | None:
        """Return the last id of the page before.

        Raises:
            Invalid: the cursor is none of ours.
        """
        raw = self._raw()
        if raw is None:
            return None
        if len(raw) != _UUID_BYTES:
            raise _bad_cursor()
        return UUID(bytes=raw)

    def after(self) -> str | None:
        """Return the last name of the page before.

        Raises:
            Invalid: the cursor is none of ours.
        """
        raw = self._raw()
        if raw is None:
            return None
        if not raw.isascii() or b"\0" in raw:
            raise _bad_cursor()
        return raw.decode("ascii")

    def page(
        self, rows: Sequence[Row], shape: Callable[[Row], Item], last: Callable[[Row], UUID | str], resume: UUID | None = None
    ) -> Page[Item]:
        """Return the page of rows that were read with `limit + 1`: the one too many says that there is another page.

        Where a search stopped early, `resume` is where the next page begins, and this one may be short.
        """
        shown = rows[: self.limit]
        after = last(shown[-1]) if len(rows) > self.limit else resume
        return Page(data=[shape(row) for row in shown], next_cursor=None if after is None else _cursor(after))

    def _raw(self) -> bytes | None:
        if self.cursor is None:
            return None
        try:
            raw = base64.b64decode(self.cursor.encode("ascii") + b"=" * (-len(self.cursor) % 4), altchars=b"-_", validate=True)
        except ValueError:
            raise _bad_cursor() from None
        if not raw or _text(raw) != self.cursor:
            raise _bad_cursor()
        return raw


PageOf = Annotated[Wanted, Depends()]
"""The parameter of a route that lists."""


def _cursor(last: UUID | str) -> str:
    return _text(last.bytes if isinstance(last, UUID) else last.encode())


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bad_cursor() -> Invalid:
    return Invalid("The cursor is not acceptable.", (Fault("/cursor", "is not the next_cursor of an earlier page"),))
