"""The manifest of a published folder: each file's size and SHA-256, so that any changed, cut or missing file is noticed."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from neurons.core.errors import StoreError
from neurons.storage.files import fsync_tree, publish, sha256_of, walk

MANIFEST = "manifest.json"
MANIFEST_FORMAT = "neuronscope-manifest"


@dataclass(frozen=True)
class FileEntry:
    """What a manifest knows of one file."""

    size: int
    sha256: str


Manifest = Mapping[str, FileEntry]
"""Relative POSIX path to entry."""


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
