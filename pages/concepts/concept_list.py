"""The saved concepts as a table; which of them is looked at; import, and the undo of a deletion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from neurons.concepts.sets import SavedConcepts, read_named
from neurons.core.errors import NeuronscopeError
from neurons.core.names import MAX_NAME
from neurons.core.outside_json import parse_json
from neurons.storage.documents import Entry
from pages.shared import address_state, browser_history, server_wide, untrusted
from pages.shared.tables import choose_rows, matching, moments, table_key

_TABLE = "concepts.table"
_UNDO = "concepts.undo"
_IMPORTED = "concepts.imported"
_FAILED = "concepts.failed"
_MAX_FILE_MB = 20
COLUMNS: dict[str, Any] = {
    "name": st.column_config.TextColumn("Name", width=170),
    "neurons": st.column_config.NumberColumn("Neurons", width=65, help="Neuron sides in the set"),
    "origin": st.column_config.TextColumn("From", width=150, help="How it was made"),
    "note": st.column_config.TextColumn("Note", width=130),
    "model": st.column_config.TextColumn("Model", width=120, help="The model whose neurons these are"),
    "changed": st.column_config.DatetimeColumn("Changed", format="D MMM YYYY, HH:mm", width=120),
}


class ConceptState(address_state.PageState):
    """The concept that is looked at."""

    concept: address_state.Named = None


def draw() -> str | None:
    """The table; returns the name of the concept that is looked at: the ticked one, else the address's, else the newest."""
    entries = SavedConcepts().list()
    _undo()
    chosen = _chosen(entries)
    if entries:
        words = st.text_input(
            "Find", key="concepts.words", placeholder="words in name, note, origin", icon=":material/search:",
            persist_state="session", label_visibility="collapsed",
        )  # fmt: skip
        frame = matching(frame_of(entries), words, ["name", "note", "origin"])
        height = min(36 * (len(frame) + 1) + 2, 300)
        picked = choose_rows(frame, key=_TABLE, identity=list(frame["name"]), columns=COLUMNS, height=height)
        if picked:
            chosen = str(frame["name"].iloc[picked[0]])
    if chosen is not None:
        st.query_params["concept"] = chosen
    else:
        st.query_params.pop("concept", None)
    return chosen


def _chosen(entries: Sequence[Entry]) -> str | None:
    asked = address_state.read(ConceptState).concept
    if asked is not None and any(entry.name == asked for entry in entries):
        return asked
    if asked is not None:
        browser_history.unknown("the concept", asked, "The newest one is shown." if entries else "")
    return max(entries, key=lambda entry: entry.changed).name if entries else None


def frame_of(entries: Sequence[Entry]) -> pd.DataFrame:
    """The concepts as a table, by name."""
    return pd.DataFrame(
        {
            "name": [entry.name for entry in entries],
            "neurons": [len(entry.content["neurons"]) for entry in entries],
            "note": [entry.content["note"] for entry in entries],
            "origin": [entry.content["origin"] for entry in entries],
            "model": [entry.content["model"]["name"] for entry in entries],
            "changed": moments(entry.changed for entry in entries),
        }
    )


def look_at(name: str | None) -> None:
    """Show this concept from the next run on, whatever row is ticked now."""
    entries = SavedConcepts().list()
    st.session_state.pop(table_key(_TABLE, [entry.name for entry in entries]), None)
    if name is None:
        st.query_params.pop("concept", None)
    else:
        st.query_params["concept"] = name


def delete(name: str) -> None:
    """To the trash; the undo stands above the table."""
    st.session_state[_UNDO] = (name, SavedConcepts().delete(name))
    look_at(None)


def _undo() -> None:
    for error in st.session_state.pop(_FAILED, ()):
        server_wide.show_error(error)
    gone = st.session_state.get(_UNDO)
    if gone is None:
        return
    name, token = gone
    with st.container(horizontal=True, vertical_alignment="center"):
        st.text(f"Deleted {name!r}.")
        st.button("Undo", icon=":material/undo:", key="concepts.restore", on_click=_restore, args=(token,))


def _restore(token: str) -> None:
    st.session_state.pop(_UNDO, None)
    try:
        look_at(SavedConcepts().restore(token).name)
    except NeuronscopeError as error:
        st.session_state[_FAILED] = [error]


def import_files() -> None:
    """Upload concepts; what is wrong with a file stands below the field."""
    files = st.file_uploader(
        "Concepts as JSON", type=["json"], accept_multiple_files=True, key="concepts.import", max_upload_size=_MAX_FILE_MB,
        help='What this page exports, or a plain list of neurons: ["17:803+", "4:12-"]',
    )  # fmt: skip
    seen: dict[str, list[untrusted.Part]] = st.session_state.setdefault(_IMPORTED, {})
    fresh = [file for file in files if file.file_id not in seen]
    for file in fresh:
        seen[file.file_id] = take(file.name, file.getvalue())
    for file in files:
        untrusted.draw(seen[file.file_id], key=f"concepts.imported.{file.file_id}", size="0.85rem")
    if fresh:
        st.rerun()


def take(file: str, data: bytes) -> list[untrusted.Part]:
    """Read one file into the folder; what became of it, to be shown below the field."""
    saved = SavedConcepts()
    try:
        named, concept = read_named(parse_json(data, what="it"), file)
        wanted = named[: MAX_NAME - 8] or "concept"
        name = next(text for n in range(1, 10_000) if (text := wanted if n == 1 else f"{wanted} {n}") not in saved)
        saved.save(name, concept)
    except NeuronscopeError as error:
        return [(f"{file}: ", "strong"), (str(error), "negative")]
    look_at(name)
    return [(f"{file}: ", "strong"), (f"{len(concept.sides)} neurons, kept as {name!r}", "")]
