"""The Trace page: the conversation on the left, what the selected tokens did on the right."""

from __future__ import annotations

if __name__ == "__main__":
    from pages.widgets.links import enter

    enter()

from importlib import import_module
from importlib.util import find_spec

import streamlit as st

from pages.widgets import (
    clusters_choice,
    strip,
    trace_activations,
    trace_attribution,
    trace_bar,
    trace_chat,
    trace_context,
    trace_pictures,
    trace_summary,
    trace_views,
)
from pages.widgets.trace_context import TraceContext
from traces.attributions import StoredAttribution

TABS = ("Neurons", "Clusters", "Pictures", "Steer")


def page() -> None:
    """Draw the page."""
    trace_context.view()
    context = trace_context.current()
    trace_bar.draw(context)
    if context is not None:
        clusters_choice.hear(context)
    left, right = st.columns([45, 55], gap="medium")
    with right:
        top = st.container(height=strip.room_beside(), border=False)
        attribution = _attribution(context, top)
    with left:
        shown = clusters_choice.tinted(context, trace_views.strip_of(context, attribution)) if context is not None else None
        ranges = trace_chat.draw(context, shown)
    if context is None:
        with top:
            trace_summary.first_steps()
        return
    trace_context.note_selection(ranges)
    with top:
        if trace_chat.running() is not None:
            st.caption("The answer on the left is still being written. What follows is about the trace before it.")
        trace_summary.draw(context, attribution)
        _tabs(context, attribution)


def _attribution(context: TraceContext | None, place: st.delta_generator.DeltaGenerator) -> StoredAttribution | None:
    """In the attribution view, the answer to the present question: the strip is tinted by it."""
    if context is None or context.view != "attribution":
        return None
    with place:
        return trace_attribution.current(context)


def _tabs(context: TraceContext, attribution: StoredAttribution | None) -> None:
    names = [name for name in TABS if name in ("Neurons", "Pictures") or find_spec(f"pages.widgets.{name.lower()}_tab")]
    for name, tab in zip(names, st.tabs(names, key="trace.tab", on_change="rerun"), strict=True):
        if not tab.open:
            continue
        with tab:
            if name == "Pictures":
                trace_pictures.draw(context, attribution)
            elif name != "Neurons":
                import_module(f"pages.widgets.{name.lower()}_tab").draw(context)
            elif context.view == "attribution":
                trace_attribution.draw(context, attribution)
            else:
                trace_activations.draw(context)
