"""A tour that led to another page goes on from there: which step a person is at, and the way back to it."""

from __future__ import annotations

import streamlit as st

from neurons.tours.tours import TOURS
from pages.shared import address

AT = "tours.at"
"""The session's key for the tour and step that a person left: [id, step from 1]."""


def leave(tour: str, step: int) -> None:
    """Remember the step (from 1) that leads to another page."""
    st.session_state[AT] = [tour, step]


def end() -> None:
    """The tour is over, or another is chosen."""
    st.session_state.pop(AT, None)


def draw() -> None:
    """On the pages that a tour leads to: one row with the way back."""
    at = st.session_state.get(AT)
    if not isinstance(at, list | tuple) or len(at) != 2:
        return
    name, step = at
    tour = next((one for one in TOURS if one.id == name), None)
    if tour is None or not isinstance(step, int) or not 1 <= step <= len(tour.steps):
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="tours.way"):
        st.markdown(f":material/tour: **{tour.title}**, step {step} of {len(tour.steps)}: {tour.steps[step - 1].title}")
        if st.button("Back to the step", icon=":material/arrow_back:", key="tours.way.back"):
            address.go("tours", tour=tour.id, step=str(step))
        if st.button("Leave the tour", icon=":material/close:", key="tours.way.end"):
            end()
            st.rerun()
