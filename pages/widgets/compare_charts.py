"""Pictures and tables of a comparison: probability and KL of each token, the split, the neurons that differ most."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from neurons.types import ModelRef, NeuronSide
from pages.widgets.descriptions import descriptions_for
from pages.widgets.palette import colour
from pages.widgets.tables import downloads
from traces.compare import TraceComparison

_MANY = 60  # above this many tokens the axis counts instead of naming them
_MOST = 2000


def draw_divergence(found: TraceComparison, names: tuple[str, str], *, key: str) -> None:
    """What each run's model had at the first token in which they differ."""
    split = found.divergence
    if split is None:
        st.caption("No divergence: the two runs have the same tokens.")
        return
    first = {c.id: (c.text or f"id {c.id}", c.prob) for c in split.a_top}
    second = {c.id: (c.text or f"id {c.id}", c.prob) for c in split.b_top}
    if not first and not second:
        st.caption("Next-token probabilities were not recorded for these runs.")
        return
    ids = list(dict.fromkeys([*first, *second]))
    frame = pd.DataFrame(
        {
            "token": [repr((first.get(i) or second[i])[0])[1:-1] for i in ids],
            "first": [first[i][1] if i in first else None for i in ids],
            "second": [second[i][1] if i in second else None for i in ids],
        }
    )
    frame["order"] = frame[["first", "second"]].max(axis=1)
    frame = frame.sort_values("order", ascending=False, kind="stable").head(10)
    st.caption(f"Top tokens at token {split.position}, where the runs part. Empty: not among the run's ten most probable.")
    bar: Any = st.column_config.ProgressColumn
    columns = {
        "token": st.column_config.TextColumn("Next token"),
        "first": bar(names[0], format="percent", min_value=0.0, max_value=1.0),
        "second": bar(names[1], format="percent", min_value=0.0, max_value=1.0),
    }
    st.dataframe(frame, column_order=list(columns), column_config=columns, hide_index=True, key=f"{key}.split")


def draw_tokens(found: TraceComparison, names: tuple[str, str], *, prompt_tokens: int, key: str) -> None:
    """Probability of each token in its own run, and the KL divergence while both have seen the same text."""
    frame = _token_frame(found, prompt_tokens)
    if frame.empty:
        st.caption("There are no answer tokens to compare.")
        return
    if len(frame) > _MOST:
        st.caption(f"The first {_MOST} of {len(frame)} tokens.")
        frame = frame.iloc[:_MOST]
    named = len(frame) <= _MANY
    x: Any = (
        alt.X("n:O", title="Token of the answer", axis=alt.Axis(labels=False, ticks=False))
        if named
        else alt.X("n:Q", title="Token of the answer")
    )
    tooltip = [
        alt.Tooltip("position:Q", title="Position"),
        alt.Tooltip("first:N", title=f"{names[0]} token"),
        alt.Tooltip("first_p:Q", title="Its probability", format=".3f"),
        alt.Tooltip("second:N", title=f"{names[1]} token"),
        alt.Tooltip("second_p:Q", title="Its probability ", format=".3f"),
        alt.Tooltip("kl:Q", title="KL, nats (at least)", format=".3g"),
    ]
    base = alt.Chart(frame).encode(x=x)
    scale = alt.Scale(domain=list(names), range=[colour("muted"), colour("amount")])
    layers = []
    for number, field in enumerate(("first_p", "second_p")):
        line = base.transform_calculate(run=f"'{names[number]}'").encode(
            y=alt.Y(f"{field}:Q", title="Probability of the token", scale=alt.Scale(domain=[0, 1])),
            color=alt.Color("run:N", scale=scale, title=None, legend=alt.Legend(orient="top")),
            tooltip=tooltip,
        )
        layers += [line.mark_line(strokeWidth=1.5), line.mark_point(size=45, filled=number == 1, opacity=1)]
    top = alt.layer(*layers).properties(height=170)
    bottom = base.mark_bar(color=colour("selection")).encode(y=alt.Y("kl:Q", title="KL, nats"), tooltip=tooltip).properties(height=90)
    st.altair_chart(alt.vconcat(top, bottom, spacing=4).resolve_scale(x="shared"), key=f"{key}.chart", width="stretch")
    st.caption(
        "KL divergence is known while both runs have the same tokens before. It is a lower bound, from the ten likeliest tokens of each."
    )


def _token_frame(found: TraceComparison, prompt_tokens: int) -> pd.DataFrame:
    kept = [pair for pair in found.tokens if (pair.a_position or pair.b_position or 0) >= prompt_tokens]
    return pd.DataFrame(
        {
            "n": range(len(kept)),
            "position": [pair.a_position if pair.a_position is not None else pair.b_position for pair in kept],
            "first": [repr(pair.a_text)[1:-1] if pair.a_position is not None else "" for pair in kept],
            "second": [repr(pair.b_text)[1:-1] if pair.b_position is not None else "" for pair in kept],
            "first_p": [pair.a_prob for pair in kept],
            "second_p": [pair.b_prob for pair in kept],
            "kl": [pair.kl for pair in kept],
        }
    )


def draw_neurons(found: TraceComparison, names: tuple[str, str], ref: ModelRef, *, key: str) -> None:
    """The neurons whose activations differ most over the tokens that both runs share."""
    if not found.neurons:
        st.caption(f"No neurons to compare: {found.neurons_missing}.")
        return
    known = descriptions_for(ref)
    rows = found.neurons
    frame = pd.DataFrame(
        {
            "neuron": [f"{row.layer}:{row.index}" for row in rows],
            "layer": [row.layer for row in rows],
            "mean": [row.mean_abs for row in rows],
            "token": [row.token for row in rows],
            "first": [row.a_activation for row in rows],
            "second": [row.b_activation for row in rows],
            "description": [known.get(NeuronSide(row.layer, row.index, "+" if row.a_activation >= 0 else "-"), "") for row in rows],
        }
    )
    st.caption(f"Over the {found.shared_tokens} tokens that both runs share; each run's own activations. The {len(rows)} that differ most.")
    columns = {
        "neuron": st.column_config.TextColumn("Neuron", help="layer:index"),
        "layer": st.column_config.NumberColumn("Layer"),
        "mean": st.column_config.NumberColumn(
            "Mean difference", format="%.3g", help="Mean absolute difference of the activations over the shared tokens"
        ),
        "token": st.column_config.NumberColumn("Most at token", help="The position of the largest difference"),
        "first": st.column_config.NumberColumn(f"{names[0]} there", format="%.3g"),
        "second": st.column_config.NumberColumn(f"{names[1]} there", format="%.3g"),
        "description": st.column_config.TextColumn("Description"),
    }
    if not any(frame["description"]):
        columns.pop("description")
    st.dataframe(frame, column_order=list(columns), column_config=columns, hide_index=True, height=280, key=f"{key}.neurons")
    downloads(frame, "neurons-that-differ", key=f"{key}.neurons.file")
