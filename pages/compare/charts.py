"""Pictures and tables of a comparison: probability and KL of each token, the split, the neurons that differ most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from neurons.core.percent import column_share
from neurons.core.steers import Steer
from neurons.core.types import ModelRef, NeuronSide
from neurons.tracing.sentence import visible
from pages.shared import examples, figures
from pages.shared.descriptions import headlines_for
from pages.shared.neuron_link import MEANING, link_column, links, meanings
from pages.shared.palette import colour
from pages.shared.tables import downloads
from traces.compare import TraceComparison

_MANY = 200  # above this many tokens there is no room for points
_MOST = 2000
_LEFT: dict[str, Any] = {"minExtent": 48, "maxExtent": 48}  # of both charts, so that their positions stand below each other


def draw_divergence(found: TraceComparison, names: tuple[str, str], *, key: str) -> None:
    """What each run's model had at the first token in which they differ; of other prompts or models at the first of each answer."""
    split = found.divergence
    if split is None:
        st.caption("No divergence: the two runs have the same tokens.")
        return
    together = found.same_prompt and found.same_model
    tops = (split.a_top, split.b_top) if together else (found.a_first, found.b_first)
    first, second = ({c.id if found.same_model else c.text or f"id {c.id}": (c.text or f"id {c.id}", c.prob) for c in top} for top in tops)
    if not first and not second:
        st.caption("Next-token probabilities were not recorded for these runs.")
        return
    where = f"token {split.position}, where the runs part" if together else "the first token of each answer"
    ids = list(dict.fromkeys([*first, *second]))
    frame = pd.DataFrame(
        {
            "token": [visible((first.get(i) or second[i])[0]) for i in ids],
            "first": [column_share(first[i][1]) if i in first else None for i in ids],
            "second": [column_share(second[i][1]) if i in second else None for i in ids],
        }
    )
    frame["order"] = frame[["first", "second"]].max(axis=1)
    frame = frame.sort_values("order", ascending=False, kind="stable").head(10)
    st.caption(f"Top tokens at {where}. Empty: not among the run's ten most probable.")
    bar: Any = st.column_config.ProgressColumn
    columns = {
        "token": st.column_config.TextColumn("Next token"),
        "first": bar(names[0], format="percent", min_value=0.0, max_value=1.0),
        "second": bar(names[1], format="percent", min_value=0.0, max_value=1.0),
    }
    st.dataframe(frame, column_order=list(columns), column_config=columns, hide_index=True, key=f"{key}.split")


def draw_tokens(
    found: TraceComparison,
    names: tuple[str, str],
    *,
    prompt_tokens: tuple[int, int],
    exact: Mapping[int, float] | None = None,
    key: str,
) -> None:
    """Probability of each token in its own run, and the KL divergence while both have seen the same text.

    Under other prompts a token's place is counted within its own answer (`prompt_tokens`: of each run). `exact` has the divergence over the
    whole vocabulary by position; without it the stored likeliest tokens give a lower bound.
    """
    frame = token_frame(found, names, prompt_tokens)
    if exact is not None:
        frame["kl"] = frame["position"].map(exact)
    if frame.empty:
        st.caption("There are no answer tokens to compare.")
        return
    last = int(frame["position"].min()) + _MOST
    if int(frame["position"].max()) > last:
        st.caption(f"The first {_MOST} tokens of the answers.")
        frame = frame[frame["position"] <= last]
    picture = _TokenPicture(frame, found, names, exact is not None)
    st.caption("Probability that each run's model gave its own token.")
    figures.chart(picture.probabilities(), key=f"{key}.probabilities", stem="probabilities")
    shared = frame[frame["kl"].notna()].drop_duplicates("position")
    if shared.empty:
        why = "no probabilities were recorded" if found.same_prompt else "the prompts differ, so the answers share no text before them"
        st.caption(f"There is no KL divergence to show: {why}.")
        return
    bound = "Over the whole vocabulary." if exact is not None else "A lower bound, from the ten likeliest tokens of each."
    st.caption(f"KL divergence of the two next-token distributions, as long as both runs have the same tokens up to there. {bound}")
    figures.chart(picture.divergences(shared), key=f"{key}.kl", stem="divergence")


