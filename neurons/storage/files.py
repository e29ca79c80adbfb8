"""Files and folders written whole or not at all: a temporary sibling, flushed to disk, then renamed."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, BinaryIO

from neurons.core.errors import InvalidInput, StoreError
from neurons.core.json_text import strict_json

PRIVATE = 0o600
SHARED = 0o666
"""The mode of a file that a person asked for elsewhere: what their umask leaves of it."""
LEFTOVER_SECONDS = 3600.0
_LEFTOVERS = (".part", ".partial", ".partial.npz", ".repack")


@contextmanager
def atomic_path(path: Path, *, mode: int = PRIVATE) -> Iterator[Path]:
    """The name of a temporary sibling to write; it becomes `path` when the block ends without an error, and goes otherwise.

    Raises `InvalidInput` when `path` is a folder, a device or a link: those are never replaced.
    """
    check_target(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name[:60]}.{secrets.token_hex(6)}.part"
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
    try:
        yield temporary
        fsync_path(temporary)
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    fsync_path(path.parent)


@contextmanager
def atomic_file(path: Path, *, mode: int = PRIVATE) -> Iterator[BinaryIO]:
    """A binary stream that becomes `path` when the block ends without an error, and leaves nothing behind otherwise."""
    with atomic_path(path, mode=mode) as temporary, temporary.open("wb") as stream:
        yield stream


@contextmanager
def atomic_folder(final: Path, *, replace: bool = False) -> Iterator[Path]:
    """A temporary sibling folder that becomes `final` when the block ends without an error, and leaves nothing behind otherwise.

    Raises `FileExistsError` when `final` is there and not empty; with `replace` the folder that is there goes instead.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.parent / f".{final.name[:60]}.{secrets.token_hex(6)}.part"
    temporary.mkdir(mode=0o700)
    try:
        yield temporary
        fsync_tree(temporary)
        with _aside(final) if replace and final.exists() else nullcontext():
            publish(temporary, final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


@contextmanager
def _aside(folder: Path) -> Iterator[None]:
    """A folder out of the way while the block runs: it goes for good when that ends, and comes back when it fails."""
    waiting = folder.parent / f".{folder.name[:60]}.{secrets.token_hex(6)}.part"
    os.rename(folder, waiting)
    try:
        yield
    except BaseException:
        os.rename(waiting, folder)
        raise
    shutil.rmtree(waiting, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON (NaN refused), whole or not at all. Raises `StoreError` when the disk refuses."""
    text = strict_json(value, indent=2)
    write_atomic(path, text.encode("utf-8"))


def write_atomic(path: Path, data: bytes, *, mode: int = PRIVATE) -> None:
    """Replace a file by new contents: a reader sees the old or the new, never a part. Raises `StoreError` when the disk refuses."""
    with disk_errors(path), atomic_file(path, mode=mode) as stream:
        stream.write(data)


def write_output(path: Path, text: str) -> None:
    """Write a text where a person asked for it. Raises `InvalidInput` for what is no plain file, `StoreError` when the disk refuses."""
    write_atomic(path, text.encode("utf-8"), mode=SHARED)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what the disk refuses while `path` is written into a `StoreError` with a way out."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        reason = error.strerror or error
        raise StoreError(f"{path} cannot be written: {reason}; free some disk space, or choose another folder") from error


def check_target(path: Path) -> None:
    """Refuse to replace anything but a plain file. Raises `InvalidInput`."""
    try:
        kind = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    if not stat.S_ISREG(kind):
        what = "a folder" if stat.S_ISDIR(kind) else "a link" if stat.S_ISLNK(kind) else "a device, not a file"
        raise InvalidInput(f"{path} is {what}; name a plain file to write to", field="path")


def check_source(path: Path) -> None:
    """Refuse to read from a pipe, a socket or a device, where a reader may wait or read for good. Raises `InvalidInput`."""
    try:
        kind = path.stat().st_mode
    except OSError:  # told by whoever opens it
        return
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise InvalidInput(f"{path} is a pipe, a socket or a device, not a file", field="path")


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
    """Force every file and folder under `folder`, and itself, to the disk, and close them to other users."""
    for base, _, names in os.walk(folder):
        for name in names:
            os.chmod(Path(base, name), PRIVATE)
            fsync_path(Path(base, name))
        os.chmod(base, 0o700)
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


def move(source: Path, target: Path) -> None:
    """Rename a file or folder and force both folders to the disk."""
    os.rename(source, target)
    for folder in {source.parent, target.parent}:
        fsync_path(folder)


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
    """Bytes of every file under `folder`; a file that goes meanwhile counts nothing."""
    total = 0
    for _, path in walk(folder):
        with suppress(FileNotFoundError):
            total += path.lstat().st_size
    return total


def is_leftover(name: str) -> bool:
    """Whether a file's name is that of an unfinished write, of this version or an older one."""
    return name.endswith(_LEFTOVERS)


def sweep_leftovers(folder: Path, *, everything: bool = False) -> int:
    """Remove unfinished writes directly in `folder` that nobody has touched for an hour; with `everything` all else that old, too.

    Returns how many. A folder that cannot be read or changed is left as it is.
    """
    gone = 0
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                old = time.time() - entry.stat(follow_symlinks=False).st_mtime > LEFTOVER_SECONDS
                if not old or not (everything or is_leftover(entry.name)):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    os.unlink(entry.path)
                gone += 1
    return gone
