"""A steer from a concept: a saved one, one of the lexicon, or words; what was found is shown before anything is done."""

from __future__ import annotations

import streamlit as st

from neurons.concepts.search import match_note
from neurons.concepts.sets import SavedConcepts
from neurons.concepts.steers import concept_steer, default_size, find_concept
from neurons.core.errors import NotFound
from neurons.detectors.lexicon import LexiconConcept
from neurons.models.loaded import LoadedModel
from pages.shared import atlas_index, server_wide, steer_state, untrusted
from pages.shared.descriptions import headlines_for
from pages.shared.detectors import detectors_of
from pages.steer import concept_making

KEY = "steer.concept.open"
_CLOSE = "steer.concept.close"
_SHOWN = 5


def draw(loaded: LoadedModel | None, *, disabled: bool) -> None:
    """The popover; it closes once something was chosen."""
    if st.session_state.pop(_CLOSE, False):
        st.session_state[KEY] = False
    with st.popover(
        "Concept", icon=":material/category:", disabled=disabled, help="A concept by its name, or the neurons of words", key=KEY,
        on_change="rerun",
    ), server_wide.errors_shown():  # fmt: skip
        _choose(loaded)


def _choose(loaded: LoadedModel | None) -> None:
    names = [entry.name for entry in SavedConcepts().list()]
    saved = st.selectbox("Saved concept", names, index=None, key="steer.concept", placeholder="choose one" if names else "none saved yet")
    words = st.text_input(
        "Or words",
        key="steer.concept.words",
        placeholder="dogs",
        disabled=saved is not None,
        help="A concept of the lexicon by its name or one of its words; else the neurons that fit the words best, from the model's atlas",
    )
    text = saved or words.strip()
    concept = None if saved or not text else find_concept(text, concept_making.lexicon())
    if loaded is not None and text and saved is None:
        _preview(loaded, text, concept)
    left, right = st.columns(2)
    idle = not text or loaded is None
    suppress = left.button("Suppress", key="steer.concept.suppress", disabled=idle, width="stretch")
    strengthen = right.button("Strengthen", key="steer.concept.strengthen", disabled=idle, width="stretch")
    if loaded is None or not (suppress or strengthen):
        return
    if concept is not None:
        concept_making.begin(loaded, concept, "suppress" if suppress else "strengthen")
    else:
        index = None if saved else atlas_index.open_index(loaded.ref)
        made = concept_steer(loaded.ref, text, "suppress" if suppress else "strengthen", index=index)
        steer_state.check(made.steer.neurons, loaded)
        steer_state.add(made.steer)
    st.session_state[_CLOSE] = True
    st.rerun()


def _preview(loaded: LoadedModel, text: str, concept: LexiconConcept | None) -> None:
    """What the words mean here: a concept and how sure it is, or the neurons that a search finds."""
    described = headlines_for(loaded.ref)
    if concept is not None:
        untrusted.draw([(concept.name, "strong"), (f", of {concept.field}: {concept.entry.definition}", "")], key="steer.concept.what")
        detectors = detectors_of(loaded.ref)
        number = detectors.keys.index(concept.key) if detectors is not None and concept.key in detectors.keys else None
        if detectors is None or number is None:
            st.caption("How well this model knows it is not measured yet. It can be steered without that.")
            return
        auroc = float(detectors.arrays.auroc_C[number])
        if not bool(detectors.found[number]):
            st.warning(f"No neuron of this model is surely about it (held-out AUROC {auroc:.2f}); try Examples.", icon=":material/warning:")
            return
        st.caption(f"This model tells it from other things with a held-out AUROC of {auroc:.2f}. Among its neurons:")
        _neurons([(str(side), described.get(str(side), "")) for side, _ in detectors.sides(number)[:_SHOWN]])
        return
    try:
        index = atlas_index.open_index(loaded.ref)
    except NotFound:
        st.caption("The lexicon has no such concept, and without an atlas of this model words cannot be searched; try Examples.")
        return
    with st.spinner("Searching the descriptions"):
        hits = index.search(text, top=default_size("strengthen", loaded.ref))
    if poor := match_note(text, max((hit.reading for hit in hits), default=None)):
        untrusted.draw([(f"{poor[:1].upper()}{poor[1:]}. Try Examples.", "")], key="steer.poor")
    _neurons(
        [(str(hit.side), f"{hit.headline} ({hit.reading:.2f}{', works against it' if hit.leaning < 0 else ''})") for hit in hits[:_SHOWN]]
    )


def _neurons(rows: list[tuple[str, str]]) -> None:
    untrusted.draw([part for name, said in rows for part in ((f"{name} ", "strong"), (f"{said}\n", "muted"))], key="steer.concept.neurons")