class _TokenPicture:
    """The two charts over the tokens of a comparison: one horizontal axis, one tooltip."""

    def __init__(self, frame: pd.DataFrame, found: TraceComparison, names: tuple[str, str], exact: bool) -> None:
        self._frame, self._names = frame, list(names)
        self._few = int(frame["position"].nunique()) <= _MANY
        span = [int(frame["position"].min()), int(frame["position"].max())]
        axis = alt.Axis(tickMinStep=1, format="d", grid=False)
        counted = "Token position" if found.same_prompt else "Token of the answer, from 0"
        scale = alt.Scale(domain=span, zero=False, nice=False, padding=12)
        self._x: Any = alt.X("position:Q", title=counted, axis=axis, scale=scale)
        self._tooltip = [
            alt.Tooltip("run:N", title="Run"),
            alt.Tooltip("position:Q", title="Position"),
            alt.Tooltip("token:N", title="Token"),
            alt.Tooltip("probability:Q", title="Probability", format=".3f"),
            alt.Tooltip("kl:Q", title="KL, nats" if exact else "KL, nats (at least)", format=".3g"),
        ]

    def probabilities(self) -> Any:
        """A line for each run, with points where there is room for them."""
        shades = alt.Scale(domain=self._names, range=[colour("muted"), colour("amount")])
        shapes = alt.Scale(domain=self._names, range=["circle", "triangle-up"])
        lines = alt.Chart(self._frame).encode(
            x=self._x,
            y=alt.Y("probability:Q", title="Probability", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(**_LEFT, tickCount=5)),
            color=alt.Color("run:N", scale=shades, title=None, legend=alt.Legend(orient="top")),
            shape=alt.Shape("run:N", scale=shapes, title=None),
            tooltip=self._tooltip,
        )
        points = lines.mark_point(size=60, filled=True, opacity=0.9)
        picture = lines.mark_line(strokeWidth=1.5) + points if self._few else lines.mark_line()
        return picture.properties(height=260)

    def divergences(self, shared: pd.DataFrame) -> Any:
        """A bar for each position that both runs saw the same text before."""
        bars = alt.Chart(shared).mark_bar(color=colour("selection"), width={"band": 0.7} if not self._few else 9)
        y = alt.Y("kl:Q", title="KL, nats", axis=alt.Axis(**_LEFT, tickCount=3))
        return bars.encode(x=self._x, y=y, tooltip=self._tooltip[1:]).properties(height=170)


def token_frame(found: TraceComparison, names: tuple[str, str], prompt_tokens: tuple[int, int]) -> pd.DataFrame:
    """One row for each run and answer token: run, position, token, probability, kl (where both saw the same text).

    Positions count from the answer's start where the prompts differ.
    """
    kl = {pair.a_position: pair.kl for pair in found.tokens if pair.kl is not None}
    if found.divergence is not None and found.divergence.kl is not None:
        kl[found.divergence.position] = found.divergence.kl
    rows = []
    for pair in found.tokens:
        sides = ((pair.a_position, pair.a_text, pair.a_prob), (pair.b_position, pair.b_text, pair.b_prob))
        for name, start, (position, text, probability) in zip(names, prompt_tokens, sides, strict=True):
            if position is not None and position >= start:
                place = position if found.same_prompt else position - start
                rows.append((name, place, visible(text), probability, kl.get(position) if found.same_prompt else None))
    return pd.DataFrame(rows, columns=["run", "position", "token", "probability", "kl"]).sort_values(["run", "position"], kind="stable")


def draw_neurons(found: TraceComparison, names: tuple[str, str], ref: ModelRef, steers: Sequence[Steer], *, key: str) -> None:
    """The neurons whose activations differ most over the tokens that both runs share."""
    if not found.neurons:
        st.caption(f"No neurons to compare: {found.neurons_missing}.")
        return
    known = headlines_for(ref)
    rows = found.neurons
    held = {(side.layer, side.index) for steer in steers for side in steer.neurons}
    sides = [str(NeuronSide(row.layer, row.index, "+" if row.a_activation >= 0 else "-")) for row in rows]
    frame = pd.DataFrame(
        {
            "neuron": [f"{row.layer}:{row.index}" for row in rows],
            "link": links(sides),
            "meaning": meanings(sides, [known.get(side, "") for side in sides]),
            "description": [known.get(side, "") for side in sides],
            "layer": [row.layer for row in rows],
            "steered": [(row.layer, row.index) in held for row in rows],
            "mean": [row.mean_abs for row in rows],
            "token": [row.token for row in rows],
            "first": [row.a_activation for row in rows],
            "second": [row.b_activation for row in rows],
        }
    )
    st.caption(f"Over the {found.shared_tokens} tokens that both runs share; each run's own activations. The {len(rows)} that differ most.")
    columns = {
        "link": link_column(),
        "meaning": MEANING,
        "steered": st.column_config.CheckboxColumn("Steered", help="Held by a steer; the others changed because of it"),
        "mean": st.column_config.NumberColumn(
            "Mean difference", format="%.3g", help="Mean absolute difference of the activations over the shared tokens"
        ),
        "token": st.column_config.NumberColumn("Most at token", help="The position of the largest difference"),
        "first": st.column_config.NumberColumn(f"{names[0]} there", format="%.3g"),
        "second": st.column_config.NumberColumn(f"{names[1]} there", format="%.3g"),
    }
    if not held:
        columns.pop("steered")
    if not any(frame["description"]):
        columns.pop("meaning")
    st.dataframe(frame, column_order=list(columns), column_config=columns, hide_index=True, height=280, key=f"{key}.neurons")
    examples.on_rows(sides, ref, key=f"{key}.neurons.examples")
    downloads(frame.drop(columns=["link", "meaning"]), "neurons-that-differ", key=f"{key}.neurons.file")
