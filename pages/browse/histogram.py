"""How a neuron's activations are spread over the corpus: a histogram with the quantiles marked, and from how many tokens they come."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import streamlit as st

from neurons.atlas.store import Atlas
from neurons.core.types import NeuronSide
from pages.shared import figures
from pages.shared.neuron_facts import Known
from pages.shared.palette import colour

LEVELS = (1e-2, 1e-3, 1e-4, 1e-5)
_METHODS = {
    "order statistic": "exact",
    "interpolated": "between exact values",
    "body sample": "from the sample",
    "corpus extreme": "the strongest there is",
    "tail fit": "tail fit",
}


def draw(found: Known, side: NeuronSide) -> None:
    """The picture and, below, the figures."""
    atlas = found.figures
    if atlas is None:
        return
    marks = quantile_table(found.stamp, atlas, side.layer, side.index)
    histogram = atlas.histogram(side.layer, side.index)
    with st.container(border=True, key="neurons.spread"):
        levels = [share.removeprefix("1 in ") for share in marks["share"] if share.startswith("1 in ")]
        st.caption(
            f"Activations over {histogram.tokens:,} tokens drawn evenly from the corpus (bars, log scale). Dashed: its strongest 1 in "
            f"{', '.join(levels)}; solid: the strongest there is, of all {atlas.tokens:,} tokens."
        )
        figures.chart(_chart(histogram, marks, side), key="neurons.spread.chart", stem=f"neuron-{str(side).replace(':', '-')}")
        with st.expander("Quantiles in figures"):
            columns = {
                "share": st.column_config.TextColumn("Strongest", width=110),
                "positive": st.column_config.NumberColumn("+ side", format="%.3f", width=70),
                "negative": st.column_config.NumberColumn("− side", format="%.3f", width=70),
                "rank": st.column_config.TextColumn("Rank", width=110, help="The rank of this value among all tokens"),
                "method": st.column_config.TextColumn("How", width=130),
            }
            st.dataframe(
                marks, column_order=list(columns), column_config=columns, hide_index=True, key="neurons.spread.table", height="auto"
            )
            st.caption(f"Mean over all tokens: {float(atlas.mean_LI()[side.layer, side.index]):.4f}.")


@st.cache_resource(show_spinner=False, max_entries=200)
def quantile_table(stamp: str, _atlas: Atlas, layer: int, index: int) -> pd.DataFrame:
    """One row a level, the corpus extremes last."""
    rows = []
    for level in LEVELS:
        got = _atlas.quantiles(level)
        if got.rank < 1:
            continue
        rank = f"{int(got.rank + 1e-9):,} of {got.tokens:,}"
        positive, negative = (float(value) for value in got.value_2LI[:, layer, index])
        rows.append((f"1 in {round(1 / level):,}", positive, negative, rank, _METHODS.get(got.method, got.method)))
    extremes = _atlas.extremes(layer)[:, index, 0]
    rows.append(("the extreme", float(extremes[0]), float(extremes[1]), f"1 of {_atlas.tokens:,}", "exact"))
    return pd.DataFrame(rows, columns=["share", "positive", "negative", "rank", "method"])


def _chart(histogram: Any, marks: pd.DataFrame, side: NeuronSide) -> Any:
    edges, counts = histogram.edges.astype(float), histogram.counts
    bars = pd.DataFrame({"low": edges[:-1], "high": edges[1:], "tokens": counts, "sign": np.where(edges[:-1] + edges[1:] >= 0, "+", "-")})
    bars = bars[bars["tokens"] > 0]
    bars["base"] = 0.8
    ends = [float(min(edges[0], marks["negative"].min())), float(max(edges[-1], marks["positive"].max()))]
    x = alt.X("low:Q", title="Activation", scale=alt.Scale(domain=ends, nice=False), axis=alt.Axis(grid=False))
    tones: Any = alt.Scale(domain=["+", "-"], range=[colour("positive"), colour("negative")])
    most = max(10.0, float(counts.max(initial=1)))
    base = alt.Chart(bars).mark_bar(opacity=0.55).encode(
        x=x, x2="high:Q",
        y=alt.Y(
            "tokens:Q", title="Tokens", scale=alt.Scale(type="log", domain=[0.8, most * 1.3], nice=False),
            axis=alt.Axis(grid=False, tickCount=4, format="~s"),
        ),
        y2="base:Q",
        color=alt.Color("sign:N", scale=tones, legend=None),
        tooltip=[
            alt.Tooltip("low:Q", title="From", format=".3f"), alt.Tooltip("high:Q", title="To", format=".3f"),
            alt.Tooltip("tokens:Q", title="Tokens", format=","),
        ],
    )  # fmt: skip
    long = pd.concat(
        [
            pd.DataFrame({"value": marks[name], "sign": sign, "share": marks["share"]})
            for name, sign in (("positive", "+"), ("negative", "-"))
        ]
    )
    long["mine"] = long["sign"] == side.polarity
    rules = alt.Chart(long).mark_rule(strokeWidth=1.6).encode(
        x=alt.X("value:Q", scale=alt.Scale(domain=ends, nice=False)),
        color=alt.Color("sign:N", scale=tones, legend=None),
        opacity=alt.condition("datum.mine", alt.value(0.95), alt.value(0.3)),
        strokeDash=alt.condition("datum.share == 'the extreme'", alt.value([1, 0]), alt.value([4, 3])),
        tooltip=[
            alt.Tooltip("share:N", title="Strongest"), alt.Tooltip("value:Q", title="Activation", format=".3f"),
            alt.Tooltip("sign:N", title="Side"),
        ],
    )  # fmt: skip
    return (base + rules).properties(height=170)
