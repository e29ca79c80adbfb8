"""True activations on held-out text: whole windows drawn uniformly from documents that no description has seen."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurons.atlas.corpus import SKIP, Corpus
from neurons.core.errors import InvalidInput, StoreError
from neurons.core.progress import Progress, no_progress
from neurons.models.loaded import LoadedModel
from neurons.runs.hooks import run_forward
from neurons.storage.files import atomic_file, disk_errors, write_json


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Held-out tokens and every neuron's activation at them."""

    folder: Path
    sequence_T: NDArray[np.int32]
    position_T: NDArray[np.int32]
    ids_T: NDArray[np.int32]
    previous_T: NDArray[np.int32]
    """The token before."""
    next_T: NDArray[np.int32]
    """The token after, -1 at a window's end."""

    def acts(self, layer: int) -> NDArray[np.float16]:
        """(T, I), a memory map."""
        opened: NDArray[np.float16] = np.load(self.folder / f"acts-{layer:03d}.npy", mmap_mode="r")
        return opened


def record_heldout(
    loaded: LoadedModel, corpus: Corpus, folder: Path, *, tokens: int = 40_000, seed: int = 0, progress: Progress = no_progress
) -> HeldOut:
    """Run the model over about `tokens` held-out tokens and keep every activation in `folder` (about 92 KB a token for the embedded model).

    The same arguments reuse what is there; a stopped run begins anew. Raises `InvalidInput` when the corpus holds nothing out.
    """
    windows = np.arange(corpus.n_describe, corpus.n_sequences)
    if not len(windows):
        raise InvalidInput(
            "the corpus has no held-out documents; build it with held_out above 0 and more than one document", field="corpus"
        )
    order = np.random.default_rng(seed).permutation(windows)
    chosen = np.sort(order[: int(np.searchsorted(np.cumsum(corpus.counted_S[order]), tokens)) + 1])
    key = {"corpus": corpus.fingerprint, "model": loaded.ref.weights_hash, "dtype": loaded.ref.dtype, "windows": len(chosen), "seed": seed}
    if _complete(folder, key):
        return open_heldout(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "heldout.json").unlink(missing_ok=True)
    rows: list[NDArray[np.int32]] = []
    for window in chosen:
        ids = corpus.sequence(int(window))
        at = np.arange(max(SKIP, int(corpus.start_S[window])), len(ids))
        following = np.append(ids, -1)[at + 1]
        rows.append(np.stack([np.full(len(at), window), at, ids[at], ids[at - 1], following]).astype(np.int32))
    table = np.concatenate(rows, axis=1)
    total = table.shape[1]
    files = [
        np.lib.format.open_memmap(folder / f"acts-{site.layer:03d}.npy", mode="w+", dtype=np.float16, shape=(total, site.width))
        for site in loaded.sites
    ]
    done = 0
    for window, row in zip(chosen, rows, strict=True):
        first, size = int(row[1, 0]), row.shape[1]

        def keep(layer: int, acts_BTI: Tensor, first: int = first, done: int = done, size: int = size) -> None:
            files[layer][done : done + size] = acts_BTI[0, first:].to(torch.float16).cpu().numpy()

        run_forward(loaded, torch.from_numpy(corpus.sequence(int(window)))[None], record=keep, logits_to_keep=1)
        done += size
        progress(done, total, "held-out tokens recorded")
    for file in files:
        file.flush()
    with disk_errors(folder), atomic_file(folder / "tokens.npy") as stream:
        np.save(stream, table)
    write_json(folder / "heldout.json", key)
    return open_heldout(folder)


def open_heldout(folder: Path) -> HeldOut:
    """What `record_heldout` kept. Raises `StoreError` when it is missing or unfinished."""
    if not (folder / "heldout.json").exists():
        raise StoreError(f"{folder} holds no finished held-out recording; record it again")
    return HeldOut(folder, *np.load(folder / "tokens.npy"))


def _complete(folder: Path, key: dict[str, Any]) -> bool:
    path = folder / "heldout.json"
    return path.exists() and json.loads(path.read_text(encoding="utf-8")) == key
