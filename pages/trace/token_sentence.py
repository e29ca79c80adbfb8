"""The sentence above the tabs: what the model did at the token that is looked at, and what a first visitor may try."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import streamlit as st

from neurons.core.types import AttributionRow, Metric, NeuronSide
from neurons.tracing.sentence import explain_token, facts_at
from pages.shared import strip, untrusted
from pages.shared.descriptions import headlines_for
from pages.shared.trace_context import STRIP_KEY, VIEW_KEY, TraceContext
from pages.trace import concept_causes
from pages.trace.deciding import deciding_token
from traces.attributions import StoredAttribution


def draw(context: TraceContext, attribution: StoredAttribution | None) -> None:
    """The sentence; before anything is selected, also three things to try."""
    record = context.record
    position = attribution.info.target.token if attribution is not None else context.token
    facts = facts_at(position, ids=record.token_ids, pieces=record.pieces, prompt_tokens=len(record.prompt_ids), arrays=context.facts)
    rows: Sequence[AttributionRow] = attribution.rows(500) if attribution is not None else ()
    metric: Metric = attribution.info.target.metric if attribution is not None else "prob"
    known = headlines_for(record.model)

    def note(row: AttributionRow) -> str:
        return known.get(str(NeuronSide(row.layer, row.index, row.polarity)), "")

    measured = concept_causes.known(context, position) if context.view == "attribution" else None
    if measured is not None:
        rows = ()
    parts: list[untrusted.Part] = []
    if context.loaded is None:  # while its model is loading the runner-up has no name yet
        facts = replace(facts, topk_ids_K=None)
    parts += explain_token(facts, word=lambda i: context.words([i])[0], rows=rows, metric=metric, source=context.word, note=note)
    if measured is not None:
        parts += concept_causes.sentence(context, measured)
    untrusted.draw(parts, key="trace.sentence")
    if not context.ranges:
        _try(context)


def _try(context: TraceContext) -> None:
    """Three things to try, each one click."""
    record = context.record
    asked = next((s for s in reversed(record.segments) if s.role == "user" and not s.template), None)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption("Try:")
        if len(record.answer_ids) and context.view != "attribution":
            why = "Opens the attribution view on the word that decided the answer"
            _offer("What caused the answer?", "account_tree", why, context, (_telling(context),), "attribution")
        if asked is not None:
            why = "Selects the tokens of the question in the activation view"
            _offer("What fired on the question?", "bolt", why, context, ((asked.start, asked.stop),), "activation")
        _offer(
            "Where was it surprised?", "priority_high", "Tints each token by how unlikely the model thought it", context, (), "surprisal"
        )


def _offer(label: str, icon: str, why: str, context: TraceContext, ranges: strip.Ranges, view: str) -> None:
    st.button(label, key=f"trace.try.{icon}", icon=f":material/{icon}:", on_click=_look, args=(context, ranges, view), help=why)


def _telling(context: TraceContext) -> tuple[int, int]:
    """The word that decided the answer: where a cause is worth asking for."""
    token = deciding_token(context)
    return token, token + 1


def _look(context: TraceContext, ranges: strip.Ranges, view: str) -> None:
    st.session_state[VIEW_KEY] = view
    if ranges:
        strip.select(STRIP_KEY, context.id, ranges)


def first_steps() -> None:
    """What stands on the right while the conversation is empty."""
    with st.container(border=True):
        st.markdown(
            "**Three things to try**\n\n"
            "1. Ask a question on the left. The answer comes as tokens: hover one to see what else the model considered.\n"
            "2. Click a token of the answer in the **Attribution** view to see which neurons promoted or suppressed it.\n"
            "3. Tick neurons in the table and press **Suppress**, then run the Steer tab and compare the two answers."
        )
