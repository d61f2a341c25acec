"""The story's browser: what it reads off a page, and where it does not go."""

from __future__ import annotations

import pytest

from customhouse.cli.demo.browser import Browser
from customhouse.cli.loopback import NoAnswer
from tests.receivers import Received, recorder, status

pytestmark = pytest.mark.anyio
PAGE = b"""<!doctype html><title>t</title><h1>Connect <b>Zoom</b></h1><p class="who">for <strong><bdi>Ada &amp; Co</bdi></strong></p>
<ul class="scopes"><li class="new"><strong>list your meetings</strong><p>Because.</p><code>a:b</code></li></ul>
<ul class="never"><li>It would write.</li></ul><form method="post"><input type="hidden" name="csrf" value="x&quot;y">
<input type="checkbox" name="scope" value="a" checked><input type="checkbox" name="scope" value="b" checked>
<input type="checkbox" name="scope" value="c"><button name="decision" value="yes">Yes</button></form><code>granted</code>"""


async def test_it_reads_what_somebody_would_look_at_and_sends_the_form_with_the_button_and_the_cookie() -> None:
    async with recorder() as server:
        server.answer = status(200, "content-type: text/html", "set-cookie: mark=1; HttpOnly", body=PAGE)
        browser = Browser()
        page = await browser.open(server.url("/consent?x=1"))
        assert (page.heading, page.who, page.status, page.location) == ("Connect", "for Ada & Co", 200, None)
        assert (page.scopes, page.never, page.code) == ([("list your meetings", "a:b")], ["It would write."], "granted")
        assert page.new == ["a:b"]
        assert page.fields == [("csrf", 'x"y'), ("scope", "a"), ("scope", "b")]

        def sent_on(request: Received) -> bytes:
            return status(303, "location: ../next?y=2")

        server.answer = sent_on
        answer = await browser.press(page, ("decision", "yes"), without="b")
        assert answer.location == server.url("/next?y=2")
        sent = server.received[-1]
        assert (sent.body, sent.headers["cookie"]) == (b"csrf=x%22y&scope=a&decision=yes", "mark=1")
        assert server.url("").startswith(sent.headers["origin"])


@pytest.mark.parametrize("url", ["https://127.0.0.1:1/", "http://example.com:80/", "http://127.0.0.1/", "file:///etc/passwd", ""])
async def test_it_goes_nowhere_but_to_this_machine(url: str) -> None:
    with pytest.raises(NoAnswer):
        await Browser().open(url)
