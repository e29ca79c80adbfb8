"""Terminals and pipes whose encoding is not Unicode: redirected output on Windows, a locale "C". What they cannot show is written out."""

from __future__ import annotations

import io
import os
import sys
from typing import Any


def any_encoding() -> None:
    """Make every output take any text (`\\u65e5` for what its encoding does not have), and read arguments as UTF-8."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.argv[1:] = [_as_typed(argument) for argument in sys.argv[1:]]


def is_unicode(stream: Any) -> bool:
    """Whether a text stream can hold every character."""
    return str(getattr(stream, "encoding", None) or "utf-8").lower().replace("_", "-").startswith(("utf-", "utf8"))


def _as_typed(argument: str) -> str:
    """An argument that the locale's encoding could not read, read as UTF-8 where it is that."""
    if not any("\udc80" <= character <= "\udcff" for character in argument):
        return argument
    try:
        return os.fsencode(argument).decode("utf-8")
    except (UnicodeDecodeError, UnicodeEncodeError):
        return argument
