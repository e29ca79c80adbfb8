"""How well a headline alone predicts a side's strongest held-out tokens: AUPRC and AUROC, beside those of another side's headline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from neurons.describing.headline_choice import Choice
from neurons.describing.score import other_neurons, top_tokens

TAIL = 1e-3
_FINE = 4
"""Weights are rounded to a quarter of a nat: few levels, so that ranks are counted instead of sorted."""


@dataclass(frozen=True, eq=False)
class HeadlineScores:
    """One value a side, (N,). NaN without a headline, or where the side never fires in the held-out text."""

    auprc: NDArray[np.float32]
    auprc_null: NDArray[np.float32]
    auroc: NDArray[np.float32]
    auroc_null: NDArray[np.float32]


class HeldTraits:
    """Which traits stand at each held-out token."""

    def __init__(self, slot_TS: NDArray[np.int32], traits: int) -> None:
        row, _ = np.nonzero(slot_TS >= 0)
        column = slot_TS[slot_TS >= 0]
        held = sparse.csc_matrix((np.ones(len(row), dtype=np.float32), (row, column)), shape=(len(slot_TS), traits))
        held.data[:] = 1  # a trait may fill two slots of a token
        self._held_TF = held

    @property
    def tokens(self) -> int:
        return int(self._held_TF.shape[0])

    def predict(self, choices: Sequence[Choice]) -> NDArray[np.float32]:
        """(T, N): the summed weights of each headline's parts that hold at a token, in whole steps."""
        out = np.zeros((self.tokens, len(choices)), dtype=np.float32)
        for column, choice in enumerate(choices):
            for part in choice.parts:
                rows = self._rows(part.trait)
                if part.qualifier >= 0:
                    rows = np.intersect1d(rows, self._rows(part.qualifier), assume_unique=True)
                out[rows, column] += max(1, round(_FINE * part.weight))
        return out

    def _rows(self, trait: int) -> NDArray[np.int32]:
        held = self._held_TF
        return np.asarray(held.indices[held.indptr[trait] : held.indptr[trait + 1]])


def score_headlines(held: HeldTraits, choices: Sequence[Choice], true_TN: NDArray[np.float32], *, seed: int) -> HeadlineScores:
    """Score a block's sides, positive ones first. The null is the headline of another neuron of the block."""
    usable = np.array([bool(choice.parts) for choice in choices])
    lent = other_neurons(len(choices), usable, seed=seed)
    predicted_TN = held.predict(choices)
    found = [np.full(len(choices), np.nan, dtype=np.float32) for _ in range(4)]
    for n, top in enumerate(top_tokens(true_TN, TAIL)):
        if usable[n] and len(top):
            found[0][n], found[2][n] = _areas(predicted_TN[:, n], top)
            found[1][n], found[3][n] = _areas(predicted_TN[:, lent[n]], top)
    return HeadlineScores(*found)


def _areas(predicted_T: NDArray[np.float32], top: NDArray[np.int64]) -> tuple[float, float]:
    """(AUPRC, AUROC) for the tokens `top` against all others; ties count half, and precision is taken at their end."""
    level_T = predicted_T.astype(np.int64)
    drawn = np.bincount(level_T)[::-1]
    hits = np.bincount(level_T[top], minlength=len(drawn))[::-1]
    others = drawn - hits
    precision = hits.cumsum() / np.maximum(drawn.cumsum(), 1)
    below = others.sum() - others.cumsum()
    auroc = (hits * (below + 0.5 * others)).sum() / max(1, len(top) * int(others.sum()))
    return float((hits / len(top) * precision).sum()), float(auroc)
