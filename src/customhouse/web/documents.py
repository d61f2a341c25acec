"""Pages for people, rendered here without script: the API's description at `/docs`, each problem at `/problems/{code}`."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final, cast

from fastapi import Request, Response
from fastapi.responses import HTMLResponse

from customhouse.canonical import dump
from customhouse.errors import NotFound
from customhouse.notices.kinds import KINDS
from customhouse.notices.letters import PATH as NOTICES
from customhouse.web.problems import PAGES, catalogue
from customhouse.web.routes import router

ROUTES: Final = router("documents")
_METHODS: Final = ("get", "put", "post", "patch", "delete")
_STYLE: Final = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1b1d21;--line:#8884;--soft:#8882;--mark:#0b7285}
@media(prefers-color-scheme:dark){:root{--paper:#121417;--ink:#e8e9eb;--mark:#66d9e8}}
html{background:var(--paper);color:var(--ink)}
body{font:16px/1.55 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem}
a{color:var(--mark)}
code,pre{font:14px/1.45 ui-monospace,monospace;overflow-wrap:anywhere}
pre{background:var(--soft);padding:.75rem;overflow:auto;border-radius:6px}
details{border:1px solid var(--line);border-radius:6px;margin:.5rem 0;padding:.5rem .75rem}
summary{cursor:pointer}summary b{color:var(--mark);display:inline-block;min-width:4.5rem}
table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid var(--line);padding:.25rem .5rem;text-align:left;vertical-align:top}
td,th{overflow-wrap:anywhere}
"""
_POLICY: Final = (
    "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'"
)
_CODE: Final = re.compile(r"`([^`]*)`")


@ROUTES.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> Response:
    """Describe the API for machines (OpenAPI 3.1)."""
    return Response(dump(request.app.openapi()), media_type="application/json")


@ROUTES.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    """Render the API's description."""
    return _page("Customhouse API", _described(cast("dict[str, Any]", request.app.openapi())))


@ROUTES.get(PAGES + "{code}", include_in_schema=False)
async def problem_page(code: str) -> Response:
    """Explain a problem: what its `type` leads to."""
    found = catalogue().get(code)
    if found is None:
        raise NotFound
    kind, advice = found
    return _page(kind.title, [f"<p>Status <code>{kind.status}</code>, code <code>{escape(code)}</code></p><p>{_text(advice)}</p>"])


@ROUTES.get(NOTICES + "{kind}", include_in_schema=False)
async def notice_page(kind: str) -> Response:
    """Explain a kind of notice: what the link in an e-mail leads to. It says the same to everybody, and nothing of anybody."""
    found = KINDS.get(kind)
    if found is None:
        raise NotFound
    where = "The notice itself is in the application where you made the connection."
    return _page(found.subject, [f"<p>{_text(said)}</p>" for said in (found.sentence, found.advice, where)])


def _page(title: str, parts: list[str]) -> Response:
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title><style>{_STYLE}</style>'
    html = f'<!doctype html><html lang="en"><head>{head}</head><body><main><h1>{escape(title)}</h1>{"".join(parts)}</main></body></html>'
    return HTMLResponse(html, headers={"content-security-policy": _POLICY})


def _described(api: Mapping[str, Any]) -> list[str]:
    parts = [f"<p>{_text(api['info']['description'])}</p>", '<p>For machines: <a href="/openapi.json">openapi.json</a>.</p>']
    by_tag: dict[str, list[str]] = {}
    for path, operations in api["paths"].items():
        for method in _METHODS:
            if method in operations:
                operation = operations[method]
                by_tag.setdefault(operation["tags"][0], []).append(_operation(path, method, operation, api))
    for tag, rendered in by_tag.items():
        parts.append(f"<h2>{escape(tag)}</h2>")
        parts += rendered
    return parts


def _operation(path: str, method: str, operation: Mapping[str, Any], api: Mapping[str, Any]) -> str:
    said = [f"<p>{_text(operation.get('description', ''))}</p>"]
    rows = [
        (f"{parameter['name']} ({parameter['in']})", _type(parameter["schema"], api), parameter.get("description", ""))
        for parameter in operation.get("parameters", [])
    ]
    if "requestBody" in operation:
        rows += _members(operation["requestBody"]["content"]["application/json"]["schema"], api)
    if rows:
        said.append(_table(("member", "type", "meaning"), rows))
    answers = [
        (status, _answer(answer, api), _resolved(answer, api).get("description", "")) for status, answer in operation["responses"].items()
    ]
    said.append(_table(("status", "answer", "meaning"), answers))
    summary = f"<b>{method.upper()}</b> <code>{escape(path)}</code> {escape(operation['summary'])}"
    return f"<details><summary>{summary}</summary>{''.join(said)}</details>"


def _answer(answer: Mapping[str, Any], api: Mapping[str, Any]) -> str:
    contents = _resolved(answer, api).get("content", {})
    return ", ".join(_type(one.get("schema", {}), api) for one in contents.values())


def _members(schema: Mapping[str, Any], api: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    resolved = _resolved(schema, api)
    required = resolved.get("required", [])
    for name, member in resolved.get("properties", {}).items():
        yield name + ("" if name in required else "?"), _type(member, api), member.get("description", "")


def _type(schema: Mapping[str, Any], api: Mapping[str, Any]) -> str:
    """Return a schema in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", maxsplit=1)[-1]
    if "anyOf" in schema:
        return " or ".join(_type(one, api) for one in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(str(one) for one in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}), api)}"
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _resolved(schema: Mapping[str, Any], api: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in schema:
        return schema
    found: Any = api
    for step in str(schema["$ref"]).removeprefix("#/").split("/"):
        found = found[step]
    return cast("Mapping[str, Any]", found)


def _table(heads: tuple[str, ...], rows: list[tuple[str, str, str]]) -> str:
    head = "".join(f"<th>{escape(one)}</th>" for one in heads)
    body = "".join(f"<tr><td><code>{escape(a)}</code></td><td>{escape(b)}</td><td>{_text(c)}</td></tr>" for a, b, c in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _text(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", escape(text)).replace("\n\n", "</p><p>")
