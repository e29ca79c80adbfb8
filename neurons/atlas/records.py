"""The plain records that an atlas hands out. Numpy only; sides are axis 0: 0 is positive, 1 is negative, values keep their sign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurons.core.types import ModelRef, Polarity


def side_of(polarity: Polarity) -> int:
    """0 for "+", 1 for "-": the axis-0 index of every two-sided array."""
    return 0 if polarity == "+" else 1


@dataclass(frozen=True)
class AtlasInfo:
    """What an atlas is, before any array is read."""

    model: ModelRef
    """The model it was collected from."""
    tokens: int
    """Counted tokens behind every quantile, mean and exemplar."""
    documents: int
    sources: tuple[dict[str, Any], ...]
    """One row a source: name, domain, licence, origin, generated, documents, tokens, share, held_out_tokens."""
    created: str
    near: bool
    """True when it is shown for other weights of the same architecture."""
    note: str
    """What a reader must know, such as that the weights differ; "" where there is nothing."""
    settings: dict[str, Any]
    described: int
    """How many neuron sides have a description."""
    shipped: bool
    """True for the one that comes with the project: it is never written to."""


@dataclass(frozen=True)
class Exemplar:
    """One place of the corpus where a neuron side is strongest."""

    rank: int
    """0 is the strongest."""
    value: float
    """The activation at the peak, its sign kept."""
    sequence: int
    position: int
    """The peak's position in its corpus window."""
    document: str
    source: str
    domain: str
    start: int
    """The position in the window of `ids[0]`."""
    ids: tuple[int, ...]
    """The tokens around the peak."""

    @property
    def peak(self) -> int:
        """The index of the peak in `ids`."""
        return self.position - self.start


@dataclass(frozen=True, eq=False)
class ExemplarArrays:
    """All exemplars of one layer: (2, I, K), strongest first; sequence -1 where there are fewer than K."""

    value_2IK: NDArray[np.float32]
    sequence_2IK: NDArray[np.int32]
    position_2IK: NDArray[np.int32]


@dataclass(frozen=True)
class TokenStats:
    """Tokens of one neuron side, strongest first."""

    ids: tuple[int, ...]
    values: tuple[float, ...]
    """Mean activation (token statistics), activation (probe), or z-score of the logit effect (projection)."""
    counts: tuple[int, ...]
    """Occurrences behind each mean; 1 for the probe, 0 for projections."""


@dataclass(frozen=True, eq=False)
class TokenArrays:
    """Tokens of every neuron of one layer: (2, I, K), strongest first; id -1 where there are fewer than K."""

    ids_2IK: NDArray[np.int32]
    values_2IK: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Histogram:
    """How a neuron's activations are spread over a uniform sample of the corpus."""

    edges: NDArray[np.float32]
    """H + 1 edges."""
    counts: NDArray[np.int64]
    tokens: int
    """The sample's size."""


@dataclass(frozen=True, eq=False)
class AtlasQuantiles:
    """The quantile at 1 - level for the positive and at level for the negative side."""

    level: float
    tokens: int
    value_2LI: NDArray[np.float32]
    rank: float
    """level * tokens: the j-th largest. Below 1 the corpus is too small, and the extreme stands in."""
    method: str
    """"order statistic", "interpolated", "body sample", "corpus extreme" or "tail fit"."""
