"""A concept of the lexicon put on a card: the neurons are found in the background, the card comes when they are."""

from __future__ import annotations

import streamlit as st

from neurons.concepts.steers import Action, ConceptSteer, lexicon_steer
from neurons.core.tasks import Task
from neurons.detectors.lexicon import Lexicon, LexiconConcept, load_lexicon
from neurons.models.loaded import LoadedModel
from pages.shared import progress_row, server_wide, steer_state

_TASK = "steer.making"


class Making(Task[ConceptSteer]):
    """The neurons of a concept being found and, where it is strengthened, how strongly they are best pushed."""


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
    server_wide.server().start(task, lambda: lexicon_steer(loaded, concept, action, progress=task.progress))
    st.session_state[_TASK] = task.id


def watch(*, key: str) -> None:
    """The progress of what was begun; once it has ended its card is added, or its error shown."""
    task = server_wide.server().task(st.session_state.get(_TASK), Making)
    if task is None or not progress_row.watch(task, key=key):
        return
    st.session_state.pop(_TASK, None)
    with server_wide.errors_shown():
        made = task.result()
        steer_state.add(made.steer)
        st.toast(f"{made.steer.size} neurons are on a new card in the Steer tab.", icon=":material/tune:")
