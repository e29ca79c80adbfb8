"""The tree that the groups by likeness were cut from, as a chart."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd
import streamlit as st

from neurons.concepts.density import Branch
from pages.shared import figures, palette

_HEIGHT = 260


def draw(tree: Sequence[Branch], *, key: str, stem: str) -> None:
    """In an expander, where HDBSCAN found any."""
    if len(tree) < 2:
        return
    with st.expander("How the groups by likeness part from each other", icon=":material/account_tree:"):
        st.caption(
            "HDBSCAN's condensed tree of the neurons without a sure concept. A bar is a group: as wide as it has neurons, from the "
            "likeness at which it parts from the one above down to the one at which it falls apart. Coloured bars were taken as groups."
        )
        figures.chart(chart(tree).properties(height=_HEIGHT), key=key, stem=stem)


def chart(tree: Sequence[Branch]) -> alt.Chart:
    """Neurons side by side to the right, density downwards."""
    rows = [(one.start, one.start + one.size, one.born, one.ends, one.size, "a group" if one.chosen else "not taken") for one in tree]
    frame = pd.DataFrame(rows, columns=["start", "stop", "born", "ends", "size", "taken"])
    drawn: alt.Chart = (
        alt.Chart(frame)
        .mark_rect(stroke=palette.colour("muted"), strokeWidth=0.5)
        .encode(
            x=alt.X("start:Q", title="Neurons, side by side", scale=alt.Scale(nice=False)),
            x2="stop:Q",
            y=alt.Y("born:Q", title="Likeness (1 / distance)", scale=alt.Scale(reverse=True, zero=False)),
            y2="ends:Q",
            color=alt.Color(
                "taken:N",
                title=None,
                scale=alt.Scale(domain=["a group", "not taken"], range=[palette.colour("selection"), palette.colour("neutral")]),
            ),
            tooltip=[
                alt.Tooltip("size:Q", title="Neurons"),
                alt.Tooltip("born:Q", title="Parts at", format=".2f"),
                alt.Tooltip("ends:Q", title="Falls apart at", format=".2f"),
                alt.Tooltip("taken:N", title="HDBSCAN"),
            ],
        )
    )
    return drawn
