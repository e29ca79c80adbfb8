"""The steers over many prompts: one row per prompt, both answers, whether they differ, and a summary."""

from __future__ import annotations

import streamlit as st

from neurons.prompts.sets import load_set, saved_sets
from neurons.runs.steering import positions_note
from pages.prompts import run_list
from pages.shared import address, job_progress, sampling_settings, server_wide, steer_state, untrusted
from pages.steer import pair_run

_RUN = "steer.set.run"


def draw() -> None:
    """Choose a saved set, run it with and without the steers, see what changes."""
    names = saved_sets().names()
    if not names:
        st.caption("There is no saved prompt set yet: upload or paste prompts on the Prompts page and press Save the set.")
        st.page_link(address.target("prompts"), label="Go to Prompts", icon=":material/playlist_play:")
        return
    left, right = st.columns([3, 1.2], vertical_alignment="bottom")
    chosen = left.selectbox("Prompt set", names, key="steer.set")
    steers = steer_state.steers()
    hint = pair_run.ready(steers)
    if note := positions_note(steers):
        st.caption(untrusted.sentence(note))
    if right.button(
        "Run the set", icon=":material/playlist_play:", key="steer.set.go", disabled=bool(hint), width="stretch", help=hint or None
    ):
        name = run_list.free_name(f"{chosen} steered")
        run_list.start(
            load_set(chosen),
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
    job = run_list.job_of(run)
    if job is not None:
        job_progress.show(job, key=f"steer.set.{job.id}")
    with server_wide.errors_shown():
        run_list.draw_results(run, key="steer.set.results")
