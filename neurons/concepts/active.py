"""Which neuron sides a trace is about: those that fired most, or those that an attribution names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neurons.core.errors import InvalidInput
from neurons.core.types import AttributionRow, NeuronSide

TOP = 1_000


@dataclass(frozen=True)
class Active:
    """Sides, strongest first, and how strong each is: normalised activation, or the sum of its attributions (sign kept)."""

    sides: tuple[NeuronSide, ...]
    weights: tuple[float, ...]


def active_sides(
    acts_LTI: NDArray[np.floating], norm_2LI: NDArray[np.float32], *, tokens: Sequence[int] | None = None, top: int = TOP
) -> Active:
    """The sides of highest normalised activation (activation / its extreme quantile) over the given tokens (all when None).

    `norm_2LI` is `QuantileTable.norm_2LI`. Position 0 is left out unless it is asked for: it is an attention sink. A side whose quantile
    is 0 never counts.
    """
    chosen = acts_LTI[:, list(tokens)] if tokens is not None else acts_LTI[:, 1:] if acts_LTI.shape[1] > 1 else acts_LTI
    if chosen.shape[1] == 0 or top < 1:
        raise InvalidInput("choose at least one token and one neuron", field="tokens")
    found = []
    for side, extreme_LI in ((0, chosen.max(axis=1)), (1, chosen.min(axis=1))):
        norm_LI = norm_2LI[side].astype(np.float32)
        ratio_LI = np.divide(extreme_LI.astype(np.float32), norm_LI, out=np.zeros_like(norm_LI), where=np.abs(norm_LI) > 1e-6)
        found.append(np.where(ratio_LI > 0, ratio_LI, 0))
    strength = np.stack(found)
    best = np.argsort(-strength, axis=None, kind="stable")[:top]
    best = best[strength.flat[best] > 0]
    where = np.unravel_index(best, strength.shape)
    sides = tuple(NeuronSide(int(layer), int(index), "-" if side else "+") for side, layer, index in zip(*where, strict=True))
    return Active(sides, tuple(float(value) for value in strength.flat[best]))


def attributed_sides(rows: Sequence[AttributionRow], *, top: int = TOP) -> Active:
    """The sides of largest summed attribution over their source tokens; the sign is kept: negative ones suppressed the token."""
    totals: dict[NeuronSide, float] = {}
    for row in rows:
        side = NeuronSide(row.layer, row.index, row.polarity)
        totals[side] = totals.get(side, 0.0) + row.attribution
    order = sorted(totals, key=lambda side: (-abs(totals[side]), side))[:top]
    return Active(tuple(order), tuple(totals[side] for side in order))
