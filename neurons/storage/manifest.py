"""The manifest of a folder: each file's size and SHA-256, so that any changed, cut or missing file is noticed. It seals itself.

Traces, attributions and atlases have one each, told apart by their `format`; what else they say of their folder stands beside `files`.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neurons.core.errors import StoreError
from neurons.storage.files import disk_errors, fsync_tree, publish, sha256_of, walk
from neurons.storage.sealed import seal, unseal

MANIFEST = "manifest.json"
MANIFEST_FORMAT = "neuronscope-manifest"
_ENTRY = {"size", "sha256"}
_OWN = ("format", "version", "files")
_TRACE_CURE = "the trace is damaged: import it again or delete it"
_DATA = "/c/"
"""Part of the name of every chunk of an array: chunks carry a checksum that is compared as they are read."""


@dataclass(frozen=True)
class FileEntry:
    """What a manifest knows of one file."""

    size: int
    sha256: str


Manifest = Mapping[str, FileEntry]
"""Relative POSIX path to entry."""


def entry_of(path: Path) -> FileEntry:
    """The entry of a file as it is now."""
    return FileEntry(path.stat().st_size, sha256_of(path))


def build_manifest(folder: Path) -> dict[str, FileEntry]:
    """Size and SHA-256 of every file under `folder`, but for a manifest of its own."""
    return {name: entry_of(path) for name, path in walk(folder) if name != MANIFEST}


def document_of(manifest: Manifest, *, kind: str = MANIFEST_FORMAT, version: int = 1) -> dict[str, Any]:
    """The manifest as an object that JSON can hold."""
    return {"format": kind, "version": version, "files": {name: asdict(entry) for name, entry in sorted(manifest.items())}}


def manifest_bytes(manifest: Manifest) -> bytes:
    """The manifest as it is written."""
    return seal(document_of(manifest))


def parse_document(
    data: bytes, *, what: str, kind: str = MANIFEST_FORMAT, version: int = 1, unsealed: Collection[str] = (), cure: str = _TRACE_CURE
) -> tuple[dict[str, Any], dict[str, FileEntry]]:
    """A manifest that may come from anybody: all that it says, and its entries. Raises `StoreError` that ends with `cure`.

    `unsealed` names what a manifest of an older version may say beside its files.
    """
    raw = unseal(data, what=what, unsealed=(*_OWN, *unsealed), cure=cure)
    files, given = raw.get("files"), raw.get("version")
    if raw.get("format") != kind or type(given) is not int or not 1 <= given <= version or not isinstance(files, dict):
        raise StoreError(f"{what} has another format or version; update Neuronscope")
    manifest = {}
    for name, entry in files.items():
        size, digest = (entry["size"], entry["sha256"]) if isinstance(entry, dict) and set(entry) == _ENTRY else (None, None)
        if not _is_within(name):
            raise StoreError(f"{what} names {name[:80]!r}, which is no file of its folder; {cure}")
        if type(size) is not int or size < 0 or not isinstance(digest, str) or len(digest) != 64:
            raise StoreError(f"{what}: the entry for {name[:80]!r} is not a size and a SHA-256; {cure}")
        manifest[name] = FileEntry(size, digest)
    return raw, manifest


def _is_within(name: str) -> bool:
    """Whether a file of this name can only lie below the manifest's folder: no device, no other user's file, nothing the system refuses."""
    return name.isprintable() and not set(name) & set("\\:") and not {"", ".", ".."} & set(name.split("/"))


def parse_manifest(data: bytes, *, what: str) -> dict[str, FileEntry]:
    """The entries of a trace's or attribution's manifest that may come from anybody. Raises `StoreError`."""
    return parse_document(data, what=what)[1]


def read_manifest(folder: Path) -> dict[str, FileEntry]:
    """The manifest of a published folder. Raises `StoreError` when it is missing or unreadable."""
    path = folder / MANIFEST
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror}); {_TRACE_CURE}") from error
    return parse_manifest(data, what=f"{folder.name}/{MANIFEST}")


def problem_of(folder: Path, name: str, entry: FileEntry | None, *, contents: bool) -> str | None:
    """What is wrong with one file: it is in no manifest, gone, of another size or, with `contents`, of another SHA-256."""
    if entry is None:
        return f"{name} is not in the manifest"
    try:
        size = os.stat(folder / name).st_size
        if size != entry.size:
            return f"{name} has {size} bytes instead of {entry.size}"
        if contents and sha256_of(folder / name) != entry.sha256:
            return f"{name} was changed (SHA-256 differs)"
    except OSError:
        return f"{name} is missing"
    return None


def opening_problems(folder: Path, manifest: Manifest) -> list[str]:
    """The check on opening: what is gone or resized, and which files that say what the arrays are were changed.

    Costs a stat per chunk of an array; whoever reads a chunk compares its checksum.
    """
    found = (problem_of(folder, name, entry, contents=_DATA not in name) for name, entry in manifest.items())
    return [problem for problem in found if problem is not None]


def changed(folder: Path, manifest: Manifest) -> list[str]:
    """The full check: what is gone, resized, or has another SHA-256."""
    found = (problem_of(folder, name, entry, contents=True) for name, entry in manifest.items())
    return [problem for problem in found if problem is not None]


def prepare_folder(workshop: Path, name: str, fill: Callable[[Path], None]) -> Path:
    """Let `fill` write into a temporary folder under `workshop`, add the manifest, and force all to the disk. Returns the folder.

    Raises `StoreError` when the disk refuses; nothing is left then.
    """
    temporary = workshop / f"{name}.{os.getpid()}.{secrets.token_hex(4)}"
    try:
        with disk_errors(temporary):
            workshop.mkdir(parents=True, exist_ok=True)
            temporary.mkdir()
            fill(temporary)
            (temporary / MANIFEST).write_bytes(manifest_bytes(build_manifest(temporary)))
            fsync_tree(temporary)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return temporary


def write_folder(final: Path, workshop: Path, fill: Callable[[Path], None]) -> None:
    """Prepare a folder as `prepare_folder` does, then rename it to `final`.

    Whole or absent. Raises `FileExistsError` when `final` exists (it is kept), `StoreError` when the disk refuses.
    """
    temporary = prepare_folder(workshop, final.name, fill)
    try:
        publish(temporary, final)
    except FileExistsError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        reason = error.strerror or error
        raise StoreError(f"{final} cannot be written: {reason}; free some disk space or check its permissions") from error
