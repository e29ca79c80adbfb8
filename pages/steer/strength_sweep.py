"""What strength does: the steers run at many strengths, the probability of one token and the answer at each."""

from __future__ import annotations

from dataclasses import dataclass, replace

import altair as alt
import numpy as np
import pandas as pd
import streamlit as st

from neurons.core.percent import column_share, percent
from neurons.core.steers import Steer
from neurons.core.tasks import Task
from neurons.models.chat import single_token
from neurons.tracing.sentence import visible
from neurons.tracing.sweeps import Sweep, sweep
from pages.shared import figures, progress_row, sampling_settings, server_wide, steer_state, untrusted
from pages.shared.palette import colour
from pages.shared.tables import downloads
from pages.shared.trace_context import TraceContext
from pages.steer import pair_run

_TASK = "steer.sweep.job"
_MOST_POINTS = 41


@dataclass(eq=False, kw_only=True)
class Sweeping(Task[Sweep]):
    """Steers being run at many strengths."""

    steers: tuple[Steer, ...]
    """The cards as they were: the result is stale once they are others."""


def draw(context: TraceContext) -> None:
    """The settings, the running sweep, its result."""
    task = server_wide.server().task(st.session_state.get(_TASK), Sweeping)
    _settings(context, busy=task is not None and task.running)
    if task is None or not progress_row.watch(task, key="steer.sweep"):
        return
    error = task.error()
    if error is not None:
        server_wide.show_error(error)
        return
    if task.steers != steer_state.steers():
        st.caption(":material/history: Stale: the cards were changed after this sweep.")
    _result(task.result())


def _settings(context: TraceContext, *, busy: bool) -> None:
    steers = tuple(steer for steer in steer_state.steers() if steer.neurons and steer.enabled)
    off = len(steer_state.steers()) - len(steers)
    scales = bool(steers) and all(steer.mode == "scale" for steer in steers)
    left_out = f" {off} that {'is' if off == 1 else 'are'} off or without neurons {'is' if off == 1 else 'are'} left out." if off else ""
    st.caption(
        "Every steer above that is on, at each strength in turn, with the same seed and settings; one token's probability is followed."
        + left_out
    )
    reach, count, length = st.columns([3, 1, 1.2], vertical_alignment="bottom")
    low, high = reach.slider("Strengths", -4.0, 8.0, (0.0, 2.0) if scales else (-1.0, 1.0), 0.25, key="steer.sweep.reach", disabled=busy)
    points = count.number_input("Points", 2, _MOST_POINTS, 9, key="steer.sweep.points", disabled=busy)
    tokens = length.number_input(
        "Answer tokens",
        0,
        512,
        16,
        key="steer.sweep.tokens",
        disabled=busy,
        help="How far each answer is written; 0 follows the probability only",
    )
    place, word, go = st.columns([1, 1.6, 1.2], vertical_alignment="bottom")
    start = max(0, context.token - len(context.record.prompt_ids))
    offset = place.number_input(
        "Token of the answer",
        0,
        10_000,
        start,
        key=f"steer.sweep.offset.{context.id}.{start}",
        disabled=busy,
        help="Counted from 0; the unsteered answer up to it is kept",
    )
    text = word.text_input(
        "Followed token",
        key="steer.sweep.token",
        placeholder="the token of the unsteered answer",
        disabled=busy,
        help="Its text, with a leading space where it has one",
    )
    pressed = go.button(
        "Sweep", icon=":material/show_chart:", key="steer.sweep.go", disabled=busy or not steers or high <= low, width="stretch"
    )
    if pressed:
        with server_wide.errors_shown():
            _start(context, steers, np.linspace(low, high, int(points)).round(4).tolist(), int(tokens), int(offset), text)
            st.rerun()


def _start(context: TraceContext, steers: tuple[Steer, ...], strengths: list[float], tokens: int, offset: int, text: str) -> None:
    loaded = context.answerer
    if loaded is None:
        return
    token_id = single_token(loaded, text) if text else None
    sampling = replace(sampling_settings.sampling(), max_new_tokens=max(1, tokens))
    messages = pair_run.messages_of(context.record, same_model=context.loaded is not None)

    task = Sweeping(what="sweeping strengths", steers=steer_state.steers())

    def work() -> Sweep:
        return sweep(
            loaded,
            messages,
            steers,
            strengths,
            sampling=sampling,
            token_id=token_id,
            offset=offset,
            answers=tokens > 0,
            progress=task.progress,
        )

    server_wide.server().start(task, work)
    st.session_state[_TASK] = task.id


def _result(found: Sweep) -> None:
    frame = found.table()
    token = visible(found.token)
    untrusted.draw(
        [
            ("Probability of ", ""),
            (token, "token"),
            (f" at token {found.position}. Unsteered: {percent(found.baseline_probability, exact=False)}.", ""),
        ],
        key="steer.sweep.said",
    )
    tooltip = [
        alt.Tooltip("strength:Q", title="Strength"),
        alt.Tooltip("probability:Q", title="Probability", format=".3f"),
        alt.Tooltip("rank:Q", title="Rank, 0 is first"),
        alt.Tooltip("kl:Q", title="KL from unsteered, nats", format=".3g"),
    ]
    base = alt.Chart(frame).encode(x=alt.X("strength:Q", title="Strength"), tooltip=tooltip)
    line = base.encode(y=alt.Y("probability:Q", title="Probability of the token", scale=alt.Scale(domain=[0, 1])))
    level = alt.Chart(pd.DataFrame({"y": [found.baseline_probability]})).mark_rule(strokeDash=[4, 3], color=colour("muted")).encode(y="y:Q")
    picture = level + line.mark_line(color=colour("amount")) + line.mark_point(color=colour("amount"), filled=True, size=60)
    if frame["changed_words"].notna().any():
        changed = base.encode(y=alt.Y("changed_words:Q", scale=alt.Scale(domain=[0, 1])))
        picture += changed.mark_line(color=colour("selection"), strokeDash=[2, 2])
    figures.chart(picture.properties(height=240), key="steer.sweep.chart", stem="strength-sweep")
    st.caption("Solid: probability of the token. Grey dashes: unsteered. Dotted: share of the answer's words that change.")
    shares = ("probability", "changed_words")
    shown = frame.assign(**{name: frame[name].astype(float).map(column_share) for name in shares})
    columns = {
        "strength": st.column_config.NumberColumn("Strength", format="%.3g", width=70),
        "probability": st.column_config.NumberColumn("Probability", format="percent", width=80),
        "rank": st.column_config.NumberColumn("Rank", width=50, help="0 is the most probable"),
        "changed_words": st.column_config.NumberColumn(
            "Changed", format="percent", width=70, help="Share of words not in common with the unsteered answer"
        ),
        "answer": st.column_config.TextColumn("Answer", width=360),
    }
    if frame["answer"].isna().all():
        columns.pop("answer"), columns.pop("changed_words")
    st.dataframe(
        shown,
        column_order=list(columns),
        column_config=columns,
        hide_index=True,
        height=min(380, 40 + 35 * len(frame)),
        key="steer.sweep.table",
    )
    downloads(frame, "strength-sweep", key="steer.sweep.file")
