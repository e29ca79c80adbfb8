"""An endpoint that means harm: endless answers, bytes that drip, redirects elsewhere. Bounded in bytes and time, and never followed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from neurons.describing import bounded_http
from neurons.describing.endpoint import Client, Endpoint
from tests.support.endpoint_server import GOOD, chat_reply, serving


@contextmanager
def raw(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A server whose every byte the test writes."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            with suppress(OSError):  # the client has gone
                answer(self)

        def log_message(self, *_args: object) -> None:
            pass

    web = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web.daemon_threads = True
    threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{web.server_port}/v1"
    finally:
        web.shutdown()
        web.server_close()


def client(url: str, **given: float) -> Client:
    return Client(Endpoint(url, "m", attempts=3, timeout=given.get("timeout", 5)))


def test_an_endless_answer_is_cut_off_at_its_limit() -> None:
    sent = 0

    def endless(handler: BaseHTTPRequestHandler) -> None:
        nonlocal sent
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.end_headers()
        while sent < 600_000_000:
            handler.wfile.write(b" " * 100_000)
            sent += 100_000

    with raw(endless) as url:
        answer = client(url).ask("x")
    assert answer.failure == "down"
    assert sent < 20 * bounded_http.MOST_BYTES, "the answer was read on"


def test_dripping_bytes_end_at_the_time_out() -> None:
    stop = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.end_headers()
        while not stop.wait(0.1):
            handler.wfile.write(b" ")

    with raw(drip) as url:
        begun = time.monotonic()
        answer = client(url, timeout=0.8).ask("x")
        seconds = time.monotonic() - begun
        stop.set()
    assert answer.failure == "slow"
    assert seconds < 60, "bytes that drip kept it waiting"


def test_a_redirect_is_not_followed() -> None:
    with serving(lambda request, n: chat_reply(GOOD)) as elsewhere:

        def redirect(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(307)
            handler.send_header("Location", f"{elsewhere.url}/chat/completions")
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        with raw(redirect) as url:
            answer = client(url).ask("x")
        assert answer.failure == "refused"
        assert not elsewhere.asked
