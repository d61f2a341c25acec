"""TOML tables read key by key: what is wrong is noted by its place, never by its value."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from customhouse.errors import Fault
from customhouse.types import Secret

LONGEST: Final = 1000
"""Characters of one text."""
MOST: Final = 200
"""Elements of one list."""
URL: Final = re.compile(
    r"(?P<origin>(?P<scheme>https?)://(?P<host>[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:]{2,39}\])(?::(?P<port>[1-9][0-9]{0,4}))?)"
    r"(?P<path>(?:/[A-Za-z0-9._~!$&'()*+,;=:@%-]*)*)(?P<query>\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?"
)
"""The one spelling of a URL: lower-case host, no user name, no fragment."""
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a secret is; exactly one of the two."""

    env: str = ""
    file: str = ""


Resolve = Callable[[Reference], Secret]
"""Returns the secret at a reference; raises `ValueError` with a sentence, without the value, where there is none."""


class Table:
    """One TOML table, read key by key; what is wrong is noted, what is left over is unknown."""

    def __init__(self, values: Mapping[str, Any], place: str, faults: list[Fault]) -> None:
        self.values = values
        self.place = place
        self.faults = faults

    def wrong(self, key: str, detail: str) -> None:
        self.faults.append(Fault(f"{self.place}/{key}" if key else self.place, detail))

    def only(self, known: Sequence[str]) -> None:
        for key in self.values:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                self.wrong(ascii(key)[1:-1], f"there is no such key; do you mean {near[0]}?" if near else "there is no such key here")

    def text(self, key: str, default: str | None = None, pattern: re.Pattern[str] | None = None) -> str:
        value = self.values.get(key, default)
        if value is None:
            self.wrong(key, "is required")
        elif not isinstance(value, str) or not value or len(value) > LONGEST or not value.isprintable():
            self.wrong(key, f"must be a text of 1 to {LONGEST} printable characters")
        elif pattern is not None and pattern.fullmatch(value) is None:
            self.wrong(key, "is not spelled as it must be")
        else:
            return value
        return ""

    def flag(self, key: str, *, default: bool) -> bool:
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            self.wrong(key, "must be true or false")
            return default
        return value

    def whole(self, key: str, default: int, least: int, most: int) -> int:
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self.wrong(key, f"must be a whole number from {least} to {most}")
            return default
        return value

    def choice(self, key: str, default: str | None, choices: Sequence[str]) -> str:
        value = self.values.get(key, default)
        if value not in choices:
            self.wrong(key, f"must be one of {', '.join(choices)}")
            return choices[0]
        return str(value)

    def tables(self, key: str) -> list[Table]:
        value = self.values.get(key, [])
        if not isinstance(value, list) or len(value) > MOST or not all(isinstance(one, dict) for one in value):
            self.wrong(key, f"must be a list of at most {MOST} tables")
            return []
        return [Table(one, f"{self.place}/{key}/{index}", self.faults) for index, one in enumerate(value)]

    def table(self, key: str) -> Table:
        value = self.values.get(key, {})
        if not isinstance(value, dict):
            self.wrong(key, "must be a table")
            value = {}
        return Table(value, f"{self.place}/{key}", self.faults)

    def texts(self, key: str, default: Sequence[str] = ()) -> tuple[str, ...]:
        value = self.values.get(key, list(default))
        if not isinstance(value, list) or len(value) > MOST or not all(isinstance(one, str) and 0 < len(one) <= LONGEST for one in value):
            self.wrong(key, f"must be a list of at most {MOST} texts")
            return ()
        return tuple(value)

    def url(self, key: str, *, https_required: bool, needed: bool = False) -> str:
        """Return a URL whose spelling leaves nothing open: no user name, no fragment, no dot segments."""
        if key not in self.values and not needed:
            return ""
        url = self.text(key)
        if not url:
            return ""
        parts = URL.fullmatch(url)
        if parts is None or any(part in {".", ".."} for part in parts["path"].split("/")) or int(parts["port"] or 1) > 65535:  # noqa: PLR2004
            self.wrong(key, "must be a URL such as https://api.example.com/v1: lower-case host, no user name, no fragment, no dot segments")
        elif parts["scheme"] != "https" and https_required:
            self.wrong(key, "must begin with https://; plain http is for development")
        else:
            return url
        return ""

    def secret(self, key: str, resolve: Resolve) -> Secret | None:
        if key not in self.values:
            return None
        value = self.values[key]
        if not isinstance(value, dict) or len(value) != 1 or not {"env", "file"} >= value.keys():
            self.wrong(key, 'must be a reference: {env = "NAME"} or {file = "/path"}; a secret itself never stands in this file')
            return None
        (kind, name), *_ = value.items()
        if (
            not isinstance(name, str)
            or not name.isprintable()
            or not (name.startswith("/") if kind == "file" else _VARIABLE.fullmatch(name))
        ):
            self.wrong(key, "must name an environment variable, or a file by its absolute path")
            return None
        try:
            return resolve(Reference(**{kind: name}))
        except ValueError as error:
            self.wrong(key, str(error))
            return None
