"""The map of an atlas: neuron sides of like meaning near each other. Hover to read one, click to open it, drag and scroll to wander."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from neurons.atlas.store import Atlas
from neurons.concepts.map2d import POINTS, Map2D
from pages.shared import atlas_index, palette, server_wide
from pages.shared.neuron_link import open_neuron
from pages.shared.tables import matching

_OPENED = "atlas.map.opened"
_TEXT = 140  # characters of a description that a tooltip shows
_HUES = ("positive", "negative", "amount", "selection")
_HEIGHT = 450


def draw(atlas: Atlas) -> None:
    """The controls above, the map below."""
    frame = points(atlas)
    if frame is None:
        st.info("This atlas has no map yet: describing it (the Describe tab) draws one.", icon=":material/scatter_plot:")
        return
    by, what, words = st.columns([1, 2.2, 1.6], vertical_alignment="bottom")
    colouring = by.segmented_control(
        "Colour by", ["kind", "layer"], default="kind", key="atlas.map.by", required=True, persist_state="session"
    )
    usual = list(frame["kind"].value_counts().index)
    picked: list[str] = []
    if colouring == "kind":
        picked = what.multiselect(
            "Kinds in colour", usual, usual[: len(_HUES)], max_selections=len(_HUES), key="atlas.map.kinds",
            help="Four at a time, so that the colours stay apart for everybody; the others are grey",
        )  # fmt: skip
    else:
        what.caption("Pale is the first layer, full colour the last.")
    text = words.text_input(
        "Words", key="atlas.map.words", placeholder="in the description", help="Points without these words fade", persist_state="session"
    )
    shown = frame.assign(found=frame.index.isin(matching(frame, text, ["neuron", "description", "second"]).index))
    chart = scatter(shown, colouring or "kind", picked)
    event: Any = st.altair_chart(chart, key="atlas.map", on_select="rerun", selection_mode="neuron", width="stretch")
    found = f" {int(shown['found'].sum()):,} hold the words." if text.strip() else ""
    st.caption(
        f"{len(frame):,} of {atlas.info.described:,} described neuron sides, the clearest of every layer.{found} Near each "
        "other: they fire on like texts. Hover to read, click to open the neuron, scroll to zoom, drag to move, double-click to see all."
    )
    _open(atlas, event)


def _open(atlas: Atlas, event: Any) -> None:
    """Show the clicked neuron's page, once a click."""
    rows = event.selection.get("neuron") or []
    name = rows[0].get("neuron") if rows else None
    if name is None or st.session_state.get(_OPENED) == name:
        if name is None:
            st.session_state.pop(_OPENED, None)
        return
    st.session_state[_OPENED] = name
    loaded = server_wide.model()
    if loaded is None or (loaded.ref.weights_hash != atlas.ref.weights_hash and not atlas.info.near):
        st.caption("This atlas is of another model than the one that is loaded: load that one on the Models page to open its neurons.")
        return
    open_neuron(str(name))


def points(atlas: Atlas) -> pd.DataFrame | None:
    """The points of the map with what their tooltips say, at most 5,000; None when the atlas has no map."""
    return _points(atlas_index.stamp(atlas), atlas) if "descriptions" in atlas.manifest else None


@st.cache_resource(show_spinner="Reading the map", max_entries=3)
def _points(stamp: str, _atlas: Atlas) -> pd.DataFrame | None:
    drawn = Map2D.load(_atlas.embeddings())
    table = _atlas.descriptions()
    if drawn is None or table is None or not len(drawn.row_M):
        return None
    every = -(-len(drawn.row_M) // POINTS)
    rows, xy = drawn.row_M[::every], drawn.xy_M2[::every]
    chosen = table.iloc[rows]
    name = chosen["layer"].astype(str) + ":" + chosen["index"].astype(str) + chosen["polarity"].astype(str)
    return pd.DataFrame(
        {
            "x": xy[:, 0].round(4),
            "y": xy[:, 1].round(4),
            "neuron": name.to_numpy(object),
            "layer": chosen["layer"].to_numpy(),
            "kind": chosen["kind"].to_numpy(object),
            "description": chosen["description"].fillna("").str.slice(0, _TEXT).to_numpy(object),
            "second": chosen["second"].fillna("").str.slice(0, _TEXT).to_numpy(object),
        }
    )


def scatter(frame: pd.DataFrame, by: str, kinds: Sequence[str]) -> alt.Chart:
    """The points, coloured by layer or with some kinds in colour."""
    if by == "layer":
        top = max(1, int(frame["layer"].max()))
        scale = alt.Scale(domain=[0, top], range=palette.sequential(), interpolate="rgb")
        colour = alt.Color("layer:Q", title="Layer", scale=scale)
    else:
        frame = frame.assign(shade=frame["kind"].where(frame["kind"].isin(list(kinds)), "other"))
        hues = [palette.colour(hue) for hue, _ in zip(_HUES, kinds, strict=False)]
        colour = alt.Color(
            "shade:N", title=None, scale=alt.Scale(domain=[*kinds, "other"], range=[*hues, palette.colour("muted")]),
            legend=alt.Legend(orient="top", labelLimit=200),
        )  # fmt: skip
    blank = alt.Axis(labels=False, ticks=False, grid=False, domain=False, title=None)
    pick = alt.selection_point(name="neuron", fields=["neuron"], on="click", empty=False)
    chart: alt.Chart = (
        alt.Chart(frame)
        .mark_circle(size=26)
        .encode(
            x=alt.X("x:Q", axis=blank, scale=alt.Scale(domain=[-1.04, 1.04])),
            y=alt.Y("y:Q", axis=blank, scale=alt.Scale(domain=[-1.04, 1.04])),
            color=colour,
            opacity=alt.condition(alt.datum.found, alt.value(0.75), alt.value(0.06)),
            tooltip=[
                alt.Tooltip("neuron:N", title="Neuron"),
                alt.Tooltip("description:N", title="Fires on"),
                alt.Tooltip("second:N", title="Effect"),
                alt.Tooltip("kind:N", title="Kind"),
                alt.Tooltip("layer:Q", title="Layer"),
            ],
        )
        .add_params(pick, alt.selection_interval(bind="scales"))
        .properties(height=_HEIGHT)
    )  # fmt: skip
    return chart
