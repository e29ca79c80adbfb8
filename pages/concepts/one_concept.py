"""One saved concept: its name, note and neurons, and how it is used to steer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import streamlit as st

from neurons.concepts.sets import Concept, SavedConcepts, named_json
from neurons.concepts.steers import STRENGTHS, Action, default_size, find_concept
from neurons.core.errors import NeuronscopeError
from neurons.core.json_text import strict_json
from neurons.core.steers import MAX_STRENGTH
from neurons.core.types import ModelRef, NeuronSide
from neurons.models.loaded import LoadedModel
from pages.concepts import concept_list, member_table
from pages.shared import address, server_wide, steer_state, untrusted
from pages.shared.neuron_link import open_neuron
from pages.steer import concept_making

_ICONS: dict[Action, str] = {"suppress": ":material/volume_off:", "strengthen": ":material/volume_up:"}


def draw(name: str) -> None:
    """Head, steering, members."""
    concept = SavedConcepts().load(name)
    loaded = server_wide.model()
    ref = member_table.ref_of(concept.weights_hash, loaded)
    index = member_table.index_of(ref)
    extra = {"similarity": [concept.similarity.get(str(side)) for side in concept.sides]} if concept.similarity else {}
    frame = member_table.frame_of(concept.sides, index, extra)
    _head(name, concept)
    _steering(name, concept, loaded, frame)
    if index is None:
        st.caption("There are no descriptions for this concept's model on this machine: see the Atlas page.")
    _members(name, concept, frame, ref)


def _head(name: str, concept: Concept) -> None:
    layers = [side.layer for side in concept.sides]
    where = f"layers {min(layers)} to {max(layers)}" if len(set(layers)) > 1 else f"layer {layers[0]}"
    parts: list[untrusted.Part] = [
        (f"{name}\n", "strong"),
        (f"{len(concept.sides):,} neurons in {where}. ", ""),
        (f"From {concept.origin}. " if concept.origin else "", "muted"),
        (f"{concept.model}." if concept.model else "No model is noted.", "muted"),
    ]
    if concept.note:
        parts.append((f"\n{concept.note}", ""))
    untrusted.draw(parts, key="concepts.head")
    with st.container(horizontal=True, gap="small"):
        with st.popover("Rename", icon=":material/edit:", key=f"concepts.rename.{name}"):
            _rename(name)
        with st.popover("Note", icon=":material/sticky_note_2:", key=f"concepts.note.{name}"):
            _note(name, concept)
        text = strict_json(named_json(name, concept), indent=1)
        st.download_button(
            "Export", text, "concept.json", "application/json", icon=":material/download:", key="concepts.export", on_click="ignore",
            help="As JSON: it can be imported here, by the command line, or by somebody else with the same model",
        )  # fmt: skip
        st.button(
            "Delete", icon=":material/delete:", key="concepts.delete", on_click=concept_list.delete, args=(name,), help="Can be undone"
        )


def _rename(name: str) -> None:
    text = st.text_input("New name", name, key=f"concepts.rename.text.{name}", max_chars=200)
    if st.button("Rename", type="primary", key="concepts.rename.go", disabled=not text.strip() or text.strip() == name):
        with server_wide.errors_shown():
            concept_list.look_at(SavedConcepts().rename(name, text).name)
            st.rerun()


def _note(name: str, concept: Concept) -> None:
    text = st.text_area("Note", concept.note, key=f"concepts.note.text.{name}", max_chars=20_000, height=120)
    if st.button("Save the note", type="primary", key="concepts.note.go", disabled=text.strip() == concept.note):
        with server_wide.errors_shown():
            SavedConcepts().note(name, text)
            st.rerun()


def _steering(name: str, concept: Concept, loaded: LoadedModel | None, frame: pd.DataFrame) -> None:
    with st.container(border=True):
        st.markdown("**Use in steering**")
        if loaded is None:
            st.caption("The model is still loading.")
            return
        if not member_table.same_model(concept.weights_hash, loaded):
            st.caption("These neurons belong to another model than the one that is loaded: load that one on the Models page to steer them.")
            return
        _by_sentences(name, concept, loaded)
        left, right = st.columns(2, gap="medium")
        with left:
            _steer("strengthen", name, concept, loaded)
        with right:
            _steer("suppress", name, concept, loaded)
        st.caption(_scaled(frame))
        if steer_state.cards() and st.button("Go to the Steer tab", icon=":material/tune:", key="concepts.steer.open", type="tertiary"):
            address.go_to_cards()


def _by_sentences(name: str, concept: Concept, loaded: LoadedModel) -> None:
    """What was kept from the lexicon is steered best by its name; the form below takes the neurons alone."""
    known = find_concept(name, concept_making.lexicon()) if concept.origin == "lexicon" else None
    if known is None:
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        for action, icon in _ICONS.items():
            if st.button(f"{action.capitalize()} by its name", icon=icon, key=f"concepts.by_name.{action}", type="primary"):
                concept_making.begin(loaded, known, action)
    concept_making.watch(key="concepts.making")
    st.caption(
        "By its name: which neurons to push or to cap, and how far, is learned from the model itself. "
        "Or hold these neurons at a share of their strongest activation:"
    )


def _steer(action: Action, name: str, concept: Concept, loaded: LoadedModel) -> None:
    usual = default_size(action, loaded.ref)
    most = len(concept.sides)
    count, strength = st.columns(2, vertical_alignment="bottom")
    size = count.number_input(
        "Neurons", 1, most, min(usual, most), key=f"concepts.{action}.size.{name}",
        help=f"The first ones of the concept. Usual for a model of this size: {usual} to {action}, the same share as "
        f"{'50' if action == 'strengthen' else '500'} of Llama-3.1-8B's.",
    )  # fmt: skip
    value = strength.number_input(
        "Strength", -MAX_STRENGTH, MAX_STRENGTH, STRENGTHS[action], 0.05, key=f"concepts.{action}.strength.{name}",
        help="Each neuron is held at this share of its own strongest activation on its side; 0 switches it off",
    )  # fmt: skip
    steer = concept.steer(strength=float(value), most=int(size), name=f"{action.capitalize()} {name}"[:120])
    if st.button(
        action.capitalize(),
        icon=_ICONS[action],
        key=f"concepts.{action}",
        width="stretch",
        help="Adds a card to the Steer tab",
    ):
        try:
            steer_state.check(steer.neurons, loaded)
        except NeuronscopeError as error:
            server_wide.show_error(error)
        else:
            steer_state.add(steer)
            st.toast(f"{action.capitalize()}: {steer.size} neurons are on a new card in the Steer tab.", icon=":material/tune:")
    st.caption(steer_state.sentence(steer))


def _scaled(frame: pd.DataFrame) -> str:
    if "extreme" not in frame or not frame["extreme"].notna().any():
        return "Strength 1 is each neuron's own strongest activation; without an atlas it is measured over a short built-in text first."
    low, high = np.nanmin(np.abs(frame["extreme"])), np.nanmax(np.abs(frame["extreme"]))
    return f"Strength 1 is each neuron's own strongest activation, here {low:.2f} to {high:.2f} in size (column Strongest)."


def _members(name: str, concept: Concept, frame: pd.DataFrame, ref: ModelRef | None) -> None:
    picked = member_table.draw(frame, ref, key=f"concepts.members.{name}")
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if st.button("Open neuron", icon=":material/open_in_new:", key="concepts.open", disabled=len(picked) != 1, help="Tick one"):
            open_neuron(concept.sides[picked[0]])
        if st.button(
            f"Remove {len(picked)}" if picked else "Remove", icon=":material/remove:", key="concepts.remove",
            disabled=not 0 < len(picked) < len(concept.sides), help="Removes the ticked neurons from the concept",
        ):  # fmt: skip
            with server_wide.errors_shown():
                kept = tuple(side for row, side in enumerate(concept.sides) if row not in set(picked))
                _replace(name, concept, kept)
                st.rerun()
        st.caption(f"{len(picked):,} ticked" if picked else f"{len(concept.sides):,} neurons, the best first")


def _replace(name: str, concept: Concept, kept: tuple[NeuronSide, ...]) -> None:
    similarity = {str(side): concept.similarity[str(side)] for side in kept if str(side) in concept.similarity}
    SavedConcepts().save(name, replace(concept, sides=kept, similarity=similarity), replace=True)
