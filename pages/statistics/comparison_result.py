"""A comparison drawn: the sentence, the figures with their intervals, chance, the paired table, exports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from neurons.core.percent import percent
from neurons.statistics.summary import Compared, Summary, summarise
from pages.shared import untrusted
from pages.shared.palette import colour
from pages.shared.tables import choose_rows, downloads

_UNITS = {
    "criterion": "share of answers",
    "token probability": "probability",
    "length": "tokens",
    "repetition": "share of repeated 3-token runs",
}


def draw(rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw what finished rows amount to."""
    summary = summarise(rows)
    untrusted.draw([(summary.message, "strong")], key="stats.message")
    if not summary.pairs:
        return
    _figures(summary)
    figures, pairs = st.tabs(["Differences", "Paired table"], key="stats.tab")
    with figures:
        _chart(summary)
        _table(summary)
    with pairs:
        _pairs(rows)


def _figures(summary: Summary) -> None:
    first = summary.figures[0]
    with st.container(horizontal=True):
        is_share = first.name == "criterion"
        shown = percent if is_share else "{:.3g}".format
        st.metric(f"{first.name}, unsteered", shown(first.plain), border=True, help=_interval(first.plain_rate))
        st.metric(
            f"{first.name}, steered",
            shown(first.steered),
            percent(first.difference.value, signed=True) if is_share and first.difference.value else None,
            border=True,
            help=_interval(first.steered_rate),
        )
        st.metric(
            "KL", f"{summary.kl:.3g}", border=True, help="Mean KL divergence of the next token over the unsteered answers, nats per token"
        )
        st.metric("Pairs", summary.pairs, border=True, help=f"{summary.prompts} different prompts; {summary.failed} rows failed")
    if summary.broken:
        st.warning("The steered text repeats itself much more: read some answers before believing any rate.", icon=":material/warning:")


def _interval(rate: Any) -> str | None:
    if rate is None:
        return None
    return f"{rate.count:.4g} of {rate.total} prompts; 95% interval {percent(rate.low)} to {percent(rate.high)} (Wilson)"


def _rows(summary: Summary) -> list[dict[str, Any]]:
    listed: list[tuple[str, Compared]] = [("the steer", f) for f in summary.figures] + [("random neurons", f) for f in summary.random]
    return [
        {
            "figure": f.name,
            "of": who,
            "unit": _UNITS.get(f.name, ""),
            "unsteered": f.plain,
            "steered": f.steered,
            "difference": f.difference.value,
            "from": f.difference.low,
            "to": f.difference.high,
            "gained": f.difference.gained,
            "lost": f.difference.lost,
            "exact p": f.difference.p_value,
            "interval by": f.difference.method,
        }
        for who, f in listed
    ]


def _chart(summary: Summary) -> None:
    """Differences of shares with their intervals; other units have a table row each."""
    frame = pd.DataFrame([row for row in _rows(summary) if row["figure"] in ("criterion", "token probability", "repetition")])
    if frame.empty:
        return
    frame["label"] = frame["figure"] + ", " + frame["of"]
    base = alt.Chart(frame).encode(y=alt.Y("label:N", title=None, sort=None, axis=alt.Axis(labelLimit=300)))
    zero = alt.Chart(pd.DataFrame({"x": [0.0]})).mark_rule(strokeDash=[4, 4], color=colour("muted")).encode(x="x:Q")
    bars = base.mark_rule(strokeWidth=3, color=colour("muted")).encode(
        x=alt.X("from:Q", title="steered minus unsteered, with 95% interval", axis=alt.Axis(format="+%")), x2="to:Q"
    )
    points = base.mark_point(filled=True, size=120).encode(
        x="difference:Q",
        color=alt.condition("datum.difference >= 0", alt.value(colour("positive")), alt.value(colour("negative"))),
        tooltip=[alt.Tooltip("difference:Q", format="+.1%"), alt.Tooltip("from:Q", format="+.1%"), alt.Tooltip("to:Q", format="+.1%")],
    )
    st.altair_chart((zero + bars + points).properties(height=60 + 34 * len(frame)), key="stats.chart", width="stretch")


def _table(summary: Summary) -> None:
    st.dataframe(pd.DataFrame(_rows(summary)), hide_index=True, key="stats.figures", height="auto")
    chance = "" if summary.random_kl is None else f" Random neurons of the same layers move the next token by {summary.random_kl:.3g} nats."
    st.caption(
        "Every figure is a mean over different prompts; seeds and copies of a prompt are repeats within it. Intervals go by "
        f"prompts, and p is of the exact test (McNemar's, or by flipping the signs of the prompts' differences).{chance}"
    )


def _pairs(rows: Sequence[Mapping[str, Any]]) -> None:
    frame = pd.DataFrame(
        [
            {
                "prompt": row["prompt"],
                "seed": row["seed"],
                "met unsteered": row.get("plain", {}).get("met"),
                "met steered": row.get("steered", {}).get("met"),
                "unsteered": row.get("plain", {}).get("answer"),
                "steered": row.get("steered", {}).get("answer"),
                "KL": row.get("steered", {}).get("kl"),
                "p unsteered": row.get("plain", {}).get("token_probability"),
                "p steered": row.get("steered", {}).get("token_probability"),
                "length unsteered": row.get("plain", {}).get("length"),
                "length steered": row.get("steered", {}).get("length"),
                "repetition steered": row.get("steered", {}).get("repetition"),
                "error": row.get("error", ""),
            }
            for row in rows
        ]
    ).dropna(axis=1, how="all")
    identity = [str(row.get("row", n)) for n, row in enumerate(rows)]
    picked = choose_rows(frame, key="stats.pairs", columns={str(name): str(name) for name in frame}, identity=identity)
    for row in [rows[n] for n in picked[:1]]:
        untrusted.draw([*_marked("unsteered", row.get("plain", {})), *_marked("steered", row.get("steered", {}))], key="stats.marked")
    downloads(frame, "comparison", key="stats.out")


def _marked(name: str, facts: Mapping[str, Any]) -> list[untrusted.Part]:
    """An answer with what met the criterion marked in it."""
    answer = str(facts.get("answer", ""))
    start, end = facts.get("met_at") or (0, 0)
    return [(f"{name}\n", "muted"), (answer[:start], ""), (answer[start:end], "added"), (f"{answer[end:]}\n\n", "")]
