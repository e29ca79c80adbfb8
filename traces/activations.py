"""The activations of one trace as a cache: stored, evicted, or put back after a recomputation.

`activations.json` in the trace's folder says so when they are no longer what was published: {"state": "evicted"}, or
{"state": "recomputed"} with a manifest of its own, when the recomputed bytes differ from the published ones.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from neurons.core.errors import StoreError
from neurons.core.json_text import json_text
from neurons.storage.files import disk_errors, fsync_path, fsync_tree, move, tree_size
from neurons.storage.manifest import FileEntry, build_manifest, document_of, parse_document, read_manifest
from neurons.storage.sealed import unseal, write_sealed
from traces.schema import ActivationState
from traces.tensors import ACTIVATIONS, GROUP, add_attributes, add_to_group, write_group

STATE = "activations.json"
PREFIX = f"{GROUP}/{ACTIVATIONS}/"
_UNSEALED = ("state", "manifest", "torch", "device", "dtype", "reason")
_PARKED = "evict-"


@dataclass(frozen=True)
class Holding:
    """What a trace's folder has of its activations."""

    state: ActivationState
    files: Mapping[str, FileEntry]
    """The manifest that holds now: the small files and, when stored, the activations."""
    recomputed: bool = False
    """Whether the stored activations were recomputed with other bytes than those first published."""


def holding(folder: Path) -> Holding:
    """Read what the folder should contain. Raises `StoreError` when the manifest or the state file is damaged."""
    manifest = read_manifest(folder)
    path = folder / STATE
    if not path.exists():
        return Holding("stored" if any(name.startswith(PREFIX) for name in manifest) else "none", manifest)
    small = {name: entry for name, entry in manifest.items() if not name.startswith(PREFIX)}
    cure = "delete that file and run `neuronscope traces verify`"
    try:
        state = unseal(path.read_bytes(), what=str(path), unsealed=_UNSEALED, cure=cure)
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"{path} cannot be read ({error.strerror}); {cure}") from error
    kind = state.get("state")
    if kind == "evicted":
        return Holding("evicted", small)
    if kind == "recomputed" and isinstance(state.get("manifest"), dict):
        _, files = parse_document(json_text(state["manifest"]).encode(), what=f"{folder.name}/{STATE}", cure=cure)
        return Holding("stored", {**small, **files}, recomputed=True)
    raise StoreError(f"{path} has an unknown state {str(kind)[:40]!r}; update Neuronscope")


def mark(folder: Path) -> tuple[object, ...]:
    """Changes whenever what the folder holds does: compared before and after a read."""
    found: list[object] = []
    for name in ("manifest.json", STATE):
        try:
            status = (folder / name).stat()
        except OSError:
            found.append(None)
        else:
            found.append((status.st_ino, status.st_mtime_ns, status.st_size))
    return tuple(found)


def evict(folder: Path, workshop: Path) -> int:
    """Free the activations' space; the record and the small arrays stay. Returns the bytes freed. Works on a full disk, too."""
    target = folder / GROUP / ACTIVATIONS
    if not target.exists():
        return 0
    freed = tree_size(target)
    try:
        write_sealed(folder / STATE, {"state": "evicted"})
    except StoreError as error:
        if not _is_full(error):
            raise
        _discard(target, folder, workshop)  # what it is called meanwhile says that it was evicted, see `recover`
        write_sealed(folder / STATE, {"state": "evicted"})
    else:
        _discard(target, folder, workshop)
    return freed


def recover(folder: Path, workshop: Path) -> None:
    """Finish an eviction or a putting back that was broken off. Hold the lock of the store."""
    parked, target = workshop / f"{_PARKED}{folder.name}", folder / GROUP / ACTIVATIONS
    if parked.exists():
        if not target.exists() and holding(folder).state == "stored":
            write_sealed(folder / STATE, {"state": "evicted"})
        shutil.rmtree(parked, ignore_errors=True)
    if target.exists() and (folder / STATE).exists() and holding(folder).state == "evicted":
        _discard(target, folder, workshop)


def parked(workshop: Path) -> tuple[str, ...]:
    """The traces whose eviction was broken off."""
    return tuple(path.name.removeprefix(_PARKED) for path in workshop.glob(f"{_PARKED}*"))


def unfinished(root: Path) -> tuple[str, ...]:
    """The traces below `root` that say that their activations are evicted or recomputed, and hold some."""
    return tuple(path.parent.name for path in root.glob(f"*/{STATE}") if (path.parent / GROUP / ACTIVATIONS).exists())


def put_back(folder: Path, workshop: Path, acts_LTI: NDArray[Any], attributes: Mapping[str, Any]) -> bool:
    """Store narrowed, recomputed activations in a trace that has none. Returns whether they are the published bytes.

    Where nothing was published (a run that did not record), the result is False and the new bytes count. Until all of them are in
    place the trace says that its activations are evicted.
    """
    bench, target = workshop / f"put-{folder.name}", folder / GROUP / ACTIVATIONS
    shutil.rmtree(bench, ignore_errors=True)
    try:
        with disk_errors(target):
            write_group(bench / GROUP, {}, sizes={})
            add_to_group(bench / GROUP, ACTIVATIONS, acts_LTI)
            new = {name: entry for name, entry in build_manifest(bench).items() if name.startswith(PREFIX)}
            same = new == {name: entry for name, entry in read_manifest(folder).items() if name.startswith(PREFIX)}
            if not same:
                add_attributes(bench / GROUP, ACTIVATIONS, {"recomputed": True})  # so that they are never taken for the published
                new = {name: entry for name, entry in build_manifest(bench).items() if name.startswith(PREFIX)}
            fsync_tree(bench)
            write_sealed(folder / STATE, {"state": "evicted"})
            if target.exists():
                _discard(target, folder, workshop)
            move(bench / GROUP / ACTIVATIONS, target)
            if same:
                (folder / STATE).unlink()
                fsync_path(folder)
            else:
                write_sealed(folder / STATE, {"state": "recomputed", "manifest": document_of(new), **attributes})
        return same
    except StoreError:
        with suppress(OSError):
            recover(folder, workshop)
        raise
    finally:
        shutil.rmtree(bench, ignore_errors=True)


def _is_full(error: StoreError) -> bool:
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)


def _discard(target: Path, folder: Path, workshop: Path) -> None:
    """Take the activations out of the trace at once, then free their space."""
    parking = workshop / f"{_PARKED}{folder.name}"
    shutil.rmtree(parking, ignore_errors=True)
    parking.parent.mkdir(parents=True, exist_ok=True)
    move(target, parking)
    shutil.rmtree(parking, ignore_errors=True)
