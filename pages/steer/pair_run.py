"""Running a conversation steered and unsteered at once, streamed side by side, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import streamlit as st

from neurons.core.errors import NeuronscopeError
from neurons.core.steers import Steer
from neurons.core.types import Message, Sampling
from neurons.models.loaded import LoadedModel
from pages.shared import live_answer, server_wide
from pages.shared.live_answer import Answering
from traces.schema import TraceRecord

_RUN = "steer.run"
_DONE = "steer.done"
_MARK = "steer.mark"
_PROBLEM = "steer.problem"
_PLACE = "steer"
_HEIGHT = "20rem"


def messages_of(record: TraceRecord, *, same_model: bool) -> list[Message]:
    """The conversation that led to a trace's answer; another model's token ids mean nothing to this one."""
    return list(record.messages) if same_model else [replace(message, token_ids=None) for message in record.messages]


def ready(steers: Sequence[Steer]) -> str:
    """Why these steers cannot be run yet, "" when they can."""
    if not steers:
        return "Add a steer first: tick neurons in the Neurons tab and press Suppress or Strengthen, or use a button above."
    if all(steer.is_noop for steer in steers):
        return "Every steer is off, empty or changes nothing: both answers will be the same."
    return ""


def start(messages: Sequence[Message], steers: Sequence[Steer], *, sampling: Sampling, by: LoadedModel | None = None) -> None:
    """Begin both runs in the background. What is wrong with them is shown where they were started."""
    st.session_state.pop(_PROBLEM, None)
    st.session_state.pop(_DONE, None)
    try:
        task = live_answer.start(messages, place=_PLACE, what="answering twice", sampling=sampling, steers=steers, pair=True, by=by)
    except NeuronscopeError as error:
        st.session_state[_PROBLEM] = error
        return
    st.session_state[_RUN] = st.session_state[_MARK] = task.id


def mark() -> str:
    """What the last press began, "" before one."""
    return str(st.session_state.get(_MARK, ""))


def running() -> Answering | None:
    """This browser's pair of runs, while it is being shown as it comes."""
    return live_answer.find(st.session_state.get(_RUN), place=_PLACE)


def finished() -> tuple[str, str, tuple[Steer, ...]] | None:
    """(baseline id, steered id, the cards they were run with) of the last pair of this browser."""
    return st.session_state.get(_DONE)


def dismiss() -> None:
    """Forget the last pair; both traces stay."""
    st.session_state.pop(_DONE, None)


def problem() -> None:
    """Why the last run did not begin or broke off."""
    error = st.session_state.get(_PROBLEM)
    if isinstance(error, NeuronscopeError):
        server_wide.show_error(error)


def live(task: Answering) -> None:
    """Both answers as they come, and a stop button."""
    live_answer.draw(task, key="steer", height=_HEIGHT, on_end=_finish)


def _finish(task: Answering) -> None:
    """Show the comparison, or why there is none."""
    st.session_state.pop(_RUN, None)
    error = task.error()
    st.session_state[_MARK] = f"{task.id} ended"  # what stands there now is longer: it is brought into view anew
    if error is None:
        st.session_state[_DONE] = (*task.result(), task.steers)
    else:
        st.session_state[_PROBLEM] = error
