"""Files written whole or not at all: a temporary sibling, flushed to disk, then renamed over the old one."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from neurons.errors import StoreError


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A binary stream that becomes `path` when the block ends without an error, and leaves nothing behind otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.parent / f".{path.name[:60]}.{secrets.token_hex(6)}.part"
    handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(name, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(name)
        raise
    sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON (NaN refused), whole or not at all. Raises `StoreError` when the disk refuses."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    try:
        with atomic_file(path) as stream:
            stream.write(text.encode("utf-8"))
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror or error}; free some space, or move NEURONSCOPE_HOME") from error


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut, where the system can."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
