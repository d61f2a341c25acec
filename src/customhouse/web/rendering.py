"""Pages for people: templates of ours, escaped, with one style and nothing from elsewhere; no script is needed, and none is allowed."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import Final

from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

_STYLE: Final = files("customhouse.web").joinpath("templates/pages.css").read_text(encoding="utf-8")
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_PAGES: Final = Environment(
    loader=PackageLoader("customhouse.web"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, auto_reload=False
)
_PAGES.globals["style"] = Markup(_STYLE)  # noqa: S704 - a file of ours


def page(name: str, status: int = 200, *, forms_to: tuple[str, ...] = (), **values: object) -> Response:
    """Return a page.

    Args:
        name: of the template.
        status: HTTP status.
        forms_to: origins that its form may lead to, redirects included (CSP Level 3 §6.4.1); none: it has no form.
        values: what the template shows; everything is escaped.
    """
    targets = " ".join(forms_to) or "'none'"
    policy = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action {targets}; frame-ancestors 'none'; base-uri 'none'"
    headers = {"content-security-policy": policy, "cache-control": "no-store"}
    return HTMLResponse(_PAGES.get_template(name).render(values), status, headers)
