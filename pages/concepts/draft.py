"""A concept that is being made: what was found, to be looked through, thinned out, named and saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import streamlit as st

from neurons.concepts.sets import Concept, SavedConcepts
from neurons.core.types import NeuronSide
from pages.concepts import concept_list, member_table
from pages.shared import server_wide, untrusted

_DRAFT = "concepts.draft"


@dataclass(frozen=True)
class Draft:
    """What a maker found."""

    concept: Concept
    name: str
    """A name to start from."""
    said: str
    """How it was found, in one or two sentences."""
    extra: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    """Columns to show beside the neurons, one value per side."""
    number: int = 0
    """Another one for each draft: names its widgets."""


def begin(draft: Draft) -> None:
    """Show this draft from the next run on."""
    before = current()
    st.session_state[_DRAFT] = replace(draft, number=(before.number if before else st.session_state.get("concepts.drafts", 0)) + 1)
    st.session_state["concepts.drafts"] = st.session_state[_DRAFT].number


def current() -> Draft | None:
    """The draft of this session."""
    draft: Draft | None = st.session_state.get(_DRAFT)
    return draft


def discard() -> None:
    """Forget the draft."""
    st.session_state.pop(_DRAFT, None)


def draw() -> None:
    """The draft with its name and table."""
    draft = current()
    if draft is None:
        return
    key = f"concepts.draft.{draft.number}"
    loaded = server_wide.model()
    ref = member_table.ref_of(draft.concept.weights_hash, loaded)
    frame = member_table.frame_of(draft.concept.sides, member_table.index_of(ref), draft.extra)
    head = st.container(border=True)
    picked = member_table.draw(frame, ref, key=f"{key}.table", height=560)
    kept = tuple(draft.concept.sides[row] for row in picked) or draft.concept.sides
    with head:
        untrusted.draw([("Found, not saved yet. ", "selection"), (draft.said, "")], key=f"{key}.said", size="0.9rem")
        name, save, drop = st.columns([3, 1, 1], vertical_alignment="bottom")
        text = name.text_input("Name", draft.name, key=f"{key}.name", max_chars=200, placeholder="what these neurons have in common")
        if save.button(
            f"Save {len(kept):,}", icon=":material/bookmark_add:", type="primary", key=f"{key}.save", width="stretch",
            disabled=not kept, help="Keep these neurons under this name: the ticked ones, or all when none is ticked",
        ):  # fmt: skip
            with server_wide.errors_shown():
                save_as(text, draft, kept)
                st.rerun()
        drop.button("Discard", icon=":material/close:", key=f"{key}.discard", on_click=discard, width="stretch")
        some = f"{len(picked):,} ticked: only these will be saved."
        st.caption(some if picked else f"All {len(frame):,} will be saved; tick some to save only those.")


def save_as(name: str, draft: Draft, kept: Sequence[NeuronSide]) -> None:
    """Put (a part of) a draft into the folder and look at it. Raises `InvalidInput` for a name that is empty or taken."""
    similarity = {str(side): draft.concept.similarity[str(side)] for side in kept if str(side) in draft.concept.similarity}
    entry = SavedConcepts().save(name, replace(draft.concept, sides=tuple(kept), similarity=similarity))
    discard()
    concept_list.look_at(entry.name)
