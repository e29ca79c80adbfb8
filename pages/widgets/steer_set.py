"""The steers over many prompts: one row a prompt, both answers, whether they differ, and a summary."""

from __future__ import annotations

import streamlit as st

from neurons.promptsets import load_set, shelf
from pages.widgets import engine, jobs_view, links, prompt_runs, steer_run, steer_state, trace_sampling

_RUN = "steer.set.run"


def draw() -> None:
    """Choose a saved set, run it with and without the steers, see what changes."""
    names = shelf().names()
    if not names:
        st.caption("There is no saved prompt set yet: upload or paste prompts on the Prompts page and press Save the set.")
        st.page_link(links.target("prompts"), label="Go to Prompts", icon=":material/playlist_play:")
        return
    left, right = st.columns([3, 1.2], vertical_alignment="bottom")
    chosen = left.selectbox("Prompt set", names, key="steer.set")
    steers = steer_state.steers()
    hint = steer_run.ready(steers)
    if right.button(
        "Run the set", icon=":material/playlist_play:", key="steer.set.go", disabled=bool(hint), width="stretch", help=hint or None
    ):
        run = prompt_runs.free_name(f"{chosen} steered")
        prompt_runs.start(
            load_set(chosen),
            run=run,
            sampling=trace_sampling.sampling(),
            steers=steers,
            system=trace_sampling.system_prompt(),
            record=False,
        )
        st.session_state[_RUN] = run
        st.rerun()
    run = st.session_state.get(_RUN)
    if run is None:
        return
    job = prompt_runs.job_of(run)
    if job is not None:
        jobs_view.show(job.id, key=f"steer.set.{job.id}")
    with engine.errors_shown():
        prompt_runs.draw_results(run, key="steer.set.results")
