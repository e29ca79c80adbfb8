"""Names on the map: a field, a concept or a headline stands where its neuron sides are commonest, if they gather there at all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from neurons.detectors.store import Detectors

LabelKind = Literal["field", "concept", "headline"]
SURE = 5.0
"""t from which a side's strongest concept counts."""
_CELLS = 128
"""Of the grid over the map, along each axis."""
_REACH: dict[LabelKind, float] = {"field": 0.09, "concept": 0.04, "headline": 0.04}
"""Standard deviation of the neighbourhood that is looked at, in units of the map, which is 2 wide."""
_LEAST_SIDES: dict[LabelKind, int] = {"field": 20, "concept": 6, "headline": 8}
_LEAST_LIFT: dict[LabelKind, float] = {"field": 1.4, "concept": 3.0, "headline": 3.0}
"""How many times commoner than on the whole map."""
_LEAST_Z = 5.0
"""Standard deviations over what chance would gather there: there are a hundred thousand places and names to choose from."""


@dataclass(frozen=True)
class MapLabel:
    """A name and its place."""

    text: str
    kind: LabelKind
    x: float
    y: float
    share: float
    """Of the sides around the place, those that carry the name."""
    overall: float
    """Of all sides."""
    z: float
    """How surely they gather there: what is there over what chance would gather, in standard deviations."""


def sides_by_name(
    layer_N: NDArray[np.int64],
    index_N: NDArray[np.int64],
    negative_N: NDArray[np.bool_],
    headlines: Sequence[str],
    detectors: Detectors | None,
) -> dict[tuple[LabelKind, str], NDArray[np.int64]]:
    """The rows that carry each name: fields and concepts by the sides' surest concept, headlines by the things that they list.

    Single tokens ("paul", word piece "equ") are no names of regions.
    """
    found: dict[tuple[LabelKind, str], list[int]] = defaultdict(list)
    if detectors is not None:
        side_N = negative_N.astype(np.int64)
        concept_N = np.asarray(detectors.arrays.side_concept_2LI)[side_N, layer_N, index_N]
        t_N = np.asarray(detectors.arrays.side_t_2LI)[side_N, layer_N, index_N]
        for row in np.flatnonzero((concept_N >= 0) & (t_N >= SURE)).tolist():
            concept = int(concept_N[row])
            if detectors.found[concept]:
                found["field", detectors.fields[concept]].append(row)
                found["concept", detectors.names[concept]].append(row)
    taken = {name.casefold() for _, name in found}
    for row, headline in enumerate(headlines):
        for part in headline.split(","):
            if '"' in part or not (thing := part.strip().removeprefix("mostly ").removeprefix("often ")):
                continue
            if thing.casefold() not in taken:
                found["headline", thing].append(row)
    return {key: np.unique(rows) for key, rows in found.items()}


def label_map(xy_N2: NDArray[np.float32], rows_by_name: Mapping[tuple[LabelKind, str], NDArray[np.int64]]) -> tuple[MapLabel, ...]:
    """The names whose sides gather somewhere, each where they gather most: fields first, then by how surely they gather."""
    from scipy.ndimage import gaussian_filter

    cell_N2 = np.clip(((xy_N2 + 1) / 2 * _CELLS).astype(np.int64), 0, _CELLS - 1)
    flat_N = cell_N2[:, 1] * _CELLS + cell_N2[:, 0]

    def around(flat: NDArray[np.int64], reach: float) -> NDArray[np.float64]:
        """How many sides are near each cell, those at its centre counted whole."""
        sigma = reach / 2 * _CELLS
        counts = np.bincount(flat, minlength=_CELLS * _CELLS).reshape(_CELLS, _CELLS).astype(np.float64)
        return np.asarray(gaussian_filter(counts, sigma, mode="constant") * 2 * np.pi * sigma**2)

    every = {reach: around(flat_N, reach) for reach in set(_REACH.values())}
    labels = []
    for (kind, name), rows in rows_by_name.items():
        overall = len(rows) / len(xy_N2)
        if len(rows) < _LEAST_SIDES[kind]:
            continue
        here, all_there = around(flat_N[rows], _REACH[kind]), np.maximum(every[_REACH[kind]], 1e-9)
        z = (here - overall * all_there) / np.sqrt(overall * all_there + 1)
        z[here < _LEAST_SIDES[kind]] = -np.inf
        y, x = np.unravel_index(int(z.argmax()), z.shape)
        share = float(here[y, x] / all_there[y, x])
        if z[y, x] >= _LEAST_Z and share >= _LEAST_LIFT[kind] * overall:
            place = ((int(x) + 0.5) / _CELLS * 2 - 1, (int(y) + 0.5) / _CELLS * 2 - 1)
            labels.append(MapLabel(name, kind, *place, round(share, 4), round(overall, 4), round(float(z[y, x]), 1)))
    return tuple(sorted(labels, key=lambda label: (label.kind != "field", -label.z, label.text)))
