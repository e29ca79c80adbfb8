"""A comparison drawn: the sentence, the figures with their intervals, chance, the paired table, exports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from neurons.core.percent import percent
from neurons.statistics.outcomes import outcome
from neurons.statistics.rows import Facts, Row, read_rows
from neurons.statistics.summary import Compared, Summary, summarise
from pages.shared import figures, untrusted
from pages.shared.palette import colour
from pages.shared.tables import choose_rows, downloads

_UNITS = {
    "criterion": "share of answers",
    "token probability": "probability",
    "length": "tokens",
    "repetition": "share of repeated 3-token runs",
}
_SPOKEN = {"criterion": "as wanted", "met unsteered": "as wanted, unsteered", "met steered": "as wanted, steered"}
"""Figures and columns whose names on the screen are other words than in the exported table."""


def draw(kept: Sequence[Mapping[str, Any]]) -> None:
    """Draw what finished rows amount to, as a job or an experiment keeps them. Raises `InvalidInput` for what is no row."""
    rows = read_rows(kept)
    summary = summarise(rows)
    untrusted.draw([(summary.message, "strong")], key="stats.message")
    if not summary.pairs:
        return
    _figures(summary)
    figures, pairs = st.tabs(["Differences", "Paired table"], key="stats.tab", on_change="rerun")
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
        st.metric(f"{_spoken(first.name)}, unsteered", shown(first.plain), border=True, help=_interval(first.plain_rate))
        st.metric(
            f"{_spoken(first.name)}, steered",
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


def _spoken(name: str) -> str:
    """A figure's or a column's name as a heading."""
    text = _SPOKEN.get(name, name)
    return text[:1].upper() + text[1:]


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
    frame["label"] = frame["figure"].map(_spoken) + ", " + frame["of"]
    shares = ("difference", "from", "to")
    frame = frame.assign(**{f"{name}_text": [percent(share, signed=True) for share in frame[name]] for name in shares})
    base = alt.Chart(frame).encode(y=alt.Y("label:N", title=None, sort=None, axis=alt.Axis(labelLimit=300)))
    zero = alt.Chart(pd.DataFrame({"x": [0.0]})).mark_rule(strokeDash=[4, 4], color=colour("muted")).encode(x="x:Q")
    bars = base.mark_rule(strokeWidth=3, color=colour("muted")).encode(
        x=alt.X("from:Q", title="steered minus unsteered, with 95% interval", axis=alt.Axis(format="+%")), x2="to:Q"
    )
    points = base.mark_point(filled=True, size=120).encode(
        x="difference:Q",
        color=alt.condition("datum.difference >= 0", alt.value(colour("positive")), alt.value(colour("negative"))),
        tooltip=[alt.Tooltip(f"{name}_text:N", title=name) for name in shares],
    )
    figures.chart((zero + bars + points).properties(height=60 + 34 * len(frame)), key="stats.chart", stem="comparison")


def _table(summary: Summary) -> None:
    frame = pd.DataFrame(_rows(summary))
    frame["figure"] = frame["figure"].map(_spoken)
    st.dataframe(
        frame, hide_index=True, key="stats.figures", height="auto", column_config={str(name): _spoken(str(name)) for name in frame}
    )
    chance = "" if summary.random_kl is None else f" Random neurons of the same layers move the next token by {summary.random_kl:.3g} nats."
    st.caption(
        "Every figure is a mean over different prompts; seeds and copies of a prompt are repeats within it. Intervals go by "
        f"prompts, and p is of the exact test (McNemar's, or by flipping the signs of the prompts' differences).{chance}"
    )


def _pairs(rows: Sequence[Row]) -> None:
    frame = pd.DataFrame([_cells(row) for row in rows]).dropna(axis=1, how="all")
    identity = [row.row or str(n) for n, row in enumerate(rows)]
    picked = choose_rows(frame, key="stats.pairs", columns={str(name): _spoken(str(name)) for name in frame}, identity=identity)
    for row in [rows[n] for n in picked[:1]]:
        untrusted.draw([*_marked("unsteered", row.plain), *_marked("steered", row.steered)], key="stats.marked")
    downloads(frame, "comparison", key="stats.out")


def _cells(row: Row) -> dict[str, Any]:
    """A row of the table, its columns in order."""
    plain, steered = row.pair or (None, None)
    return {
        "prompt": row.prompt,
        "seed": row.seed,
        "outcome": _outcome(plain, steered),
        "met unsteered": plain and plain.met,
        "met steered": steered and steered.met,
        "unsteered": plain and plain.answer,
        "steered": steered and steered.answer,
        "KL": steered and steered.kl,
        "p unsteered": plain and plain.token_probability,
        "p steered": steered and steered.token_probability,
        "length unsteered": plain and plain.length,
        "length steered": steered and steered.length,
        "repetition steered": steered and steered.repetition,
        "error": row.error,
    }


def _outcome(plain: Facts | None, steered: Facts | None) -> str | None:
    if plain is None or steered is None or plain.met is None or steered.met is None:
        return None
    return outcome(plain.met, steered.met)


def _marked(name: str, facts: Facts | None) -> list[untrusted.Part]:
    """An answer with what met the criterion marked in it."""
    answer = "" if facts is None else facts.answer
    start, end = (0, 0) if facts is None or facts.met_at is None else facts.met_at
    return [(f"{name}\n", "muted"), (answer[:start], ""), (answer[start:end], "added"), (f"{answer[end:]}\n\n", "")]
