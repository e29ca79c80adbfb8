"""How good detectors are on sentences they never saw: areas under ROC curves, p-values, the false discovery rate, and ranks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Figures of each concept over held-out texts. NaN where there is nothing to compare."""

    auroc_C: NDArray[np.float64]
    """A sentence about it against sentences about other concepts."""
    p_C: NDArray[np.float64]
    """Chance that a detector without any knowledge does as well (Mann-Whitney, one-sided)."""
    auroc_near_C: NDArray[np.float64]
    """Against its own near misses."""


def held_out(score_NC: NDArray[np.float32], class_N: NDArray[np.int64], near_N: NDArray[np.bool_]) -> HeldOut:
    """`score_NC` of held-out texts: sentences about `class_N`, and near misses of it where `near_N`."""
    n_concepts = score_NC.shape[1]
    own = score_NC[~near_N]
    own_class = class_N[~near_N]
    area, p, near = (np.full(n_concepts, np.nan) for _ in range(3))
    for c in range(n_concepts):
        mine = own_class == c
        area[c], p[c] = auroc(own[mine, c], own[~mine, c])
        near[c], _ = auroc(own[mine, c], score_NC[near_N & (class_N == c), c])
    return HeldOut(area, p, near)


def auroc(positive_N: NDArray[np.float32], negative_M: NDArray[np.float32]) -> tuple[float, float]:
    """(area under the ROC curve, ties half; one-sided p that chance alone does as well). NaN for an empty side."""
    n, m = len(positive_N), len(negative_M)
    if not n or not m:
        return float("nan"), float("nan")
    ranks = rankdata(np.concatenate([positive_N, negative_M]))
    area = (float(ranks[:n].sum()) - n * (n + 1) / 2) / (n * m)
    spread = float(np.sqrt((n + m + 1) / (12 * n * m)))
    return area, float(norm.sf((area - 0.5 - 0.5 / (n * m)) / spread))


def false_discovery(p_C: NDArray[np.float64]) -> NDArray[np.float64]:
    """Benjamini and Hochberg's q of each p: the false discovery rate of calling it and all smaller ones found. NaN counts as 1."""
    p_C = np.nan_to_num(p_C, nan=1.0)
    order = np.argsort(p_C, kind="stable")
    scaled = p_C[order] * len(p_C) / np.arange(1, len(p_C) + 1)
    q_C = np.empty(len(p_C))
    q_C[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1)
    return q_C


def rank_of_right(score_NC: NDArray[np.float32], class_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of the right concept among all (0 is first), of each text; the number of concepts where its own score is -inf."""
    right_N1 = np.take_along_axis(score_NC, class_N[:, None], axis=1)
    ahead_N = (score_NC > right_N1).sum(1)
    return np.asarray(np.where(np.isfinite(right_N1[:, 0]), ahead_N, score_NC.shape[1]), dtype=np.int64)


def field_first(score_NC: NDArray[np.float32], class_N: NDArray[np.int64], field_C: NDArray[np.int64]) -> float:
    """Share of texts whose strongest concept is of the right field."""
    return float((field_C[np.argmax(score_NC, axis=1)] == field_C[class_N]).mean())
