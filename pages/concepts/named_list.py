"""The named concepts of the lexicon as a table, with how well the loaded model knows each; the undo of the last change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from neurons.core.errors import InvalidFile, NeuronscopeError
from neurons.detectors.lexicon import Lexicon, LexiconConcept, load_lexicon
from neurons.detectors.own import Change, OwnLexicon
from neurons.detectors.store import Detectors
from pages.shared import address_state, browser_history, server_wide, untrusted
from pages.shared.detectors import detectors_of
from pages.shared.tables import choose_rows, matching

NAMED = "named"
"""Which concept is looked at, in the address."""
_TABLE = "concepts.named.table"
_UNDO = "concepts.named.undo"
_FAILED = "concepts.named.failed"
COLUMNS: dict[str, Any] = {
    "name": st.column_config.TextColumn("Name", width=150),
    "field": st.column_config.TextColumn("Field", width=120),
    "known": st.column_config.TextColumn("In this model", width=95, help="Whether its neurons were found in the loaded model"),
    "auroc": st.column_config.NumberColumn(
        "AUROC", format="%.3f", width=60, help="Chance that a sentence about it, kept back from fitting, scores above one about another"
    ),
    "own": st.column_config.TextColumn("Whose", width=70, help="Shipped with Neuronscope, or from your own files"),
}


@st.cache_resource(show_spinner="Reading the lexicon", max_entries=2)
def _lexicon(stamp: str, folder: str) -> Lexicon:
    return load_lexicon()


def lexicon() -> Lexicon:
    """The lexicon as the files have it now. Raises `InvalidFile` for a file of the user's that cannot be used."""
    own = OwnLexicon()
    return _lexicon(own.stamp(), own.folder.as_posix())


def detectors() -> Detectors | None:
    """Those of the loaded model, or None."""
    loaded = server_wide.model()
    return None if loaded is None else detectors_of(loaded.ref)


class NamedState(address_state.PageState):
    """The named concept that is looked at."""

    named: address_state.Named = None


def draw() -> LexiconConcept | None:
    """The table; returns the concept that is looked at: the ticked one, else the address's."""
    undo_row()
    try:
        concepts = lexicon().concepts
    except InvalidFile as error:
        server_wide.show_error(error)
        _broken()
        return None
    words, field = st.columns([1.5, 1], vertical_alignment="bottom")
    text = words.text_input(
        "Find", key="concepts.named.words", placeholder="words in name, definition, typical words", icon=":material/search:",
        persist_state="session", label_visibility="collapsed",
    )  # fmt: skip
    fields = ["All fields", "Your own", *dict.fromkeys(concept.field for concept in concepts)]
    chosen = field.selectbox("Field", fields, key="concepts.named.field", persist_state="session", label_visibility="collapsed")
    frame = matching(frame_of(concepts, detectors()), text, ["name", "definition", "words", "field"])
    if chosen == fields[1]:
        frame = frame[frame["own"] == "yours"]
    elif chosen not in (None, fields[0]):
        frame = frame[frame["field"] == chosen]
    columns = {name: column for name, column in COLUMNS.items() if name != "auroc" or frame["auroc"].notna().any()}
    picked = choose_rows(frame, key=_TABLE, identity=list(frame["key"]), columns=columns, height=430)
    if picked:
        st.query_params[NAMED] = str(frame["key"].iloc[picked[0]])
    asked = address_state.read(NamedState).named
    found = next((concept for concept in concepts if concept.key == asked), None)
    if asked is not None and found is None:
        browser_history.unknown("the named concept", asked, "")
        st.query_params.pop(NAMED, None)
    return found


def frame_of(concepts: tuple[LexiconConcept, ...], made: Detectors | None) -> pd.DataFrame:
    """One row per concept. What detectors do not know yet (a concept added since) says so."""
    place = {} if made is None else {key: number for number, key in enumerate(made.keys)}
    known, area = [], []
    for concept in concepts:
        number = place.get(concept.key)
        if made is None or number is None:
            known.append("not looked for")
            area.append(np.nan)
        else:
            known.append("found" if made.found[number] else "not found")
            area.append(float(made.arrays.auroc_C[number]))
    return pd.DataFrame(
        {
            "key": [concept.key for concept in concepts],
            "name": [concept.name for concept in concepts],
            "field": [concept.field for concept in concepts],
            "definition": [concept.entry.definition for concept in concepts],
            "words": [", ".join(concept.entry.words) for concept in concepts],
            "known": known,
            "auroc": area,
            "own": ["yours" if concept.own else "shipped" for concept in concepts],
        }
    )


def changed(change: Change, look_at: str | None) -> None:
    """After a change: its undo stands above the table, and this concept is looked at from the next run on."""
    st.session_state[_UNDO] = change
    for key in [name for name in st.session_state if str(name).startswith(f"{_TABLE}.")]:
        st.session_state.pop(key, None)
    if look_at is None:
        st.query_params.pop(NAMED, None)
    else:
        st.query_params[NAMED] = look_at


def tried(work: Callable[[], Change], look_at: str | None) -> None:
    """Make a change from a button's callback; an error is shown above the table."""
    try:
        changed(work(), look_at)
    except NeuronscopeError as error:
        st.session_state[_FAILED] = error


def undo_row() -> None:
    """What was done last, with its undo."""
    error = st.session_state.pop(_FAILED, None)
    if error is not None:
        server_wide.show_error(error)
    change: Change | None = st.session_state.get(_UNDO)
    if change is None:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        untrusted.draw(f"{untrusted.sentence(change.said)}.", key="concepts.named.said", size="0.9rem")
        st.button("Undo", icon=":material/undo:", key="concepts.named.restore", on_click=_take_back, args=(change,))


def _take_back(change: Change) -> None:
    st.session_state.pop(_UNDO, None)
    try:
        OwnLexicon().undo(change)
    except NeuronscopeError as error:
        st.session_state[_FAILED] = error


def _broken() -> None:
    """Files of the user's that cannot be used, each with a way out."""
    for file in OwnLexicon().broken():
        with st.container(border=True):
            untrusted.draw([(f"{file.name}: ", "strong"), (file.why, "negative")], key=f"concepts.named.broken.{file.name}")
            st.button(
                "Take this file out",
                icon=":material/delete:",
                key=f"concepts.named.aside.{file.name}",
                on_click=tried,
                args=(lambda name=file.name: OwnLexicon().set_aside(name), None),
                help="The lexicon can then be read again; Undo puts the file back.",
            )
