"""One prompt answered without and with one neuron steered, side by side, with what differs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from neurons.core.errors import InvalidInput, NeuronscopeError, NotFound
from neurons.core.steers import Steer
from neurons.core.types import Message, NeuronSide, Sampling
from pages.browse import token_lines
from pages.compare import word_changes
from pages.shared import address, live_answer, server_wide, steer_state, untrusted
from pages.shared.live_answer import Answering
from pages.shared.neuron_facts import Known
from traces import Evicted
from traces.compare import word_diff
from traces.schema import TraceRecord

_RUN = "neurons.steer.run"
_HEIGHT = "12rem"
_ENDED = {"length": " · cut at the token limit", "cancelled": " · stopped", "context": " · cut at the model's longest text"}
MODES = {
    "set": ("Set", "Holds the activation at strength × its strongest in the corpus; 0 suppresses the neuron"),
    "scale": ("Scale", "Multiplies the activation; 1 changes nothing, 0 suppresses the neuron"),
    "add": ("Add", "Adds strength × its strongest activation"),
}
_DEFAULTS: dict[str, Any] = {"prompt": "", "mode": "set", "strength": 2.0, "tokens": 40}


@dataclass(frozen=True, eq=False)
class Answer:
    """One of the two runs, as far as it is shown."""

    record: TraceRecord
    acts_T: NDArray[np.float32] | None
    """The neuron's own activation at each token of the answer, in this run; None where they are no longer stored."""


def draw(found: Known, side: NeuronSide) -> None:
    """The form, the progress with both answers as they come, and the comparison."""
    state = st.session_state
    for name, value in _DEFAULTS.items():
        state.setdefault(f"neurons.steer.{name}", value)
    keep: dict[str, Any] = {"persist_state": "session"}
    with st.form("neurons.steer", border=False):
        prompt = st.text_area(
            "Prompt", key="neurons.steer.prompt", height=80, placeholder="What should both answer?", max_chars=20_000, **keep
        )
        mode, strength, tokens, go = st.columns([1.3, 1, 1, 1], vertical_alignment="bottom")
        how = mode.selectbox(
            "What is done", list(MODES), key="neurons.steer.mode", format_func=lambda name: MODES[name][0], **keep,
            help="\n".join(f"- **{label}**: {told}" for label, told in MODES.values()),
        )  # fmt: skip
        much = strength.number_input(
            "Strength", -1000.0, 1000.0, step=0.5, key="neurons.steer.strength", **keep,
            help="In units of its strongest activation in the corpus (with Scale: a factor). A single neuron seldom changes an answer "
            "below 2; strong values break the text",
        )  # fmt: skip
        most = tokens.number_input("Tokens", 1, 400, step=10, key="neurons.steer.tokens", **keep, help="Longest answer; greedy decoding")
        sent = go.form_submit_button("Run both", icon=":material/play_arrow:", type="primary", width="stretch")
    steer = Steer((side,), how, float(much), name=f"{MODES[how][0]} {side} at {much:g}")
    if sent:
        with server_wide.errors_shown():
            _begin(side, steer, prompt, int(most))
    task = live_answer.find(state.get(_RUN), place=_place(side))
    if task is None or task.model.weights_hash != found.loaded.ref.weights_hash:
        return
    if task.running:
        live_answer.draw(task, key="neurons.steer", height=_HEIGHT)
        return
    with server_wide.errors_shown():
        _compare(found, side, task, *(_answer(trace, side) for trace in task.result()))


def _place(side: NeuronSide) -> str:
    return f"neuron {side}"


def _begin(side: NeuronSide, steer: Steer, prompt: str, most: int) -> None:
    if steer.is_noop:
        raise InvalidInput("this strength changes nothing: both answers would be the same", field="strength")
    before = server_wide.server().task(st.session_state.get(_RUN), Answering)
    if before is not None:
        before.stop()
    task = live_answer.start(
        [Message("user", prompt)],
        place=_place(side),
        what="answering twice",
        sampling=Sampling(max_new_tokens=most),
        steers=[steer],
        pair=True,
    )
    st.session_state[_RUN] = task.id


def _answer(trace: str, side: NeuronSide) -> Answer:
    store = server_wide.store()
    record = store.load(trace)
    try:
        acts_T = store.read(trace, "activations", layer=side.layer, neuron=side.index).ravel()[len(record.prompt_ids) :]
    except (Evicted, NotFound):
        return Answer(record, None)
    return Answer(record, acts_T.astype(np.float32))


def _compare(found: Known, side: NeuronSide, task: Answering, without: Answer, steered: Answer) -> None:
    (steer,) = task.steers
    untrusted.draw([("Prompt  ", "muted"), (without.record.messages[-1].content, "")], key="neurons.steer.asked", size="0.9rem")
    st.caption(f"{steer_state.sentence(steer)} Colour: the neuron's own activation in each run.")
    scale = max((float(np.abs(one.acts_T).max(initial=0.0)) for one in (without, steered) if one.acts_T is not None), default=1.0)
    if found.figures is not None:
        scale = abs(float(found.figures.extremes(side.layer)[int(side.polarity == "-"), side.index, 0])) or scale
    for place, name, one in zip(st.columns(2, gap="small"), ("Unsteered", "Steered"), (without, steered), strict=True):
        acts = None if one.acts_T is None else [float(act) for act in one.acts_T]
        with place, st.container(border=True):
            st.markdown(f"**{name}**" + _ENDED.get(one.record.finish_reason, ""))
            token_lines.draw(
                [token_lines.passage(found.loaded, one.record.answer_ids, acts)], key=f"neurons.steer.{name}", scale=scale,
                identity=f"{task.id} {name}", title=f"{name} answer", unit="{} of its strongest",
            )  # fmt: skip
            if acts is None:
                st.caption("Its activations were removed for the disk budget.")
    words = word_diff(without.record.answer, steered.record.answer)
    if all(op.tag == "equal" for op in words):
        untrusted.draw([("The same answer", "strong"), (": this neuron, at this strength, changes no word.", "")], key="neurons.steer.same")
    else:
        untrusted.draw([("Difference  ", "muted"), *word_changes.parts(words)], key="neurons.steer.diff", size="0.95rem")
    with st.container(horizontal=True):
        _next(steer, without.record, steered.record)


def _next(steer: Steer, without: TraceRecord, steered: TraceRecord) -> None:
    """What can be done with the two runs, which are saved as traces."""
    if st.button("Compare the two traces", icon=":material/compare:", key="neurons.steer.compare", help="Both runs are saved"):
        address.go("compare", a=without.id, b=steered.id)
    if st.button(
        "Use this steer on the Trace page", icon=":material/tune:", key="neurons.steer.use", help="Puts it on a card in the Steer tab"
    ):
        try:
            steer_state.add(steer)
        except NeuronscopeError as problem:
            server_wide.show_error(problem)
        else:
            address.go_to_cards()
