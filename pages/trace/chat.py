"""The conversation of the Trace page: the strip, the live answer, and what can be said next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import streamlit as st

from neurons.core.errors import NeuronscopeError
from neurons.core.types import Message, Sampling, Steer
from neurons.runs.steering import unplaced
from pages.shared import live_answer, sampling_settings, server_wide, strip, trace_context
from pages.shared.live_answer import Answering
from pages.shared.trace_context import STRIP_KEY, TraceContext
from traces.schema import TraceRecord

_RUN = "trace.run"
_PROBLEM = "trace.problem"
_PLACE = "trace"
PROMPTS = ("What is the capital of Australia?", "What is the capital of Turkey?", "Write one sentence about the sea.")
BELOW = 150
"""Pixels that the controls and the input take below the strip."""
STEERED = 40
"""Pixels more where the trace's steers have a switch, which takes a second line in a narrow window."""


def running() -> Answering | None:
    """The answer being written for this browser, found again after a reload by the address."""
    task = live_answer.find(st.session_state.get(_RUN) or st.query_params.get("run"), place=_PLACE)
    if task is None:
        st.query_params.pop("run", None)
    return task


def start(messages: Sequence[Message], *, sampling: Sampling, steers: Sequence[Steer] = ()) -> bool:
    """Begin an answer in the background. False when it cannot begin: the reason is shown above the input."""
    st.session_state.pop(_PROBLEM, None)
    try:
        task = live_answer.start(messages, place=_PLACE, what="answering", sampling=sampling, steers=steers)
    except NeuronscopeError as error:
        st.session_state[_PROBLEM] = error
        return False
    st.session_state[_RUN] = st.query_params["run"] = task.id
    return True


def conversation(record: TraceRecord, *, same_model: bool, answered: bool = True) -> list[Message]:
    """The turns of a trace, with its answer, without the system prompt. Ids of another model's answers are dropped."""
    turns = [message for message in record.messages if message.role != "system"]
    if answered and record.answer_ids:
        turns.append(Message("assistant", record.answer, record.answer_ids))
    return turns if same_model else [replace(turn, token_ids=None) for turn in turns]


def with_system(turns: Sequence[Message]) -> list[Message]:
    """The turns behind the present system prompt."""
    system = sampling_settings.system_prompt()
    return [*([Message("system", system)] if system else []), *turns]


def kept_steers(context: TraceContext | None) -> tuple[Steer, ...]:
    """The open trace's steers, which the next answers go on with; none where they are let go, or belong to another model."""
    if context is None or context.loaded is None or not st.session_state.get(f"trace.steered.{context.id}", True):
        return ()
    return unplaced(context.record.steers)


def ask(text: str, context: TraceContext | None) -> None:
    """Send a user's turn at the end of the open conversation, under its steers."""
    before = conversation(context.record, same_model=context.loaded is not None) if context else []
    turns = with_system([*before, Message("user", text)])
    if start(turns, sampling=sampling_settings.sampling(), steers=kept_steers(context)):
        st.rerun()


def draw(context: TraceContext | None, shown: strip.Strip | None) -> strip.Ranges:
    """The conversation and its controls; returns the selected token ranges."""
    task = running()
    ranges: strip.Ranges = ()
    if task is not None:
        live_answer.draw(task, key="trace", height=BELOW, on_end=_finish)
    else:
        if context is not None and shown is not None:
            ranges = strip.draw(shown, key=STRIP_KEY, height=BELOW + (STEERED if context.record.steers else 0))
        else:
            _welcome()
        _controls(context)
    _input(context, busy=task is not None)
    return ranges


def _finish(task: Answering) -> None:
    """Show what the run became, or why it failed."""
    st.session_state.pop(_RUN, None)
    st.query_params.pop("run", None)
    error = task.error()
    if error is None:
        trace_context.open_trace(task.result()[0])
    else:
        st.session_state[_PROBLEM] = error


