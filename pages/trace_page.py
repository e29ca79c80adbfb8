"""The Trace page: the conversation on the left, what the selected tokens did on the right."""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages.shared import desk, drawing, figures, strip, strip_views, trace_context
from pages.shared.trace_context import TraceContext
from pages.steer import steer_tab
from pages.trace import (
    activation_view,
    attribution_view,
    bar,
    chat,
    cluster_choice,
    cluster_tab,
    concept_choice,
    concept_tab,
    other_model,
    pictures,
    token_sentence,
)
from traces.attributions import StoredAttribution

TABS = ("Concepts", "Neurons", "Clusters", "Pictures", "Steer")


def page() -> None:
    """Draw the page."""
    trace_context.view()
    context = trace_context.current()
    if context is not None:
        other_model.draw(context)
    about = bar.draw(context)
    if context is not None:
        cluster_choice.hear(context)
        concept_choice.hear(context)
    left, right = _halves(st.session_state.get(bar.LAYOUT_KEY))
    with right:
        top = st.container(height=strip.room_beside(), border=False)
        attribution = _attribution(context, top)
    with left:
        shown = cluster_choice.tinted(context, strip_views.strip_of(context, attribution)) if context is not None else None
        ranges = chat.draw(context, shown)
    if about is not None and context is not None and shown is not None:
        with about:
            st.caption("The tokens as they are tinted now, for a paper:")
            figures.offer(lambda: [drawing.of_strip(shown)], key="trace.strip", stem=f"tokens-{context.id}", inline=True)
    if context is None:
        with top:
            token_sentence.first_steps()
        return
    trace_context.note_selection(ranges)
    with top:
        if chat.running() is not None:
            st.caption("The answer on the left is still being written. What follows is about the trace before it.")
        token_sentence.draw(context, attribution)
        _tabs(context, attribution)
    if about is not None:
        desk.keep("trace")
        with about:
            bar.link(context)


def _halves(layout: str | None) -> tuple[DeltaGenerator, DeltaGenerator]:
    """Where the conversation and the tabs go; the one that is put away is still there, so that nothing in it is lost."""
    left, right = st.columns([45, 55], gap="medium")
    hidden = {"conversation": "trace-right", "tabs": "trace-left"}.get(layout or "")
    if hidden is not None:
        st.html(f"<style>[data-testid='stColumn']:has(.st-key-{hidden}) {{ display: none; }}</style>")
    return left.container(key="trace-left"), right.container(key="trace-right")


def _attribution(context: TraceContext | None, place: DeltaGenerator) -> StoredAttribution | None:
    """In the attribution view, the answer to the present question: the strip is tinted by it."""
    if context is None or context.view != "attribution":
        return None
    with place:
        return attribution_view.current(context)


def _tabs(context: TraceContext, attribution: StoredAttribution | None) -> None:
    for name, tab in zip(TABS, st.tabs(TABS, key="trace.tab", on_change="rerun"), strict=True):
        if not tab.open:
            continue
        with tab:
            if name == "Concepts":
                concept_tab.draw(context)
            elif name == "Pictures":
                pictures.draw(context, attribution)
            elif name != "Neurons":
                (steer_tab if name == "Steer" else cluster_tab).draw(context)
            elif context.view == "attribution":
                attribution_view.draw(context, attribution)
            else:
                activation_view.draw(context)
