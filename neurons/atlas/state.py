"""The whole state of a collection (all layers), its checkpoints on disk, and adding two states up.

Two checkpoint folders take turns and a small file names the current one, so a kill at any moment leaves one whole. The body sample is
written in place: a block that is redone writes the same bits to the same rows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neurons.atlas.accumulate import LayerState
from neurons.atlas.extremes import merge_values
from neurons.atlas.plan import Plan
from neurons.core.errors import StoreError
from neurons.storage.files import atomic_file, atomic_path, disk_errors, write_json

_POINTER = "current.json"


class CollectState:
    """Accumulators of every layer and which blocks are in them."""

    def __init__(self, plan: Plan, widths: Sequence[int], exponent_LI: NDArray[np.int16], device: torch.device) -> None:
        self.plan, self.widths, self.exponent_LI = plan, tuple(widths), exponent_LI
        self.layers = [LayerState(plan, width, exponent_LI[n, :width], device) for n, width in enumerate(widths)]
        self.done_blocks: NDArray[np.bool_] = np.zeros(plan.n_blocks, dtype=bool)

    @property
    def tokens(self) -> int:
        """Counted tokens so far."""
        return sum(self.plan.block_tokens(int(block)) for block in np.flatnonzero(self.done_blocks))

    def merge_pending(self) -> None:
        for layer in self.layers:
            layer.merge_pending()

    def add(self, other: CollectState) -> None:
        """Take another shard's state in. Raises `StoreError` when they overlap or belong to different plans."""
        if self.plan.fingerprint != other.plan.fingerprint or not np.array_equal(self.exponent_LI, other.exponent_LI):
            raise StoreError("the shards were collected with different plans (corpus, model or settings); collect them again with one plan")
        if (self.done_blocks & other.done_blocks).any():
            raise StoreError("two shards hold the same blocks; merge each shard once")
        document_S = self.plan.corpus.document_S
        for mine, theirs in zip(self.layers, other.layers, strict=True):
            mine.sum_I += theirs.sum_I
            mine.token_UI += theirs.token_UI
            mine.previous_UI += theirs.previous_UI
            for side in (0, 1):
                given = theirs.values[side]
                at_i, at_k = np.nonzero(np.isfinite(given))
                mine.values[side] = merge_values(mine.values[side], at_i, given[at_i, at_k])
                mine.exemplars[side].merge_with(theirs.exemplars[side], document_S)
            mine.refresh()
        self.done_blocks |= other.done_blocks

    def save(self, folder: Path) -> None:
        """Write a checkpoint into `folder`, the one before stays until this one is whole."""
        self.merge_pending()
        current = _read_pointer(folder)
        name = "b" if current and current["folder"] == "a" else "a"
        target = folder / name
        with disk_errors(target):
            target.mkdir(parents=True, exist_ok=True)
            for key, arrays in self._arrays().items():
                with atomic_file(target / f"{key}.npy") as file:
                    _write_stack(file, arrays, 1 if key in ("token", "previous") else 0, max(self.widths))
        pointer = {
            "folder": name,
            "fingerprint": self.plan.fingerprint,
            "blocks": np.flatnonzero(self.done_blocks).tolist(),
            "tokens": self.tokens,
        }
        write_json(folder / _POINTER, pointer)

    def load(self, folder: Path) -> bool:
        """Read the current checkpoint of `folder` into this state. False when there is none. Raises `StoreError` for another plan's."""
        pointer = _read_pointer(folder)
        if pointer is None:
            return False
        if pointer["fingerprint"] != self.plan.fingerprint:
            raise StoreError(f"{folder} holds a collection of another plan (corpus, model or settings); use another folder or remove it")
        given = {key: np.load(folder / pointer["folder"] / f"{key}.npy", mmap_mode="r") for key in self._arrays()}
        for n, layer in enumerate(self.layers):
            width = layer.width
            layer.sum_I[:] = given["sum"][n, :width]
            layer.token_UI.copy_(torch.from_numpy(np.array(given["token"][n, :, :width])))
            layer.previous_UI.copy_(torch.from_numpy(np.array(given["previous"][n, :, :width])))
            for side in (0, 1):
                layer.values[side] = np.array(given[f"value{side}"][n, :width])
                layer.exemplars[side].value_IK[:] = given[f"exemplar_value{side}"][n, :width]
                layer.exemplars[side].sequence_IK[:] = given[f"exemplar_sequence{side}"][n, :width]
                layer.exemplars[side].position_IK[:] = given[f"exemplar_position{side}"][n, :width]
            layer.refresh()
        self.done_blocks[:] = False
        self.done_blocks[pointer["blocks"]] = True
        return True

    def _arrays(self) -> dict[str, list[NDArray[Any]]]:
        arrays: dict[str, list[NDArray[Any]]] = {
            "sum": [layer.sum_I for layer in self.layers],
            "token": [layer.token_UI.cpu().numpy() for layer in self.layers],
            "previous": [layer.previous_UI.cpu().numpy() for layer in self.layers],
        }
        for side in (0, 1):
            arrays[f"value{side}"] = [layer.values[side] for layer in self.layers]
            arrays[f"exemplar_value{side}"] = [layer.exemplars[side].value_IK for layer in self.layers]
            arrays[f"exemplar_sequence{side}"] = [layer.exemplars[side].sequence_IK for layer in self.layers]
            arrays[f"exemplar_position{side}"] = [layer.exemplars[side].position_IK for layer in self.layers]
        return arrays


def open_body(folder: Path, rows: int, n_layers: int, n_neurons: int) -> NDArray[np.float16]:
    """The body sample (rows, L, I) float16 of a shard, on disk, made when missing."""
    path = folder / "body.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with disk_errors(path), atomic_path(path) as temporary:
            np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float16, shape=(rows, n_layers, n_neurons)).flush()
    opened: NDArray[np.float16] = np.load(path, mmap_mode="r+")
    return opened


def checkpoint_blocks(folder: Path) -> list[int] | None:
    """Which blocks a shard's folder holds, or None when it holds none."""
    pointer = _read_pointer(folder)
    return None if pointer is None else list(pointer["blocks"])


def _read_pointer(folder: Path) -> dict[str, Any] | None:
    path = folder / _POINTER
    if not path.exists():
        return None
    try:
        pointer: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {key: pointer[key] for key in ("folder", "fingerprint", "blocks", "tokens")}
    except (ValueError, KeyError) as error:
        raise StoreError(f"{path} is damaged; remove the folder to collect this shard again") from error


def _write_stack(file: Any, arrays: list[NDArray[Any]], axis: int, width: int) -> None:
    """Write the layers' arrays as one array (L, ...), the neuron `axis` padded to `width` with zeros."""
    shape = list(arrays[0].shape)
    shape[axis] = width
    header = {"descr": np.lib.format.dtype_to_descr(arrays[0].dtype), "fortran_order": False, "shape": (len(arrays), *shape)}
    np.lib.format.write_array_header_2_0(file, header)
    for array in arrays:
        missing = width - array.shape[axis]
        padded = np.pad(array, [(0, missing) if n == axis else (0, 0) for n in range(array.ndim)]) if missing else array
        file.write(np.ascontiguousarray(padded).data)
