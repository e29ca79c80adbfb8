"""Choose a description's parts: greedy least squares on moments, coarse levels, as many parts as another set of documents bears out.

Orthogonal matching pursuit (Pati et al. 1993) on covariances: each step takes the part whose correlation with what is left is highest
per word it costs a reader, then all weights are solved again, with a ridge that keeps rare parts from being believed too soon.
Weights are then rounded to the five levels of `patterns.LEVELS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neurons.describing.survey import LayerMoments, Moments
from neurons.descriptions.features import Part
from neurons.descriptions.patterns import LEVELS, Pattern
from neurons.descriptions.render import MAX_WORDS, count_words, render, value_text
from neurons.descriptions.word_classes import is_word

MAX_PARTS = 14
RIDGE_TOKENS = 20.0
"""A part seen in this many tokens has its weight halved."""
WORD_COST = 0.15
"""How much of a part's gain each further word of its text takes away."""
FRAGMENT_COST = 0.3
WORTH = 0.02
"""A longer description is kept when it adds this share to the correlation on the check documents."""
_BLOCK = 384
_ARRAY = NDArray[np.float32]


@dataclass(frozen=True)
class Fitted:
    """A pattern and how well it correlates with the activation on the documents it was fitted on, and on the check documents."""

    pattern: Pattern
    fit: float
    check: float


def reading_cost(parts: Sequence[Part]) -> NDArray[np.float32]:
    """1 for a quoted word; more for what takes more words, and for fragments that mean nothing by themselves."""
    words = np.array([count_words(value_text(part)) + (part.where != "at") for part in parts], dtype=np.float32)
    fragment = np.array([part.kind == "word" and part.value.isalpha() and not is_word(part.value) for part in parts])
    return np.asarray(1 + WORD_COST * (words - 1) + FRAGMENT_COST * fragment, dtype=np.float32)


def pursue(cov_NF: _ARRAY, cov_FF: _ARRAY, cost_F: _ARRAY, *, tokens: int, steps: int) -> list[tuple[NDArray[np.int64], _ARRAY]]:
    """For k = 1..steps: the chosen parts, shape (N, k), and their weights, shape (N, k). Ties go to the lower part number."""
    sides = len(cov_NF)
    rows = np.arange(sides)
    ridge = RIDGE_TOKENS / tokens
    scale_F = 1 / ((np.diag(cov_FF) + ridge) * cost_F)
    chosen = np.zeros((sides, 0), dtype=np.int64)
    left_NF = cov_NF.copy()
    open_NF = np.ones(cov_NF.shape, dtype=bool)
    found = []
    for step in range(steps):
        best = np.argmax(np.where(open_NF, left_NF**2 * scale_F, -1), axis=1)
        open_NF[rows, best] = False
        chosen = np.concatenate([chosen, best[:, None]], axis=1)
        inner = cov_FF[chosen[:, :, None], chosen[:, None, :]] + ridge * np.eye(step + 1, dtype=np.float32)
        target = np.take_along_axis(cov_NF, chosen, axis=1)
        weight = np.linalg.solve(inner, target[..., None])[..., 0].astype(np.float32)
        left_NF = cov_NF.copy()
        for k in range(step + 1):
            left_NF -= weight[:, k, None] * cov_FF[chosen[:, k]]
        found.append((chosen.copy(), weight))
    return found


