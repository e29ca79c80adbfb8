"""Files and folders written whole or not at all: a temporary sibling, flushed to disk, then renamed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from neurons.core.errors import StoreError


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
    fsync_path(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON (NaN refused), whole or not at all. Raises `StoreError` when the disk refuses."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomic(path, text.encode("utf-8"))


def write_atomic(path: Path, data: bytes) -> None:
    """Replace a file by new contents: a reader sees the old or the new, never a part. Raises `StoreError` when the disk refuses."""
    try:
        with atomic_file(path) as stream:
            stream.write(data)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror or error}; free some space, or move NEURONSCOPE_HOME") from error


def fsync_path(path: Path) -> None:
    """Force a file or folder to the disk."""
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(folder: Path) -> None:
    """Force every file and folder under `folder`, and itself, to the disk."""
    for base, _, names in os.walk(folder):
        for name in names:
            fsync_path(Path(base, name))
        fsync_path(Path(base))


def publish(temporary: Path, final: Path) -> None:
    """Give a finished, fsynced folder its name. First writer wins: raises `FileExistsError` when the name is taken."""
    try:
        os.rename(temporary, final)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.EACCES) and final.exists():
            raise FileExistsError(final) from error
        raise
    fsync_path(final.parent)


def walk(folder: Path) -> Iterator[tuple[str, Path]]:
    """Every regular file under `folder` as (relative POSIX path, path), sorted. Links are not followed."""
    for base, folders, names in os.walk(folder, followlinks=False):
        folders.sort()
        for name in sorted(names):
            path = Path(base, name)
            yield path.relative_to(folder).as_posix(), path


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def tree_size(folder: Path) -> int:
    """Bytes of every file under `folder`."""
    return sum(path.lstat().st_size for _, path in walk(folder))
