"""Quantiles of every neuron at any level, from the strongest values and the body sample that a collection keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurons.atlas.records import AtlasQuantiles


def from_extremes(
    level: float, tokens: int, ranks_J: NDArray[np.int64], extreme_2LIJ: NDArray[Any], tail_scale_2LI: NDArray[Any] | None
) -> AtlasQuantiles | None:
    """The quantile 1 - level of both sides from their strongest values of `tokens` tokens; None where it lies below the weakest kept.

    The j-th largest of N tokens is the quantile 1 - j/N: exact where j = floor(level * N) is a kept rank, interpolated in log rank between
    kept ranks. Where level * N < 1 the corpus extreme stands in; with `tail_scale_2LI` (the mean excess over the 128th value) an
    exponential tail goes beyond it.
    """
    rank = level * tokens
    whole = int(rank + 1e-9)
    if whole < 1:
        value = extreme_2LIJ[..., 0].astype(np.float32)
        if tail_scale_2LI is None:
            return AtlasQuantiles(level, tokens, value, rank, "corpus extreme")
        beyond = tail_scale_2LI.astype(np.float32) * np.float32(np.log(1 / rank))
        return AtlasQuantiles(level, tokens, np.stack([value[0] + beyond[0], value[1] - beyond[1]]), rank, "tail fit")
    if whole in ranks_J:
        value = extreme_2LIJ[..., int(np.flatnonzero(ranks_J == whole)[0])].astype(np.float32)
        return AtlasQuantiles(level, tokens, value, rank, "order statistic")
    if whole < ranks_J[-1]:
        above = int(np.searchsorted(ranks_J, whole))
        share = np.log(whole / ranks_J[above - 1]) / np.log(ranks_J[above] / ranks_J[above - 1])
        mixed = extreme_2LIJ[..., above - 1] * np.float32(1 - share) + extreme_2LIJ[..., above] * np.float32(share)
        return AtlasQuantiles(level, tokens, mixed.astype(np.float32), rank, "interpolated")
    return None


def from_body(level: float, tokens: int, levels_Q: NDArray[np.float64], body_LIQ: NDArray[Any]) -> AtlasQuantiles:
    """The same from the quantiles that are kept of the body sample, linear between them."""
    body_LIQ = body_LIQ.astype(np.float32)
    sides = []
    for at in (1 - level, level):
        above = int(np.clip(np.searchsorted(levels_Q, at), 1, len(levels_Q) - 1))
        share = np.float32(np.clip((at - levels_Q[above - 1]) / (levels_Q[above] - levels_Q[above - 1]), 0, 1))
        sides.append(body_LIQ[..., above - 1] * (1 - share) + body_LIQ[..., above] * share)
    return AtlasQuantiles(level, tokens, np.stack(sides).astype(np.float32), level * tokens, "body sample")
