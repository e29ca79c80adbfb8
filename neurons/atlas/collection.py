"""What one or more shards have found, read back as plain arrays: quantities per neuron, and full token tables for describers and ceilings.

`merge` adds shards up exactly. A collection may be unfinished: then its token count is that of the blocks done.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neurons.atlas.collect import open_plan
from neurons.atlas.corpus import Corpus
from neurons.atlas.plan import Plan
from neurons.atlas.state import CollectState, checkpoint_blocks, open_body
from neurons.core.errors import NotFound
from neurons.core.progress import Progress, no_progress

MERGED = "merged"


def merge(folder: Path, *, shards: Sequence[str] | None = None, progress: Progress = no_progress) -> Path:
    """Add up the shards in `folder` (all that have a checkpoint, or those named) into `folder/merged`. Exact in any order.

    Raises `NotFound` when no shard has a checkpoint, `StoreError` when shards overlap or belong to other plans.
    """
    plan, widths, exponent_LI = open_plan(folder)
    names = sorted(shards if shards is not None else [path.parent.name for path in folder.glob("shard-*-of-*/current.json")])
    if not names:
        raise NotFound(f"{folder} has no shard with a checkpoint yet; run `neuronscope atlas collect` first")
    cpu = torch.device("cpu")
    total = CollectState(plan, widths, exponent_LI, cpu)
    body = open_body(folder / MERGED, int(plan.body_row_R.max()) + 1, len(widths), max(widths))
    for number, name in enumerate(names):
        progress(number, len(names), f"adding {name}")
        part = CollectState(plan, widths, exponent_LI, cpu)
        if not part.load(folder / name):
            raise NotFound(f"{folder / name} has no checkpoint; collect that shard first")
        rows = body_rows(plan, part.done_blocks)
        source = open_body(folder / name, len(body), len(widths), max(widths))
        body[rows] = source[rows]
        total.add(part)
    body.flush()  # type: ignore[attr-defined]
    total.save(folder / MERGED)
    progress(len(names), len(names), f"{total.tokens} tokens merged")
    return folder / MERGED


def body_rows(plan: Plan, done_blocks: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The rows of the body sample that these blocks filled."""
    used = np.flatnonzero(plan.body_row_R >= 0)
    window_R = np.searchsorted(plan.corpus.offset_S1, used, side="right") - 1
    return np.asarray(plan.body_row_R[used][done_blocks[window_R // plan.settings.block]], dtype=np.int64)


class Collection:
    """A merged collection, open for reading."""

    def __init__(self, folder: Path) -> None:
        """Raises `NotFound` when `folder` holds no merged collection: call `merge` first."""
        self.folder = folder
        self.plan, self.widths, self.exponent_LI = open_plan(folder)
        blocks = checkpoint_blocks(folder / MERGED)
        if blocks is None:
            raise NotFound(f"{folder} is not merged yet; run `neuronscope atlas merge`")
        self.done_blocks: NDArray[np.bool_] = np.zeros(self.plan.n_blocks, dtype=bool)
        self.done_blocks[blocks] = True
        pointer = json.loads((folder / MERGED / "current.json").read_text(encoding="utf-8"))
        self._arrays = folder / MERGED / pointer["folder"]

    @property
    def corpus(self) -> Corpus:
        """The corpus of the plan."""
        return self.plan.corpus

    @property
    def n_layers(self) -> int:
        return len(self.widths)

    @cached_property
    def tokens(self) -> int:
        """Counted tokens of the blocks done: the N of every figure."""
        return sum(self.plan.block_tokens(int(block)) for block in np.flatnonzero(self.done_blocks))

    def array(self, name: str) -> NDArray[Any]:
        """A raw accumulator as a memory map: sum, token, previous, value0, exemplar_value0, ..."""
        opened: NDArray[Any] = np.load(self._arrays / f"{name}.npy", mmap_mode="r")
        return opened

    def mean_LI(self) -> NDArray[np.float32]:
        """Mean activation over all counted tokens."""
        return np.asarray(self.array("sum") / (65536.0 * max(self.tokens, 1)), dtype=np.float32)

    def values_2IK(self, layer: int) -> NDArray[np.float32]:
        """The exact largest activations of each side, strongest first, sign kept; NaN where there are fewer."""
        both = np.stack([np.asarray(self.array(f"value{side}")[layer], dtype=np.float32) for side in (0, 1)])
        both[~np.isfinite(both)] = np.nan
        both[1] *= -1
        return both

    def exemplars_2IK(self, layer: int) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int32]]:
        """Exemplars of each side: values (sign kept, 0 where missing), windows (-1 where missing), positions."""
        value = np.stack([np.asarray(self.array(f"exemplar_value{side}")[layer], dtype=np.float32) for side in (0, 1)])
        sequence = np.stack([np.asarray(self.array(f"exemplar_sequence{side}")[layer], dtype=np.int32) for side in (0, 1)])
        position = np.stack([np.asarray(self.array(f"exemplar_position{side}")[layer], dtype=np.int32) for side in (0, 1)])
        value[1] *= -1
        value[sequence < 0] = 0
        return value, sequence, position

    def token_means(self, layer: int) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.float32]]:
        """(ids_U, counts_U, mean_UI): the mean activation at each of the most frequent tokens, over `counts_U` occurrences."""
        return self._means("token", layer, self.plan.token_ids_U, self.plan.token_row_R)

    def previous_means(self, layer: int) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.float32]]:
        """(ids_U, counts_U, mean_UI): the mean activation just after each of the most frequent tokens, over `counts_U` occurrences."""
        return self._means("previous", layer, self.plan.previous_ids_U, self.plan.previous_row_R)

    def body(self, layer: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """(positions in the corpus, acts_TI): a uniform sample of the counted tokens."""
        rows = np.sort(body_rows(self.plan, self.done_blocks))
        where = np.flatnonzero(self.plan.body_row_R >= 0)
        at = where[np.argsort(self.plan.body_row_R[where])][rows]
        sample = np.load(self.folder / MERGED / "body.npy", mmap_mode="r")
        return at, np.asarray(sample[rows, layer], dtype=np.float32)

    def token_counts_V(self) -> NDArray[np.int64]:
        """How often each token id stands at a counted position of the blocks done (capped nowhere)."""
        corpus = self.plan.corpus
        counts = np.zeros(corpus.n_vocab, dtype=np.int64)
        for window in range(corpus.n_describe):
            if self.done_blocks[window // self.plan.settings.block]:
                ids = corpus.sequence(window)[int(corpus.start_S[window]) :]
                np.add.at(counts, ids, 1)
        return counts

    def _means(
        self, name: str, layer: int, ids_U: NDArray[np.int32], row_R: NDArray[np.int16]
    ) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.float32]]:
        counts = self._occurrences(row_R, len(ids_U))
        sums = np.asarray(self.array(name)[layer], dtype=np.float32)
        scale_I = np.exp2(-self.exponent_LI[layer].astype(np.float32))
        return ids_U, counts, sums * scale_I / np.maximum(counts, 1)[:, None].astype(np.float32)

    def _occurrences(self, row_R: NDArray[np.int16], rows: int) -> NDArray[np.int64]:
        used = np.flatnonzero(row_R >= 0)
        window_R = np.searchsorted(self.plan.corpus.offset_S1, used, side="right") - 1
        done = self.done_blocks[window_R // self.plan.settings.block]
        return np.bincount(row_R[used][done], minlength=rows)
