"""Attributing in the background: what is quick is waited for, what takes longer shows how far it is and can be stopped."""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import wait

import streamlit as st

from neurons.attribution.attribute import Attribution, attribute
from neurons.core.errors import Cancelled, InvalidInput
from neurons.core.types import TargetSpec
from pages.shared import server_wide, untrusted
from pages.shared.server_wide import Job
from pages.shared.trace_context import TraceContext

PATIENCE = 2.5
"""Seconds that a page waits for an attribution before it shows progress and a stop button instead."""
QUIET = 1.6
"""Seconds before there is a spinner: where nothing else draws it, its animation takes a core from the model."""
_KEPT = 2
_WAITING = "trace.attr.job"
_STOPPED = "trace.attr.stopped"

Key = tuple[str, TargetSpec]


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
    waited = server_wide.server().job(st.session_state.get(_WAITING))
    mine = waited if waited is not None and waited.facts.get("attribution") == key else None
    job = mine or _running(key) or _start(context, key)
    st.session_state[_WAITING] = job.id
    if job.future is not None and wait([job.future], timeout=min(QUIET, PATIENCE)).not_done:
        with st.spinner(untrusted.escape(untrusted.sentence(job.what))):
            wait([job.future], timeout=PATIENCE)
    if job.running:
        return None
    try:
        found: Attribution = job.result()
    except Cancelled:
        st.session_state[_STOPPED] = key
        return None
    finally:
        st.session_state.pop(_WAITING, None)
    recent[key] = found
    while len(recent) > _KEPT:
        recent.popitem(last=False)
    return found


def _running(key: Key) -> Job | None:
    return next((job for job in server_wide.server().jobs() if job.facts.get("attribution") == key and job.running), None)


def _start(context: TraceContext, key: Key) -> Job:
    record, loaded = context.record, context.loaded
    if loaded is None:
        raise InvalidInput("this is not computed yet, and the trace's model is not loaded: load it on the Models page")

    def work(job: Job) -> Attribution:
        asked = len(record.prompt_ids)
        return attribute(loaded, record.token_ids, key[1], steers=record.steers, prompt_tokens=asked, share=True, progress=job.progress)

    target = key[1].token
    return server_wide.server().start(f"attributing token {target} to every neuron at the {target} tokens before it", work, attribution=key)


def draw(context: TraceContext, target: TargetSpec) -> bool:
    """How far the attribution is, with a stop button; after a stop, a button to start again. False when there is nothing to say."""
    job = server_wide.server().job(st.session_state.get(_WAITING))
    if job is not None and job.facts.get("attribution") == (context.id, target):
        _progress(job)
        return True
    if st.session_state.get(_STOPPED) != (context.id, target):
        return False
    st.caption(f"Attributing token {target.token} was stopped.")
    if st.button("Attribute it", icon=":material/play_arrow:", key="trace.attr.again"):
        st.session_state.pop(_STOPPED)
        st.rerun()
    return True


@st.fragment(run_every=0.4)
def _progress(job: Job) -> None:
    if not job.running:
        st.rerun()
    left, right = st.columns([4, 1], vertical_alignment="center")
    share = min(1.0, job.done / job.total) if job.total else 0.0
    left.progress(share, text=untrusted.escape(f"{untrusted.sentence(job.what)}: {job.message or 'waiting for the model'}"))
    stopping = job.stopping.is_set()
    right.button("Stop", on_click=job.stop, icon=":material/stop_circle:", key="trace.attr.stop", width="stretch", disabled=stopping)
