"""Ports for servers of tests: the system's choice, so that workers side by side do not both take the first one that the app would."""

from __future__ import annotations

import socket


def unused_port(address: str = "127.0.0.1") -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind((address, 0))
        port: int = listener.getsockname()[1]
        return port
