"""Parts of a file, where a range of it is asked for (RFC 9110 §14)."""

from __future__ import annotations

import re
from typing import Final

from customhouse_sandbox.http import Reply, Request

_RANGE: Final = re.compile(r"bytes=([0-9]{1,12})-([0-9]{0,12})")


def partial(request: Request, content: bytes, kind: str = "application/octet-stream") -> Reply:
    """Return a file, or the one part of it that is asked for."""
    headers = [("Content-Type", kind), ("Accept-Ranges", "bytes")]
    wanted = _RANGE.fullmatch(request.headers.get("range", ""))
    if wanted is None:
        return Reply(200, content, tuple(headers))
    first, last = int(wanted[1]), min(int(wanted[2] or len(content) - 1), len(content) - 1)
    if first > last:
        return Reply(416, b"", (("Content-Range", f"bytes */{len(content)}"),))
    headers.append(("Content-Range", f"bytes {first}-{last}/{len(content)}"))
    return Reply(206, content[first : last + 1], tuple(headers))
