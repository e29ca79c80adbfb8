"""The conversation of the Trace page: the strip, the live answer, and what can be said next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import streamlit as st

from neurons.core.errors import NeuronscopeError, NotFound
from neurons.core.steers import Steer
from neurons.core.types import Message, Sampling
from neurons.models.loaded import LoadedModel
from neurons.runs.steering import unplaced
from pages.shared import address_state, live_answer, sampling_settings, server_wide, strip, trace_context, untrusted
from pages.shared.live_answer import Answering
from pages.shared.trace_context import STRIP_KEY, TraceContext
from pages.trace import wrong_answer
from traces.schema import TraceRecord

_RUN = "trace.run"
_SEEN = "trace.run.seen"
_PROBLEM = "trace.problem"
_BACK = "trace.input.back"
_PLACE = "trace"
_GOES_ON_NEXT = "trace.goes_on.next"
PROMPTS = ("What is the capital of Australia?", "What is the capital of Turkey?", "Write one sentence about the sea.")
BELOW = 190
"""Pixels that the controls and the input take below the strip."""
STEERED = 40
"""Pixels more where the trace's steers have a switch, which takes a second line in a narrow window."""


class AnswerState(address_state.PageState):
    """The answer that is being written."""

    run: address_state.Named = None


def running() -> Answering | None:
    """The answer being written for this browser, found again after a reload by the address."""
    mine, asked = st.session_state.get(_RUN), address_state.read(AnswerState).run
    task = live_answer.find(mine or asked, place=_PLACE)
    if task is None or (task.id != mine and task.id in st.session_state.get(_SEEN, ())):  # Back must not lead to the newest answer
        if asked is not None:
            st.query_params.pop("run", None)
        if asked is not None and task is None:
            what = "the answer that the link follows is not being written here; if it ended, it is on the page Traces"
            st.session_state[_PROBLEM] = NotFound(what)
        return None
    return task


def start(messages: Sequence[Message], *, sampling: Sampling, steers: Sequence[Steer] = (), by: LoadedModel | None = None) -> bool:
    """Begin an answer in the background, by `by` or the server's model. False when it cannot begin: why is shown above the input."""
    st.session_state.pop(_PROBLEM, None)
    try:
        task = live_answer.start(messages, place=_PLACE, what="answering", sampling=sampling, steers=steers, by=by)
    except NeuronscopeError as error:
        st.session_state[_PROBLEM] = error
        return False
    st.session_state[_RUN] = st.query_params["run"] = task.id
    st.session_state[_SEEN] = (*st.session_state.get(_SEEN, ()), task.id)
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


def answerer(context: TraceContext | None) -> LoadedModel | None:
    """The model that goes on with the open conversation: its own where that is loaded, else the server's."""
    return context.answerer if context is not None else server_wide.model()


def ask(text: str, context: TraceContext | None) -> None:
    """Send a user's question: a conversation of its own, or, where a person chose so, the open one's next turn. Under its steers."""
    on = context is not None and goes_on(context)
    before = conversation(context.record, same_model=context.loaded is not None) if context is not None and on else []
    if not _send([*before, Message("user", text)], context, sampling_settings.sampling(), on=on):
        st.session_state[_BACK] = text
    st.rerun()


def _send(turns: Sequence[Message], context: TraceContext | None, sampling: Sampling, *, on: bool) -> bool:
    """Have turns answered behind the present system prompt, under the open trace's steers. `on`: the answer's trace goes on in turn."""
    st.session_state[_GOES_ON_NEXT] = on
    return start(with_system(turns), sampling=sampling, steers=kept_steers(context), by=answerer(context))


def goes_on(context: TraceContext) -> bool:
    """Whether a person chose that the next question goes on with the open conversation."""
    return bool(st.session_state.get(f"trace.goes_on.{context.id}", False))


def sent(context: TraceContext | None) -> str:
    """What goes to the model with the next question, in words made of our own text and numbers."""
    system = sampling_settings.system_prompt()
    after = "with your system prompt" if system else "no system prompt of yours"
    if context is None or not goes_on(context):
        return f"A new conversation, {after}."
    turns = len(conversation(context.record, same_model=True))
    return f"Sent with the {turns} turns before it, {after}."


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
        made = task.result()[0]
        st.session_state[f"trace.goes_on.{made}"] = bool(st.session_state.pop(_GOES_ON_NEXT, False))
        trace_context.open_trace(made)
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
    if answerer(context) is None:
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
            sampling_settings.take_over(sampling_settings.sampling(), "")
            trace_context.open_trace(None)
            st.rerun()
        wrong_answer.offer(context)
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
    return _send(turns, context, settings, on=goes_on(context))


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
    st.caption("Everything after this turn is dropped, and your message is answered again. The present trace stays as it is.")
    if st.button("Send", type="primary", icon=":material/send:", key="trace.edit.send"):
        if _send([*turns[:chosen], Message("user", text)], context, sampling_settings.sampling(), on=goes_on(context)):
            st.rerun()
        _problem()


def _problem() -> None:
    error: Any = st.session_state.get(_PROBLEM)
    if isinstance(error, NeuronscopeError):
        server_wide.show_error(error)


def _input(context: TraceContext | None, *, busy: bool) -> None:
    problem = st.container()
    loaded = answerer(context)
    if loaded is not None and not loaded.has_chat_template:
        st.caption("Plain completion: this model has no chat template, so it goes on with your text instead of answering it.")
    waiting = "Wait for the answer, or stop it" if busy else "Ask the model something" if loaded else "The model is loading"
    system = sampling_settings.system_prompt()
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if context is not None and not busy:
            st.toggle(
                "Go on",
                key=f"trace.goes_on.{context.id}",
                help="On: your next question is the next turn of this conversation. Off: it begins a new one.",
            )
        help_text = f"System prompt: {untrusted.escape(system[:500])}" if system else "The model's own template may add one"
        st.caption(sent(context), help=help_text)
    if _BACK in st.session_state:  # it was refused: what was typed is in its field again
        st.session_state["trace.input"] = st.session_state.pop(_BACK)
    text = st.chat_input(waiting, key="trace.input", max_chars=200_000, disabled=busy or loaded is None)
    if text:
        ask(text, context)
    with problem:
        _problem()
