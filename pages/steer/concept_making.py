"""A concept of the lexicon put on a card: the neurons are found in the background, the card comes when they are."""

from __future__ import annotations

import streamlit as st

from neurons.concepts.steers import Action, lexicon_steer
from neurons.concepts.strength import shown
from neurons.core.steers import Steer
from neurons.core.tasks import Task
from neurons.detectors.lexicon import Lexicon, LexiconConcept, load_lexicon
from neurons.models.loaded import LoadedModel
from pages.shared import progress_row, server_wide, steer_state

_TASK = "steer.making"


class Making(Task[tuple[Steer, float | None]]):
    """The neurons of a concept being found, and how much a strengthened one shows in three answers (None for a suppressed one)."""


@st.cache_resource(show_spinner=False, ttl=60)
def lexicon() -> Lexicon:
    """The shipped lexicon with the user's own files; read only. Raises `InvalidFile` for a bad file of the user's."""
    return load_lexicon()


def concept_of(key: str) -> LexiconConcept | None:
    """A concept by its key."""
    return next((concept for concept in lexicon().concepts if concept.key == key), None)


def begin(loaded: LoadedModel, concept: LexiconConcept, action: Action) -> None:
    """Find what strengthens or suppresses a concept; `watch` puts it on a card."""
    task = Making(what=f"finding the neurons that {action} {concept.name}")

    def made() -> tuple[Steer, float | None]:
        steer = lexicon_steer(loaded, concept, action, progress=task.progress)
        return steer, shown(loaded, concept, steer, progress=task.progress) if action == "strengthen" else None

    server_wide.server().start(task, made)
    st.session_state[_TASK] = task.id


def watch(*, key: str) -> None:
    """The progress of what was begun; once it has ended its card is added, or its error shown."""
    task = server_wide.server().task(st.session_state.get(_TASK), Making)
    if task is None or not progress_row.watch(task, key=key):
        return
    st.session_state.pop(_TASK, None)
    with server_wide.errors_shown():
        steer, seen = task.result()
        steer_state.add(steer)
        if seen is not None:
            steer_state.seen()[steer_state.push_mark(steer)] = (steer.strength, seen)
        st.toast(f"{steer.size} neurons are on a new card in the Steer tab.", icon=":material/tune:")
