"""Activations of some corpus windows, kept on disk while neurons are described and scored. One pass of the model, all layers."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from neurons.core.errors import StoreError
from neurons.core.progress import Progress, no_progress
from neurons.describing.survey import Windows
from neurons.models.loaded import LoadedModel
from neurons.runs.hooks import hooked
from neurons.storage.files import write_json

_BATCH = 8
_STATE = "recording.json"
_LARGEST = 65504.0


@dataclass(frozen=True, eq=False)
class Recording:
    """Every neuron's activation at the counted tokens of some windows, in order. Scratch: remove the folder when done."""

    folder: Path
    tokens: int
    n_neurons: int

    def acts(self, layer: int) -> NDArray[np.float16]:
        """(T, I), a memory map; narrower layers are padded with zeros."""
        opened: NDArray[np.float16] = np.load(self.folder / f"acts-{layer:03d}.npy", mmap_mode="r")
        return opened[: self.tokens]

    def sides(self, layer: int, neurons: slice = slice(None)) -> NDArray[np.float32]:
        """Both sides of some neurons, (T, 2n): the positive part of the activations, then the positive part of their opposites."""
        acts_TI = self.acts(layer)[:, neurons].astype(np.float32)
        return np.concatenate([np.maximum(acts_TI, 0), np.maximum(-acts_TI, 0)], axis=1)


def record_windows(
    loaded: LoadedModel,
    windows: Windows,
    folder: Path,
    *,
    key: str,
    progress: Progress = no_progress,
    message: str = "tokens read by the model",
) -> Recording:
    """Run the model over `windows`, or go on where a stopped run with the same `key` left off.

    Raises `StoreError` when the disk has no room: about 2 bytes per neuron and token.
    """
    total = windows.tokens
    state_path = folder / _STATE
    done = _windows_done(state_path, key)
    if done is None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        needed = 2 * total * loaded.n_layers * loaded.n_neurons
        if shutil.disk_usage(folder).free < 1.1 * needed:
            raise StoreError(f"recording {total:,} tokens needs {needed / 1e9:.1f} GB in {folder}; free disk space or use fewer tokens")
        done = 0
    mode = "r+" if done else "w+"
    shape = None if done else (total, loaded.n_neurons)
    files = [
        np.lib.format.open_memmap(folder / f"acts-{layer:03d}.npy", mode=mode, dtype=np.float16, shape=shape)
        for layer in range(loaded.n_layers)
    ]
    counts = [len(ids) - start for ids, start in zip(windows.ids, windows.start, strict=True)]
    at = sum(counts[:done])
    body = loaded.model.base_model
    while done < len(counts):
        batch = range(done, min(done + _BATCH, len(counts)))
        longest = max(len(windows.ids[n]) for n in batch)
        ids_BT = np.zeros((len(batch), longest), dtype=np.int64)
        keep_BT = np.zeros((len(batch), longest), dtype=bool)
        for row, n in enumerate(batch):
            ids_BT[row, : len(windows.ids[n])] = windows.ids[n]
            keep_BT[row, windows.start[n] : len(windows.ids[n])] = True
        keep_T = torch.from_numpy(keep_BT.ravel()).to(loaded.device)
        size = int(keep_BT.sum())

        def keep(layer: int, acts_BTI: torch.Tensor, keep_T: torch.Tensor = keep_T, rows: slice = slice(at, at + size)) -> None:
            kept = acts_BTI.flatten(0, 1)[keep_T].float().clamp(-_LARGEST, _LARGEST)
            files[layer][rows, : kept.shape[1]] = kept.to(torch.float16).cpu().numpy()

        with hooked(loaded, record=keep), torch.no_grad():
            body(input_ids=torch.from_numpy(ids_BT).to(loaded.device), use_cache=False)
        done, at = batch.stop, at + size
        if done % (16 * _BATCH) == 0 or done == len(counts):
            for file in files:
                file.flush()
            write_json(state_path, {"key": key, "done": done})
        progress(at, total, message)
    return Recording(folder, total, loaded.n_neurons)


def _windows_done(path: Path, key: str) -> int | None:
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        return int(state["done"]) if state["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
