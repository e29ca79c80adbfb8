"""The password of an app that other machines can reach: one form, one cookie. On this machine alone, nothing is asked."""

from __future__ import annotations

import asyncio
import html
import secrets
import time
from urllib.parse import parse_qs, quote

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Receive, Scope
from streamlit import config

from neurons.storage.password import is_password, is_set
from pages.serving.base_path import base_path

COOKIE = "neuronscope-session"
PATH = "/neuronscope-login"
OPEN = ("/_stcore/health",)
"""What is answered without a password: it says only that the server runs."""
LASTS = 14 * 24 * 3600
"""Seconds a session lasts; it also ends with the server."""
MOST_BYTES = 4096
PAUSE = 1.0
"""Seconds from one attempt to the next, for all who try."""
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Neuronscope</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:22rem;margin:20vh auto;padding:0 1rem;color-scheme:light dark}}
input,button{{font:inherit;width:100%;box-sizing:border-box;padding:.5rem;margin-top:.5rem}}</style>
<h1>Neuronscope</h1><form method="post" action="{path}"><label>Password of this server
<input type="password" name="password" autofocus required autocomplete="current-password"></label>
<input type="hidden" name="next" value="{next}"><button>Open</button></form><p role="alert">{said}</p>"""


class Login:
    """Who has given the password, kept in memory."""

    def __init__(self) -> None:
        self._sessions: dict[str, float] = {}
        self._one_at_a_time = asyncio.Lock()

    async def answer(self, scope: Scope, receive: Receive) -> Response | None:
        """What is said instead of the app's own answer; None for whoever may go on."""
        if not needed() or scope["path"].removeprefix(base_path()) in OPEN or self._knows(Headers(scope=scope)):
            return None
        if scope["type"] == "http" and scope["path"] == base_path() + PATH and scope["method"] == "POST":
            return await self._attempt(Request(scope, receive))
        wanted = scope["path"] + (f"?{scope['query_string'].decode('latin-1')}" if scope.get("query_string") else "")
        return _form(wanted, "", status=401)

    def _knows(self, headers: Headers) -> bool:
        pairs = (part.strip().partition("=") for part in headers.get("cookie", "").split(";"))
        token = next((value for name, _, value in pairs if name == COOKIE), "")
        return self._sessions.get(token, 0.0) > time.monotonic()

    async def _attempt(self, request: Request) -> Response:
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > MOST_BYTES:
                return _form(_home(), "That is too long for a password.", status=413)
        fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=4)
        wanted = fields.get("next", [_home()])[0]
        wanted = wanted if wanted.startswith(_home()) and not wanted.startswith(("//", "/\\")) else _home()
        async with self._one_at_a_time:
            right = await run_in_threadpool(is_password, fields.get("password", [""])[0])
            if not right:
                await asyncio.sleep(PAUSE)
        if not right:
            return _form(wanted, "That is not the password.", status=401)
        now = time.monotonic()
        self._sessions = {token: ends for token, ends in self._sessions.items() if ends > now}
        token = secrets.token_urlsafe(32)
        self._sessions[token] = now + LASTS
        response = RedirectResponse(quote(wanted, safe="/?&=%:,~-._"), status_code=303)
        secure = request.url.scheme == "https"
        response.set_cookie(COOKIE, token, path=_home(), max_age=LASTS, httponly=True, samesite="strict", secure=secure)
        return response


def needed() -> bool:
    """Whether a password is asked for: other machines can reach this server, and its owner has set one."""
    return not _is_loopback(str(config.get_option("server.address") or "")) and is_set()


def _home() -> str:
    """Where the app begins: its cookie goes there and below."""
    return f"{base_path()}/"


def _is_loopback(address: str) -> bool:
    return address in ("localhost", "::1") or address.startswith("127.")


def _form(wanted: str, said: str, *, status: int) -> Response:
    page = PAGE.format(path=base_path() + PATH, next=html.escape(wanted[:2000], quote=True), said=html.escape(said))
    return HTMLResponse(page, status_code=status, headers={"Cache-Control": "no-store"})
