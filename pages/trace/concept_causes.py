"""Which concepts caused a token: measured in the background, shown when it is done, kept for the next look."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import streamlit as st

from neurons.core.errors import Cancelled, InvalidInput
from neurons.core.tasks import Task
from neurons.detectors.causes import ConceptCause, measure_causes
from neurons.detectors.store import Detectors
from neurons.runs.steering import compile_edits
from neurons.tracing.words import word_positions
from pages.shared import progress_row, server_wide
from pages.shared.trace_context import TraceContext

PATIENCE = 0.3
"""Seconds that a page waits before it shows progress and a stop button instead."""
_KEPT = 64
_WAITING = "trace.causes.task"
_STOPPED = "trace.causes.stopped"

Causes = tuple[ConceptCause, ...]
Key = tuple[str, int, str]
"""Trace, token, the lexicon's fingerprint."""


@dataclass(eq=False, kw_only=True)
class MeasuringCauses(Task[Causes]):
    """The concepts before one token being taken out."""

    key: Key


@st.cache_resource(show_spinner=False, max_entries=2)
def _measured(root: str) -> OrderedDict[Key, Causes]:
    """What was measured last, for every browser of this server."""
    return OrderedDict()


def causes(context: TraceContext, detectors: Detectors, token: int) -> Causes | None:
    """The measured causes of a token; None while they are measured or after that was stopped, which is then drawn.

    Raises `InvalidInput` where nothing can be measured, `Evicted` without activations.
    """
    key = (context.id, token, detectors.lexicon)
    kept = _measured(server_wide.store().root.as_posix())
    if key in kept:
        return kept[key]
    if st.session_state.get(_STOPPED) == key:
        st.caption(f"Measuring what caused token {token} was stopped.")
        st.button("Measure it", icon=":material/play_arrow:", key="trace.causes.again", on_click=_again)
        return None
    waited = server_wide.server().task(st.session_state.get(_WAITING), MeasuringCauses)
    task = waited if waited is not None and waited.key == key else _running(key) or _start(context, detectors, key)
    st.session_state[_WAITING] = task.id
    if not task.wait(PATIENCE):
        progress_row.watch(task, key="trace.causes")
        return None
    st.session_state.pop(_WAITING, None)
    try:
        kept[key] = task.result()
    except Cancelled:
        st.session_state[_STOPPED] = key
        st.rerun()
    while len(kept) > _KEPT:
        kept.popitem(last=False)
    return kept[key]


def _again() -> None:
    st.session_state.pop(_STOPPED, None)


def _running(key: Key) -> MeasuringCauses | None:
    tasks = (task for task in server_wide.server().tasks() if isinstance(task, MeasuringCauses))
    return next((task for task in tasks if task.key == key and task.running), None)


def _start(context: TraceContext, detectors: Detectors, key: Key) -> MeasuringCauses:
    record, loaded, token = context.record, context.loaded, key[1]
    if loaded is None:
        raise InvalidInput("causes are measured with the trace's model, which is not loaded: load it on the Models page")
    acts_LTI = context.activations()
    task = MeasuringCauses(what=f"measuring which concepts caused token {token}", key=key)

    def work() -> Causes:
        edits = compile_edits(loaded, record.steers, len(record.prompt_ids))
        return measure_causes(
            loaded, detectors, record.token_ids, token, acts_LTI, word_positions(record), edits=edits, progress=task.progress
        )

    server_wide.server().start(task, work)
    return task
