"""Times as callers write them: RFC 3339 with an offset, nothing looser."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

_FORM: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(9999, 1, 1, tzinfo=UTC)


def moment(value: object) -> datetime:
    """Read a moment; aware, in UTC, from 1970 to 9998: what ids and PostgreSQL can say.

    Raises:
        PydanticCustomError: it is not of the form, or there is no such day.
    """
    if isinstance(value, str) and _FORM.fullmatch(value):
        try:
            found = datetime.fromisoformat(value.upper()).astimezone(UTC)
        except (ValueError, OverflowError):
            pass
        else:
            if _FIRST <= found < _LAST:
                return found
    raise PydanticCustomError("moment", "not an RFC 3339 time")


Moment = Annotated[datetime, BeforeValidator(moment), WithJsonSchema({"type": "string", "format": "date-time"})]
"""A time in a body or a query."""
