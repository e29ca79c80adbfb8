"""One named concept: what it is, its sentences, its figures and neurons in the loaded model; replacing it, removing one's own."""

from __future__ import annotations

import streamlit as st

from neurons.detectors.lexicon import LexiconConcept
from neurons.detectors.own import OwnLexicon
from neurons.detectors.store import Detectors
from pages.concepts import member_table, named_form, named_list
from pages.shared import server_wide, untrusted


def draw(concept: LexiconConcept) -> None:
    """Everything that is known of it."""
    entry = concept.entry
    made = named_list.detectors()
    with st.container(border=True):
        whose = "one of your own" if concept.own else "shipped"
        untrusted.draw([(entry.name, "strong"), (f"   {concept.field}, {whose}", "muted")], key="concepts.one.head", size="1.15rem")
        untrusted.draw(entry.definition, key="concepts.one.definition")
        untrusted.draw([("Typical words: ", "muted"), (", ".join(entry.words), "")], key="concepts.one.words", size="0.9rem")
        _figures(concept, made)
        with st.container(horizontal=True):
            st.button(
                "Edit" if concept.own else "Put your own in its place",
                icon=":material/edit:",
                key="concepts.one.edit",
                on_click=named_form.begin,
                args=(concept,),
                help="Opens its texts for editing; the shipped ones stay and come back when yours is removed",
            )
            if concept.own:
                st.button(
                    "Remove",
                    icon=":material/delete:",
                    key="concepts.one.remove",
                    on_click=named_list.tried,
                    args=(lambda: OwnLexicon().remove(entry.key), None),
                    help="A shipped concept of the same key stands again. It can be undone.",
                )
    about, near = len(entry.sentences), len(entry.near)
    with st.expander(f"Its {about} sentences, every third kept back from fitting, and {near} near misses"):
        untrusted.draw("\n".join(entry.sentences), key="concepts.one.sentences", size="0.9rem")
        if entry.near:
            untrusted.draw([("Near misses\n", "strong"), ("\n".join(entry.near), "muted")], key="concepts.one.near", size="0.9rem")
    _neurons(concept, made)


def _figures(concept: LexiconConcept, made: Detectors | None) -> None:
    loaded = server_wide.model()
    if loaded is None:
        return
    if made is None or concept.key not in made.keys:
        st.caption("Its neurons were not looked for in this model yet: press *Find each concept's neurons* at the left.")
        return
    rates = made.rates(made.keys.index(concept.key))
    found = "Found in this model" if rates.found else "Not found in this model, so never shown as active"
    near = "" if rates.auroc_near != rates.auroc_near else f", against its own near misses {rates.auroc_near:.3f}"
    st.caption(
        f"{found}: on sentences kept back, a sentence about it scores above one about something else with chance {rates.auroc:.3f}{near} "
        f"(with shuffled labels {rates.auroc_shuffled:.3f}; false discovery rate {rates.q:.2g})."
    )


def _neurons(concept: LexiconConcept, made: Detectors | None) -> None:
    """The neurons of its detector, largest weight first."""
    if made is None or concept.key not in made.keys:
        return
    sides = tuple(side for side, _ in made.sides(made.keys.index(concept.key)))
    st.caption(f"The {len(sides)} neuron sides that tell it from other things, largest weight first.")
    frame = member_table.frame_of(sides, member_table.index_of(made.ref))
    member_table.draw(frame, made.ref, key=f"concepts.one.neurons.{concept.key}", height=420)
