"""Concepts: named sets of neurons; made from words, examples or a list, combined like sets, and used to steer."""

from __future__ import annotations

import streamlit as st

from pages.concepts import concept_list, draft, new_concept, one_concept
from pages.shared import server_wide


def page() -> None:
    """Draw the page."""
    chosen = None
    left, right = st.columns([1, 1.45], gap="medium")
    with left:
        server_wide.loading_notice()
        with server_wide.errors_shown():
            before = st.query_params.get("concept")
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
