"""A structured description: visible parts with coarse levels, and the prediction they make. Nothing hidden: see `render`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from neurons.descriptions.features import Part

LEVELS = (9, 3, 1, -1, -3)
"""Levels a part may have, as they read: strongly, (plain), weakly, less on, not."""


@dataclass(frozen=True)
class Pattern:
    """Parts with levels. The predicted activation of a token is the sum of the levels of the parts that hold there."""

    parts: tuple[tuple[Part, int], ...]

    def __bool__(self) -> bool:
        return bool(self.parts)


def weights(patterns: Sequence[Pattern | None], vocabulary: Mapping[Part, int]) -> sparse.csr_matrix:
    """The patterns' levels as a matrix, shape (F, N), float32. None (or a part outside the vocabulary) predicts nothing."""
    rows, columns, values = [], [], []
    for column, pattern in enumerate(patterns):
        for part, level in pattern.parts if pattern else ():
            if part in vocabulary:
                rows.append(vocabulary[part])
                columns.append(column)
                values.append(level)
    return sparse.csr_matrix((np.asarray(values, dtype=np.float32), (rows, columns)), shape=(len(vocabulary), len(patterns)))


def predict(patterns: Sequence[Pattern | None], features_TF: sparse.csr_matrix, vocabulary: Mapping[Part, int]) -> np.ndarray:
    """Predicted activations, shape (T, N), float32, in levels (not in activation units: only their ratios mean something)."""
    return np.asarray((features_TF @ weights(patterns, vocabulary)).toarray(), dtype=np.float32)
