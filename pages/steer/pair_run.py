"""Running a conversation steered and unsteered at once, streamed side by side, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import streamlit as st

from neurons.core.errors import InvalidInput, NeuronscopeError
from neurons.core.types import Message, Sampling, Segment, Steer
from neurons.models.chat import EncodedPrompt, encode_prompt, token_pieces
from neurons.models.loaded import LoadedModel
from neurons.tracing.record import Side, run_pair
from pages.shared import server_wide, strip, untrusted
from pages.shared.server_wide import Job
from traces.schema import TraceRecord

_RUN = "steer.run"
_DONE = "steer.done"
_PROBLEM = "steer.problem"
_HEIGHT = "20rem"
_NAMES: dict[Side, str] = {"baseline": "Unsteered", "steered": "Steered"}


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


def start(messages: Sequence[Message], steers: Sequence[Steer], *, sampling: Sampling) -> None:
    """Begin both runs in the background. What is wrong with them is shown where they were started."""
    st.session_state.pop(_PROBLEM, None)
    st.session_state.pop(_DONE, None)
    loaded, store = server_wide.model(), server_wide.store()
    try:
        if loaded is None:
            raise InvalidInput("the model is still loading; try again in a moment")
        prompt = encode_prompt(loaded, messages)
        sampling.check()
    except NeuronscopeError as error:
        st.session_state[_PROBLEM] = error
        return

    def work(job: Job) -> tuple[str, str]:
        def on_token(side: Side, token: int) -> None:
            job.live.append((side, token))
            job.check()

        pair = run_pair(loaded, messages, steers, sampling=sampling, store=store, on_token=on_token, progress=job.progress)
        return pair.baseline.id, pair.steered.id

    pieces = token_pieces(loaded, prompt.ids)
    job = server_wide.server().start(
        "answering twice", work, kind="pair", prompt=prompt, pieces=pieces, loaded=loaded, steers=tuple(steers)
    )
    st.session_state[_RUN] = job.id


def running() -> Job | None:
    """This browser's pair of runs, while it is being shown as it comes."""
    job = server_wide.server().job(st.session_state.get(_RUN))
    return job if job is not None and job.facts.get("kind") == "pair" else None


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


@st.fragment(run_every=0.5)
def live(job: Job) -> None:
    """Both answers as they come, and a stop button."""
    if not job.running:
        _finish(job)
    left, right = st.columns([3, 1], vertical_alignment="center")
    left.caption(_doing(job))
    right.button(
        "Stop", on_click=job.stop, icon=":material/stop_circle:", key="steer.stop", width="stretch", disabled=job.stopping.is_set()
    )
    for side, place in zip(_NAMES, st.columns(2, gap="small"), strict=True):
        with place:
            st.markdown(f"**{_NAMES[side]}**")
            strip.draw(_strip(job, side), key=f"steer.live.{side}", height=_HEIGHT, group="steer.live")


def _doing(job: Job) -> str:
    if job.stopping.is_set():
        return "Stopping after this token"
    if job.live:
        return f"Answering, unsteered and steered in turn: {len(job.live)} tokens so far"
    return untrusted.sentence(job.message) if job.message else "Reading the prompt"


def _strip(job: Job, side: Side) -> strip.Strip:
    loaded: LoadedModel = job.facts["loaded"]
    prompt: EncodedPrompt = job.facts["prompt"]
    begin = len(prompt.ids)
    ids = (*prompt.ids, *(token for which, token in list(job.live) if which == side))
    answer = token_pieces(loaded, ids[max(0, begin - 1) :])[min(1, begin) :]
    segments = (*prompt.segments, Segment("assistant", begin, len(ids)))
    pieces = (*job.facts["pieces"], *answer)
    return strip.Strip(f"pair-{job.id}-{side}", pieces, ids, segments, live=True, title=f"{_NAMES[side]} answer as it comes")


def _finish(job: Job) -> None:
    """Show the comparison, or why there is none, with a full rerun."""
    st.session_state.pop(_RUN, None)
    error = job.error()
    if error is None:
        st.session_state[_DONE] = (*job.result(), job.facts["steers"])
    else:
        st.session_state[_PROBLEM] = error
    st.rerun()
