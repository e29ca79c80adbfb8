"""Adding concepts to the lexicon and putting one's own in a shipped one's place: typed, or from a file."""

from __future__ import annotations

import streamlit as st

from neurons.core.errors import InvalidFile, NeuronscopeError
from neurons.detectors.lexicon import HELD_OUT, LexiconConcept, notes_on
from neurons.detectors.own import Change, OwnLexicon, concept_entry, key_of
from pages.concepts import named_list
from pages.shared import server_wide, untrusted

_EDITED = "concepts.form.edited"
_NUMBER = "concepts.form.number"
_TAKEN = "concepts.form.taken"
_NOTES = "concepts.form.notes"
_WAYS = {"write": "Write one", "file": "From a file"}
_MAX_FILE_MB = 20


def begin(concept: LexiconConcept) -> None:
    """Fill the form with this concept's texts, to be changed."""
    _clear()
    number = st.session_state[_NUMBER]
    st.session_state[_EDITED] = concept.key
    entry = concept.entry
    for name, value in (
        ("name", entry.name),
        ("field", concept.field),
        ("definition", entry.definition),
        ("words", ", ".join(entry.words)),
        ("sentences", "\n".join(entry.sentences)),
        ("near", "\n".join(entry.near)),
    ):
        st.session_state[f"concepts.form.{number}.{name}"] = value
    st.session_state["concepts.form.way"] = "write"


def _clear() -> None:
    st.session_state[_NUMBER] = st.session_state.get(_NUMBER, 0) + 1
    st.session_state.pop(_EDITED, None)


def draw() -> None:
    """One way at a time."""
    with st.container(border=True):
        edited = st.session_state.get(_EDITED)
        st.markdown("**A concept of your own**" if edited is None else "**Change a concept**")
        way = st.segmented_control(
            "From", list(_WAYS), default="write", format_func=_WAYS.__getitem__, key="concepts.form.way", required=True,
            label_visibility="collapsed", persist_state="session",
        )  # fmt: skip
        with server_wide.errors_shown():
            _file() if way == "file" else _write(edited)
        for note in st.session_state.get(_NOTES, ()):
            untrusted.draw([("Kept, but: ", "strong"), (note, "")], key=f"concepts.form.note.{hash(note)}", size="0.85rem")


def _write(edited: str | None) -> None:
    key = f"concepts.form.{st.session_state.setdefault(_NUMBER, 0)}"
    name = st.text_input("Name", key=f"{key}.name", placeholder="kites and gliders", help="What a person would call it: at most four words")
    fields = list(named_list.lexicon().fields)
    chosen = st.session_state.get(f"{key}.field")
    if chosen and chosen not in fields:
        fields.append(chosen)
    field = st.selectbox(
        "Field", fields, index=None, key=f"{key}.field", accept_new_options=True, placeholder="choose one, or type a new one",
        help="The upper level of the tree",
    )  # fmt: skip
    definition = st.text_input("Definition", key=f"{key}.definition", placeholder="Flying things that the wind carries.")
    words = st.text_input("Typical words", key=f"{key}.words", placeholder="kite, string, glider, thermal", help="Most specific first")
    sentences = st.text_area(
        "Sentences about it, one on each line", key=f"{key}.sentences", height=150,
        placeholder="Let out more string before the gust dies.\nHow do I launch it without a helper?",
        help=f"6 at least, 12 or more give sure figures. Every {HELD_OUT}rd is kept back to measure on, so mix the aspects. A reader who "
        "sees only the sentence should name this concept.",
    )  # fmt: skip
    near = st.text_area(
        "Near misses, one on each line", key=f"{key}.near", height=110,
        placeholder="The gull hung in the wind above the pier.",
        help="Not about it, but of the same field or with the same words. 12 or more make the figures sharper.",
    )  # fmt: skip
    with st.container(horizontal=True):
        if st.button("Keep it", icon=":material/bookmark_add:", type="primary", key=f"{key}.save"):
            entry = concept_entry(edited or _free_key(name), name, definition, words, sentences, near)
            change = OwnLexicon().put(str(field or "").strip(), [entry])
            st.session_state[_NOTES] = notes_on(entry)
            _clear()
            named_list.changed(change, entry.key)
            st.rerun()
        if edited is not None:
            st.button("Leave it as it was", icon=":material/close:", key=f"{key}.leave", on_click=_clear)


def _free_key(name: str) -> str:
    """A key that no concept has: a new concept never takes another one's place by its name alone."""
    taken = {concept.key for concept in named_list.lexicon().concepts}
    key, number = key_of(name), 1
    while key in taken:
        number += 1
        key = f"{key_of(name)[:50]}-{number}"
    return key


def _file() -> None:
    files = st.file_uploader(
        "A lexicon file (JSON)", type=["json"], accept_multiple_files=True, key="concepts.form.files", max_upload_size=_MAX_FILE_MB,
        help="One field with its concepts, in the format of docs/lexicon.md. A concept with the key of a known one replaces it.",
    )  # fmt: skip
    seen: dict[str, list[untrusted.Part]] = st.session_state.setdefault(_TAKEN, {})
    fresh = [file for file in files if file.file_id not in seen]
    for file in fresh:
        seen[file.file_id] = take(file.name, file.getvalue())
    for file in files:
        untrusted.draw(seen[file.file_id], key=f"concepts.form.taken.{file.file_id}", size="0.85rem")
    if fresh:
        st.rerun()


def take(file: str, data: bytes) -> list[untrusted.Part]:
    """Put a file's concepts into the lexicon, all or none; what became of it, to be shown below the field."""
    try:
        change: Change = OwnLexicon().add_file(data, name=file)
    except InvalidFile as error:
        return [(str(error), "negative")]
    except NeuronscopeError as error:
        return [(f"{file}: ", "strong"), (str(error), "negative")]
    named_list.changed(change, None)
    return [(f"{file}: ", "strong"), (change.said, "")]
