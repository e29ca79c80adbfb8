"""A small real reverse proxy: it shows a server under a path of its own address, web sockets included."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

_PIECE = 65_536


@dataclass
class ReverseProxy:
    """Where the proxy listens, and how it hands requests on."""

    server_port: int
    path: str
    """Such as "/scope"; every other path is answered by 404."""
    strips: bool
    """Whether it takes the path off, as nginx does where `proxy_pass` ends in a slash; the bare path is moved to the one with a slash."""
    own_host: bool
    """Whether it puts the server's own address into the Host header, as nginx does by default; Caddy leaves what the browser sent."""
    port: int = 0
    refused: int = 0
    """Requests for paths outside."""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, which has one request: then both ends are only joined, whatever is spoken."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            asked, *lines = head.rstrip("\r\n").split("\r\n")
            method, target, version = asked.split(" ", 2)
            if not (target == self.path or target.startswith((f"{self.path}/", f"{self.path}?"))):
                self.refused += 1
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            if self.strips:
                target = target.removeprefix(self.path)
                if not target.startswith("/"):
                    moved = [f"Location: {self.path}/{target}", "Content-Length: 0", "Connection: close"]
                    writer.write("\r\n".join(["HTTP/1.1 301 Moved Permanently", *moved, "", ""]).encode("latin-1"))
                    return
            fields = [line.partition(":")[::2] for line in lines]
            upgrades = any(name.lower() == "upgrade" for name, _ in fields)
            kept = [
                (name, f" 127.0.0.1:{self.server_port}" if self.own_host and name.lower() == "host" else value)
                for name, value in fields
                if upgrades or name.lower() != "connection"
            ]
            kept += [] if upgrades else [("Connection", " close")]
            kept += [("X-Forwarded-Proto", " http"), ("X-Forwarded-For", " 127.0.0.1")]
            back, there = await asyncio.open_connection("127.0.0.1", self.server_port)
            there.write(
                "\r\n".join([f"{method} {target} {version}", *(f"{name}:{value}" for name, value in kept), "", ""]).encode("latin-1")
            )
            await asyncio.gather(_pour(reader, there), _pour(back, writer))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def _pour(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while piece := await source.read(_PIECE):
            sink.write(piece)
            await sink.drain()
    with suppress(OSError):
        sink.close()


@contextmanager
def reverse_proxy(server_port: int, path: str, *, strips: bool, own_host: bool) -> Iterator[ReverseProxy]:
    """Run one in a thread, on a free port."""
    proxy = ReverseProxy(server_port, path, strips, own_host)
    loop, listening = asyncio.new_event_loop(), threading.Event()

    async def serve() -> None:
        server = await asyncio.start_server(proxy.handle, "127.0.0.1", 0)
        proxy.port = server.sockets[0].getsockname()[1]
        listening.set()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(serve())
        loop.run_forever()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    listening.wait(10)
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
