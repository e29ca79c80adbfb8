"""One neuron side: what it is at the left; at the right the view that is chosen: exemplars, tokens, neighbours, traces, a text, a steer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import streamlit as st

from neurons.core.errors import InvalidInput, NotFound
from neurons.core.types import NeuronSide
from neurons.models.loaded import LoadedModel
from pages.browse import about, background, exemplars, histogram, in_traces, nearby, token_words, try_steer, try_text
from pages.shared import address_state, neuron_table, server_wide, untrusted
from pages.shared.neuron_facts import Known
from pages.shared.neuron_link import PARAMETER, opposite, show_here

_VIEW = "neurons.view"
View = Literal["exemplars", "tokens", "neighbours", "traces", "try", "steer"]
VIEWS: dict[View, tuple[str, Callable[[Known, NeuronSide], None]]] = {
    "exemplars": ("Exemplars", exemplars.draw),
    "tokens": ("Tokens", token_words.draw),
    "neighbours": ("Neighbours", nearby.draw),
    "traces": ("Traces", in_traces.draw),
    "try": ("Try a text", try_text.draw),
    "steer": ("Steer", try_steer.draw),
}


class NeuronState(address_state.PageState):
    """The neuron that is looked at, such as "17:803+", and how."""

    neuron: address_state.Named = None
    view: View | None = None


def asked(loaded: LoadedModel) -> NeuronSide | None:
    """The neuron in the address, None without one. Raises `InvalidInput` or `NotFound` for one that the model does not have."""
    text = address_state.read(NeuronState).neuron
    if text is None:
        return None
    try:
        side = loaded.side(NeuronSide.parse(text, experts=True))
    except InvalidInput as error:
        raise InvalidInput(
            f"the address asks for neuron {text[:80]!r}, which is no neuron's name; write layer:index and a side, such as 17:803+ or "
            f"17:803-",
            field=PARAMETER,
        ) from error
    ref = loaded.ref
    if side.layer >= loaded.n_layers:
        raise NotFound(
            f"there is no neuron {side}: {ref.name} has layers 0 to {loaded.n_layers - 1}. Choose one below, or load its model on the "
            "Models page"
        )
    width = loaded.sites[side.layer].width
    if side.index >= width:
        raise NotFound(
            f"there is no neuron {side}: layer {side.layer} of {ref.name} has neurons 0 to {width - 1}. Choose one below, or load its "
            "model on the Models page"
        )
    return side


def draw(found: Known, side: NeuronSide) -> None:
    """The neuron's page."""
    background.leave(str(side))
    _bar(found, side)
    left, right = st.columns([1, 1.75], gap="medium")
    with left:
        about.draw(found, side)
        with server_wide.errors_shown():
            histogram.draw(found, side)
    with right:
        view = _chosen(found)
        with server_wide.errors_shown():
            VIEWS[view][1](found, side)


def _bar(found: Known, side: NeuronSide) -> None:
    """The name, the ways out and what can be done with the neuron."""
    loaded = found.loaded
    site = loaded.sites[side.layer]
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if st.button("All neurons", icon=":material/arrow_back:", key="neurons.back"):
            leave()
        words = "fires upwards" if side.polarity == "+" else "fires downwards"
        expert = f", in its parts {site.label(side.index)}" if site.experts is not None else ""
        where = f"   {words} · layer {side.layer} of 0–{loaded.n_layers - 1}, neuron {side.index:,} of 0–{site.width - 1:,}{expert}"
        untrusted.draw([(f"Neuron {side}", "strong"), (where, "muted")], key="neurons.title", size="1.05rem")
        other = opposite(side)
        if st.button(
            f"Other side: {other}", icon=":material/swap_vert:", key="neurons.other",
            help="A neuron is two things: what it does when its activation is positive, and when it is negative",
        ):  # fmt: skip
            show_here(other)
        neuron_table.buttons((side,), key="neurons.one", ref=loaded.ref)


def _chosen(found: Known) -> View:
    """The view, also in the address."""
    if _VIEW not in st.session_state:
        usual: View = "exemplars" if found.figures is not None else "tokens"
        st.session_state[_VIEW] = address_state.read(NeuronState).view or usual
    view = st.segmented_control(
        "View", list(VIEWS), key=_VIEW, format_func=lambda name: VIEWS[name][0], label_visibility="collapsed", required=True,
        persist_state="session",
    )  # fmt: skip
    chosen: View = view or "exemplars"
    if st.query_params.get("view") != chosen:
        st.query_params["view"] = chosen
    return chosen


def leave() -> None:
    """Back to the list, as it was."""
    background.leave("")
    for name in (PARAMETER, "view"):
        if name in st.query_params:
            del st.query_params[name]
    st.rerun()
