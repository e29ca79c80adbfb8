"""The extremes of each side of every neuron: what activations are normalised by and steers are measured in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurons.core.types import NeuronSide

NORM_LEVEL = 1e-5
"""The level of the quantile that normalises an activation."""
STEER_LEVEL = 1e-7
"""The level of the quantile that a steer's strength is measured in."""


@dataclass(frozen=True, eq=False)
class QuantileTable:
    """Extremes of every neuron: axis 0 is the side, 0 positive and 1 negative."""

    tokens: int
    """How many tokens the figures come from."""
    source: str
    """What a reader is told: "atlas" or "calibration"."""
    norm_2LI: np.ndarray[Any, np.dtype[np.float32]]
    """The quantile at 1 - 1e-5 (1e-5 for the negative side), or the extreme where there are fewer tokens."""
    extreme_2LI: np.ndarray[Any, np.dtype[np.float32]]
    """The quantile at 1 - 1e-7, or the corpus extreme where there are fewer tokens. What steers are measured in."""

    def values(self, neurons: Sequence[NeuronSide]) -> tuple[float, ...]:
        """The steering value of each neuron side: positive for "+", negative for "-", 0 where a side never fired."""
        return tuple(float(self.extreme_2LI[0 if n.polarity == "+" else 1, n.layer, n.index]) for n in neurons)

    def describe(self) -> str:
        """One phrase for a caption."""
        return f"quantiles from {self.tokens:,} tokens ({self.source})"
