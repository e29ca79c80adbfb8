"""Attributing in the background: what is quick is waited for, what takes longer shows how far it is and can be stopped."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import streamlit as st

from neurons.attribution.attribute import Attribution, attribute
from neurons.core.errors import Cancelled, InvalidInput
from neurons.core.tasks import Task
from neurons.core.types import TargetSpec
from pages.shared import progress_row, server_wide, untrusted
from pages.shared.trace_context import TraceContext

PATIENCE = 2.5
"""Seconds that a page waits for an attribution before it shows progress and a stop button instead."""
QUIET = 1.6
"""Seconds before there is a spinner: where nothing else draws it, its animation takes a core from the model."""
_KEPT = 2
_WAITING = "trace.attr.job"
_STOPPED = "trace.attr.stopped"

Key = tuple[str, TargetSpec]


@dataclass(eq=False, kw_only=True)
class Attributing(Task[Attribution]):
    """One token of a trace being attributed."""

    key: Key


@st.cache_resource(show_spinner=False, max_entries=2)
def _recent(root: str) -> OrderedDict[Key, Attribution]:
    """The newest whole attributions, so that restricting the sources is instant."""
    return OrderedDict()


def whole(context: TraceContext, target: TargetSpec) -> Attribution | None:
    """The whole attribution of a target, or None while it is computed or after it was stopped: `draw` then says so."""
    key = (context.id, target)
    recent = _recent(server_wide.store().root.as_posix())
    if key in recent:
        return recent[key]
    if st.session_state.get(_STOPPED) == key:
        return None
    waited = server_wide.server().task(st.session_state.get(_WAITING), Attributing)
    mine = waited if waited is not None and waited.key == key else None
    task = mine or _running(key) or _start(context, key)
    st.session_state[_WAITING] = task.id
    if not task.wait(min(QUIET, PATIENCE)):
        with st.spinner(untrusted.escape(untrusted.sentence(task.what))):
            task.wait(PATIENCE)
    if task.running:
        return None
    try:
        found = task.result()
    except Cancelled:
        st.session_state[_STOPPED] = key
        return None
    finally:
        st.session_state.pop(_WAITING, None)
    recent[key] = found
    while len(recent) > _KEPT:
        recent.popitem(last=False)
    return found


def _running(key: Key) -> Attributing | None:
    tasks = (task for task in server_wide.server().tasks() if isinstance(task, Attributing))
    return next((task for task in tasks if task.key == key and task.running), None)


def _start(context: TraceContext, key: Key) -> Attributing:
    record, loaded = context.record, context.loaded
    if loaded is None:
        raise InvalidInput("this is not computed yet, and the trace's model is not loaded: load it on the Models page")

    target = key[1].token
    task = Attributing(what=f"attributing token {target} to every neuron at the {target} tokens before it", key=key)

    def work() -> Attribution:
        asked = len(record.prompt_ids)
        return attribute(loaded, record.token_ids, key[1], steers=record.steers, prompt_tokens=asked, share=True, progress=task.progress)

    server_wide.server().start(task, work)
    return task


def draw(context: TraceContext, target: TargetSpec) -> bool:
    """How far the attribution is, with a stop button; after a stop, a button to start again. False when there is nothing to say."""
    task = server_wide.server().task(st.session_state.get(_WAITING), Attributing)
    if task is not None and task.key == (context.id, target):
        if progress_row.watch(task, key="trace.attr"):
            st.rerun()
        return True
    if st.session_state.get(_STOPPED) != (context.id, target):
        return False
    st.caption(f"Attributing token {target.token} was stopped.")
    if st.button("Attribute it", icon=":material/play_arrow:", key="trace.attr.again"):
        st.session_state.pop(_STOPPED)
        st.rerun()
    return True
