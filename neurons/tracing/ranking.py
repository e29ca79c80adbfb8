"""Which neurons fire most over a range of tokens, each side of a neuron on its own, with what "most" is measured against.

normalised = activation / extreme of that neuron and side over a corpus          (with a quantile table)
normalised = activation / the layer's own 1-in-10,000 value on that side          (with this trace's own statistics)
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neurons.core.errors import InvalidInput
from neurons.core.progress import Progress, no_progress
from neurons.core.quantile_table import QuantileTable
from neurons.core.types import Polarity

OWN_LEVEL = 1e-4
_BITS = 1 << 16
_SAMPLE = 256  # tokens, evenly spread, that a long trace's percentiles are taken from
POSITIONS = 32
_MASKED = 1  # position 0 is a sink: it would set every extreme
COLUMNS = ("layer", "index", "polarity", "activation", "normalised", "percentile", "peak", "tokens", "positions")


@dataclass(frozen=True, eq=False)
class Ranking:
    """The neurons that pass, strongest first."""

    table: pd.DataFrame
    """layer, index, polarity ("+" or "-"); activation: the peak on that side over the range, signed; normalised: that peak, 1.0 is
    as strong as the extreme; percentile: share (0 to 100) of this trace's activations on that side of the layer that are weaker;
    peak: the token of the peak; tokens: at how many tokens of the range it passes the threshold; positions: the first 32 of
    those, as a tuple."""
    passed: int
    """How many neuron sides pass; the table may hold fewer."""
    normaliser: str
    """What the normalised values are measured against, for a caption."""


def rank_activations(
    acts_LTI: NDArray[Any],
    *,
    tokens: Sequence[int] | slice | None = None,
    quantiles: QuantileTable | None = None,
    threshold: float = 1.0,
    layers: Collection[int] | None = None,
    polarity: Polarity | None = None,
    neurons: Collection[tuple[int, int]] | None = None,
    minimum: float = 0.0,
    top: int | None = None,
    progress: Progress = no_progress,
) -> Ranking:
    """Rank neuron sides by their normalised peak over `tokens` (positions; None: all but position 0).

    Keeps the sides whose normalised peak reaches `threshold` and whose peak is at least `minimum` in absolute value; 0 keeps
    every side that fires at all. `quantiles` None: this trace's own statistics. `neurons` restricts to given (layer, index).
    Raises `InvalidInput` for positions outside the trace and for tables of another model.
    """
    n_layers, n_tokens, n_neurons = acts_LTI.shape
    positions = _positions(tokens, n_tokens)
    if not np.isfinite(threshold) or threshold < 0:
        raise InvalidInput(f"the threshold is {threshold}; use a number from 0", field="threshold")
    if quantiles is not None and quantiles.norm_2LI.shape[1:] != (n_layers, n_neurons):
        raise InvalidInput("these quantiles belong to another model; collect an atlas for this one", field="quantiles")
    only = None if neurons is None else _only(neurons, n_layers, n_neurons)
    sides: tuple[Polarity, ...] = ("+", "-") if polarity is None else (polarity,)
    parts: list[dict[str, NDArray[Any]]] = []
    for layer in range(n_layers) if layers is None else sorted(layers):
        if not 0 <= layer < n_layers:
            raise InvalidInput(f"layer {layer} does not exist; this model has layers 0 to {n_layers - 1}", field="layers")
        progress(layer, n_layers, "ranking activations")
        acts_TI = np.asarray(acts_LTI[layer])
        statistics = _Statistics(acts_TI)
        strong_RI = acts_TI[positions].astype(np.float32)
        for side in sides:
            extreme_I = _extreme(quantiles, statistics, layer, side, n_neurons)
            allowed = None if only is None else only[layer]
            parts.append(_side(strong_RI if side == "+" else -strong_RI, statistics, side, extreme_I, layer, threshold, minimum, allowed))
    return _ranked(parts, positions, top, normaliser(quantiles, n_tokens))


def normaliser(quantiles: QuantileTable | None, n_tokens: int) -> str:
    """What normalised values are measured against, as a phrase."""
    if quantiles is None:
        return f"this trace's own statistics, {n_tokens:,} tokens (1.0 is its layer's 1-in-{round(1 / OWN_LEVEL):,} value)"
    return f"each neuron's extreme over {quantiles.tokens:,} tokens ({quantiles.source})"


def _positions(tokens: Sequence[int] | slice | None, n_tokens: int) -> NDArray[np.intp]:
    if tokens is None:
        return np.arange(min(_MASKED, n_tokens - 1), n_tokens)
    chosen = np.arange(n_tokens)[tokens] if isinstance(tokens, slice) else np.unique(np.asarray(list(tokens), dtype=np.intp))
    if chosen.size == 0 or chosen.min() < 0 or chosen.max() >= n_tokens:
        raise InvalidInput(f"choose tokens from 0 to {n_tokens - 1}", field="tokens")
    return chosen


def _only(neurons: Collection[tuple[int, int]], n_layers: int, n_neurons: int) -> NDArray[np.bool_]:
    mask_LI = np.zeros((n_layers, n_neurons), bool)
    for layer, index in neurons:
        if not (0 <= layer < n_layers and 0 <= index < n_neurons):
            raise InvalidInput(f"neuron {layer}:{index} does not exist in this model", field="neurons")
        mask_LI[layer, index] = True
    return mask_LI


class _Statistics:
    """The distribution of one layer's activations by counting the 65,536 values that float16 has. Long traces: every n-th token."""

    def __init__(self, acts_TI: NDArray[Any]) -> None:
        rest_TI = acts_TI[min(_MASKED, len(acts_TI) - 1) :]
        with np.errstate(over="ignore"):
            half = rest_TI[:: -(-len(rest_TI) // _SAMPLE)].astype(np.float16, copy=False)
        counts = np.bincount(np.ascontiguousarray(half).view(np.uint16).ravel(), minlength=_BITS)
        # Among floats of one sign the bit pattern grows with the magnitude.
        self._counts = {"+": counts[: _BITS // 2].copy(), "-": counts[_BITS // 2 :].copy()}
        for side in self._counts.values():
            side[0] = 0  # zeros fire on neither side
        self._below = {side: np.cumsum(c) - c for side, c in self._counts.items()}

    def extreme(self, side: Polarity) -> float:
        """The magnitude that 1 in 10,000 of all values exceeds on this side."""
        counts = self._counts[side]
        allowed = max(1.0, OWN_LEVEL * (self._counts["+"].sum() + self._counts["-"].sum()))
        from_top = np.cumsum(counts[::-1])
        place = _BITS // 2 - 1 - int(np.searchsorted(from_top, min(allowed, from_top[-1]))) if from_top[-1] else 0
        magnitude = float(np.array([max(place, 1)], np.uint16).view(np.float16)[0])
        return min(magnitude, float(np.finfo(np.float16).max))

    def percentile(self, values_N: NDArray[Any], side: Polarity) -> NDArray[np.float32]:
        """Share in percent of the values on this side that are weaker."""
        with np.errstate(over="ignore"):
            bits = np.abs(values_N).astype(np.float16).view(np.uint16)
        total = max(1, int(self._counts[side].sum()))
        below: NDArray[np.float32] = self._below[side][np.minimum(bits, _BITS // 2 - 1)].astype(np.float32)
        return below * np.float32(100 / total)


def _extreme(quantiles: QuantileTable | None, statistics: _Statistics, layer: int, side: Polarity, n_neurons: int) -> NDArray[np.float32]:
    if quantiles is None:
        return np.full(n_neurons, statistics.extreme(side), np.float32)
    extreme_I: NDArray[np.float32] = np.abs(quantiles.norm_2LI[0 if side == "+" else 1, layer])
    return extreme_I


def _side(
    strong_RI: NDArray[np.float32],
    statistics: _Statistics,
    side: Polarity,
    extreme_I: NDArray[np.float32],
    layer: int,
    threshold: float,
    minimum: float,
    allowed_I: NDArray[np.bool_] | None,
) -> dict[str, NDArray[Any]]:
    """The neurons of one layer and side that pass. `strong_RI` is how far each goes to that side: activation, or its negative."""
    peak_I = strong_RI.max(0)
    # A side that never fired in the corpus has no scale: anything it does here is beyond its extreme.
    unknown_I = (extreme_I <= 0) & (peak_I > 0)
    scale_I = np.where(extreme_I > 0, extreme_I, np.float32(np.inf)).astype(np.float32)
    normalised_I = np.where(unknown_I, np.float32(1.0), peak_I / scale_I)
    keep_I = (peak_I > 0) & (normalised_I >= threshold) & (peak_I >= minimum)
    if allowed_I is not None:
        keep_I &= allowed_I
    kept = np.flatnonzero(keep_I)
    limit_K = np.where(unknown_I[kept], 0.0, threshold * scale_I[kept]).astype(np.float32)
    strong_RK = strong_RI if kept.size == keep_I.size else strong_RI[:, kept]
    fires_RK = strong_RK >= limit_K if limit_K.size and limit_K.min() > 0 else (strong_RK >= limit_K) & (strong_RK > 0)
    return {
        "layer": np.full(kept.size, layer, np.int32),
        "index": kept.astype(np.int32),
        "polarity": np.full(kept.size, side, object),
        "activation": peak_I[kept] if side == "+" else -peak_I[kept],
        "normalised": normalised_I[kept].astype(np.float32),
        "percentile": statistics.percentile(peak_I[kept], side),
        "peak": strong_RK.argmax(0).astype(np.int32),
        "tokens": np.count_nonzero(fires_RK, axis=0).astype(np.int32),
        "first": _first_places(fires_RK),
    }


def _first_places(fires_RK: NDArray[np.bool_]) -> NDArray[np.int32]:
    """(K, 32): the first rows in which each column is True, -1 where there are no more."""
    columns, rows = np.nonzero(np.ascontiguousarray(fires_RK.T))
    starts = np.searchsorted(columns, np.arange(fires_RK.shape[1]))
    rank = np.arange(len(columns)) - starts[columns]
    early = rank < POSITIONS
    first = np.full((fires_RK.shape[1], POSITIONS), -1, np.int32)
    first[columns[early], rank[early]] = rows[early]
    return first


def _ranked(parts: list[dict[str, NDArray[Any]]], positions: NDArray[np.intp], top: int | None, source: str) -> Ranking:
    """Join the layers, sort by strength, and name the tokens of the rows that stay."""
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}
    passed = len(columns["layer"]) if columns else 0
    if not passed:
        return Ranking(pd.DataFrame({name: [] for name in COLUMNS}), 0, source)
    order = np.lexsort((columns["index"], columns["layer"], -columns["normalised"]))[:top]
    data: dict[str, Any] = {name: columns[name][order] for name in COLUMNS[:-1]}
    data["peak"] = positions[data["peak"]]
    first = columns["first"][order]
    counts = (first >= 0).sum(1)
    places = positions[first[first >= 0]].tolist()
    stops = np.cumsum(counts).tolist()
    data["positions"] = [tuple(places[stop - count : stop]) for stop, count in zip(stops, counts.tolist(), strict=True)]
    return Ranking(pd.DataFrame(data, columns=list(COLUMNS)), passed, source)
