"""Measured beside estimated: what the token's metric really loses without a ticked neuron, and which earlier neurons drive one.

What was measured stays with the trace and the token while the server runs, for every browser.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import altair as alt
import numpy as np
import pandas as pd
import streamlit as st

from neurons.attribution.effect import EffectOptions, Effects, agreement, measure_effects
from neurons.attribution.forecast import forecast_effects, forecast_walk
from neurons.attribution.paths import MAX_NODES, Graph, walk
from neurons.core.errors import NeuronscopeError
from neurons.core.percent import column_share
from neurons.core.tasks import Task
from neurons.core.types import AttributionRow
from neurons.tracing.sentence import visible
from pages.shared import examples, figures, in_view, palette, progress_row, server_wide, untrusted
from pages.shared.descriptions import headlines_for
from pages.shared.kept import STORE
from pages.shared.neuron_link import MEANING, link_column, meanings, neuron_address
from pages.shared.trace_context import TraceContext
from traces.attributions import AttributionInfo

MOST = 60
"""Rows measured at one press: some seconds on a laptop."""
ROOM = 330
"""Pixels of the results below the table."""
_MEASURING = "trace.effects.job"
_WALKING = "trace.paths.job"
_MARK = "trace.effects.mark"
COLUMN = st.column_config.NumberColumn(
    "Measured",
    format="%+.4f",
    width=80,
    help="What the metric really loses when the neuron is set to 0 at that token; the attribution beside it is the estimate of this",
)
Key = tuple[str, str]
"""A trace's id and an attribution's name in it."""


@dataclass(eq=False, kw_only=True)
class Measuring(Task[Effects]):
    """Rows of a table being ablated one by one."""

    key: Key
    names: tuple[str, ...]


@dataclass(eq=False, kw_only=True)
class Walking(Task[Graph]):
    """What drives one neuron being looked for."""

    key: Key
    start: str


def _place(key: Key) -> tuple[str, str, Key]:
    return "measured effects", server_wide.store().root.as_posix(), key


def of(context: TraceContext, info: AttributionInfo) -> Mapping[str, float]:
    """The measured effects of an attribution's rows by their name, such as "17:803+@12"."""
    found: Mapping[str, float] = STORE.find(_place((context.id, info.key)), {})
    return found


def shown(context: TraceContext, info: AttributionInfo) -> bool:
    """Whether there is something below the table."""
    walking = server_wide.server().task(st.session_state.get(_WALKING), Walking)
    return bool(of(context, info)) or (walking is not None and walking.key == (context.id, info.key))


def buttons(context: TraceContext, info: AttributionInfo, rows: pd.DataFrame) -> None:
    """Among the table's actions: measure the ticked rows, walk upstream from the one that is ticked."""
    off = context.loaded is None
    need = "Needs the trace's model. " if off else ""
    if st.button(
        "Measure these",
        icon=":material/straighten:",
        key="trace.effects.go",
        disabled=off or not 0 < len(rows) <= MOST,
        help=f"{need}Sets each ticked neuron to 0 at its token, alone, and reads what the metric loses. At most {MOST} at once. "
        f"{_takes(context, info, rows)}",
    ):
        _measure(context, info, rows)
    if st.button(
        "Paths",
        icon=":material/account_tree:",
        key="trace.paths.go",
        disabled=off or len(rows) != 1,
        help=f"{need}Which earlier neurons drive the ticked one, and which drive those: tick one row",
    ):
        _walk(context, info, rows)


def _takes(context: TraceContext, info: AttributionInfo, rows: pd.DataFrame) -> str:
    """What measuring the ticked rows takes; "" where nothing is ticked."""
    if context.loaded is None or not 0 < len(rows) <= MOST:
        return ""
    expected = forecast_effects(context.loaded, info.target.token, [(row.layer, row.token) for row in _rows(rows)])
    return f"It takes about {progress_row.time_text(max(1.0, expected.seconds))} and can be stopped."


def _rows(frame: pd.DataFrame) -> list[AttributionRow]:
    return [
        AttributionRow(int(layer), int(index), int(token), polarity, float(activation), float(attribution))
        for layer, index, token, polarity, activation, attribution in frame[
            ["layer", "index", "token", "polarity", "activation", "attribution"]
        ].itertuples(index=False)
    ]


def _measure(context: TraceContext, info: AttributionInfo, frame: pd.DataFrame) -> None:
    loaded, record = context.loaded, context.record
    assert loaded is not None  # the button is off without it
    task = Measuring(what=f"measuring {len(frame)} neurons", key=(context.id, info.key), names=tuple(map(str, frame.index)))
    rows = _rows(frame)
    starts = [(row.layer, row.token) for row in rows]

    def work() -> Effects:
        forecast_effects(loaded, info.target.token, starts).check(info.target.token, doing="measuring effects on")
        return measure_effects(
            loaded,
            record.token_ids,
            info.target,
            rows,
            EffectOptions(steers=record.steers, prompt_tokens=len(record.prompt_ids)),
            progress=task.progress,
        )

    server_wide.server().start(task, work)
    st.session_state[_MEASURING] = st.session_state[_MARK] = task.id


def _walk(context: TraceContext, info: AttributionInfo, frame: pd.DataFrame) -> None:
    loaded, record = context.loaded, context.record
    assert loaded is not None  # the button is off without it
    [start] = _rows(frame)
    task = Walking(what=f"looking for what drives {frame.index[0]}", key=(context.id, info.key), start=str(frame.index[0]))

    def work() -> Graph:
        forecast_walk(loaded, start.token + 1, MAX_NODES).check(start.token, doing="walking upstream from")
        return walk(loaded, record.token_ids, start, steers=record.steers, prompt_tokens=len(record.prompt_ids), progress=task.progress)

    server_wide.server().start(task, work)
    st.session_state[_WALKING] = st.session_state[_MARK] = task.id


