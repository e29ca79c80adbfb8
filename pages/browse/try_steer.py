"""One prompt answered without and with one neuron steered, side by side, with what differs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from neurons.atlas.quantiles import quantiles_for
from neurons.core.errors import InvalidInput, NeuronscopeError
from neurons.core.types import Message, NeuronSide, Sampling, Steer
from neurons.models.chat import decode, encode_prompt
from neurons.models.loaded import LoadedModel
from neurons.runs.generation import Generation, generate
from neurons.runs.steering import resolve
from pages.browse import background, token_lines
from pages.compare import word_changes
from pages.shared import address, server_wide, steer_state, untrusted
from pages.shared.neuron_facts import Known
from pages.shared.server_wide import Job
from traces.compare import word_diff

_RUN = "neurons.steer.run"
MODES = {
    "set": ("Set", "Holds the activation at strength × its strongest in the corpus; 0 suppresses the neuron"),
    "scale": ("Scale", "Multiplies the activation; 1 changes nothing, 0 suppresses the neuron"),
    "add": ("Add", "Adds strength × its strongest activation"),
}
_DEFAULTS: dict[str, Any] = {"prompt": "", "mode": "set", "strength": 2.0, "tokens": 40}


@dataclass(frozen=True, eq=False)
class Answer:
    """One of the two runs, as far as it is shown."""

    text: str
    ids: tuple[int, ...]
    acts_T: NDArray[np.float32]
    """The neuron's own activation at each token of the answer, in this run."""
    ended: str


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
            _begin(found, side, steer, prompt, int(most))
    job = server_wide.server().job(state.get(_RUN))
    if job is not None and job.facts.get("side") == str(side):
        _result(found, side, job)


def _begin(found: Known, side: NeuronSide, steer: Steer, prompt: str, most: int) -> None:
    loaded, sampling = found.loaded, Sampling(max_new_tokens=most)
    before = server_wide.server().job(st.session_state.get(_RUN))
    if before is not None:
        before.stop()
    if steer.is_noop:
        raise InvalidInput("this strength changes nothing: both answers would be the same", field="strength")
    encoded = encode_prompt(loaded, [Message("user", prompt)])

    def work(job: Job) -> tuple[Answer, Answer]:
        needs = quantiles_for(loaded, progress=job.progress) if steer.needs_values else None
        resolved = resolve(loaded, [steer], quantiles=needs, prompt=encoded)
        answers = []
        for number, steers in enumerate(((), resolved)):

            def hear(token: int, number: int = number) -> None:
                job.live.append((number, token))
                job.progress(len(job.live), 2 * most, "answering, " + ("steered" if number else "unsteered"))

            answers.append(_answer(loaded, generate(loaded, encoded.ids, sampling=sampling, steers=steers, on_token=hear), side))
            job.check()
        return answers[0], answers[1]

    job = server_wide.server().start("answering twice", work, kind="neuron steer", side=str(side), steer=steer, prompt=prompt)
    st.session_state[_RUN] = job.id


def _answer(loaded: LoadedModel, run: Generation, side: NeuronSide) -> Answer:
    assert run.acts_LTI is not None
    acts_T = run.acts_LTI[side.layer, len(run.prompt_ids) :, side.index].astype(np.float32)
    return Answer(decode(loaded, run.answer_ids), run.answer_ids, acts_T, run.finish_reason)


def _result(found: Known, side: NeuronSide, job: Job) -> None:
    def so_far() -> None:
        live = list(job.live)
        for number, (place, name) in enumerate(zip(st.columns(2, gap="small"), ("Unsteered", "Steered"), strict=True)):
            with place:
                text = decode(found.loaded, [token for which, token in live if which == number])
                untrusted.draw([(f"{name}\n", "muted"), (text or "…", "")], key=f"neurons.steer.live.{number}", size="0.95rem")

    if not background.watch(job, key="neurons.steer", body=so_far):
        return
    error = job.error()
    if error is not None:
        server_wide.show_error(error)
        return
    without, steered = job.result()
    _compare(found, side, job, without, steered)


def _compare(found: Known, side: NeuronSide, job: Job, without: Answer, steered: Answer) -> None:
    steer: Steer = job.facts["steer"]
    untrusted.draw([("Prompt  ", "muted"), (job.facts["prompt"], "")], key="neurons.steer.asked", size="0.9rem")
    st.caption(f"{steer_state.sentence(steer)} Colour: the neuron's own activation in each run.")
    scale = max((float(np.abs(one.acts_T).max(initial=0.0)) for one in (without, steered)), default=1.0)
    if found.figures is not None:
        scale = abs(float(found.figures.extremes(side.layer)[int(side.polarity == "-"), side.index, 0])) or scale
    for place, name, one in zip(st.columns(2, gap="small"), ("Unsteered", "Steered"), (without, steered), strict=True):
        with place, st.container(border=True):
            st.markdown(f"**{name}**" + (" · cut at the token limit" if one.ended == "length" else ""))
            token_lines.draw(
                [token_lines.passage(found.loaded, one.ids, list(one.acts_T))], key=f"neurons.steer.{name}", scale=scale,
                identity=f"{job.id} {name}", title=f"{name} answer", unit="{} of its strongest",
            )  # fmt: skip
    words = word_diff(without.text, steered.text)
    if all(op.tag == "equal" for op in words):
        untrusted.draw([("The same answer", "strong"), (": this neuron, at this strength, changes no word.", "")], key="neurons.steer.same")
    else:
        untrusted.draw([("Difference  ", "muted"), *word_changes.parts(words)], key="neurons.steer.diff", size="0.95rem")
    if st.button(
        "Use this steer on the Trace page", icon=":material/tune:", key="neurons.steer.use", help="Puts it on a card in the Steer tab"
    ):
        try:
            steer_state.add(steer)
        except NeuronscopeError as problem:
            server_wide.show_error(problem)
        else:
            address.go_to_cards()
