"""Attributing in the background: what is quick is waited for, what takes longer shows how far it is and can be stopped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import streamlit as st

from neurons.attribution.attribute import DEFAULT, Attribution, attribute
from neurons.attribution.forecast import forecast, note_pace
from neurons.core.errors import Cancelled, InvalidInput
from neurons.core.tasks import Task
from neurons.core.types import TargetSpec
from pages.shared import progress_row, server_wide, untrusted
from pages.shared.kept import STORE
from pages.shared.trace_context import TraceContext

PATIENCE = 2.5
"""Seconds that a page waits for an attribution before it shows progress and a stop button instead."""
QUIET = 1.6
"""Seconds before there is a spinner: where nothing else draws it, its animation takes a core from the model."""
_WAITING = "trace.attr.job"
_STOPPED = "trace.attr.stopped"
_AGREED = "trace.attr.agreed"

Key = tuple[str, TargetSpec, str]
"""A trace, what is explained in it, and by which method."""


@dataclass(eq=False, kw_only=True)
class Attributing(Task[None]):
    """One token of a trace being attributed. What it finds goes where there is a limit in bytes: a task is remembered longer."""

    key: Key


def _place(key: Key) -> tuple[str, str, Key]:
    """Where whole attributions are kept, so that restricting the sources is instant."""
    return "attribution", server_wide.store().root.as_posix(), key


def whole(context: TraceContext, target: TargetSpec, method: str) -> Attribution | None:
    """The whole attribution of a target, or None while it is computed or after it was stopped: `draw` then says so."""
    key = (context.id, target, method)
    known = cast("Attribution | None", STORE.find(_place(key)))
    if known is not None:
        return known
    if st.session_state.get(_STOPPED) == key:
        return None
    waited = server_wide.server().task(st.session_state.get(_WAITING), Attributing)
    mine = waited if waited is not None and waited.key == key else None
    task = mine or server_wide.server().running(Attributing, lambda one: one.key == key)
    if task is None and not _agreed(context, key):
        return None
    task = task or _start(context, key)
    st.session_state[_WAITING] = task.id
    if not task.wait(min(QUIET, PATIENCE)):
        with st.spinner(untrusted.escape(untrusted.sentence(task.what))):
            task.wait(PATIENCE)
    if task.running:
        return None
    try:
        task.result()
    except Cancelled:
        st.session_state[_STOPPED] = key
        return None
    finally:
        st.session_state.pop(_WAITING, None)
    return cast("Attribution | None", STORE.find(_place(key)))


def _agreed(context: TraceContext, key: Key) -> bool:
    """Whether to begin: at once where it is quick, after a click where it is long. Raises `InvalidInput` where the memory would not do."""
    if context.loaded is None or st.session_state.get(_AGREED) == key:
        return True
    return not forecast(context.loaded, key[1].token, key[2]).check(key[1].token).long


def _start(context: TraceContext, key: Key) -> Attributing:
    record, loaded = context.record, context.loaded
    if loaded is None:
        raise InvalidInput("this is not computed yet, and the trace's model is not loaded: load it on the Models page")

    target = key[1].token
    task = Attributing(what=f"attributing token {target} to every neuron at the {target} tokens before it", key=key)

    place = _place(key)

    def work() -> None:
        asked = len(record.prompt_ids)
        found = attribute(
            loaded,
            record.token_ids,
            key[1],
            steers=record.steers,
            prompt_tokens=asked,
            method=key[2],
            share=True,
            progress=task.progress,
        )
        if key[2] == DEFAULT:
            note_pace(loaded, target, found.seconds)
        STORE.put(place, found)

    server_wide.server().start(task, work)
    return task


def draw(context: TraceContext, target: TargetSpec, method: str) -> bool:
    """How far the attribution is, with a stop button; after a stop, a button to start again. False when there is nothing to say."""
    task = server_wide.server().task(st.session_state.get(_WAITING), Attributing)
    key = (context.id, target, method)
    if task is not None and task.key == key:
        if progress_row.watch(task, key="trace.attr"):
            st.rerun()
        return True
    if st.session_state.get(_STOPPED) == key:
        st.caption(f"Attributing token {target.token} was stopped.")
    elif context.loaded is not None and STORE.find(_place(key)) is None and not _agreed(context, key):
        expected = forecast(context.loaded, target.token, method)
        st.caption(
            f"Attributing token {target.token} to all before it takes about {progress_row.time_text(expected.seconds)} and "
            f"{expected.bytes / 1e9:.1f} GB of memory. Others are served in between, and you can stop it."
        )
    else:
        return False
    if st.button("Attribute it", icon=":material/play_arrow:", key="trace.attr.again"):
        st.session_state.pop(_STOPPED, None)
        st.session_state[_AGREED] = key
        st.rerun()
    return True
