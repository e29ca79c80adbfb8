"""The map of an atlas: all neuron sides, those of like meaning near each other, under the names of what gathers where."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from neurons.atlas.store import Atlas
from neurons.concepts.embed import embed_query
from neurons.concepts.map2d import Map2D, place_all
from neurons.concepts.map_labels import label_map, sides_by_name
from neurons.concepts.search import SearchIndex
from neurons.core.errors import NeuronscopeError
from neurons.core.types import ModelRef
from neurons.descriptions.edits import Edits
from neurons.detectors.store import open_detectors
from pages.atlas import map_canvas
from pages.shared import atlas_index, examples, neuron_facts, server_wide
from pages.shared.neuron_link import MEANING, link_column, links, open_neuron
from pages.shared.tables import matching

_FOUND = 200
"""Sides that a search by meaning lights up."""
_LISTED = 100


def draw(atlas: Atlas) -> None:
    """The controls above, the map, and what a search found as a list below."""
    index = _index(atlas)
    found = None if index is None else points(atlas, index)
    if index is None or found is None:
        st.info("This atlas has no map yet: describing it (the Describe tab) draws one.", icon=":material/scatter_plot:")
        return
    by, kinds, lit, text = _controls(index, found)
    opened = map_canvas.draw(found, stamp=_stamp(atlas, index), by=by, kinds=kinds, lit=lit, search=text)
    st.caption(
        f"All {len(found.frame):,} described neuron sides. Those near each other fire on similar texts. A name stands where most sides "
        "with that name are. Scroll to zoom, drag to move, point to read, click to open; with the keyboard: arrows, + and -, 0 and Enter."
    )
    if lit is not None:
        _list(found.frame, lit, text, atlas.ref)
    if opened is not None:
        _open(atlas, opened)


def _controls(index: SearchIndex, found: map_canvas.Points) -> tuple[str, list[str], NDArray[np.int64] | None, str]:
    """(what colours the points, the kinds in colour, the rows that the search found or None, the search text)."""
    words, way, by, what = st.columns([1.7, 0.9, 0.8, 1.9], vertical_alignment="bottom")
    text = words.text_input(
        "Search", key="atlas.map.words", placeholder="courts and law", icon=":material/search:", persist_state="session",
        help="Lights up the sides that fire most on texts about it, or whose headline holds the words",
    ).strip()  # fmt: skip
    keep: dict[str, Any] = {"required": True, "persist_state": "session"}
    mode = way.segmented_control("Search by", ["meaning", "words"], default="meaning", key="atlas.map.way", **keep)
    colouring = by.segmented_control("Colour by", ["kind", "layer"], default="kind", key="atlas.map.by", **keep)
    picked: list[str] = []
    if colouring == "kind":
        picked = what.multiselect(
            "Kinds in colour", found.kinds, found.kinds[: len(map_canvas.HUES)], max_selections=len(map_canvas.HUES),
            key="atlas.map.kinds", help="Three at a time, so that everybody can tell the colours apart; the other kinds are grey",
        )  # fmt: skip
    return colouring or "kind", picked, _search(index, found.frame, text, mode or "meaning"), f"{mode} {text}"


def _search(index: SearchIndex, frame: pd.DataFrame, text: str, mode: str) -> NDArray[np.int64] | None:
    """The rows that are lit, the best first; None without a search."""
    if not text:
        return None
    if mode == "meaning":
        try:
            similarity, _ = index.similarity(embed_query(text))
        except NeuronscopeError as error:
            st.caption(f"Looked for in the words alone: {error}")
        else:
            best = np.argsort(-similarity, kind="stable")[:_FOUND]
            return best[similarity[best] > 0]
    return np.flatnonzero(frame.index.isin(matching(frame, text, ["neuron", "headline"]).index))


def _list(frame: pd.DataFrame, lit: NDArray[np.int64], text: str, ref: ModelRef) -> None:
    if not len(lit):
        st.caption("Nothing is lit: no neuron side was found. Other words may find some.")
        return
    shown = frame.iloc[lit[:_LISTED]]
    most = f", the first {_LISTED}" if len(lit) > _LISTED else ""
    with st.expander(f"Lit: {len(lit):,} neuron sides, as a list{most}", icon=":material/list:", key="atlas.map.list"):
        table = pd.DataFrame({"neuron": links(shown["neuron"]), "meaning": shown["headline"], "kind": shown["kind"]})
        columns = {"neuron": link_column(), "meaning": MEANING, "kind": st.column_config.TextColumn("Kind", width=110)}
        st.dataframe(table, column_config=columns, hide_index=True, key=f"atlas.map.table.{hash(text)}", height=300)
        examples.on_rows(shown["neuron"], ref, key="atlas.map.examples")


def _open(atlas: Atlas, name: str) -> None:
    """Show the clicked neuron's page."""
    loaded = server_wide.model()
    if loaded is None or (loaded.ref.weights_hash != atlas.ref.weights_hash and not atlas.info.near):
        st.caption("This atlas is of another model than the one that is loaded: load that one on the Models page to open its neurons.")
        return
    open_neuron(name)


def points(atlas: Atlas, index: SearchIndex) -> map_canvas.Points | None:
    """Every described side with its place and the names on the map; None when the atlas has no map."""
    return _points(_stamp(atlas, index), atlas, index)


def _index(atlas: Atlas) -> SearchIndex | None:
    if "descriptions" not in atlas.manifest:
        return None
    return neuron_facts.index_of(atlas, neuron_facts.stamp_of(atlas, atlas.ref), Edits.of(atlas.ref))


def _stamp(atlas: Atlas, index: SearchIndex) -> str:
    return f"{atlas_index.stamp(atlas)}/{len(index.table)}"


@st.cache_resource(show_spinner="Placing every neuron side on the map", max_entries=3)
def _points(stamp: str, _atlas: Atlas, _index: SearchIndex) -> map_canvas.Points | None:
    drawn = Map2D.load(_atlas.embeddings())
    if drawn is None or not len(drawn.row_M):
        return None
    every, table = place_all(_index.space, drawn), _index.table
    headlines = table["headline"].fillna("").astype(str)
    detectors = open_detectors(_atlas.ref)
    fits = detectors is not None and (detectors.ref.n_layers, detectors.ref.n_neurons) == (_atlas.n_layers, _atlas.n_neurons)
    named = sides_by_name(_index.layer_of, _index.index_of, _index.is_negative, headlines.tolist(), detectors if fits else None)
    frame = pd.DataFrame(
        {
            "x": every.xy_M2[:, 0],
            "y": every.xy_M2[:, 1],
            "neuron": table["layer"].astype(str).to_numpy(object)
            + np.asarray([":"], object)
            + table["index"].astype(str).to_numpy(object)
            + table["polarity"].astype(str).to_numpy(object),
            "layer": _index.layer_of,
            "kind": table["kind"].fillna("").astype(str).to_numpy(object),
            "headline": headlines.to_numpy(object),
        }
    )
    return map_canvas.Points.of(frame, label_map(every.xy_M2, named))
