"""What a side writes, as a plain line: 'makes "medical", "patient" less likely'. And whether adding the neuron really does that.

The words are those that its output row raises or lowers most, where they are words and alike. Measured on a sample: the side is set to its
extreme quantile more at the last token of a few held-out passages, the model goes on from there, and the words' log-probabilities are
compared with those of the untouched run. The null is what the same addition does to another side's words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers.modeling_outputs import CausalLMOutputWithPast

from neurons.atlas.records import TokenArrays
from neurons.describing.evidence import PROMOTED_Z, Likeness, Words
from neurons.descriptions.headlines import quoted
from neurons.descriptions.word_classes import is_word
from neurons.models.loaded import LoadedModel
from neurons.models.sites import Part
from neurons.runs.hooks import run_forward

ALIKE = 0.2
"""Words of one line have at least this mean cosine."""
SHOWN = 3
SAMPLE = 48
"""Sides of a layer whose lines are measured."""
RIGHT = 2 / 3
"""A layer's lines stand where at least this share of its sample does what it says, and does it more than to another side's words."""
PASSAGES, PASSAGE_TOKENS = 2, 8
_BATCH = 48


@dataclass(frozen=True)
class Writes:
    """The words that a side makes more and less likely: ids into the vocabulary."""

    more: tuple[int, ...]
    less: tuple[int, ...]

    def __bool__(self) -> bool:
        return bool(self.more or self.less)


def plain_writes(promoted: TokenArrays, suppressed: TokenArrays, words: Words, alike: Likeness) -> list[Writes]:
    """What each side of a layer writes, positive sides first; empty where no two words of it are readable and alike."""
    up, down = (
        [
            _readable(ids, values, words, alike)
            for ids, values in zip(*(np.concatenate(list(a)) for a in (given.ids_2IK, given.values_2IK)), strict=True)
        ]
        for given in (promoted, suppressed)
    )
    return [Writes(more, less) for more, less in zip(up, down, strict=True)]


def _readable(ids: NDArray[np.int32], values: NDArray[np.float32], words: Words, alike: Likeness) -> tuple[int, ...]:
    standing = [int(token) for token, value in zip(ids, values, strict=True) if token >= 0 and abs(value) >= PROMOTED_Z]
    found = {words.keys[token]: token for token in reversed(standing) if len(words.keys[token]) > 1 and is_word(words.keys[token])}
    kept = [token for token in standing if token in found.values()]
    return tuple(kept[:SHOWN]) if len(kept) > 1 and 2 * len(kept) >= len(standing) and alike(kept) >= ALIKE else ()


def line(writes: Writes, words: Words) -> str:
    """The line; "" where nothing readable is written."""
    parts = [
        f"{', '.join(quoted(words.keys[token]) for token in ids)} {which} likely"
        for ids, which in ((writes.more, "more"), (writes.less, "less"))
        if ids
    ]
    return f"makes {' and '.join(parts)}" if parts else ""


def sample_rows(writes: Sequence[Writes], *, seed: int, most: int = SAMPLE) -> NDArray[np.int64]:
    """Rows of a layer whose lines are measured, in order."""
    rows = np.flatnonzero([bool(one) for one in writes])
    return np.sort(np.random.default_rng(seed).choice(rows, size=min(most, len(rows)), replace=False)).astype(np.int64)


def right(effect_N: NDArray[np.float32], null_N: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which measured lines say what happens."""
    return np.asarray((effect_N > 0) & (effect_N > null_N))


class Effects:
    """Measures what adding neurons does at the end of a few passages. Nothing is cached, so that every kind of model can be asked."""

    def __init__(self, loaded: LoadedModel, passages: Sequence[NDArray[np.int64]]) -> None:
        self._loaded = loaded
        self._passages = [torch.from_numpy(np.asarray(ids, dtype=np.int64)) for ids in passages]
        self._base = [_after(run_forward(loaded, ids[None], logits_to_keep=1))[0] for ids in self._passages]

    def measure(
        self, layer: int, index_N: NDArray[np.int64], value_N: NDArray[np.float32], writes: Sequence[Writes]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(effect, null), nats: by how much the words of a side become likelier as its line says, and another side's words."""
        effect_N, null_N = np.zeros(len(index_N), dtype=np.float32), np.zeros(len(index_N), dtype=np.float32)
        for at in range(0, len(index_N), _BATCH):
            rows = range(at, min(at + _BATCH, len(index_N)))
            for ids, base_V in zip(self._passages, self._base, strict=True):
                change_BV = self._run(layer, index_N[rows.start : rows.stop], value_N[rows.start : rows.stop], ids) - base_V
                for n in rows:
                    effect_N[n] += _as_said(change_BV[n - at], writes[n]) / len(self._passages)
                    other = writes[(n + 1 - at) % len(rows) + at]
                    null_N[n] += _as_said(change_BV[n - at], other) / len(self._passages)
        return effect_N, null_N

    def _run(self, layer: int, index_B: NDArray[np.int64], value_B: NDArray[np.float32], ids: Tensor) -> Tensor:
        """(B, V) log-probabilities after the passage, with one neuron added to at its last token in each row."""
        loaded = self._loaded
        at_B = torch.from_numpy(np.ascontiguousarray(index_B)).to(loaded.device)
        value_B1 = torch.from_numpy(np.ascontiguousarray(value_B)).to(loaded.device, loaded.dtype)

        def add(part: Part, acts_BTI: Tensor) -> Tensor | None:
            mine_B = (at_B >= part.start) & (at_B < part.start + part.width)
            if part.layer != layer or not bool(mine_B.any()):
                return None
            edited = acts_BTI.reshape(len(index_B), len(ids), -1).clone()
            edited[mine_B.nonzero()[:, 0], -1, at_B[mine_B] - part.start] += value_B1[mine_B]
            return edited.reshape(acts_BTI.shape)

        return _after(run_forward(loaded, ids.expand(len(index_B), -1), replace=add, logits_to_keep=1))


def _after(output: CausalLMOutputWithPast) -> Tensor:
    """(B, V) log-probabilities after the last token."""
    logits: Any = output.logits
    return torch.as_tensor(logits[:, -1].float().log_softmax(-1))


def _as_said(change_V: Tensor, writes: Writes) -> float:
    """The mean change of a line's words, those that it makes less likely counted the other way round."""
    changes = [float(change_V[token]) for token in writes.more] + [-float(change_V[token]) for token in writes.less]
    return sum(changes) / max(1, len(changes))
