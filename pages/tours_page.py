"""Guided tours: real cases of the default model, step by step, each step with something to do."""

from __future__ import annotations

from typing import Annotated

import streamlit as st
from pydantic import Field

from neurons.tours.tours import TOURS, facts
from pages.shared import address, address_state, browser_history, server_wide, untrusted
from pages.tours import tour_step, way_back


class TourState(address_state.PageState):
    """Which tour, and where in it."""

    tour: address_state.Named = None
    step: Annotated[int, Field(ge=1)] = 1


def page() -> None:
    """Draw the page: the list, or one tour at one step."""
    asked = address_state.read(TourState)
    chosen = next((tour for tour in TOURS if tour.id == asked.tour), None)
    with server_wide.errors_shown():
        if chosen is None:
            if asked.tour is not None:
                browser_history.unknown("the tour", asked.tour, "These are the tours there are.")
            way_back.end()
            _list()
            return
        last = len(chosen.steps) - 1
        number = min(last, asked.step - 1)
        _head(chosen.title, number, last, chosen.id)
        step = chosen.steps[number]
        st.subheader(step.title, anchor=False)
        st.markdown(step.text)
        way_back.leave(chosen.id, number + 1)
        tour_step.shows(chosen.id, step)
        tour_step.actions(chosen.id, step)
        _foot(chosen.id, number, last)


def _list() -> None:
    st.markdown(
        "**Learn by doing.** Each tour is a real case of the model that Neuronscope ships with, with the numbers that were measured on it."
    )
    model = server_wide.model()
    if model is not None and facts()["model"]["weights_hash"] != model.ref.weights_hash:
        untrusted.draw(
            [(f"The numbers were measured on {facts()['model']['name']} as shipped; with {model.ref.name} yours will differ.", "muted")],
            key="tours.other",
        )
    for tour in TOURS:
        with st.container(border=True, key=f"tours.card.{tour.id}"):
            left, right = st.columns([5, 1], vertical_alignment="center")
            left.markdown(f"**{tour.title}**  \n{tour.about}")
            if right.button("Start", icon=":material/play_arrow:", key=f"tours.start.{tour.id}", width="stretch"):
                address.go("tours", tour=tour.id, step="1")


def _head(title: str, number: int, last: int, tour: str) -> None:
    left, right = st.columns([5, 1], vertical_alignment="center")
    left.progress((number + 1) / (last + 1), text=f"{title}: step {number + 1} of {last + 1}")
    if right.button("All tours", icon=":material/list:", key="tours.all", width="stretch"):
        address.go("tours")


def _foot(tour: str, number: int, last: int) -> None:
    back, forward, _ = st.columns([1, 1, 4])
    if back.button("Back", icon=":material/arrow_back:", key="tours.back", disabled=number == 0, width="stretch"):
        address.go("tours", tour=tour, step=str(number))
    ends = number == last
    if forward.button("Finish" if ends else "Next", icon=":material/arrow_forward:", key="tours.next", type="primary", width="stretch"):
        if ends:
            address.go("tours")
        address.go("tours", tour=tour, step=str(number + 2))
