"""Score descriptions on held-out windows: does what a reader can read predict the activation?

Primary: Pearson correlation over all counted tokens of uniform windows, sign kept, and the area under the precision-recall curve for the
strongest 1 token in 1,000 (AUPRC). Secondary, labelled so: the published top-20-plus-5-random protocol, which flatters every method.
Each has a null, the description of another neuron of the same layer and side, and the excess over it. Nothing is calibrated afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neurons.core.errors import InvalidInput

TAIL = 1e-3
TOP_WINDOWS = 20
RANDOM_WINDOWS = 5
_ARRAY = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Scores:
    """One value per neuron side, shape (N,). NaN where the side never fires in the held-out windows, or nothing is predicted."""

    pearson: _ARRAY
    pearson_null: _ARRAY
    auprc: _ARRAY
    auprc_null: _ARRAY
    top_random: _ARRAY
    """Secondary: Pearson on each side's 20 strongest and 5 random windows."""
    top_random_null: _ARRAY

    @property
    def excess(self) -> _ARRAY:
        """Pearson less its null."""
        return self.pearson - self.pearson_null


def pearson(predicted_TN: _ARRAY, true_TN: _ARRAY) -> _ARRAY:
    """Correlation of each column pair, shape (N,). NaN where the truth is constant; 0 where only the prediction is."""
    p = predicted_TN - predicted_TN.mean(axis=0, dtype=np.float64).astype(np.float32)
    y = true_TN - true_TN.mean(axis=0, dtype=np.float64).astype(np.float32)
    shared = np.einsum("tn,tn->n", p, y, dtype=np.float64)
    p2, y2 = np.einsum("tn,tn->n", p, p, dtype=np.float64), np.einsum("tn,tn->n", y, y, dtype=np.float64)
    flat = p2 <= 1e-12 * np.maximum(np.einsum("tn,tn->n", predicted_TN, predicted_TN, dtype=np.float64), 1e-30)
    out = np.divide(shared, np.sqrt(p2 * y2), out=np.zeros(len(y2)), where=(~flat) & (y2 > 0))
    return np.where(y2 > 0, out, np.nan).astype(np.float32)


def auprc(predicted_TN: _ARRAY, true_TN: _ARRAY, *, tail: float = TAIL) -> _ARRAY:
    """Average precision of each prediction for the strongest `tail` share of tokens, shape (N,). NaN where a side never fires.

    A description predicts few different values, so ties matter: within a tie, precision is taken at its end, as scikit-learn does.
    """
    return _auprc(predicted_TN, top_tokens(true_TN, tail))


def top_tokens(true_TN: _ARRAY, tail: float) -> list[NDArray[np.int64]]:
    """For each side, the positions of its strongest tokens that are above zero."""
    tokens, sides = true_TN.shape
    positives = max(1, round(tail * tokens))
    if tokens < 2 * positives:
        raise InvalidInput(f"{tokens} held-out tokens are too few for the strongest {tail:g} of them; hold out more text", field="tokens")
    found = []
    for n in range(sides):
        truth = np.ascontiguousarray(true_TN[:, n])
        top = np.argpartition(truth, tokens - positives)[tokens - positives :]
        found.append(top[truth[top] > 0])
    return found


def _auprc(predicted_TN: _ARRAY, strongest: Sequence[NDArray[np.int64]]) -> _ARRAY:
    out = np.full(len(strongest), np.nan, dtype=np.float32)
    for n, top in enumerate(strongest):
        if not len(top):
            continue
        column = np.ascontiguousarray(predicted_TN[:, n])
        whole = np.rint(column).astype(np.int64)
        rank_T = whole - whole.min() if np.array_equal(whole, column) else np.unique(column, return_inverse=True)[1]
        drawn = np.bincount(rank_T)[::-1].cumsum()
        hits = np.bincount(rank_T[top], minlength=len(drawn))[::-1].cumsum()
        gained = np.diff(hits, prepend=0) / len(top)
        out[n] = float((gained * hits / np.maximum(drawn, 1)).sum())
    return out


def top_and_random(predicted_TN: _ARRAY, true_TN: _ARRAY, window_T: NDArray[np.int64], *, seed: int = 0) -> _ARRAY:
    """Secondary: Pearson over each side's 20 strongest windows plus 5 random ones. `window_T` numbers the 64-token window of each token."""
    windows = int(window_T.max()) + 1
    order = np.argsort(window_T, kind="stable")
    starts = np.searchsorted(window_T[order], np.arange(windows))
    peak_WN = np.maximum.reduceat(true_TN[order], starts, axis=0)
    random = np.random.default_rng(seed).permutation(windows)
    out = np.full(true_TN.shape[1], np.nan, dtype=np.float32)
    for n in range(true_TN.shape[1]):
        top = np.argsort(-peak_WN[:, n], kind="stable")[:TOP_WINDOWS]
        chosen = {*map(int, top), *[int(w) for w in random if w not in set(map(int, top))][:RANDOM_WINDOWS]}
        keep = np.isin(window_T, sorted(chosen))
        out[n] = pearson(predicted_TN[keep, n : n + 1], true_TN[keep, n : n + 1])[0]
    return out


def other_neurons(sides: int, usable: NDArray[np.bool_], *, seed: int = 0) -> NDArray[np.int64]:
    """For the null: which other side of the same layer lends its description to each side, shape (N,). `usable` sides lend only.

    Sides are stacked (positive, then negative); a side never gets its own neuron's description of either polarity.
    """
    rng = np.random.default_rng(seed)
    lenders = np.flatnonzero(usable)
    neurons = sides // 2
    if len({int(n) % neurons for n in lenders}) < 2:
        return (np.arange(sides) + 1) % max(sides, 1)
    lent = rng.choice(lenders, size=sides)
    while len(own := np.flatnonzero(lent % neurons == np.arange(sides) % neurons)):
        lent[own] = rng.choice(lenders, size=len(own))
    return np.asarray(lent, dtype=np.int64)


def score_layer(
    predicted_TN: _ARRAY,
    true_TN: _ARRAY,
    *,
    usable: NDArray[np.bool_],
    window_T: NDArray[np.int64] | None = None,
    tail: bool = True,
    seed: int = 0,
) -> Scores:
    """Score the predictions of a layer's sides. `usable` sides have a description; the others score NaN.

    `window_T` None leaves the secondary score out (it is slow); `tail` False leaves AUPRC out.
    """
    sides = true_TN.shape[1]
    nothing = np.full(sides, np.nan, dtype=np.float32)
    null_TN = predicted_TN[:, other_neurons(sides, usable, seed=seed)]
    found = [nothing.copy() for _ in range(6)]
    found[0], found[1] = pearson(predicted_TN, true_TN), pearson(null_TN, true_TN)
    if tail:
        strongest = top_tokens(true_TN, TAIL)
        found[2], found[3] = _auprc(predicted_TN, strongest), _auprc(null_TN, strongest)
    if window_T is not None:
        found[4], found[5] = (top_and_random(p, true_TN, window_T, seed=seed) for p in (predicted_TN, null_TN))
    for values in found:
        values[~usable] = np.nan
    return Scores(*found)


def five_token_patterns(exemplar_keys: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    """The peer's description: the five commonest tokens at the peaks of each side's exemplars; ties to the strongest exemplar."""
    lists = []
    for keys in exemplar_keys:
        counts: dict[str, int] = {}
        for name in keys:
            if name:
                counts[name] = counts.get(name, 0) + 1
        lists.append(tuple(sorted(counts, key=lambda name: -counts[name])[:5]))
    return lists