def correlation(
    chosen_NK: NDArray[np.int64], weight_NK: _ARRAY, cov_NF: _ARRAY, cov_FF: _ARRAY, var_N: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Pearson correlation of each side's prediction with its activation, from moments. 0 where either is constant."""
    inner = cov_FF[chosen_NK[:, :, None], chosen_NK[:, None, :]]
    shared = (weight_NK * np.take_along_axis(cov_NF, chosen_NK, axis=1)).sum(axis=1)
    spread = np.sqrt(np.maximum(np.einsum("nk,nkj,nj->n", weight_NK, inner, weight_NK), 0) * var_N)
    return np.asarray(np.divide(shared, spread, out=np.zeros(len(chosen_NK)), where=spread > 1e-12))


def to_levels(chosen_NK: NDArray[np.int64], weight_NK: _ARRAY, cov_NF: _ARRAY, cov_FF: _ARRAY) -> _ARRAY:
    """Round weights to levels at the scale that keeps the fit's correlation highest. Some become 0 (the part is dropped)."""
    levels = np.array(sorted((*LEVELS, 0)), dtype=np.float32)
    middles = (levels[1:] + levels[:-1]) / 2
    largest = np.maximum(np.abs(weight_NK).max(axis=1, keepdims=True), 1e-30)
    best = np.zeros_like(weight_NK)
    best_score = np.full(len(weight_NK), -np.inf)
    for scale in np.geomspace(1.5, 36, 18):
        rounded = levels[np.searchsorted(middles, weight_NK / largest * scale)]
        score = correlation(chosen_NK, rounded, cov_NF, cov_FF, np.ones(len(weight_NK)))
        better = score > best_score + 1e-6
        best[better], best_score[better] = rounded[better], score[better]
    return best


def fit_layer(parts: Sequence[Part], fit: Moments, check: Moments, layer_fit: LayerMoments, layer_check: LayerMoments) -> list[Fitted]:
    """The description of each side of a layer, in the order of `LayerMoments`. Sides that never fire get an empty pattern."""
    cost_F = reading_cost(parts)
    found: list[Fitted] = []
    for at in range(0, len(layer_fit.var_N), _BLOCK):
        block = slice(at, at + _BLOCK)
        cov_NF, check_NF = layer_fit.cov_NF[block], layer_check.cov_NF[block]
        var_N, check_var_N = layer_fit.var_N[block], layer_check.var_N[block]
        candidates = []
        for chosen, weight in pursue(cov_NF, fit.cov_FF, cost_F, tokens=fit.tokens, steps=min(MAX_PARTS, len(parts))):
            level = to_levels(chosen, weight, cov_NF, fit.cov_FF)
            fitted = correlation(chosen, level, cov_NF, fit.cov_FF, var_N)
            checked = correlation(chosen, level, check_NF, check.cov_FF, check_var_N)
            candidates.append((chosen, level, fitted, checked))
        for row in range(len(cov_NF)):
            found.append(
                _choose(parts, [(c[row], v[row], float(f[row]), float(k[row])) for c, v, f, k in candidates], alive=var_N[row] > 1e-12)
            )
    return found


def _choose(parts: Sequence[Part], candidates: Sequence[tuple[NDArray[np.int64], _ARRAY, float, float]], *, alive: bool) -> Fitted:
    """The shortest description that is nearly the best on the check documents, among those that fit the word limit."""
    best = Fitted(Pattern(()), 0.0, 0.0)
    for chosen, level, fitted, checked in candidates if alive else ():
        if checked > max(best.check * (1 + WORTH), 0):
            pattern = normalised([(parts[part], int(at)) for part, at in zip(chosen, level, strict=True) if at])
            if count_words(render(pattern)) <= MAX_WORDS:
                best = Fitted(pattern, fitted, checked)
    return best


def normalised(parts: Sequence[tuple[Part, int]]) -> Pattern:
    """The same levels, shifted together so that the highest one needs no adverb. Parts in order of level, then as they were chosen."""
    top = max((level for _, level in parts), default=0)
    low = min((abs(level) for _, level in parts), default=0)
    parts = list(parts)
    if top == 9 and low >= 3:
        parts = [(part, level // 3 if level > 0 else -max(1, -level // 3)) for part, level in parts]
        top = 3
    if top == 1 and all(level in (1, -1) for _, level in parts):
        parts = [(part, 3 * level) for part, level in parts]
    return Pattern(tuple(sorted(parts, key=lambda pair: -pair[1])))


def carried(pattern: Pattern, vocabulary: Mapping[Part, int], cov_F: _ARRAY) -> list[float]:
    """How much of the covariance of prediction and activation each part of a pattern brings."""
    return [float(level * cov_F[vocabulary[part]]) for part, level in pattern.parts]
