"""The activations of one trace as a cache: stored, evicted, or put back after a recomputation.

`activations.json` in the trace's folder says so when they are no longer what was published: {"state": "evicted"}, or
{"state": "recomputed"} with a manifest of its own, when the recomputed bytes differ from the published ones.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from neurons.core.errors import StoreError
from neurons.storage.files import fsync_path, fsync_tree, tree_size, write_atomic
from neurons.storage.manifest import FileEntry, build_manifest, parse_manifest, read_manifest
from traces.schema import ActivationState
from traces.tensors import ACTIVATIONS, GROUP, add_to_group, write_group

STATE = "activations.json"
PREFIX = f"{GROUP}/{ACTIVATIONS}/"


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
    try:
        state = json.loads(path.read_bytes())
        kind = state["state"]
        if kind == "evicted":
            return Holding("evicted", small)
        if kind == "recomputed":
            files = parse_manifest(json.dumps(state["manifest"]).encode(), what=f"{folder.name}/{STATE}")
            return Holding("stored", {**small, **files}, recomputed=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} cannot be read ({error}); delete that file and run `neuronscope traces verify`") from error
    raise StoreError(f"{path} has an unknown state {kind!r}; update Neuronscope")


def evict(folder: Path, workshop: Path) -> int:
    """Free the activations' space; the record and the small arrays stay. Returns the bytes freed."""
    target = folder / GROUP / ACTIVATIONS
    if not target.exists():
        return 0
    freed = tree_size(target)
    write_atomic(folder / STATE, json.dumps({"state": "evicted"}).encode())
    _discard(target, workshop / f"evict-{folder.name}")
    return freed


def put_back(folder: Path, workshop: Path, acts_LTI: NDArray[Any], attributes: Mapping[str, Any]) -> bool:
    """Store narrowed, recomputed activations in a trace that has none. Returns whether they are the published bytes.

    Where nothing was published (a run that did not record), the result is False and the new bytes count.
    """
    bench = workshop / f"put-{folder.name}"
    shutil.rmtree(bench, ignore_errors=True)
    try:
        write_group(bench / GROUP, {}, {})
        add_to_group(bench / GROUP, ACTIVATIONS, acts_LTI)
        new = {name: entry for name, entry in build_manifest(bench).items() if name.startswith(PREFIX)}
        published = {name: entry for name, entry in read_manifest(folder).items() if name.startswith(PREFIX)}
        same = new == published
        fsync_tree(bench)
        target = folder / GROUP / ACTIVATIONS
        if target.exists():
            _discard(target, workshop / f"evict-{folder.name}")
        (bench / GROUP / ACTIVATIONS).rename(target)
        fsync_path(target.parent)
        if same:
            (folder / STATE).unlink(missing_ok=True)
        else:
            files = {name: {"size": entry.size, "sha256": entry.sha256} for name, entry in new.items()}
            manifest = {"format": "neuronscope-manifest", "version": 1, "files": files}
            write_atomic(folder / STATE, json.dumps({"state": "recomputed", "manifest": manifest, **attributes}, allow_nan=False).encode())
        return same
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"cannot store the recomputed activations: {error.strerror or error}; free some disk space") from error
    finally:
        shutil.rmtree(bench, ignore_errors=True)


def _discard(target: Path, parking: Path) -> None:
    shutil.rmtree(parking, ignore_errors=True)
    parking.parent.mkdir(parents=True, exist_ok=True)
    target.rename(parking)
    shutil.rmtree(parking, ignore_errors=True)
