"""Credentials in payloads (R14): prefixes and shapes that their issuers publish."""

from __future__ import annotations

import re
from typing import Final

PREFIXES: Final = (
    "k_",
    "sk-",
    "whsec_",
    "xox",
    "xapp-",
    "gh",
    "github_pat_",
    "glpat-",
    "IA",
    "AIza",
    "ya29.",
    "1//0",
    "eyJ",
    "SG.",
    "npm_",
    "pypi-",
    "hf_",
    "shp",
    "pat-",
    "dop_v1_",
)
"""What no word of twelve characters or more holds that is no credential's: substrings are far cheaper to test than the pattern."""
PHRASES: Final = ("-----BEGIN", "earer", "asic")
"""The same for credentials that begin with a word of their own."""

_B64: Final = r"[A-Za-z0-9_-]"
_PATTERN: Final = re.compile(
    rf"""(?<![A-Za-z0-9])(?:
    [sr]k_(?:live|test)_[A-Za-z0-9]{{10,255}}
    |sk-(?:ant-|proj-|svcacct-)?{_B64}{{20,255}}
    |whsec_[A-Za-z0-9+/=_-]{{16,255}}
    |xox[a-z]-[A-Za-z0-9-]{{10,255}}
    |xapp-\d-[A-Za-z0-9-]{{10,255}}
    |gh[pousr]_[A-Za-z0-9]{{20,255}}
    |github_pat_[A-Za-z0-9_]{{20,255}}
    |glpat-{_B64}{{16,255}}
    |A[KS]IA[0-9A-Z]{{16}}(?![0-9A-Za-z])
    |AIza{_B64}{{30,255}}
    |ya29\.{_B64}{{10,512}}
    |1//0{_B64}{{20,255}}
    |eyJ{_B64}{{8,4096}}\.{_B64}{{8,8192}}\.{_B64}{{0,2048}}
    |SG\.{_B64}{{16,64}}\.{_B64}{{16,64}}
    |npm_[A-Za-z0-9]{{30,64}}
    |pypi-{_B64}{{30,255}}
    |hf_[A-Za-z0-9]{{30,64}}
    |shp(?:at|ss|ca|pa)_[A-Za-z0-9]{{20,64}}
    |ck_{_B64}{{20,255}}
    |pat-(?:na|eu|ap)\d-[0-9a-f-]{{20,64}}
    |dop_v1_[0-9a-f]{{32,64}}
    |[Bb]earer\s{{1,2}}[A-Za-z0-9._~+/-]{{16,4096}}
    |[Bb]asic\s{{1,2}}[A-Za-z0-9+/]{{12,4096}}={{0,2}}(?![A-Za-z0-9])
    )
    |-----BEGIN[ A-Z0-9]{{0,32}}PRIVATE\ KEY""",
    re.VERBOSE,
)
_MIXED: Final = re.compile(r"[0-9A-Z+/=]")


def credential_spans(text: str) -> list[tuple[int, int]]:
    """Return where credentials stand in a text.

    A scheme word (`Bearer`, `Basic`) counts only before something that is not an ordinary word: `basic understanding` is prose.
    """
    if not any(prefix in text for prefix in (*PREFIXES, *PHRASES)):
        return []
    return [m.span() for m in _PATTERN.finditer(text) if m[0][:1] not in "Bb" or _MIXED.search(m[0], 6)]
