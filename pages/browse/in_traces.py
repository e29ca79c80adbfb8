"""In which of the saved traces a neuron side fired most: read from their stored activations, on demand."""

from __future__ import annotations

import hashlib

import streamlit as st

from neurons.core.errors import NeuronscopeError
from neurons.core.types import NeuronSide
from neurons.tracing.scan import Fired, TraceScan, scan_traces
from neurons.tracing.sentence import visible
from pages.browse import background, link_list
from pages.browse.exemplars import key_of
from pages.shared import address, progress_row, server_wide
from pages.shared.neuron_facts import Known
from pages.shared.trace_context import word_at

MOST = 500
SHOWN = 50


def draw(found: Known, side: NeuronSide) -> None:
    """The button, the progress, the traces."""
    store = server_wide.store()
    rows = store.list("", limit=MOST)
    if not rows:
        st.info("There are no traces yet: every question that is asked becomes one.", icon=":material/history:")
        address.link("trace", "Ask the model something", icon=":material/forum:")
        return
    mark = hashlib.sha256("".join(f"{row.id}{row.activations}" for row in rows).encode()).hexdigest()[:16]
    key = (*key_of(found, side, "traces"), mark)
    task = background.peek(key)

    def begin() -> None:
        ref = found.loaded.ref
        background.ensure(
            key, "looking through the traces", lambda task: scan_traces(store, ref, side, most=MOST, progress=task.progress), again=True
        )

    if task is None or (not task.running and task.left):
        st.caption(f"The newest {len(rows):,} traces can be looked through for the ones in which this neuron fired most.")
        st.button("Look through the traces", icon=":material/search:", key="neurons.traces.begin", on_click=begin, type="primary")
        return
    if progress_row.watch(task, key="neurons.traces") and background.ended(task, key="neurons.traces", retry=begin):
        _show(found, side, task.result())


def _show(found: Known, side: NeuronSide, scan: TraceScan) -> None:
    left_out = [
        f"{count:,} {why}"
        for count, why in (
            (scan.evicted, "without stored activations (removed for the disk budget)"),
            (scan.other_models, "of other models"),
            (scan.unreadable, "that could not be read"),
        )
        if count
    ]
    st.caption(
        f"It fired in {len(scan.fired):,} of {scan.read:,} traces read"
        + (f"; left out: {', '.join(left_out)}." if left_out else ".")
        + " The figure is its strongest activation after the first token; the words, the token there."
    )
    if not scan.fired:
        return
    extreme = _extreme(found, side)
    shown = scan.fired[:SHOWN]
    rows = [
        link_list.Link(
            f"{number}. {one.title}",
            address.address("trace", trace=one.trace_id, token=str(one.token)),
            f"{one.value:.2f}",
            _where(one, extreme),
        )
        for number, one in enumerate(shown, start=1)
    ]
    clicked = link_list.draw(rows, key="neurons.traces.list", title="Traces in which it fired most")
    if clicked is not None:
        one = shown[int(clicked.partition(".")[0]) - 1]
        address.go("trace", trace=one.trace_id, token=str(one.token))
    if len(scan.fired) > SHOWN:
        st.caption(f"The {SHOWN} strongest.")


def _extreme(found: Known, side: NeuronSide) -> float:
    """Its 1 in 100,000 activation, 0 where it is not known."""
    if found.figures is None:
        return 0.0
    return float(found.figures.quantile(1e-5)[int(side.polarity == "-"), side.layer, side.index])


def _where(one: Fired, extreme: float) -> str:
    try:
        record = server_wide.store().load(one.trace_id)
        word = visible(word_at(record, one.token))
    except (NeuronscopeError, IndexError):
        word = ""
    share = f", {one.value / extreme:.2f} of its strongest 1 in 100,000" if extreme else ""
    return f"at {word} (token {one.token}{share}) · {one.created[:10]}"
