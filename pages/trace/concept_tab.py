"""The Concepts tab of the Trace page: what the model was busy with, in words, and which of it caused a token."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from neurons.core.errors import NeuronscopeError, NotFound
from neurons.core.percent import percent
from neurons.detectors.causes import ConceptCause
from neurons.detectors.records import ActiveConcept
from neurons.detectors.store import Detectors
from neurons.tracing.words import meant_positions, word_positions
from pages.shared import server_wide, strip
from pages.shared.descriptions import headlines_for
from pages.shared.detectors import needed
from pages.shared.neuron_link import neuron_address
from pages.shared.trace_context import TraceContext
from pages.steer import concept_making
from pages.trace import cards, concept_causes, concept_choice, concept_data
from traces.store import Evicted

KEY = concept_choice.KEY
_AROUND = 215  # pixels beside the strip that are not cards
_MEMBERS = 3
BUTTONS = (
    cards.Button("suppress", "Suppress", "A steer that keeps its neurons from going beyond their usual level, on a card of the Steer tab"),
    cards.Button("strengthen", "Strengthen", "A steer that pushes neurons the way asking about it pushes them, on a card of the Steer tab"),
    cards.Button("keep", "Keep", "Save its neurons as a concept of your own"),
)
_RARITY = "Compared with pieces of the atlas's corpus of about the same length: how many of them show the concept as much."
_CAUSE = (
    "The concept's neurons were put back to their usual level before this token, and the model was run again. "
    "The effect is in nats of log-odds; the interval is what as many random neurons do, changed as much."
)


def draw(context: TraceContext) -> None:
    """The cards of the selection, or of what caused the token in the attribution view; or what is missing."""
    concept_making.watch(key="trace.concepts.making")
    try:
        detectors = needed(context.record.model)
        if context.view == "attribution":
            _causes(context, detectors)
        else:
            _active(context)
    except NotFound as error:
        st.info("Which concepts this model's neurons stand for is not known yet.", icon=":material/category:")
        st.text(str(error))
    except Evicted:
        st.info("The activations of this trace were removed to keep the disk budget.", icon=":material/inventory_2:")
        st.caption("The Neurons tab computes them again.")
    except NeuronscopeError as error:
        server_wide.show_error(error)


def _active(context: TraceContext) -> None:
    tokens = meant_positions(context.record, context.ranges)
    found = concept_data.found(context.record.model, context.id, tokens)
    where = f"token {strip.spoken(context.ranges)}" if context.ranges else "the whole conversation"
    st.caption(
        f"Named concepts active over {where}, strongest first. Hover a card to see where; click it to filter the Neurons tab. "
        "Select tokens on the left to ask about those alone."
    )
    if not found.rows:
        st.info("No concept of the lexicon stands out here. Select more tokens, or look at the Neurons tab.", icon=":material/category:")
        return
    described = headlines_for(context.record.model)
    largest = max(map(_length, found.rows))
    shown = [
        _card(
            row,
            described,
            spoken=f"Concept: {row.name}, of {row.field}",
            facts=rarity_text(row.rarity, row.level),
            hint=_RARITY,
            tint_T=tint_T,
            bar=_length(row) / largest,
            faint=row.rarity < 20,
        )
        for row, tint_T in zip(found.rows, found.tint_CT, strict=True)
    ]
    _show(context, shown, question=f"active {tokens}", scale="amount")
    _about(found.left_out, found.corpus_tokens, found.note)


def _length(concept: ActiveConcept) -> float:
    """What a card's bar shows: what the cards are ordered by."""
    return float(np.log(concept.rarity + 1)) if concept.level == "token" else concept.strength


def _causes(context: TraceContext, detectors: Detectors) -> None:
    token = context.token
    measured = concept_causes.causes(context, detectors, token)
    if measured is None:
        return
    st.caption(
        f"Which concepts caused token {token}: each was taken out of the neurons before it, and the model run again. "
        "Blue promoted the token, orange stood against it; pale cards do no more than random neurons."
    )
    if not measured:
        st.info("No concept of the lexicon stands out before this token, so none can be measured.", icon=":material/category:")
        return
    described = headlines_for(context.record.model)
    largest = max(abs(cause.effect) for cause in measured) or 1.0
    ordered = sorted(measured, key=lambda one: (not one.is_cause, -abs(one.effect)))
    pieces = context.record.pieces
    tint_CT = concept_data.tints(tuple(cause.concept for cause in ordered), pieces, len(word_positions(context.record)))
    shown = [
        _card(
            cause.concept,
            described,
            spoken=f"Cause: {cause.concept.name}, {without_text(context, cause)}",
            facts=without_text(context, cause),
            hint=f"{_CAUSE} Effect {cause.effect:+.2f}; random {cause.random_low:+.2f} to {cause.random_high:+.2f}.",
            tint_T=tint_T * (1 if cause.effect >= 0 else -1),
            bar=cause.effect / largest,
            faint=not cause.is_cause,
        )
        for cause, tint_T in zip(ordered, tint_CT, strict=True)
    ]
    _show(context, shown, question=f"causes {token}", scale="diverging")
    _about(int((~detectors.found).sum()), detectors.corpus_tokens, detectors.note_for(context.record.model))


def _card(
    concept: ActiveConcept,
    described: Mapping[str, str],
    *,
    spoken: str,
    facts: str,
    hint: str,
    tint_T: NDArray[np.float32],
    bar: float,
    faint: bool,
) -> cards.Card:
    """The card of a concept, active or a cause: its name, its strongest neurons, what can be done with it."""
    return cards.Card(
        number=concept.number,
        label=concept.name,
        aside=concept.field,
        spoken=spoken,
        facts=facts,
        hint=hint,
        tint=cards.rounded(tint_T),
        members=[
            (str(side), neuron_address(side), described.get(str(side), ""), percent(share)) for side, share in concept.neurons[:_MEMBERS]
        ],
        size=len(concept.neurons),
        bar=round(bar, 3),
        faint=faint,
        buttons=BUTTONS,
    )


def _show(context: TraceContext, shown: list[cards.Card], *, question: str, scale: cards.Scale) -> None:
    key = f"{context.id} {question}"
    concept_choice.note_asked(key, shown, scale)
    cards.draw(
        shown,
        key=KEY,
        trace_id=context.id,
        question=key,
        scale=scale,
        chosen=concept_choice.marked(context.id, key),
        height=max(220, strip.room_beside() - _AROUND),
    )


def _about(left_out: int, corpus_tokens: int, note: str) -> None:
    missing = f" {left_out:,} concepts of the lexicon are not found in this model and never shown." if left_out else ""
    st.caption(f"Rarity is measured over {corpus_tokens:,} tokens of everyday text.{missing}")
    if note:
        st.caption(f":material/info: {note}.".replace("$", "\\$"))


def rarity_text(rarity: float, level: str) -> str:
    """How rare a strength is, as people say it."""
    if rarity < 2:
        return f"as much as in any {level}"
    return f"once in {rarity:,.0f} {level}s" if rarity < 1e6 else f"less than once in a million {level}s"


def without_text(context: TraceContext, cause: ConceptCause) -> str:
    """The line of a card: what taking its concept out does, and whether chance does as much."""
    return concept_causes.without(context, cause) + ("" if cause.is_cause else " (no more than chance)")
