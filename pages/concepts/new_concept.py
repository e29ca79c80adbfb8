"""The ways to make a concept: from words, from examples, from typed neurons, from two others, from a file."""

from __future__ import annotations

from dataclasses import dataclass, replace

import streamlit as st

from neurons.concepts.contrast import NEUTRAL, Contrast, contrast
from neurons.concepts.search import Filters, match_note
from neurons.concepts.sets import Concept, SavedConcepts
from neurons.core.errors import InvalidInput, NotFound
from neurons.core.tasks import Task
from neurons.core.types import ModelRef, Polarity
from pages.concepts import concept_list, draft
from pages.concepts.draft import Draft
from pages.shared import atlas_index, progress_row, server_wide, steer_state

_WAYS = {"words": "Words", "examples": "Examples", "typed": "Neurons", "two": "Combine", "file": "Import"}
_CONTRAST = "concepts.contrast"
_OPERATIONS = {
    "union": "Union: neurons of either",
    "intersection": "Intersection: neurons of both",
    "difference": "Difference: neurons of the first that the second lacks",
}
_SIDES: dict[str, Polarity | None] = {"both": None, "+": "+", "-": "-"}


@dataclass(eq=False, kw_only=True)
class Contrasting(Task[Contrast]):
    """Examples being told from counter-examples."""

    ref: ModelRef


def draw() -> None:
    """One way at a time."""
    with st.container(border=True):
        st.markdown("**New concept**")
        way = st.segmented_control(
            "From", list(_WAYS), default="words", format_func=_WAYS.__getitem__, key="concepts.way", required=True,
            label_visibility="collapsed", persist_state="session",
        )  # fmt: skip
        with server_wide.errors_shown():
            {"words": _words, "examples": _examples, "typed": _typed, "two": _two, "file": concept_list.import_files}[way or "words"]()


def _words() -> None:
    loaded = server_wide.model()
    with st.form("concepts.search", border=False):
        text = st.text_input(
            "What the neurons should be about", key="concepts.search.text", placeholder="court and law",
            help="Free text. What is ranked is how strongly each neuron fires on texts about this, then how well its description fits.",
        )  # fmt: skip
        count, side = st.columns(2, vertical_alignment="bottom")
        top = count.number_input("Neurons", 1, 5_000, 50, key="concepts.search.top")
        polarity = side.selectbox("Side", list(_SIDES), key="concepts.search.side", help="+ is the positive side, - the negative")
        only = st.toggle("Described clearly", key="concepts.search.clear", help="Leaves out neurons whose description is 'unclear'")
        last = max(1, loaded.ref.n_layers - 1) if loaded is not None else 1
        layers = st.slider("Layers", 0, last, (0, last), key=f"concepts.search.layers.{last}")
        sent = st.form_submit_button("Search", icon=":material/search:", type="primary", disabled=loaded is None)
    if not sent or loaded is None:
        return
    if not text.strip():
        raise InvalidInput("type what the neurons should be about", field="text")
    try:
        with st.spinner("Searching; the first search also loads the sentence embedder, which takes some seconds"):
            index = atlas_index.open_index(loaded.ref)
            found = index.search(
                text, top=int(top), filters=Filters(layers=layers, polarity=_SIDES[polarity], clear_only=only)
            )  # fmt: skip
    except NotFound as error:
        atlas_index.missing(error, what="Search")
        return
    if not found:
        raise InvalidInput("no neuron was found; try other words or wider filters", field="text")
    concept = Concept.of((hit.side for hit in found), ref=loaded.ref, origin=f"search: {text.strip()}")
    concept = replace(concept, similarity={str(hit.side): hit.similarity for hit in found})
    poor = match_note(text.strip(), max(hit.reading for hit in found)) if index.space.has_readings else ""
    against = sum(hit.leaning < 0 for hit in found)
    said = f"The {len(found)} neurons that fire most on texts about “{text.strip()}”, best first."
    said += f" The last {against} make its words less likely." if against else ""
    said += f" But {poor}." if poor else ""
    draft.begin(Draft(concept, text.strip(), said, {"similarity": [hit.similarity for hit in found]}))
    st.rerun()


