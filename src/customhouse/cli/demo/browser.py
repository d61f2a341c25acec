"""The browser of the person in the story: it has cookies, reads pages, presses buttons, and goes nowhere but to this machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Final
from urllib.parse import urlencode, urljoin, urlsplit

from customhouse.cli.loopback import HOST, NoAnswer, send

_FORM: Final = "application/x-www-form-urlencoded"
_VOID: Final = frozenset({"br", "input", "meta", "link"})


@dataclass(slots=True)
class Page:
    """One page, as somebody reads it."""

    url: str
    status: int
    location: str | None
    """Where the browser is sent on to; None: it stays here."""
    heading: str = ""
    who: str = ""
    scopes: list[tuple[str, str]] = field(default_factory=list)
    """Permissions that are asked for: in words, and by name."""
    new: list[str] = field(default_factory=list)
    """Those of them that are marked as new."""
    never: list[str] = field(default_factory=list)
    """What is never asked for."""
    code: str = ""
    """The last thing on the page that is set as code: for an outcome, its code."""
    fields: list[tuple[str, str]] = field(default_factory=list)
    """What its form sends besides the button."""


class Browser:
    """A profile of its own."""

    def __init__(self) -> None:
        """Begin without a cookie."""
        self._cookies: dict[str, str] = {}

    async def open(self, url: str) -> Page:
        """Go there.

        Raises:
            NoAnswer: nobody answers, or it is not on this machine.
        """
        return await self._send("GET", url, [], b"")

    async def press(self, page: Page, *button: tuple[str, str], without: str | None = None) -> Page:
        """Press a button of a page; `without` unticks the box of this value.

        Raises:
            NoAnswer: nobody answers.
        """
        form = [pair for pair in page.fields if pair[1] != without]
        parts = urlsplit(page.url)
        headers = [("Origin", f"{parts.scheme}://{parts.netloc}"), ("Content-Type", _FORM)]
        return await self._send("POST", page.url, headers, urlencode([*form, *button]).encode())

    async def _send(self, method: str, url: str, headers: list[tuple[str, str]], body: bytes) -> Page:
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.hostname != HOST or parts.port is None:
            raise NoAnswer("The story's browser goes to this machine only.")
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        if parts.netloc in self._cookies:
            headers = [*headers, ("Cookie", self._cookies[parts.netloc])]
        answer = await send(parts.port, method, path, headers, body)
        if "set-cookie" in answer.headers:
            self._cookies[parts.netloc] = answer.headers["set-cookie"].partition(";")[0]
        location = answer.headers.get("location")
        page = Page(url, answer.status, None if location is None else urljoin(url, location))
        reader = _Reader(page)
        reader.feed(answer.body.decode("utf-8", "replace"))
        reader.close()
        return page


class _Reader(HTMLParser):
    """Picks out of a page what somebody would look at."""

    def __init__(self, page: Page) -> None:
        super().__init__()
        self._page = page
        self._open: list[tuple[str, str]] = []
        self._words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attrs}
        if tag == "input" and said.get("name") and (said.get("type") == "hidden" or "checked" in said):
            self._page.fields.append((said["name"], said.get("value", "")))
        if tag not in _VOID:
            self._open.append((tag, said.get("class", "")))

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        text = " ".join(data.split())
        if not text or not self._open:
            return
        tag, page = self._open[-1][0], self._page
        if tag == "h1":
            page.heading += text
        elif ("p", "who") in self._open:
            page.who = f"{page.who} {text}".strip()
        elif tag == "strong" and ("ul", "scopes") in self._open:
            self._words = text
        elif tag == "code":
            page.code = text
            if ("ul", "scopes") in self._open:
                page.scopes.append((self._words, text))
                if ("li", "new") in self._open:
                    page.new.append(text)
        elif tag == "li" and ("ul", "never") in self._open:
            page.never.append(text)
