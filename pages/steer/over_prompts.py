"""The steers over many prompts: one row per prompt, both answers, whether they differ, and a summary."""

from __future__ import annotations

import streamlit as st

from neurons.prompts.files import pasted
from neurons.prompts.sets import load_set, saved_sets
from neurons.runs.steering import positions_note
from pages.prompts import run_list
from pages.shared import in_view, job_progress, sampling_settings, server_wide, steer_state, untrusted
from pages.steer import pair_run

_RUN = "steer.set.run"
_PASTED = "(pasted lines)"


def draw() -> None:
    """Paste prompts or choose a saved set, run it with and without the steers, see what changes."""
    left, right = st.columns([3, 1.2], vertical_alignment="bottom")
    chosen = left.selectbox("Prompt set", [_PASTED, *saved_sets().names()], key="steer.set")
    text = ""
    if chosen == _PASTED:
        text = st.text_area(
            "One prompt per line",
            key="steer.set.text",
            height=110,
            placeholder="What is the capital of Turkey?\nWhat is the capital of Brazil?",
        )
        st.caption("Files, and sets that say what is expected, are read on the Prompts page and saved there.")
    steers = steer_state.steers()
    hint = pair_run.ready(steers)
    if note := positions_note(steers):
        st.caption(untrusted.escape(untrusted.sentence(note)))
    if right.button(
        "Run the set", icon=":material/playlist_play:", key="steer.set.go", disabled=bool(hint), width="stretch", help=hint or None
    ):
        prompts = pasted(text) if chosen == _PASTED else load_set(chosen)
        name = run_list.free_name(f"{'pasted' if chosen == _PASTED else chosen} steered")
        run_list.start(
            prompts,
            run=name,
            sampling=sampling_settings.sampling(),
            steers=steers,
            system=sampling_settings.system_prompt(),
            record=False,
        )
        st.session_state[_RUN] = name
        st.rerun()
    run = st.session_state.get(_RUN)
    if run is None:
        return
    in_view.bring(run, key="steer.set.view")
    job = run_list.job_of(run)
    if job is not None:
        job_progress.show(job, key=f"steer.set.{job.id}")
    with server_wide.errors_shown():
        run_list.draw_results(run, key="steer.set.results")
