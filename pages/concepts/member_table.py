"""The neurons of a concept as a table: what each does, how well that is known, and how strong it gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from neurons.atlas.store import Atlas
from neurons.concepts.search import SearchIndex
from neurons.core.errors import NeuronscopeError, NotFound
from neurons.core.quantile_table import STEER_LEVEL
from neurons.core.types import ModelRef, NeuronSide
from neurons.models.loaded import LoadedModel
from pages.shared import atlas_index, examples
from pages.shared.neuron_link import MEANING, link_column, meanings, neuron_address
from pages.shared.tables import choose_rows

COLUMNS: dict[str, Any] = {
    "link": link_column(),
    "meaning": MEANING,
    "layer": st.column_config.NumberColumn("Layer", width=50),
    "index": st.column_config.NumberColumn("Index", width=55),
    "polarity": st.column_config.TextColumn("Side", width=40, help="+ is the positive side, - the negative"),
    "kind": st.column_config.TextColumn("Kind", width=88, help="What sort of thing it fires on"),
    "score": st.column_config.NumberColumn(
        "Score", format="%.2f", width=55, help="Correlation of the description's prediction with the activation, on text it never saw"
    ),
    "extreme": st.column_config.NumberColumn(
        "Strongest", format="%.2f", width=75,
        help="Its strongest activation over the atlas's corpus: what strength 1 of a steer means for this neuron",
    ),
}  # fmt: skip
EXTRA: dict[str, Any] = {
    "similarity": st.column_config.NumberColumn("Fit", format="%.3f", width=55, help="How well it fits the words: what search ranks by"),
    "auroc": st.column_config.NumberColumn(
        "AUROC", format="%.2f", width=60, help="Chance that a random example excites it more than a random counter-example; 0.5 is none"
    ),
    "effect": st.column_config.NumberColumn(
        "Effect", format="%.2f", width=60, help="Difference of the mean log strength, in units of its spread within both groups"
    ),
    "examples": st.column_config.NumberColumn("In examples", format="%.2f", width=80, help="Mean strongest activation over the examples"),
    "counter": st.column_config.NumberColumn("In others", format="%.2f", width=80, help="The same over the counter-examples"),
}


def index_of(ref: ModelRef | None) -> SearchIndex | None:
    """The search index of a model, None where it has no described atlas."""
    if ref is None:
        return None
    try:
        return atlas_index.open_index(ref)
    except NotFound:
        return None


def frame_of(sides: Sequence[NeuronSide], index: SearchIndex | None, extra: Mapping[str, Sequence[float | None]] = {}) -> pd.DataFrame:
    """One row per side, in order. `extra` adds columns of `EXTRA`."""
    frame = pd.DataFrame(
        {
            "neuron": [str(side) for side in sides],
            "link": [neuron_address(side) for side in sides],
            "layer": [side.layer for side in sides],
            "index": [side.index for side in sides],
            "polarity": [side.polarity for side in sides],
        }
    )
    for name, values in extra.items():
        frame[name] = list(values)
    if index is not None:
        known = [n for n, side in enumerate(sides) if len(index.rows([side]))]
        rows = index.table.iloc[index.rows(sides)]
        for name, empty in (("headline", ""), ("description", ""), ("kind", ""), ("score", np.nan)):
            frame[name] = empty
            if name in rows:
                frame.loc[known, name] = rows[name].to_numpy()
        frame["meaning"] = meanings(frame["neuron"], frame["headline"].fillna(""))
        extreme_2LI = extremes(index.atlas)
        if extreme_2LI is not None:
            values = [float(extreme_2LI[int(s.polarity == "-"), s.layer, s.index]) for n, s in enumerate(sides) if n in set(known)]
            frame["extreme"] = np.nan
            frame.loc[known, "extreme"] = values
    return frame


def extremes(atlas: Atlas) -> NDArray[np.float32] | None:
    """What strength 1 means for each side, (2, L, I); None for an atlas without figures."""
    return _extremes(atlas_index.stamp(atlas), atlas) if atlas.has_figures else None


@st.cache_resource(show_spinner=False, max_entries=2)
def _extremes(stamp: str, _atlas: Atlas) -> NDArray[np.float32]:
    return _atlas.quantile(STEER_LEVEL)


def draw(frame: pd.DataFrame, ref: ModelRef | None, *, key: str, height: int = 430) -> list[int]:
    """The table, with where neurons of the model `ref` fire most over its rows; returns the ticked rows."""
    shown = {name: column for name, column in COLUMNS.items() if name in frame}
    added = {name: column for name, column in EXTRA.items() if name in frame}
    first: dict[str, Any] = {name: shown.pop(name) for name in ("link", "meaning") if name in shown}
    order: dict[str, Any] = {**first, **added, **shown}
    height = max(120, min(36 * (len(frame) + 1) + 2, height))
    picked = choose_rows(frame, key=key, identity=list(frame["neuron"]), columns=order, many=True, height=height)
    if ref is not None:
        examples.on_rows(frame["neuron"], ref, key=f"{key}.examples")
    return picked


def same_model(weights_hash: str, loaded: LoadedModel | None) -> bool:
    """Whether a concept's neurons are the loaded model's (or it says of no model that it is theirs)."""
    return loaded is not None and (not weights_hash or loaded.ref.weights_hash == weights_hash)


def ref_of(weights_hash: str, loaded: LoadedModel | None) -> ModelRef | None:
    """The model of a concept: the loaded one, else one of which there is an atlas."""
    if loaded is not None and same_model(weights_hash, loaded):
        return loaded.ref
    from neurons.atlas.store import list_atlases

    try:
        return next((info.model for info in list_atlases() if info.model.weights_hash == weights_hash), None)
    except NeuronscopeError:
        return None