def draw(context: TraceContext, info: AttributionInfo, frame: pd.DataFrame) -> None:
    """Below the table: how far the work is, the chart of estimates against measurements, the drivers."""
    key = (context.id, info.key)
    in_view.bring(st.session_state.get(_MARK, ""), key="trace.effects.view")
    task = server_wide.server().task(st.session_state.get(_MEASURING), Measuring)
    if task is not None and task.key == key and progress_row.watch(task, key="trace.effects"):
        del st.session_state[_MEASURING]
        with server_wide.errors_shown():
            _keep(task, task.result())
            st.rerun()
    walking = server_wide.server().task(st.session_state.get(_WALKING), Walking)
    if walking is not None and walking.key == key and progress_row.watch(walking, key="trace.paths"):
        _drivers(context, walking)
    found = of(context, info)
    known = frame[frame.index.isin(list(found))]
    if len(known):
        _chart(known.assign(effect=[found[str(name)] for name in known.index]))


def _keep(task: Measuring, effects: Effects) -> None:
    place = _place(task.key)
    STORE.put(place, {**STORE.find(place, {}), **{name: row.effect for name, row in zip(task.names, effects.rows, strict=True)}})


def _chart(frame: pd.DataFrame) -> None:
    """Estimate against measurement, with the line on which they are equal."""
    match = agreement(frame["attribution"].to_numpy(), frame["effect"].to_numpy())
    said = f"{match.n} rows measured."
    if np.isfinite(match.spearman):
        said += f" Attribution and measurement agree at rank correlation {match.spearman:.2f}, linear correlation {match.pearson:.2f}."
    st.caption(said)
    ends = [float(f(frame[["attribution", "effect"]].to_numpy())) for f in (np.min, np.max)]
    line = alt.Chart(pd.DataFrame({"attribution": ends, "effect": ends})).mark_line(color=palette.colour("muted"), strokeDash=[4, 4])
    points = (
        alt.Chart(frame[["neuron", "text", "token", "attribution", "effect"]])
        .mark_point(filled=True, size=70, color=palette.colour("selection"))
        .encode(
            x=alt.X("attribution:Q", title="Attribution (estimate)"),
            y=alt.Y("effect:Q", title="Measured"),
            tooltip=[
                alt.Tooltip("neuron:N", title="Neuron"),
                alt.Tooltip("text:N", title="Token"),
                alt.Tooltip("token:Q", title="At"),
                alt.Tooltip("attribution:Q", format="+.4g"),
                alt.Tooltip("effect:Q", format="+.4g"),
            ],
        )
    )
    encode = line.encode(x="attribution:Q", y="effect:Q")
    figures.chart((encode + points).properties(height=240), key="trace.effects.chart", stem="attribution-and-effect")


def _drivers(context: TraceContext, task: Walking) -> None:
    """The edges that lead to a neuron, strongest of each first, with what each driver means."""
    left, right = st.columns([5, 1], vertical_alignment="center")
    if right.button("Close", key="trace.paths.close", width="stretch"):
        del st.session_state[_WALKING]
        st.rerun()
    try:
        graph = task.result()
    except NeuronscopeError as error:
        with left:
            server_wide.show_error(error)
        return
    frame = edges_table(context, graph)
    start = task.start.partition("@")[0]
    left.caption(f"What drives {start}, and what drives that: two steps upstream, the four strongest of each.")
    if frame.empty:
        untrusted.draw("Nothing drives it: a neuron of the first layer has none below it.", key="trace.paths.none")
        return
    st.dataframe(
        frame,
        hide_index=True,
        column_order=("driver", "meaning", "at", "drives", "driven", "drive", "share"),
        key="trace.paths.table",
        height=min(290, 38 + 35 * len(frame)),
        column_config={
            "driver": link_column(width=80),
            "meaning": MEANING,
            "at": st.column_config.TextColumn("At", width=90),
            "drives": st.column_config.TextColumn("Drives", width=110),
            "driven": st.column_config.LinkColumn(
                "What that means",
                width=260,
                display_text=r"#(.*)$",
                alignment="left",
                help="What the driven neuron fires on; opens it in a new tab",
            ),
            "drive": st.column_config.NumberColumn(
                "Drive", format="%+.4f", width=75, help="Part of the driven neuron's activation: above 0 it strengthens, below 0 it weakens"
            ),
            "share": st.column_config.NumberColumn(
                "Share", format="percent", width=60, help="Share of all that drives that neuron, whatever the sign"
            ),
        },
    )
    examples.on_rows(frame["name"], context.record.model, key="trace.paths.examples")


def edges_table(context: TraceContext, graph: Graph) -> pd.DataFrame:
    """One row for each edge: the driver with its link, token and meaning, what it drives, how much."""
    nodes = {node.id: node for node in graph.nodes}
    known = headlines_for(context.record.model)
    rows = []
    for edge in graph.edges:
        source, target = nodes[edge.source], nodes[edge.target]
        name, driven = (f"{node.layer}:{node.index}{node.polarity}" for node in (source, target))
        rows.append(
            {
                "name": name,
                "driver": neuron_address(name),
                "meaning": meanings([name], [known.get(name, "")])[0],
                "at": f"{visible(context.word(source.token))} ({source.token})",
                "drives": f"{driven} at {target.token}",
                "driven": meanings([driven], [known.get(driven, "")])[0],
                "drive": edge.drive,
                "share": column_share(edge.share),
            }
        )
    return pd.DataFrame(rows)
