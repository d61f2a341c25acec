"""Pages of Graph: `$top`, and a whole address for the next one (`@odata.nextLink`)."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

from customhouse_sandbox.http import Reply, as_json
from customhouse_sandbox.microsoft.errors import invalid
from customhouse_sandbox.paging import number, page
from customhouse_sandbox.routing import Ask

_MOST: Final = 50
_DEFAULT: Final = 20


def listed(ask: Ask, question: tuple[str, ...], rows: list[dict[str, Any]]) -> Reply:
    """Return one page of a list."""
    size = number(ask.query("$top"), _DEFAULT, _MOST)
    found = None if size is None else page(ask.realm, (*question, size), rows, size, ask.query("$skiptoken"))
    if found is None:
        return invalid(ask.realm, "Invalid page size or skip token.")
    said: dict[str, Any] = {"@odata.context": f"{ask.realm.base}/v1.0/$metadata#{question[0]}", "@odata.count": len(found[0])}
    if found[1]:
        origin = ask.realm.base.removesuffix(f"/{ask.realm.name}")
        said["@odata.nextLink"] = f"{origin}{ask.request.path}?$top={size}&$skiptoken={quote(found[1], safe='')}"
    return as_json(200, {**said, "value": found[0]})
