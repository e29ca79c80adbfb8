"""What an atlas rests on and how good it is: texts, coverage, scores by layer."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from neurons.atlas.store import Atlas
from neurons.core.percent import column_share, percent
from neurons.describing.rescore import summarise
from neurons.descriptions.kinds import KINDS, UNCLEAR
from pages.atlas import atlas_list
from pages.shared import atlas_index, figures, palette, untrusted
from pages.shared.tables import downloads

_SOURCES: dict[str, Any] = {
    "name": st.column_config.TextColumn("Source", width=170),
    "domain": st.column_config.TextColumn("Kind of text", width=100),
    "licence": st.column_config.TextColumn("Licence", width=150),
    "share": st.column_config.ProgressColumn(
        "Share", format="percent", width=80, help="Share of the tokens that descriptions are made from"
    ),
    "tokens": st.column_config.NumberColumn("Tokens", format="localized", width=90, help="Counted tokens that descriptions are made from"),
    "held_out_tokens": st.column_config.NumberColumn(
        "Held out", format="localized", width=80, help="Tokens of documents that no description ever saw: scores come from these"
    ),
    "documents": st.column_config.NumberColumn("Documents", format="localized", width=80),
    "generated": st.column_config.CheckboxColumn("By the model", width=80, help="Written by the model itself"),
    "origin": st.column_config.TextColumn("Taken from", width=220),
}
_LINES = {"score": "description", "null": "another neuron's description (null)", "ceiling": "token table (ceiling)"}
_MEANING = {
    "score": "correlation of what the description predicts with the true activation, on held-out text, uniform windows",
    "null": "the same with the description of another neuron of the layer",
    "ceiling": "what a table of the token and the one before it predicts: how predictable the neuron is at all",
}


def draw(atlas: Atlas) -> None:
    """Head, sources, plots."""
    _head(atlas)
    left, right = st.columns([1.25, 1], gap="medium")
    table = summary(atlas)
    if table is None:
        with right:
            st.info("Nothing is described yet. The Describe tab does it, without any language model.", icon=":material/edit_note:")
    else:
        layers, kinds = table
        with left:
            _scores(layers)
        with right:
            st.markdown("**What the neurons fire on**")
            figures.chart(kind_chart(kinds), key="atlas.kinds", stem="atlas-kinds")
        left, right = st.columns([1.25, 1], gap="medium")
        with right:
            st.markdown("**Unclear, by layer**")
            figures.chart(unclear_chart(layers), key="atlas.unclear", stem="atlas-unclear")
            with st.expander("Numbers by layer"):
                st.dataframe(layers, hide_index=True, key="atlas.layers")
                downloads(layers, "atlas-scores", key="atlas.layers.file")
    with left:
        _texts(atlas)


def _scores(layers: pd.DataFrame) -> None:
    st.markdown("**How well the descriptions predict, by layer**")
    if not layers["score"].notna().any():
        st.caption("The descriptions have no scores yet: score them in the Describe tab.")
        return
    figures.chart(score_chart(layers), key="atlas.scores", stem="atlas-scores")
    st.caption("Medians over the described sides of a layer. " + " ".join(f"*{_LINES[name]}*: {text}." for name, text in _MEANING.items()))


def _texts(atlas: Atlas) -> None:
    st.markdown("**Texts**")
    sources = pd.DataFrame(list(atlas.info.sources))
    if sources.empty:
        st.caption("It holds imported descriptions only: no texts, quantiles or exemplars. Build it to add them.")
        return
    sources["share"] = (sources["tokens"] / max(sources["tokens"].sum(), 1)).map(column_share)
    shown = [name for name in _SOURCES if name in sources]
    st.dataframe(sources, column_order=shown, column_config=_SOURCES, hide_index=True, key="atlas.sources", height=300)
    if sources["tokens"].sum() > 1.01 * atlas.tokens:
        st.caption(f"The whole corpus, of which {atlas.tokens:,} tokens are collected so far.")


def _head(atlas: Atlas) -> None:
    info = atlas.info
    sides = 2 * info.model.n_layers * info.model.n_neurons
    with st.container(border=True):
        parts: list[untrusted.Part] = [(f"{info.model.name}\n", "strong")]
        made = "It ships with Neuronscope." if info.shipped else "Your own."
        parts.append((f"{info.tokens:,} tokens of {info.documents:,} documents. {made} ", ""))
        parts.append((f"{info.described:,} of {sides:,} neuron sides are described. ", ""))
        parts.append((f"{atlas_list.size_of(atlas.folder) / 1e6:.1f} MB. ", "muted"))
        if info.tokens:
            rank = int(info.tokens * 1e-5)
            which = f"the activation of rank {rank:,}" if rank > 1 else "the strongest activation"
            parts.append((f"The quantile at 1 in 100,000 is {which} of each side. ", "muted"))
        if info.note:
            parts.append((f"\nNote: {info.note}.", "negative"))
        text, button = st.columns([6, 1], vertical_alignment="center")
        with text:
            untrusted.draw(parts, key="atlas.head")
        if not info.shipped and not info.near:
            button.button(
                "Remove", icon=":material/delete:", key="atlas.remove", on_click=atlas_list.remove, args=(info.model,), width="stretch",
                help="Removes this atlas; can be undone. The shipped atlas is used again where there is one",
            )  # fmt: skip


def summary(atlas: Atlas) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """(one row per layer, one row per kind), or None without descriptions."""
    return _summary(atlas_index.stamp(atlas), atlas) if "descriptions" in atlas.manifest else None


@st.cache_resource(show_spinner="Reading the scores of all descriptions", max_entries=4)
def _summary(stamp: str, _atlas: Atlas) -> tuple[pd.DataFrame, pd.DataFrame]:
    table = _atlas.descriptions()
    assert table is not None
    table = table.assign(**{name: "not stated" if name == "kind" else float("nan") for name in ("kind", "score") if name not in table})
    table["kind"] = table["kind"].fillna("not stated")
    layers = pd.DataFrame([asdict(row) for row in summarise(table) if row.layer >= 0])
    layers["unclear_share"] = layers["unclear"] / layers["sides"]
    kinds = table["kind"].value_counts().rename_axis("kind").reset_index(name="sides")
    kinds["share"] = kinds["sides"] / kinds["sides"].sum()
    kinds["meaning"] = kinds["kind"].map(KINDS).fillna("")
    return layers, kinds


def score_chart(layers: pd.DataFrame) -> alt.Chart:
    """Median score, null and ceiling over the layers."""
    long = layers.melt("layer", list(_LINES), "what", "median").dropna()
    long["what"] = long["what"].map(_LINES)
    names = list(_LINES.values())
    colours = [palette.colour(name) for name in ("positive", "muted", "amount")]
    legend = alt.Legend(orient="top", labelLimit=260, symbolType="stroke", symbolSize=300)
    scale, dashes = alt.Scale(domain=names, range=colours), alt.Scale(domain=names, range=[[1, 0], [4, 3], [8, 3]])
    chart: alt.Chart = (
        alt.Chart(long)
        .mark_line(point=True)
        .encode(
            x=alt.X("layer:O", title="Layer", axis=alt.Axis(labelAngle=0, labelOverlap=True)),
            y=alt.Y("median:Q", title="Median correlation, held-out text"),
            color=alt.Color("what:N", title=None, scale=scale, legend=legend),
            strokeDash=alt.StrokeDash("what:N", legend=None, scale=dashes),
            tooltip=[alt.Tooltip("layer:O", title="Layer"), alt.Tooltip("what:N", title="What"), alt.Tooltip("median:Q", format=".3f")],
        )
        .properties(height=290)
    )  # fmt: skip
    return chart


def unclear_chart(layers: pd.DataFrame) -> alt.Chart:
    """Share of sides called unclear, by layer."""
    chart: alt.Chart = (
        alt.Chart(layers.assign(unclear_text=layers["unclear_share"].map(percent)))
        .mark_bar(color=palette.colour("muted"))
        .encode(
            x=alt.X("layer:O", title="Layer", axis=alt.Axis(labelAngle=0, labelOverlap=True)),
            y=alt.Y("unclear_share:Q", title="Share called unclear", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1])),
            tooltip=[
                alt.Tooltip("layer:O", title="Layer"),
                alt.Tooltip("unclear_text:N", title="Unclear"),
                alt.Tooltip("sides:Q", title="Sides described", format=","),
            ],
        )
        .properties(height=290)
    )
    return chart


def kind_chart(kinds: pd.DataFrame) -> alt.Chart:
    """How many sides are of each kind."""
    chart: alt.Chart = (
        alt.Chart(kinds.assign(share_text=kinds["share"].map(percent)))
        .mark_bar()
        .encode(
            y=alt.Y("kind:N", sort="-x", title=None, axis=alt.Axis(labelLimit=160, labelOverlap=False)),
            x=alt.X("share:Q", title="Share of the described sides", axis=alt.Axis(format="%")),
            color=alt.condition(alt.datum.kind == UNCLEAR, alt.value(palette.colour("muted")), alt.value(palette.colour("amount"))),
            tooltip=[
                alt.Tooltip("kind:N", title="Kind"),
                alt.Tooltip("meaning:N", title="Meaning"),
                alt.Tooltip("sides:Q", title="Sides", format=","),
                alt.Tooltip("share_text:N", title="Share"),
            ],
        )
        .properties(height=80 + 22 * len(kinds))
    )
    return chart
