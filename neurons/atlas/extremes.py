"""Exact top values and top exemplars of every neuron side, merged from candidates. Merging is associative: any order gives the same bits.

The negative side is kept negated here, so that on both sides larger is stronger.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]


def merge_values(state_IK: Floats, index_E: NDArray[np.int64], value_E: Floats) -> Floats:
    """The K largest of each row of `state_IK` (sorted, strongest first, -inf where empty) and of the events (row, value)."""
    n_rows, keep = state_IK.shape
    if not len(index_E):
        return state_IK
    order = np.argsort(-value_E)
    order = order[by_row(index_E[order], n_rows)]
    index_E, value_E = index_E[order], value_E[order]
    nth_E = rank_in_group(index_E)
    near = nth_E < keep
    width = int(nth_E[near].max()) + 1
    new_IW = np.full((n_rows, width), -np.inf, dtype=np.float32)
    new_IW[index_E[near], nth_E[near]] = value_E[near]
    both = np.concatenate([state_IK, new_IW], axis=1)
    both.partition(both.shape[1] - keep, axis=1)
    best = both[:, -keep:]
    best.sort(axis=1)
    return np.ascontiguousarray(best[:, ::-1])


class Exemplars:
    """The top exemplars of the neurons of one layer and side: value, window and position, at most `per_document` of a document.

    A window gives at most its peak. The order is by value, ties to the earlier window: a total order, so the result is unique.
    """

    def __init__(self, n_rows: int, keep: int, per_document: int) -> None:
        self.per_document = per_document
        self.value_IK: Floats = np.full((n_rows, keep), -np.inf, dtype=np.float32)
        self.sequence_IK: Ints = np.full((n_rows, keep), -1, dtype=np.int32)
        self.position_IK: Ints = np.full((n_rows, keep), -1, dtype=np.int32)

    def merge(self, index_E: NDArray[np.int64], value_E: Floats, sequence_E: Ints, position_E: Ints, document_S: Ints) -> None:
        """Take the events in."""
        if not len(index_E):
            return
        keep = self.value_IK.shape[1]
        held_I, held_K = np.nonzero(self.sequence_IK >= 0)
        index = np.concatenate([held_I, index_E])
        value = np.concatenate([self.value_IK[held_I, held_K], value_E])
        sequence = np.concatenate([self.sequence_IK[held_I, held_K], sequence_E])
        position = np.concatenate([self.position_IK[held_I, held_K], position_E])
        order = np.lexsort((sequence, -value))
        order = order[by_row(index[order], len(self.value_IK))]
        index, value, sequence, position = index[order], value[order], sequence[order], position[order]
        key = index.astype(np.int64) * (int(document_S.max()) + 1) + document_S[sequence]
        by_document = np.argsort(key, kind="stable")
        nth = np.empty(len(key), dtype=np.int64)
        nth[by_document] = rank_in_group(key[by_document])
        fits = nth < self.per_document
        index, value, sequence, position = index[fits], value[fits], sequence[fits], position[fits]
        nth = rank_in_group(index)
        fits = nth < keep
        index, nth = index[fits], nth[fits]
        self.value_IK[:], self.sequence_IK[:], self.position_IK[:] = -np.inf, -1, -1
        self.value_IK[index, nth] = value[fits]
        self.sequence_IK[index, nth] = sequence[fits]
        self.position_IK[index, nth] = position[fits]

    def merge_with(self, other: Exemplars, document_S: Ints) -> None:
        """Take another part's exemplars in."""
        held_I, held_K = np.nonzero(other.sequence_IK >= 0)
        self.merge(held_I, other.value_IK[held_I, held_K], other.sequence_IK[held_I, held_K], other.position_IK[held_I, held_K], document_S)


def by_row(index_E: NDArray[np.int64], n_rows: int) -> NDArray[np.int64]:
    """The order that brings equal rows together and changes nothing within a row. Counting, not comparing, up to 65,536 rows."""
    return np.argsort(index_E.astype(np.min_scalar_type(n_rows)), kind="stable")


def rank_in_group(sorted_key: NDArray[Any]) -> NDArray[np.int64]:
    """For each entry of a sorted array, how many equal entries stand before it."""
    if not len(sorted_key):
        return np.zeros(0, dtype=np.int64)
    starts = np.flatnonzero(np.concatenate([[True], sorted_key[1:] != sorted_key[:-1]]))
    return np.arange(len(sorted_key)) - np.repeat(starts, np.diff(np.concatenate([starts, [len(sorted_key)]])))
