"""What stands in front of the app on every route: who may ask, and what a browser may do with the answer.

Streamlit itself looks at the Host header of its web socket alone, and compares origins without their port. Here every request
names a host that the app answers to and comes from the app's own address or from no web page at all; headers keep others from framing it.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit import config

from pages.serving.login import Login

LOOPBACK = ("localhost", "127.0.0.1", "::1")
CONTENT_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",  # Streamlit's components and Vega's compiled expressions need both
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "worker-src 'self' blob:",
        "frame-src 'self' blob: data:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """An ASGI layer: refuses foreign hosts and origins, asks for the password where one is needed, adds the headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._login = Login()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request or web socket."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refused = refusal(Headers(scope=scope), named_hosts())
        if refused is not None:
            await _refuse(refused, scope, receive, send)
            return
        answer = await self._login.answer(scope, receive)
        if answer is None:
            await self._app(_own_origin(scope), receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await _refuse("log in first", scope, receive, send)
        else:
            await answer(scope, receive, _with_headers(send))


def named_hosts() -> tuple[str, ...]:
    """The host names that the app answers to, as the server was started with."""
    return tuple(str(host).lower() for host in config.get_option("server.allowedHosts"))


def refusal(headers: Headers, hosts: Sequence[str]) -> str | None:
    """Why a request with these headers is refused; None where it is not.

    The host must be one of `hosts` (with any port). An origin must be the very address that was asked for, port included, or a host named
    beyond this machine (a reverse proxy's public name).
    """
    host = headers.get("host", "").lower()
    name = hostname(host)
    if name is None or name not in hosts:
        return f"this server does not answer to the host name {host[:100]!r}; start it with --allow-host NAME"
    origin = headers.get("origin")
    if origin is None:
        return None
    parts = urlsplit(origin.lower())
    same = parts.scheme in ("http", "https") and parts.netloc == host
    public = parts.scheme in ("http", "https") and hostname(parts.netloc) in set(hosts).difference(LOOPBACK)
    return None if same or public else "this request comes from a page of another origin"


def hostname(netloc: str) -> str | None:
    """The name in `name`, `name:port` or `[v6]:port`; None where it is none of them."""
    try:
        parts = urlsplit(f"//{netloc}")
        parts.port  # noqa: B018  # raises where the port is no number
    except ValueError:
        return None
    return parts.hostname if "@" not in netloc and not parts.path else None


def _own_origin(scope: Scope) -> Scope:
    """The request with an origin that Streamlit takes at once: for another one it would ask an outside address for this machine's own."""
    headers = [(name, b"http://localhost" if name == b"origin" else value) for name, value in scope["headers"]]
    return {**scope, "headers": headers}


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
        await send(message)

    return sending


async def _refuse(reason: str, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": reason})  # before it was accepted: HTTP status 403
        return
    await PlainTextResponse(reason + "\n", status_code=403)(scope, receive, _with_headers(send))