def _welcome() -> None:
    with st.container(border=True, height=max(250, strip.room_beside() - BELOW + 30)):
        st.markdown("**A new conversation.** Ask something below, or begin with one of these:")
        for number, prompt in enumerate(PROMPTS):
            if st.button(prompt, key=f"trace.try.{number}", icon=":material/chat:"):
                ask(prompt, None)


def _controls(context: TraceContext | None) -> None:
    """What can be done with the last turn; while there is no model, how far it is."""
    if server_wide.model() is None:
        server_wide.loading_notice()
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if context is None:
            return
        again = st.button(
            "Regenerate", icon=":material/refresh:", key="trace.again", help="Answer the last turn again with the settings as they are now"
        )
        edit = st.button(
            "Edit", icon=":material/edit:", key="trace.edit", help="Edit a turn of yours and send it again; what came after it is dropped"
        )
        if st.button(
            "New",
            icon=":material/add_comment:",
            key="trace.new",
            help="Clear: begin an empty conversation. This one stays among the traces.",
        ):
            trace_context.open_trace(None)
            st.rerun()
        _steers(context)
        if again and _regenerate(context):
            st.rerun()
        if edit:
            _edit(context)


def _steers(context: TraceContext) -> None:
    """Whether the next answers are steered as the open trace was: said, and a switch."""
    count = len(context.record.steers)
    if not count:
        return
    words = f"{count} steer{'' if count == 1 else 's'}"
    if context.loaded is None:
        st.caption(f"The trace's {words} belong to another model: the next answer is unsteered.")
        return
    st.toggle(
        f"Keep this trace's {words}",
        value=True,
        key=f"trace.steered.{context.id}",
        help="Regenerate, Edit and the next question are answered under the same steers; off: unsteered",
    )


def _regenerate(context: TraceContext) -> bool:
    """At a temperature above 0, the same seed would give the same answer: take the next one."""
    settings = sampling_settings.sampling()
    if not settings.greedy and settings == context.record.sampling:
        settings = replace(settings, seed=settings.seed + 1)
        sampling_settings.take_over(settings, sampling_settings.system_prompt())
    turns = conversation(context.record, same_model=context.loaded is not None, answered=False)
    return start(with_system(turns), sampling=settings, steers=kept_steers(context))


@st.dialog("Edit and resend", width="large")
def _edit(context: TraceContext) -> None:
    turns = conversation(context.record, same_model=context.loaded is not None, answered=False)
    mine = [number for number, turn in enumerate(turns) if turn.role == "user"]
    chosen = mine[-1] if mine else 0
    if len(mine) > 1:
        chosen = st.selectbox(
            "Which turn", mine, index=len(mine) - 1, format_func=lambda n: f"{mine.index(n) + 1}: {turns[n].content[:60]}"
        )
    text = st.text_area("Your message", value=turns[chosen].content if turns else "", height=160, key=f"trace.edit.{context.id}.{chosen}")
    st.caption("Everything after this turn is answered anew. The present trace stays as it is.")
    if st.button("Send", type="primary", icon=":material/send:", key="trace.edit.send"):
        sent = with_system([*turns[:chosen], Message("user", text)])
        if start(sent, sampling=sampling_settings.sampling(), steers=kept_steers(context)):
            st.rerun()
        _problem()


def _problem() -> None:
    error: Any = st.session_state.get(_PROBLEM)
    if isinstance(error, NeuronscopeError):
        server_wide.show_error(error)


def _input(context: TraceContext | None, *, busy: bool) -> None:
    problem = st.container()
    loaded = server_wide.model()
    if loaded is not None and not loaded.has_chat_template:
        st.caption("Plain completion: this model has no chat template, so it goes on with your text instead of answering it.")
    waiting = "Wait for the answer, or stop it" if busy else "Ask the model something" if loaded else "The model is loading"
    text = st.chat_input(waiting, key="trace.input", max_chars=200_000, disabled=busy or loaded is None)
    if text:
        ask(text, context)
    with problem:
        _problem()
