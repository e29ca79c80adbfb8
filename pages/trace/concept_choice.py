"""What a person did to the cards of the Concepts tab, known before the rest of the Trace page is drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st

from neurons.concepts.sets import Concept
from neurons.concepts.steers import Action, default_size
from neurons.core.errors import NeuronscopeError
from neurons.core.steers import Steer
from neurons.detectors.store import Detectors
from pages.shared import steer_state
from pages.shared.detectors import needed
from pages.shared.trace_context import TraceContext
from pages.steer import concept_making
from pages.trace import cards, cluster_choice, concept_data
from pages.trace.cluster_choice import Chosen
from pages.trace.cluster_data import By

KEY = "trace.concepts.cards"
_HEARD = "trace.concepts.heard"
_ASKED = "trace.concepts.asked"
RAISED = 0.25
"""Strength of a strengthened concept: a share of its neurons' extremes. More of it breaks the text (docs/log.md)."""


def note_asked(key: str, shown: Sequence[cards.Card], scale: cards.Scale) -> None:
    """Remember what the cards on the page show, so that a click on one of them can be understood."""
    st.session_state[_ASKED] = (key, scale, {card.number: (card.label, card.tint) for card in shown})


def marked(trace_id: str, key: str) -> int | None:
    """The card that is chosen among those of `key`."""
    now = cluster_choice.chosen(trace_id)
    return now.number if now is not None and now.key == key else None


def hear(context: TraceContext) -> None:
    """Do what was clicked since the last run: choose a concept, steer it, keep it."""
    event = (st.session_state.get(KEY) or {}).get("event")
    asked = st.session_state.get(_ASKED)
    if not isinstance(event, dict) or asked is None or event.get("nonce") == st.session_state.get(_HEARD):
        return
    st.session_state[_HEARD] = event.get("nonce")
    key, scale, shown = asked
    number = event.get("number")
    if event.get("trace_id") != context.id or event.get("key") != key or not isinstance(number, int) or number not in shown:
        return
    try:
        detectors = needed(context.record.model)
    except NeuronscopeError:
        return  # the tab meets it again, and shows it there
    label, tint = shown[number]
    action = event.get("action")
    if action == "choose":
        if marked(context.id, key) == number:
            cluster_choice.let_go()
        else:
            names = frozenset(map(str, concept_data.sides_of(detectors, number)))
            by: By = "activation" if scale == "amount" else "attribution"
            cluster_choice.choose(Chosen(context.id, key, number, label, by, names, np.asarray(tint, dtype=np.float32), what="concept"))
    elif action in ("suppress", "strengthen"):
        _steer(context, detectors, number, "suppress" if action == "suppress" else "strengthen")
    elif action == "keep":
        sides = concept_data.sides_of(detectors, number)
        cluster_choice.save(label, Concept.of(sides, ref=context.record.model, origin="lexicon"))


def _steer(context: TraceContext, detectors: Detectors, number: int, action: Action) -> None:
    """From the concept's sentences, where the model is here and the lexicon still has it; else from its detector's neurons."""
    loaded = context.loaded
    concept = concept_making.concept_of(detectors.labels[number].key)
    if loaded is not None and concept is not None:
        concept_making.begin(loaded, concept, action)
        return
    steer_state.add(steer_of(detectors, number, action))
    st.toast(f"{action.capitalize()}: a new card is in the Steer tab.", icon=":material/tune:")


def steer_of(detectors: Detectors, number: int, action: str) -> Steer:
    """Its detector's neurons raised, or held at their usual level, which is what the measured causes do."""
    sides = concept_data.sides_of(detectors, number)
    name = f"{action.capitalize()} {detectors.labels[number].name}"[:120]
    if action == "strengthen":
        return Steer(sides[: default_size("strengthen", detectors.ref)], "set", RAISED, name=name)
    usual = tuple(float(detectors.arrays.mean_LI[side.layer, side.index]) for side in sides)
    return Steer(sides, "set", 1.0, values=usual, name=name)