def _examples() -> None:
    loaded = server_wide.model()
    task = server_wide.server().task(st.session_state.get(_CONTRAST), Contrasting)
    busy = task is not None and task.running
    texts = st.text_area(
        "Examples, one on each line", key="concepts.examples", height=130, persist_state="session",
        placeholder="The judge dismissed the appeal.\nHer lawyer asked for a new trial.", help="5 or more work better than 2",
    )  # fmt: skip
    others = st.text_area(
        "Counter-examples", key="concepts.counter", height=110, persist_state="session", placeholder="\n".join(NEUTRAL[:2]),
        help=f"Sentences like the examples, but without what you look for. Left empty: {len(NEUTRAL)} built-in neutral sentences.",
    )  # fmt: skip
    count, go = st.columns([1, 1.4], vertical_alignment="bottom")
    top = count.number_input("Neurons", 1, 2_000, 50, key="concepts.examples.top", help="At most this many, the best ones")
    if (
        go.button(
            "Find what tells them apart", icon=":material/troubleshoot:", type="primary", key="concepts.examples.go", width="stretch",
            disabled=loaded is None or busy,
        )
        and loaded is not None
    ):  # fmt: skip
        examples, counter = texts.splitlines(), others.splitlines()
        if sum(bool(line.strip()) for line in examples) < 2:
            raise InvalidInput("at least 2 example texts are needed (5 or more work better); one on each line", field="examples")

        begun = Contrasting(what="reading the texts", ref=loaded.ref)
        server_wide.server().start(begun, lambda: contrast(loaded, examples, counter, top=int(top), progress=begun.progress))
        st.session_state[_CONTRAST] = begun.id
        st.rerun()
    if task is not None and progress_row.watch(task, key="concepts.contrast"):
        _contrasted(task)


def _contrasted(task: Contrasting) -> None:
    """Its result becomes a draft, once."""
    st.session_state.pop(_CONTRAST, None)
    found = task.result()
    kept = [one for one in found.found if one.effect > found.chance_effect]
    against = "the built-in neutral sentences" if found.neutral else f"{found.counter} counter-examples"
    if not kept:
        raise InvalidInput(
            f"no neuron tells the {found.examples} examples from {against} better than chance would; give more examples, "
            "or counter-examples that differ only in what you look for"
        )
    origin = f"{found.examples} examples against {found.counter}"
    concept = Concept.of((one.side for one in kept), ref=task.ref, origin=origin)
    said = (
        f"{len(kept)} neurons tell {found.examples} examples from {against}, the clearest first. "
        f"With the texts mixed up the best effect is {found.chance_effect:.2f}: weaker ones are left out ({len(found.found) - len(kept)})."
    )
    extra = {name: [getattr(one, name) for one in kept] for name in ("auroc", "effect", "examples", "counter")}
    draft.begin(Draft(concept, "", said, extra))
    st.rerun()


def _typed() -> None:
    loaded = server_wide.model()
    with st.form("concepts.typed", border=False):
        text = st.text_area(
            "Neurons, layer:index", key="concepts.typed.text", placeholder="17:803, 4:12-", help="A minus is the negative side"
        )
        sent = st.form_submit_button("Show them", icon=":material/keyboard:", type="primary", disabled=loaded is None)
    if sent and loaded is not None:
        sides = steer_state.read_neurons(text, loaded)
        concept = Concept.of(sides, ref=loaded.ref, origin="hand-picked")
        draft.begin(Draft(concept, "", f"{len(sides)} typed neuron{'s' if len(sides) > 1 else ''}."))
        st.rerun()


def _two() -> None:
    saved = SavedConcepts()
    names = [entry.name for entry in saved.list()]
    if len(names) < 2:
        st.caption("Two saved concepts are needed to combine them.")
        return
    one = st.selectbox("First", names, key="concepts.two.first")
    other = st.selectbox("Second", names, index=1, key="concepts.two.second")
    how = st.radio("How", list(_OPERATIONS), format_func=_OPERATIONS.__getitem__, key="concepts.two.how", label_visibility="collapsed")
    first, second = saved.load(one), saved.load(other)
    result = getattr(first, how)(second)
    st.caption(f"{len(first.sides):,} and {len(second.sides):,} neurons give {len(result.sides):,}.")
    if st.button("Show them", icon=":material/join_inner:", type="primary", key="concepts.two.go", disabled=not result.sides):
        result = replace(result, origin=f"{how} of {one} and {other}")
        words = {"union": "or", "intersection": "and", "difference": "without"}[how]
        draft.begin(Draft(result, f"{one} {words} {other}"[:200], f"The {how} of “{one}” and “{other}”."))
        st.rerun()
