"""Addresses that lead to no page: the Trace page is at the app's bare address, everything else there says what was asked for in vain."""

from __future__ import annotations

from urllib.parse import urlencode

from starlette.datastructures import Headers
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from pages.serving.base_path import base_path
from pages.serving.page_list import HOME, PAGES

LOST = "lost"
"""The parameter that carries a path which leads nowhere to the page that says so."""
_LONGEST = 200


class Lost:
    """An ASGI layer: sends a browser that opens a path without a page to the Trace page."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request or web socket."""
        if scope["type"] == "http" and scope["method"] == "GET" and "text/html" in Headers(scope=scope).get("accept", ""):
            target = home_of(scope["path"], scope.get("query_string", b"").decode("latin-1"))
            if target is not None:
                await RedirectResponse(target, status_code=307)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def home_of(path: str, query: str) -> str | None:
    """Where a browser that opens `path` is sent, relative to it; None where the path is a page's or a file's."""
    inner = path.removeprefix(base_path()).strip("/")
    parts = inner.split("/")
    if not inner or "." in parts[-1] or parts[0].startswith("_") or parts[0] in ("static", "component", "media", "app"):
        return None
    if len(parts) == 1 and parts[0] != HOME and parts[0] in PAGES:
        return None
    up = "../" * (len(parts) - 1 + path.endswith("/")) or "./"
    if inner == HOME:
        return up + (f"?{query}" if query else "")
    return f"{up}?{urlencode({LOST: inner[:_LONGEST]})}"
