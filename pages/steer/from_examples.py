"""A steer from example texts: the difference that neurons make in them is put on a card."""

from __future__ import annotations

import streamlit as st

from neurons.concepts.direction import NEURONS, steer_from_examples
from neurons.core.steers import Steer
from neurons.core.tasks import Task
from neurons.models.loaded import LoadedModel
from pages.shared import progress_row, server_wide, steer_state

_TASK = "steer.examples.task"


class Differing(Task[Steer]):
    """What neurons do in texts about something being compared with what they do in others."""


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
        count = right.number_input(
            "Neurons", 1, 5000, NEURONS, key="steer.examples.count", help="How many: the ones that change the model's state most"
        )
        sent = st.form_submit_button("Add", type="primary", width="stretch", disabled=loaded is None)
    if sent and loaded is not None:
        _begin(loaded, texts.splitlines(), others.splitlines(), neurons=int(count), name=name.strip() or "From examples")
    task = server_wide.server().task(st.session_state.get(_TASK), Differing)
    if task is None or not progress_row.watch(task, key="steer.examples"):
        return
    st.session_state.pop(_TASK)
    with server_wide.errors_shown():
        steer_state.add(task.result())
        st.rerun()


def _begin(loaded: LoadedModel, texts: list[str], others: list[str], *, neurons: int, name: str) -> None:
    task = Differing(what="running the texts")
    server_wide.server().start(task, lambda: steer_from_examples(loaded, texts, others, neurons=neurons, name=name, progress=task.progress))
    st.session_state[_TASK] = task.id
