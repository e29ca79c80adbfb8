"""A steer from example texts: the difference that neurons make in them is put on a card."""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from neurons.concepts.direction import NEURONS, steer_from_examples
from neurons.models.loaded import LoadedModel
from pages.shared import server_wide, steer_state


def draw(loaded: LoadedModel | None) -> None:
    """The form, and the run that follows it: one short pass of the model for each text."""
    with st.form("steer.examples", border=False):
        texts = st.text_area(
            "Texts about it, one on each line",
            key="steer.examples.texts",
            placeholder="The ship sailed across the stormy sea.\nThe tide washed shells onto the beach.",
            help="At least 2; 5 or more work better. Neurons that fire more in these than in the others are pushed by that difference",
        )
        others = st.text_area(
            "Texts that are not (optional)",
            key="steer.examples.others",
            placeholder="neutral sentences, when left empty",
            help="Best of the same kind and length as the texts above, but about something else",
        )
        left, right = st.columns(2)
        name = left.text_input("Name", max_chars=120, key="steer.examples.name", placeholder="the sea")
        count = right.number_input("Neurons", 1, 5000, NEURONS, key="steer.examples.count", help="Those that change the model's state most")
        sent = st.form_submit_button("Add", type="primary", width="stretch", disabled=loaded is None)
    if not sent or loaded is None:
        return
    with server_wide.errors_shown():
        bar = st.progress(0.0, text="Running the texts")
        steer = steer_from_examples(
            loaded,
            texts.splitlines(),
            others.splitlines(),
            neurons=int(count),
            name=name.strip() or "From examples",
            progress=lambda done, total, message: _show(bar, done, total),
        )
        steer_state.add(steer)
        st.rerun()


def _show(bar: DeltaGenerator, done: int, total: int | None) -> None:
    bar.progress(done / (total or 1), text=f"{done} of {total} texts run")
