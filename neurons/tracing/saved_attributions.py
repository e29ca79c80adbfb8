"""What is saved of an attribution in its trace: the strongest rows, and the absolute mass of all by layer and token."""

from __future__ import annotations

import math

import numpy as np

from neurons.attribution.attribute import Attribution, top_rows
from neurons.core.steers import parse_ranges
from traces.attributions import AttributionInfo, StoredAttribution, from_rows

STANDS_IN = "stands_in"
CONVERGENCE = "convergence"
MOST_ROWS = 5_000
"""Rows that are saved of each attribution: the strongest."""


def storable(full: Attribution, *, sources: str = "") -> StoredAttribution:
    """The strongest rows of an attribution among its source tokens (`sources` such as "3:9,12"; "" is all), ready to be stored.

    The absolute mass of every layer and token goes with them, so that what the rows leave out can be shown.
    """
    layers, tokens, neurons = full.attr_LTI.shape
    positions = sorted({n for start, stop in parse_ranges(sources) for n in range(start, min(stop, tokens))}) if sources else None
    top = top_rows(full, MOST_ROWS, tokens=positions)
    mass_LT = np.abs(full.attr_LTI).sum(axis=2)
    if positions is not None:
        mass_LT[:, np.setdiff1d(np.arange(tokens), positions)] = 0
    info = AttributionInfo(
        full.target,
        full.method,
        full.metric_value,
        min(1.0, top.share),
        layers * neurons * (tokens if positions is None else len(positions)),
        len(top.rows),
        sources=sources,
        extra=_said_of(full),
    )
    return from_rows(info, top.rows, mass_LT=mass_LT)


def _said_of(full: Attribution) -> dict[str, float | int | str]:
    """What a reader has to know of how it was computed."""
    said: dict[str, float | int | str] = {"seconds": round(full.seconds, 3)}
    if full.stands_in:
        said[STANDS_IN] = full.stands_in
    if full.gap is not None:
        said |= {"steps": full.steps, CONVERGENCE: full.convergence}
        if math.isfinite(full.gap):
            said["gap"] = full.gap
    return said
