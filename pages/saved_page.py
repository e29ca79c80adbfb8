"""Every run that was saved: search it, open it, name it, replay it, compare it, share it, delete it."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from neurons.core.types import Sampling
from pages.saved import trace_actions, trace_table
from pages.shared import address, server_wide, untrusted
from traces.summary import TraceSummary

_HEIGHT = 560


def page() -> None:
    """Draw the page."""
    with server_wide.errors_shown():
        chosen = trace_table.filters()
        rows = server_wide.store().list(**chosen, limit=trace_table.MOST)
        bar = st.container(horizontal=True, vertical_alignment="center", gap="small")
        notices = st.container()
        if not rows:
            with bar:
                trace_actions.import_button()
            _empty(filtered=any(value for value in chosen.values()))
            with notices:
                trace_actions.notices()
            return
        table, side = st.columns([3.7, 1])
        with table:
            picked = trace_table.draw(rows, height=_HEIGHT)
            _footer(len(rows))
        with bar:
            trace_actions.draw(picked, trashed=bool(chosen.get("trashed")))
        with notices:
            trace_actions.notices()
        with side:
            _detail(picked)


def _empty(*, filtered: bool) -> None:
    with st.container(border=True):
        if filtered:
            st.markdown("**No trace fits these filters.** Empty the search, or choose other dates, tags or models.")
            return
        st.markdown("**There are no traces yet.** Each question that you ask becomes one and is kept here. Two ways to begin:")
        with st.container(horizontal=True):
            address.link("trace", "Ask the model something", icon=":material/forum:")
            address.link("prompts", "Run a list of prompts", icon=":material/playlist_play:")


def _footer(count: int) -> None:
    usage = server_wide.store().usage()
    kept = f"activations take {usage.activation_bytes / 1e9:.2f} of {usage.budget_bytes / 1e9:g} GB"
    many = f"The newest {count:,} are shown: search to see others. " if count >= trace_table.MOST else ""
    left, right = st.columns([3, 1], vertical_alignment="center")
    left.caption(
        f"{many}{count:,} shown. On disk: {usage.traces:,} traces, {usage.bytes / 1e9:.2f} GB; {kept}. When full, the oldest unpinned "
        "activations are removed; the trace stays and can compute them again."
    )
    with right.popover("Disk budget", icon=":material/hard_drive:", width="stretch"):
        trace_actions.budget()


def _detail(picked: Sequence[TraceSummary]) -> None:
    """What the selected trace says, beside the table."""
    with st.container(border=True, height=_HEIGHT):
        if not picked:
            st.caption(
                "Select rows with the boxes at their left: one to see it here, two to compare them, many to export, pin or delete them."
            )
            return
        if len(picked) > 1:
            st.caption(f"{len(picked)} traces selected, {sum(row.bytes for row in picked) / 1e6:.1f} MB.")
            untrusted.draw(
                [part for row in picked[:40] for part in ((f"{row.title}\n", ""), (f"{row.created[:16]}\n", "muted"))], key="traces.many"
            )
            return
        row = picked[0]
        parts: list[untrusted.Part] = [(f"{row.title}\n", "strong"), (f"{row.model_name} · {_how(row)}\n\n", "muted")]
        parts += [("Prompt\n", "muted"), (f"{row.prompt}\n\n", ""), ("Answer\n", "muted"), (f"{row.answer or '(empty)'}\n\n", "")]
        if row.note:
            parts += [("Note\n", "muted"), (f"{row.note}\n\n", "")]
        if row.tags:
            parts += [("Tags: ", "muted"), (", ".join(row.tags), "")]
        untrusted.draw(parts, key="traces.detail", size="0.9rem")
        if row.baseline_id:
            address.link("compare", "Compare with its unsteered run", icon=":material/compare:", a=row.baseline_id, b=row.id)


def _how(row: TraceSummary) -> str:
    how = Sampling(temperature=row.temperature)
    heat = how.how if how.greedy else f"{how.how}, seed {row.seed}"
    steered = f", {row.steers} steer{'s' if row.steers > 1 else ''}" if row.steers else ""
    return (
        f"{heat}{steered}, {row.prompt_tokens} + {row.answer_tokens} tokens in {row.seconds:.1f} s, ended: {row.finish_reason}, id {row.id}"
    )
