"""Which concepts caused a token: measured in the background, shown when it is done, kept for the next look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import streamlit as st

from neurons.core.errors import Cancelled, InvalidInput
from neurons.core.percent import becomes
from neurons.core.tasks import Task
from neurons.detectors.causes import Asked, ConceptCause, measure_causes
from neurons.detectors.store import Detectors
from neurons.runs.steering import compile_edits
from neurons.tracing.words import word_positions
from pages.shared import progress_row, server_wide, untrusted
from pages.shared.kept import STORE
from pages.shared.trace_context import TraceContext

PATIENCE = 0.3
"""Seconds that a page waits before it shows progress and a stop button instead."""
_WAITING = "trace.causes.task"
_STOPPED = "trace.causes.stopped"

Causes = tuple[ConceptCause, ...]
Key = tuple[str, int, str]
"""Trace, token, the lexicon's fingerprint."""


@dataclass(eq=False, kw_only=True)
class MeasuringCauses(Task[Causes]):
    """The concepts before one token being taken out."""

    key: Key


def _place(trace: str, token: int) -> tuple[str, str, str, int]:
    """Where the lexicon's fingerprint and the causes of a token are kept, for every browser of this server."""
    return "causes", server_wide.store().root.as_posix(), trace, token


def causes(context: TraceContext, detectors: Detectors, token: int) -> Causes | None:  # noqa: RET503 (a rerun never returns)
    """The measured causes of a token; None while they are measured or after that was stopped, which is then drawn.

    Raises `InvalidInput` where nothing can be measured, `Evicted` without activations.
    """
    key = (context.id, token, detectors.lexicon)
    lexicon, kept = STORE.find(_place(context.id, token), ("", ()))
    if lexicon == detectors.lexicon:
        return cast("Causes", kept)
    if st.session_state.get(_STOPPED) == key:
        st.caption(f"Measuring what caused token {token} was stopped.")
        st.button("Measure it", icon=":material/play_arrow:", key="trace.causes.again", on_click=_again)
        return None
    server = server_wide.server()
    waited = server.task(st.session_state.get(_WAITING), MeasuringCauses)
    begun = waited if waited is not None and waited.key == key else server.running(MeasuringCauses, lambda one: one.key == key)
    task = begun or _start(context, detectors, key)
    st.session_state[_WAITING] = task.id
    if not task.wait(PATIENCE):
        progress_row.watch(task, key="trace.causes")
        return None
    st.session_state.pop(_WAITING, None)
    try:
        STORE.put(_place(context.id, token), (detectors.lexicon, task.result()))
    except Cancelled:
        st.session_state[_STOPPED] = key
    st.rerun()  # the sentence above the tabs says it too


def known(context: TraceContext, token: int) -> Causes | None:
    """The causes of a token where they were measured already."""
    kept = STORE.find(_place(context.id, token))
    return None if kept is None else cast("Causes", kept[1])


def sentence(context: TraceContext, found: Causes) -> list[untrusted.Part]:
    """What the measured causes say of a token, in one sentence: the strongest that promoted it, and who stood against it."""
    sure = [cause for cause in found if cause.is_cause]
    promoted, against = [c for c in sure if c.effect > 0][:2], [c for c in sure if c.effect < 0][:2]
    parts: list[untrusted.Part] = []
    for number, cause in enumerate(promoted):
        parts += [
            (" Written because of " if number == 0 else " and ", ""),
            (cause.concept.name, "positive"),
            (f" ({without(context, cause)})", ""),
        ]
    for number, cause in enumerate(against):
        begin = ("; " if promoted else " Written although ") if number == 0 else " and "
        parts += [(begin, ""), (cause.concept.name, "negative")]
    if against:
        parts.append((" stood against it", ""))
    if not sure:
        return [(" No concept did more to it than random neurons do.", "muted")]
    return [*parts, (".", "")]


def without(context: TraceContext, cause: ConceptCause) -> str:
    """What taking a concept out does, as people say it."""
    instead = context.words([cause.instead_id])[0]
    comes = f", then “{instead.strip() or instead}”" if cause.instead_probability > cause.probability_without else ""
    return f"without it {becomes(cause.probability, cause.probability_without)}{comes}"


def _again() -> None:
    st.session_state.pop(_STOPPED, None)


def _start(context: TraceContext, detectors: Detectors, key: Key) -> MeasuringCauses:
    record, loaded, token = context.record, context.loaded, key[1]
    if loaded is None:
        raise InvalidInput("causes are measured with the trace's model, which is not loaded: load it on the Models page")
    acts_LTI = context.activations()
    task = MeasuringCauses(what=f"measuring which concepts caused token {token}", key=key)

    def work() -> Causes:
        edits = compile_edits(loaded, record.steers, len(record.prompt_ids))
        asked = Asked(record.token_ids, token, acts_LTI, word_positions(record), edits=edits)
        return measure_causes(loaded, detectors, asked, progress=task.progress)

    server_wide.server().start(task, work)
    return task
