"""The neighbours of a neuron side: by meaning, by firing at the same places, by its weights, and its other polarity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurons.atlas.store import Atlas
from neurons.concepts.search import SearchIndex
from neurons.core.errors import InvalidInput
from neurons.core.types import NeuronSide, Polarity
from neurons.models.loaded import LoadedModel

NEAR_TOKENS = 2
"""Exemplars this near each other in the same text count as the same place."""


@dataclass(frozen=True)
class Neighbour:
    """Another side and how near it is, between -1 and 1."""

    side: NeuronSide
    nearness: float


def by_meaning(index: SearchIndex, side: NeuronSide, *, top: int = 10) -> tuple[Neighbour, ...]:
    """Cosine of readings: sides that fire on texts about the same things. Raises `NotFound`."""
    row = index.row(side)
    vectors = index.space._vectors_f
    length = np.linalg.norm(vectors, axis=1)
    cosine = vectors @ vectors[row] / np.maximum(length * length[row], 1e-12)
    cosine[row] = -2
    return _best(index, cosine, top)


def by_description(index: SearchIndex, side: NeuronSide, *, top: int = 10) -> tuple[Neighbour, ...]:
    """Cosine of the descriptions' visible parts, level by level: sides described alike. Empty where the side is unclear."""
    row = index.row(side)
    levels = index.space.levels_NP
    mine = levels[row]
    if mine.nnz == 0:
        return ()
    length = np.sqrt(np.asarray(levels.multiply(levels).sum(axis=1)).ravel())
    cosine = np.asarray((levels @ mine.T).todense()).ravel() / np.maximum(length * length[row], 1e-12)
    cosine[row] = -2
    return tuple(n for n in _best(index, cosine, top) if n.nearness > 0)


def by_places(atlas: Atlas, side: NeuronSide, *, top: int = 10) -> tuple[Neighbour, ...]:
    """Sides whose strongest places of the corpus are the same: the share of this side's exemplars that are the other's too
    (co-activation).
    """
    mine = atlas.exemplar_arrays(side.layer)
    own = int(side.polarity == "-")
    if not 0 <= side.index < atlas.n_neurons:
        raise InvalidInput(f"the model has no neuron {side}", field="neuron")
    spans = _places(mine.sequence_2IK[own, side.index], mine.position_2IK[own, side.index])
    spans = spans[spans >= 0]
    if not len(spans):
        return ()
    wanted = np.unique(spans[:, None] + np.arange(-NEAR_TOKENS, NEAR_TOKENS + 1))
    found = []
    for layer in range(atlas.n_layers):
        arrays = atlas.exemplar_arrays(layer)
        shared = np.isin(_places(arrays.sequence_2IK, arrays.position_2IK), wanted).sum(axis=2) / len(spans)
        if layer == side.layer:
            shared[own, side.index] = 0
        best = np.argsort(-shared, axis=None, kind="stable")[:top]
        found += [
            (float(shared.flat[at]), layer, int(at % atlas.n_neurons), int(at // atlas.n_neurons)) for at in best if shared.flat[at] > 0
        ]
    found.sort(key=lambda item: (-item[0], item[1:]))
    return tuple(
        Neighbour(NeuronSide(layer, index, "-" if sign else "+"), round(min(share, 1.0), 3)) for share, layer, index, sign in found[:top]
    )


def by_weights(loaded: LoadedModel, side: NeuronSide, *, kind: str = "output", top: int = 10) -> tuple[Neighbour, ...]:
    """Cosine of weight rows over all layers: "output" (what it writes), "input" (what it reads; with "gate", the gate's row).

    A negative cosine of outputs names the other polarity: the neuron writes the opposite when it is positive.
    """
    loaded.check_neuron(side)
    mine = _rows(loaded, side.layer, kind)[side.index].float()
    mine = mine / mine.norm().clamp_min(1e-12)
    found: list[tuple[float, int, int]] = []
    for site in loaded.sites:
        rows = _rows(loaded, site.layer, kind).float()
        cosine = (rows @ mine) / rows.norm(dim=1).clamp_min(1e-12)
        if site.layer == side.layer:
            cosine[side.index] = 0
        best = cosine.abs().topk(min(top, len(cosine))).indices.tolist()
        found += [(float(cosine[at]), site.layer, at) for at in best]
    found.sort(key=lambda item: (-abs(item[0]), item[1:]))
    flipped: Polarity = "-" if side.polarity == "+" else "+"
    return tuple(
        Neighbour(NeuronSide(layer, at, side.polarity if cosine >= 0 else flipped), round(abs(cosine), 4))
        for cosine, layer, at in found[:top]
    )


def _rows(loaded: LoadedModel, layer: int, kind: str) -> Tensor:
    site = loaded.sites[layer]
    with torch.no_grad():
        if kind == "output":
            return site.output_rows()
        up, gate = site.input_rows()
        if kind == "input":
            return up
        if kind == "gate" and gate is not None:
            return gate
    raise InvalidInput(f"weights are compared by output, input or gate, not {kind!r} (and only gated models have gates)", field="kind")


def _places(sequence: NDArray[np.int32], position: NDArray[np.int32]) -> NDArray[np.int64]:
    """One number per place; -10 where there is none. Windows are at most 2^20 tokens long."""
    return np.where(sequence >= 0, sequence.astype(np.int64) * (1 << 20) + position + NEAR_TOKENS, -10)


def _best(index: SearchIndex, nearness: NDArray[np.float32], top: int) -> tuple[Neighbour, ...]:
    best = np.argsort(-nearness, kind="stable")[:top]
    sides = [NeuronSide(int(index.layer_of[row]), int(index.index_of[row]), "-" if index.is_negative[row] else "+") for row in best]
    return tuple(Neighbour(side, round(float(nearness[row]), 3)) for side, row in zip(sides, best, strict=True))
