"""HTTP to an address that somebody named: no redirects, an answer of bounded size that has to be whole in time."""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2

MOST_BYTES = 8_000_000
"""Of one answer: a chat completion of 8,192 tokens has a hundredth of it."""


class TooLarge(httpx2.TransportError):
    """The answer has more bytes than any chat completion."""


class _Bounded(httpx2.SyncByteStream):
    """A body that ends with an error where it is too large or not whole in time, however slowly its bytes drip."""

    def __init__(self, stream: httpx2.SyncByteStream, deadline: float) -> None:
        self._stream, self._deadline = stream, deadline

    def __iter__(self) -> Iterator[bytes]:
        count = 0
        for chunk in self._stream:
            count += len(chunk)
            if count > MOST_BYTES:
                raise TooLarge(f"the answer has more than {MOST_BYTES / 1e6:.0f} MB")
            if time.monotonic() > self._deadline:
                raise httpx2.ReadTimeout("the answer was not whole in time")
            yield chunk

    def close(self) -> None:
        self._stream.close()


class _Transport(httpx2.HTTPTransport):
    def __init__(self, seconds: float, proxy: str | None) -> None:
        super().__init__(proxy=proxy)
        self._seconds = seconds

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        deadline = time.monotonic() + self._seconds
        request.headers["accept-encoding"] = "identity"  # a small body must not unpack to a large one
        response = super().handle_request(request)
        stream = response.stream
        assert isinstance(stream, httpx2.SyncByteStream)
        bounded = _Bounded(stream, deadline)
        return httpx2.Response(response.status_code, headers=response.headers, stream=bounded, extensions=response.extensions)


def bounded_client(base_url: str, seconds: float) -> httpx2.Client:
    """A client whose answers have at most `MOST_BYTES` and `seconds`, and which goes nowhere else than where it is sent.

    The system's proxy for that address is used, as programs usually do, but never for an address of this machine.
    """
    return httpx2.Client(transport=_Transport(seconds, _proxy(base_url)), timeout=seconds, follow_redirects=False)


def _proxy(base_url: str) -> str | None:
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    return None if is_this_machine(host) or proxy_bypass(host) else getproxies().get(parts.scheme)


def is_this_machine(host: str) -> bool:
    """Whether a host of an address is this machine, found without asking anybody else: its names, and every address of its own."""
    name = host.lower().rstrip(".").partition("%")[0]
    if (
        name == "localhost"
        or name.endswith(".localhost")
        or name in (socket.gethostname().lower(), socket.gethostname().lower() + ".local")
    ):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    if address.is_loopback or address.is_unspecified:
        return True
    try:
        with socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))  # only a machine's own addresses can be listened on
    except OSError:
        return False
    return True
