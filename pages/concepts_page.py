"""Concepts: sets of neurons made from words, examples or a list; and the named concepts of the lexicon with their neurons."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from pages.concepts import concept_list, draft, named_form, named_job, named_list, named_one, new_concept, one_concept
from pages.shared import address_state, server_wide

SHOWN = {"sets": "Sets of neurons", "named": "Named concepts"}


class ConceptsState(address_state.PageState):
    """Whether sets of neurons or the named concepts are shown."""

    show: Literal["sets", "named"] = "sets"


def page() -> None:
    """Draw the page."""
    shown = st.segmented_control(
        "Show", list(SHOWN), default=address_state.read(ConceptsState).show, format_func=SHOWN.__getitem__, key="concepts.show",
        required=True, label_visibility="collapsed",
        help="Sets: neurons that you searched for, found or picked. Named concepts: what the Concepts tab of a trace speaks of.",
    )  # fmt: skip
    st.query_params["show"] = shown or "sets"
    if shown == "named":
        _named()
    else:
        _sets()


def _named() -> None:
    """The lexicon, and which neurons mean its concepts in the loaded model."""
    left, right = st.columns([1, 1.2], gap="medium")
    with left:
        server_wide.loading_notice()
        with server_wide.errors_shown():
            named_job.draw()
        concept = named_list.draw()
    with right, server_wide.errors_shown():
        if concept is not None:
            named_one.draw(concept)
        named_form.draw()


def _sets() -> None:
    chosen = None
    left, right = st.columns([1, 1.45], gap="medium")
    with left:
        server_wide.loading_notice()
        with server_wide.errors_shown():
            before = address_state.read(concept_list.ConceptState).concept
            chosen = concept_list.draw()
            if before is not None and chosen != before:
                draft.discard()
            new_concept.draw()
    with right, server_wide.errors_shown():
        if draft.current() is not None:
            draft.draw()
        elif chosen is not None:
            one_concept.draw(chosen)
        else:
            _first_time()


def _first_time() -> None:
    with st.container(border=True):
        st.markdown(
            "**A concept is a set of neurons that go together**, each with the side on which it fires. Make one at the left:\n\n"
            "- *Words*: type what the neurons should be about; the model's atlas is searched.\n"
            "- *Examples*: give sentences that have it and sentences that do not; the model reads them, and the neurons that tell them "
            "apart are found.\n"
            "- *Neurons*: type them.\n\n"
            "The Trace page keeps concepts too: tick rows of the Neurons tab, or press *Keep* on a cluster. A concept can then be "
            "suppressed or strengthened while the model answers."
        )
