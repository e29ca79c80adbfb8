"""The Steer tab of the Trace page: cards of steers, running with and without them, and what changed."""

from __future__ import annotations

import streamlit as st

from neurons.runs.steering import unplaced
from pages.compare import side_by_side
from pages.shared import in_view, sampling_settings, server_wide, steer_state
from pages.shared.trace_context import TraceContext
from pages.steer import cards, concept_making, over_prompts, pair_run, sources, strength_finder, strength_sweep
from traces.schema import TraceRecord


def draw(context: TraceContext) -> None:
    """Draw the tab for the open trace: its conversation is what is run."""
    loaded = context.answerer
    job = pair_run.running()
    busy = job is not None
    sources.draw(loaded, disabled=busy)
    concept_making.watch(key="steer.making")
    _offer_own(context.record)
    cards.draw_cards(loaded, strip_ranges=context.ranges, disabled=busy)
    in_view.bring(pair_run.mark(), key="steer.view")
    with server_wide.errors_shown():
        _run(context, busy=busy)
        pair_run.problem()
        if job is not None:
            pair_run.live(job)
            return
        _outcome(context)
    _more(context)


def _offer_own(record: TraceRecord) -> None:
    """A steered trace brings its steers along."""
    own = [steer for steer in unplaced(record.steers) if steer not in steer_state.steers()]
    if own and st.button(
        f"Use the {len(own)} steer{'s' if len(own) > 1 else ''} of this trace", icon=":material/content_copy:", key="steer.own"
    ):
        steer_state.add_all(own)
        st.rerun()


def _run(context: TraceContext, *, busy: bool) -> None:
    steers = steer_state.steers()
    hint = pair_run.ready(steers)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        go = st.button(
            "Run steered",
            type="primary",
            icon=":material/compare:",
            key="steer.go",
            disabled=busy or not steers or context.answerer is None,
            help="Answers the open conversation's last turn twice, without and with these steers, with the same seed and settings",
        )
        if steers:
            st.button("Remove all", icon=":material/delete_sweep:", key="steer.clear", on_click=steer_state.clear, disabled=busy)
        st.caption(hint or sampling_settings.label())
    if go:
        messages = pair_run.messages_of(context.record, same_model=context.loaded is not None)
        pair_run.start(messages, steers, sampling=sampling_settings.sampling(), by=context.loaded)
        st.rerun()


def _outcome(context: TraceContext) -> None:
    """The comparison of the last run of this browser, else of the open trace with its unsteered run."""
    record, done = context.record, pair_run.finished()
    if done is not None:
        a, b, steers = done
        with st.container(horizontal=True, vertical_alignment="center"):
            side_by_side.pair_link(a, b)
            st.button("Close", icon=":material/close:", key="steer.close", on_click=pair_run.dismiss)
            if steers != steer_state.steers():
                st.caption(":material/history: Stale: the cards were changed after this run.")
        for said in dict.fromkeys(filter(None, (steer_state.warning(steer, context.answerer) for steer in steers))):
            st.warning(said, icon=":material/warning:")
        side_by_side.draw(a, b, key="steer.compare")
    elif record.baseline_id:
        st.caption("The open trace is a steered run. Here it is beside its unsteered run:")
        side_by_side.pair_link(record.baseline_id, record.id)
        side_by_side.draw(record.baseline_id, record.id, key="steer.compare")


def _more(context: TraceContext) -> None:
    """Over strengths and over prompts."""
    if not steer_state.cards():
        return
    strengths = st.expander("Strength sweep", icon=":material/show_chart:", key="steer.more.sweep", on_change="rerun")
    if strengths.open:
        with strengths, server_wide.errors_shown():
            strength_sweep.draw(context)
    if strength_finder.pushes():
        finder = st.expander("Find strength", icon=":material/target:", key="steer.more.find", on_change="rerun")
        if finder.open:
            with finder, server_wide.errors_shown():
                strength_finder.draw(context)
    prompts = st.expander("Over a prompt set", icon=":material/playlist_play:", key="steer.more.set", on_change="rerun")
    if prompts.open:
        with prompts, server_wide.errors_shown():
            over_prompts.draw()
