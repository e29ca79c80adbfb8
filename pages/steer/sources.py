"""Where steers come from and go to: typed neurons, concepts, example texts, saved steers, files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from neurons.core.errors import InvalidInput, NeuronscopeError
from neurons.core.json_text import strict_json
from neurons.core.steers import Steer
from neurons.core.types import NeuronSide
from neurons.models.loaded import LoadedModel
from neurons.runs.steering import dump_steers, parse_steers, parse_steers_text
from neurons.storage.documents import NamedDocuments
from pages.shared import deleting, server_wide, steer_state
from pages.steer import concept_chooser, from_examples

_MAX_FILE_MB = 20


def saved_steers() -> NamedDocuments:
    """The saved steers of this user."""
    return NamedDocuments("steers", check=_checked)


def _checked(content: Any) -> Any:
    parse_steers(content)
    return content


def draw(loaded: LoadedModel | None, *, disabled: bool) -> None:
    """The row of ways to get a steer, each in a popover of its own."""
    with st.container(horizontal=True, gap="small"):
        with st.popover("Type", icon=":material/keyboard:", disabled=disabled, help="Neurons by layer and index"):
            _typed(loaded)
        concept_chooser.draw(loaded, disabled=disabled)
        with st.popover("Examples", icon=":material/format_quote:", disabled=disabled, help="What neurons do more in texts that you give"):
            from_examples.draw(loaded)
        with st.popover("Saved", icon=":material/bookmark:", disabled=disabled, help="Steers saved under a name"):
            _saved(loaded)
        with st.popover("File", icon=":material/upload_file:", disabled=disabled, help="Steers from and to a JSON file"):
            _file(loaded)


def _begin(name: str, sides: Sequence[NeuronSide]) -> None:
    """A new card that suppresses `sides`: the plainest steer, to be changed on the card."""
    steer_state.add(Steer(tuple(sides), name=name))


def _typed(loaded: LoadedModel | None) -> None:
    with st.form("steer.typed", border=False, enter_to_submit=True):
        text = st.text_input(
            "Neurons, layer:index", placeholder="17:803, 4:12-", key="steer.typed.text", help="A minus means the negative side"
        )
        name = st.text_input("Name", placeholder="what they do", max_chars=120, key="steer.typed.name")
        sent = st.form_submit_button("Add", type="primary", width="stretch")
    if sent:
        with server_wide.errors_shown():
            _begin(name, steer_state.read_neurons(text, loaded))
            st.rerun()


def _saved(loaded: LoadedModel | None) -> None:
    """Put saved steers on cards, save the cards, delete a saved one with undo."""
    with server_wide.errors_shown():
        kept = saved_steers()
        names = list(kept.names())
        chosen = st.selectbox("Saved steers", names, index=None, placeholder="none saved yet" if not names else "choose", key="steer.saved")
        add, delete = st.columns(2)
        if add.button("Add", key="steer.saved.add", disabled=chosen is None, type="primary", width="stretch") and chosen:
            _take(lambda: parse_steers(kept.load(chosen), ref=loaded.ref if loaded else None), loaded)
        deleting.offer(
            lambda: deleting.entry(kept, str(chosen)), key="steer.saved", place=delete, icon=None, disabled=chosen is None, width="stretch"
        )
        deleting.offer_undo(key="steer.saved", width="stretch")
        st.divider()
        name = st.text_input("Save the cards as", max_chars=120, key="steer.saved.name", placeholder="a name")
        cards = steer_state.steers()
        if st.button("Save", key="steer.saved.save", width="stretch", disabled=loaded is None or not cards):
            _complete(cards)
            if loaded is not None:
                kept.save(name, dump_steers(cards, loaded.ref))
                st.rerun()


def _file(loaded: LoadedModel | None) -> None:
    upload = st.file_uploader("A steer file", type=["json"], key="steer.file", max_upload_size=_MAX_FILE_MB)
    if upload is not None and st.session_state.get("steer.file.seen") != upload.file_id:
        ref = loaded.ref if loaded else None
        _take(lambda: _read(upload.name, upload.getvalue(), ref), loaded, seen=upload.file_id)
    cards = steer_state.steers()
    if loaded is not None and cards:
        with server_wide.errors_shown():
            _complete(cards)
            text = strict_json(dump_steers(cards, loaded.ref), indent=1)
            st.download_button(
                f"Export {len(cards)} steer{'s' if len(cards) > 1 else ''}",
                text,
                "steers.json",
                "application/json",
                icon=":material/download:",
                key="steer.file.export",
                on_click="ignore",
                width="stretch",
            )


def _read(name: str, data: bytes, ref: Any) -> tuple[Steer, ...]:
    try:
        return parse_steers_text(data.decode("utf-8-sig"), name=name, ref=ref)
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{name} is not UTF-8 text; export it again as JSON", field="steer") from error


def _take(read: Callable[[], Sequence[Steer]], loaded: LoadedModel | None, *, seen: str = "") -> None:
    """Put what `read` gives on cards, or show why not."""
    try:
        steers = read()
        for steer in steers:
            steer_state.check(steer.neurons, loaded)
    except NeuronscopeError as error:
        server_wide.show_error(error)
        return
    if seen:
        st.session_state["steer.file.seen"] = seen
    steer_state.add_all(steers)
    st.rerun()


def _complete(cards: Sequence[Steer]) -> None:
    """Raise `InvalidInput` for a card that cannot be written down yet."""
    for steer in cards:
        if steer.tokens.kind == "ranges" and not steer.tokens.ranges and not steer.tokens.with_answer:
            raise InvalidInput(
                f"the steer {steer.name or 'without a name'!r} has no token ranges yet; type some, or steer all tokens", field="tokens"
            )
