"""The peer: an OAuth server in node that knows nothing of us, and a browser without eyes that walks through its pages."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urljoin

import httpx

HERE: Final = Path(__file__).parent
PROVIDER: Final = "peer"
_LONGEST_WALK: Final = 20


@dataclass(frozen=True)
class Peer:
    """A running server and our registration there."""

    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    redirect: str

    def toml(self, *, mode: str = "", more: str = "") -> str:
        """Return the section of a providers file that declares it; `mode` is more for `scopes.act`, `more` any other lines."""
        return f"""
[{PROVIDER}]
kind = "oauth2"
name = "Peer"
authorize_url = "{self.issuer}/auth"
token_url = "{self.issuer}/token"
revoke_url = "{self.issuer}/token/revocation"
introspect_url = "{self.issuer}/token/introspection"
identity_url = "{self.issuer}/me"
api_base = "{self.issuer}"
issuer = "{self.issuer}"
client_id = "{self.client_id}"
client_secret = {{env = "PEER_SECRET"}}
scopes.observe = [{{name = "openid", why = "tell who you are"}}, {{name = "read", why = "read your records"}}]
scopes.act = [{{name = "write", why = "change your records"}}{mode}]
not_requested = ["admin"]
allow = [{{method = "GET", path = "/me", scope = "read"}}]
{more}
"""


@asynccontextmanager
async def running_peer(redirect: str) -> AsyncIterator[Peer]:
    """Run the server until the block ends.

    Args:
        redirect: the redirect URI of its one client.
    """
    node = shutil.which("node")
    assert node is not None, "node is needed: on Debian, apt-get install nodejs npm"
    assert (HERE / "node_modules" / "oidc-provider").is_dir(), "make test-oidc installs what this needs"
    client_id, client_secret = "customhouse", secrets.token_urlsafe(32)
    environment = {"PATH": os.environ["PATH"], "CLIENT_ID": client_id, "CLIENT_SECRET": client_secret, "REDIRECT_URI": redirect}
    process = await asyncio.create_subprocess_exec(
        node,
        "provider.mjs",
        cwd=HERE,
        env=environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            line = await process.stdout.readline()
        assert line, "the peer did not start: node 18 or later is needed"
        yield Peer(json.loads(line)["issuer"], client_id, client_secret, redirect)
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def consent(url: str, redirect: str, *, allow: Sequence[str] | None = None, deny: bool = False) -> str:
    """Walk a fresh browser from an authorize URL to our redirect URI, and return with what it arrives there.

    Args:
        url: where the flow sends the browser.
        redirect: our redirect URI; nobody needs to listen there.
        allow: the scopes that stay ticked on the consent page; None: all.
        deny: say no instead.
    """
    async with httpx.AsyncClient(trust_env=False, timeout=20) as browser:
        answer = await browser.get(url)
        for _ in range(_LONGEST_WALK):
            if answer.is_redirect:
                url = urljoin(str(answer.url), answer.headers["location"])
                if url.startswith(redirect):
                    return url
                answer = await browser.get(url)
                continue
            assert answer.status_code == 200, answer.text
            ticked = re.findall(r'name="scope" value="([^"]+)"', answer.text)
            assert ticked, answer.text
            form = {"decision": "deny" if deny else "allow", "scope": [one for one in ticked if allow is None or one in allow]}
            answer = await browser.post(str(answer.url), data=form)
    raise AssertionError("the walk did not end")
