"""The clusters of one trace: which sides, grouped how, and how strong each group is at every token. Cached and shared: read only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from neurons.atlas.store import Atlas
from neurons.concepts.active import active_sides, attributed_sides
from neurons.concepts.clusters import Cluster, Clustering, cluster_sides
from neurons.concepts.density import ClusterSettings
from neurons.core.quantile_table import NORM_LEVEL
from neurons.core.types import ModelRef, NeuronSide
from neurons.detectors.store import Detectors
from neurons.tracing.words import word_positions
from pages.shared import atlas_index, server_wide, trace_context
from pages.shared.detectors import detectors_of
from pages.shared.kept import kept
from traces.attributions import StoredAttribution
from traces.store import Evicted

By = Literal["activation", "attribution"]


@dataclass(frozen=True)
class Question:
    """What is clustered, and how."""

    root: str
    trace_id: str
    by: By
    tokens: tuple[int, ...]
    """Token positions whose activations count; () is all but the first. Of an attribution they are in its key."""
    attribution: str
    """The key of the stored attribution, "" when by activation."""
    top: int
    """Sides that are clustered, the strongest ones."""
    settings: ClusterSettings
    atlas: str
    """Identifies the atlas and its descriptions."""
    detectors: str
    """Identifies the named concepts; "" where the model has none."""


@dataclass(frozen=True, eq=False)
class Clusters:
    """The groups, noise last, and what each does at every token of the trace."""

    clustering: Clustering
    weight_of: dict[NeuronSide, float]
    """Normalised activation, or summed attribution, of each side."""
    tint_CT: NDArray[np.float32]
    """A row a cluster, scaled so that its largest is 1 in size: mean normalised activation, or summed attribution with its sign."""
    headline_of: dict[NeuronSide, str]

    def members(self, cluster: Cluster, most: int) -> list[tuple[NeuronSide, float, str]]:
        """The strongest sides of a cluster: side, weight, headline."""
        return [(side, self.weight_of[side], self.headline_of.get(side, "")) for side in cluster.sides[:most]]


def clusters(question: Question, ref: ModelRef) -> Clusters:
    """Answer a question about a trace of the model `ref`. Raises `Evicted`, `NotFound`, `InvalidInput`."""
    return _clusters(question, ref)


@kept("Clustering the neurons by what they do")
def _clusters(question: Question, _ref: ModelRef) -> Clusters:
    index = atlas_index.open_index(_ref)
    stored: StoredAttribution | None = None
    if question.by == "attribution":
        stored = server_wide.store().attribution(question.trace_id, question.attribution)
        active = attributed_sides(stored.rows(), top=question.top)
    else:
        acts_LTI = trace_context.activations_of(question.trace_id)
        active = active_sides(acts_LTI, norm_of(index.atlas), tokens=question.tokens or None, top=question.top)
    detectors = detectors_of(_ref)
    spoken = () if detectors is None else _spoken(detectors, question.trace_id)
    clustering = cluster_sides(index, active.sides, weights=active.weights, settings=question.settings, detectors=detectors, spoken=spoken)
    weights = dict(zip(active.sides, active.weights, strict=True))
    known = [side for cluster in clustering.clusters for side in cluster.sides]
    described = dict(zip(known, index.table["headline"].iloc[index.rows(known)].astype(str), strict=True))
    if stored is not None:
        tokens = len(server_wide.store().load(question.trace_id).token_ids)
        tint_CT = attributed_tints(clustering, stored, tokens)
    else:
        tint_CT = activation_tints(clustering, acts_LTI, norm_of(index.atlas))
    return Clusters(clustering, weights, tint_CT, described)


def _spoken(detectors: Detectors, trace_id: str) -> tuple[int, ...]:
    """The languages that a trace's words are in; none where its activations are gone."""
    try:
        acts_LTI = trace_context.activations_of(trace_id)
    except Evicted:
        return ()
    return detectors.spoken(acts_LTI, word_positions(server_wide.store().load(trace_id)))


def norm_of(atlas: Atlas) -> NDArray[np.float32]:
    """The extreme quantile that normalises activations, (2, L, I). Raises `NotFound` for an atlas without figures."""
    return _norm(atlas_index.stamp(atlas), atlas)


@st.cache_resource(show_spinner=False, max_entries=2)
def _norm(stamp: str, _atlas: Atlas) -> NDArray[np.float32]:
    return _atlas.quantile(NORM_LEVEL)


def activation_tints(clustering: Clustering, acts_LTI: NDArray[Any], norm_2LI: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean normalised activation of each cluster's members at each token (C, T), 0 to 1 of the cluster's own largest after token 0."""
    tint_CT = np.zeros((len(clustering.clusters), acts_LTI.shape[1]), dtype=np.float32)
    for row, cluster in enumerate(clustering.clusters):
        side_N, layer_N, index_N = _places(cluster.sides)
        norm_N = norm_2LI[side_N, layer_N, index_N]
        value_NT = acts_LTI[layer_N, :, index_N].astype(np.float32)
        share_NT = np.divide(value_NT, norm_N[:, None], out=np.zeros_like(value_NT), where=np.abs(norm_N[:, None]) > 1e-6)
        tint_CT[row] = np.clip(share_NT, 0, None).mean(axis=0)
    largest_C1 = tint_CT[:, 1:].max(axis=1, keepdims=True, initial=0)
    share_CT: NDArray[np.float32] = np.clip(tint_CT / np.maximum(largest_C1, 1e-12), 0, 1)
    return share_CT


def attributed_tints(clustering: Clustering, stored: StoredAttribution, tokens: int) -> NDArray[np.float32]:
    """Summed attribution of each cluster's members at each source token (C, T), the largest of each row 1 or -1."""
    row_of = {side: row for row, cluster in enumerate(clustering.clusters) for side in cluster.sides}
    tint_CT = np.zeros((len(clustering.clusters), tokens), dtype=np.float32)
    for one in stored.rows():
        row = row_of.get(NeuronSide(one.layer, one.index, one.polarity))
        if row is not None:
            tint_CT[row, one.token] += one.attribution
    share_CT: NDArray[np.float32] = tint_CT / np.maximum(np.abs(tint_CT).max(axis=1, keepdims=True, initial=0), 1e-12)
    return share_CT


def _places(sides: Sequence[NeuronSide]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    return (
        np.array([int(side.polarity == "-") for side in sides], dtype=np.int64),
        np.array([side.layer for side in sides], dtype=np.int64),
        np.array([side.index for side in sides], dtype=np.int64),
    )
