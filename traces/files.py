"""Files that are whole or absent: atomic writes, fsync, and the manifest that notices any changed, cut or missing file."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from neurons.errors import StoreError

MANIFEST = "manifest.json"
MANIFEST_FORMAT = "neuronscope-manifest"
_BLOCK = 1 << 20


@dataclass(frozen=True)
class FileEntry:
    """What a manifest knows of one file."""

    size: int
    sha256: str


Manifest = Mapping[str, FileEntry]
"""Relative POSIX path to entry."""


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


def write_atomic(path: Path, data: bytes) -> None:
    """Replace a file by new contents: a reader sees the old or the new, never a part. Raises `StoreError`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        fsync_path(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StoreError(f"cannot write {path}: {error.strerror or error}; free some disk space or check its permissions") from error


def build_manifest(folder: Path) -> dict[str, FileEntry]:
    """Size and SHA-256 of every file under `folder`, but for a manifest of its own."""
    return {name: FileEntry(path.stat().st_size, sha256_of(path)) for name, path in walk(folder) if name != MANIFEST}


def manifest_bytes(manifest: Manifest) -> bytes:
    """The manifest as it is written."""
    files = {name: {"size": entry.size, "sha256": entry.sha256} for name, entry in sorted(manifest.items())}
    return json.dumps({"format": MANIFEST_FORMAT, "version": 1, "files": files}, indent=1).encode()


def parse_manifest(data: bytes, *, what: str) -> dict[str, FileEntry]:
    """Read a manifest that may come from anybody. Raises `StoreError`."""
    try:
        raw = json.loads(data)
        files = raw["files"]
        if raw["format"] != MANIFEST_FORMAT or raw["version"] != 1 or not isinstance(files, dict):
            raise StoreError(f"{what}: the manifest has another format or version; update Neuronscope")
        manifest = {}
        for name, entry in files.items():
            size, digest = entry["size"], entry["sha256"]
            if type(size) is not int or size < 0 or not isinstance(digest, str) or len(digest) != 64:
                raise StoreError(f"{what}: the manifest's entry for {name!r} is not a size and a SHA-256")
            manifest[name] = FileEntry(size, digest)
        return manifest
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(f"{what}: the manifest cannot be read ({error}); the trace is damaged: import it again or delete it") from error


def read_manifest(folder: Path) -> dict[str, FileEntry]:
    """The manifest of a published folder. Raises `StoreError` when it is missing or unreadable."""
    path = folder / MANIFEST
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror}); the trace is damaged: import it again or delete it") from error
    return parse_manifest(data, what=folder.name)


def missing_or_resized(folder: Path, manifest: Manifest) -> list[str]:
    """The quick check: what is gone or has another size. Costs one stat a file."""
    problems = []
    for name, entry in manifest.items():
        try:
            size = os.stat(folder / name).st_size
        except OSError:
            problems.append(f"{name} is missing")
            continue
        if size != entry.size:
            problems.append(f"{name} has {size} bytes instead of {entry.size}")
    return problems


def changed(folder: Path, manifest: Manifest) -> list[str]:
    """The full check: what is gone, resized, or has another SHA-256."""
    problems = missing_or_resized(folder, manifest)
    broken = {problem.split(" ", 1)[0] for problem in problems}
    problems += [
        f"{name} was changed (SHA-256 differs)"
        for name, e in manifest.items()
        if name not in broken and sha256_of(folder / name) != e.sha256
    ]
    return problems


def publish(temporary: Path, final: Path) -> None:
    """Give a finished, fsynced folder its name. First writer wins: raises `FileExistsError` when the name is taken."""
    try:
        os.rename(temporary, final)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.EACCES) and final.exists():
            raise FileExistsError(final) from error
        raise
    fsync_path(final.parent)


def write_folder(final: Path, workshop: Path, fill: Callable[[Path], None]) -> Manifest:
    """Let `fill` write into a temporary folder under `workshop`, add the manifest, fsync, and rename it to `final`.

    Whole or absent. Raises `FileExistsError` when `final` exists (it is kept), `StoreError` when the disk refuses.
    """
    workshop.mkdir(parents=True, exist_ok=True)
    temporary = workshop / f"{final.name}.{os.getpid()}.{secrets.token_hex(4)}"
    try:
        temporary.mkdir()
        fill(temporary)
        manifest = build_manifest(temporary)
        (temporary / MANIFEST).write_bytes(manifest_bytes(manifest))
        fsync_tree(temporary)
        publish(temporary, final)
    except FileExistsError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"cannot write {final}: {error.strerror or error}; free some disk space or check its permissions") from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return manifest


def tree_size(folder: Path) -> int:
    """Bytes of every file under `folder`."""
    return sum(path.lstat().st_size for _, path in walk(folder))
