"""An answer as it comes: one question, answered once or unsteered and steered at once, in strips that grow, with a stop; always saved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import streamlit as st

from neurons.core.errors import InvalidInput
from neurons.core.steers import Steer
from neurons.core.tasks import Task, in_line
from neurons.core.types import Message, ModelRef, Sampling, Segment
from neurons.models.chat import EncodedPrompt, encode_prompt, token_pieces
from neurons.models.loaded import LoadedModel
from neurons.tracing.record import RunOptions, Side, run_pair, run_trace
from pages.shared import server_wide, strip, untrusted

NAMES: dict[Side, str] = {"baseline": "Unsteered", "steered": "Steered"}
_LOOK_EVERY = 0.4


@dataclass(eq=False, kw_only=True)
class Answering(Task[tuple[str, ...]]):
    """A question being answered. It results in the ids of the traces: one, or the unsteered and the steered one's."""

    keeps_what_is_done = True
    place: str
    """Where it was asked, so that each place shows its own."""
    pair: bool
    steers: tuple[Steer, ...]
    prompt: EncodedPrompt
    pieces: tuple[str, ...]
    """Of the prompt's tokens."""
    model: ModelRef
    loaded: LoadedModel | None
    """None once it has ended and another model was taken."""
    live: list[tuple[Side, int]] = field(default_factory=list)
    """The tokens so far, and of which answer each is."""

    def sides(self) -> tuple[Side, ...]:
        return ("baseline", "steered") if self.pair else ("baseline",)

    def hear(self, side: Side, token: int) -> None:
        """Take the next token. Raises `Cancelled` once `stop` was called."""
        self.live.append((side, token))
        self.check()

    def let_go(self) -> None:
        self.loaded = None


def start(
    messages: Sequence[Message],
    *,
    place: str,
    what: str,
    sampling: Sampling,
    steers: Sequence[Steer] = (),
    pair: bool = False,
    by: LoadedModel | None = None,
) -> Answering:
    """Begin to answer in the background: under `steers`, or with `pair` without and with them at once. `by` is the model that
    answers, by default the server's own.

    Raises `InvalidInput` while the model loads and for what cannot be answered.
    """
    loaded, store = by or server_wide.model(), server_wide.store()
    if loaded is None:
        raise InvalidInput("the model is still loading; try again in a moment")
    if not any(message.content.strip() for message in messages[-1:]):
        raise InvalidInput("the prompt is empty; type something to ask", field="prompt")
    prompt = encode_prompt(loaded, messages)
    sampling.check()
    task = Answering(
        what=what,
        place=place,
        pair=pair,
        steers=tuple(steers),
        prompt=prompt,
        pieces=tuple(token_pieces(loaded, prompt.ids)),
        model=loaded.ref,
        loaded=loaded,
    )

    options = RunOptions(encoded=prompt)

    def one() -> tuple[str, ...]:
        record, _ = run_trace(
            loaded,
            messages,
            sampling=sampling,
            steers=steers,
            store=store,
            options=options,
            on_token=lambda token: task.hear("baseline", token),
            progress=task.progress,
        )
        return (record.id,)

    def both() -> tuple[str, ...]:
        made = run_pair(
            loaded, messages, steers, sampling=sampling, store=store, options=options, on_token=task.hear, progress=task.progress
        )
        return made.baseline.id, made.steered.id

    server_wide.server().start(task, both if pair else one)
    return task


def find(task_id: str | None, *, place: str) -> Answering | None:
    """The answer of that id that was asked for at this place, as long as it is remembered."""
    task = server_wide.server().task(task_id, Answering)
    return task if task is not None and task.place == place else None


@st.fragment(run_every=_LOOK_EVERY)
def draw(task: Answering, *, key: str, height: str | int, on_end: Callable[[Answering], None] | None = None) -> None:
    """The strips as they grow, what is done, a stop. Once it has ended `on_end` is called and the whole page runs again.

    A single answer stands above its stop button, where the finished one will stand; two stand below it, side by side.
    """
    if not task.running:
        if on_end is not None:
            on_end(task)
        st.rerun()
    if not task.pair:
        strip.draw(_strip(task, "baseline"), key=f"{key}.live", height=height)
        _stop(task, key)
        return
    _stop(task, key)
    for side, place in zip(task.sides(), st.columns(2, gap="small"), strict=True):
        with place:
            st.markdown(f"**{NAMES[side]}**")
            strip.draw(_strip(task, side), key=f"{key}.live.{side}", height=height, group=f"{key}.live")


def _stop(task: Answering, key: str) -> None:
    left, right = st.columns([3, 1], vertical_alignment="center")
    left.caption(untrusted.escape(_doing(task)))
    right.button(
        "Stop",
        on_click=task.stop,
        icon=":material/stop_circle:",
        key=f"{key}.stop",
        width="stretch",
        disabled=task.stopping.is_set(),
        help="What is written so far is kept as a trace",
    )


def _doing(task: Answering) -> str:
    if task.stopping.is_set():
        return "Stopping after this token"
    if task.before:
        return untrusted.sentence(in_line(task.before))
    if task.live:
        return f"Answering{', unsteered and steered in turn' if task.pair else ''}: {len(task.live):,} tokens so far"
    return untrusted.sentence(task.message or f"reading the prompt ({len(task.prompt.ids):,} tokens)")


def _strip(task: Answering, side: Side) -> strip.Strip:
    begin = len(task.prompt.ids)
    ids = (*task.prompt.ids, *(token for which, token in list(task.live) if which == side))
    answer = token_pieces(task.loaded, ids[max(0, begin - 1) :])[min(1, begin) :] if task.loaded is not None else ()
    segments = (*task.prompt.segments, Segment("assistant", begin, len(ids)))
    identity, title = f"run-{task.id}", "The answer as it comes"
    if task.pair:
        identity, title = f"pair-{task.id}-{side}", f"{NAMES[side]} answer as it comes"
    return strip.Strip(identity, (*task.pieces, *answer), ids, segments, live=True, title=title)
