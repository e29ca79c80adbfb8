"""The path under which a reverse proxy shows the app, such as "/scope": `neuronscope run --base-path`. Every link carries it."""

from __future__ import annotations

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from streamlit import config


def base_path() -> str:
    """The path before every page's own, "" where there is none, else such as "/scope"."""
    path = str(config.get_option("server.baseUrlPath") or "").strip("/")
    return f"/{path}" if path else ""


class BasePath:
    """An ASGI layer: takes requests with the base path and without it, for some proxies take it off and others leave it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request or web socket."""
        base = base_path()
        if not base or scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
        elif scope["path"] == base and scope["type"] == "http":  # what the page names by a relative path lies one level down
            query = scope.get("query_string", b"").decode("latin-1")
            target = f"{base.rpartition('/')[2]}/{'?' + query if query else ''}"
            await RedirectResponse(target, status_code=307)(scope, receive, send)
        else:
            await self._app(scope if scope["path"].startswith(f"{base}/") else _under(base, scope), receive, send)


def _under(base: str, scope: Scope) -> Scope:
    """The same request with the base path that was taken off."""
    return {**scope, "path": base + scope["path"], "raw_path": base.encode("ascii") + scope.get("raw_path", b"")}
