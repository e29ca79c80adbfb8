"""How predictable a neuron side is from the token and the token before it: a hidden table, shown as the ceiling of its description."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from neurons.describing.survey import Windows

TOKEN_PRIOR = 1.0
PREVIOUS_PRIOR = 3.0
"""Occurrences' worth of belief in the overall mean, for rare tokens."""


@dataclass(frozen=True, eq=False)
class Contexts:
    """Which token and previous token stand at each counted position of some windows, shape (T,)."""

    token_T: NDArray[np.int64]
    previous_T: NDArray[np.int64]


def contexts_of(windows: Windows) -> Contexts:
    """The contexts of the counted tokens of some windows, in order."""
    pairs = list(zip(windows.ids, windows.start, strict=True))
    return Contexts(np.concatenate([ids[start:] for ids, start in pairs]), np.concatenate([ids[start - 1 : -1] for ids, start in pairs]))


class CeilingTable:
    """Sums of values by a key (the token, or the token before), and their shrunk means."""

    def __init__(self, ids: NDArray[np.int64], width: int) -> None:
        """`ids` are the token ids that occur, sorted."""
        self.ids = ids
        self.sum_VN = np.zeros((len(ids), width), dtype=np.float32)
        self.count_V = np.zeros(len(ids))

    def add(self, key_T: NDArray[np.int64], values_TN: NDArray[np.float32]) -> None:
        """Add values under their keys; keys not in `ids` are passed over."""
        row_T = self.rows(key_T)
        known = row_T >= 0
        picked = np.flatnonzero(known)
        spread = sparse.csr_matrix((np.ones(len(picked), dtype=np.float32), (row_T[picked], picked)), shape=(len(self.ids), len(key_T)))
        self.sum_VN += spread @ values_TN
        np.add.at(self.count_V, row_T[picked], 1)

    def rows(self, key_T: NDArray[np.int64]) -> NDArray[np.int64]:
        """The row of each key, -1 for unknown ones."""
        row_T = np.minimum(np.searchsorted(self.ids, key_T), len(self.ids) - 1)
        return np.where(self.ids[row_T] == key_T, row_T, -1)

    def predict(self, key_T: NDArray[np.int64], base_N: NDArray[np.float32], prior: float) -> NDArray[np.float32]:
        """The shrunk mean under each key, less the base; 0 for unknown keys. Shape (T, N)."""
        mean_VN = ((self.sum_VN - self.count_V[:, None] * base_N) / (self.count_V[:, None] + prior)).astype(np.float32)
        row_T = self.rows(key_T)
        out = mean_VN[row_T]
        out[row_T < 0] = 0
        return np.asarray(out, dtype=np.float32)


def ceiling_prediction(train: Contexts, acts_TN: NDArray[np.float32], held: Contexts) -> NDArray[np.float32]:
    """Predicted activations of the held-out positions: token means, plus the previous token's mean of what those leave. Shape (T_held,
    N).
    """
    base_N = acts_TN.mean(axis=0)
    tokens = CeilingTable(np.unique(train.token_T), acts_TN.shape[1])
    tokens.add(train.token_T, acts_TN)
    left_TN = acts_TN - base_N - tokens.predict(train.token_T, base_N, TOKEN_PRIOR)
    previous = CeilingTable(np.unique(train.previous_T), acts_TN.shape[1])
    previous.add(train.previous_T, left_TN)
    zero_N = np.zeros_like(base_N)
    return tokens.predict(held.token_T, base_N, TOKEN_PRIOR) + previous.predict(held.previous_T, zero_N, PREVIOUS_PRIOR)
