"""Long jobs on a page: one runner per server, and each job's progress, time left, stop, resume and failed rows.

The jobs themselves are `neurons.storage.jobs`: on disk, so that a reload or a restart finds them again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import streamlit as st

from neurons.core.errors import NeuronscopeError
from neurons.core.home import home
from neurons.core.progress import RESUMABLE
from neurons.storage.job_files import Job
from neurons.storage.jobs import JobRunner, Worker
from pages.shared import server_wide, untrusted

_THREADS = 2
_LOOK_EVERY = 1.0
_STATES = {
    "queued": "waiting for its turn",
    "running": "running",
    "done": "done",
    "failed": "failed",
    "cancelled": "stopped",
    "interrupted": "interrupted by a restart",
}


@st.cache_resource(show_spinner=False, max_entries=4)
def _runner_of(home_folder: str) -> JobRunner:
    return JobRunner(Path(home_folder) / "jobs", threads=_THREADS)


def runner() -> JobRunner:
    """The server's job runner (one for each NEURONSCOPE_HOME)."""
    return _runner_of(str(home()))


def register(kind: str, worker: Worker) -> JobRunner:
    """Say how jobs of a kind are done; call it on each run of the page that starts or resumes them."""
    jobs = runner()
    jobs.register(kind, worker)
    return jobs


def state_text(job: Job) -> str:
    """Where a job stands, in a few words of our own."""
    counted = f", {job.done:,} of {job.total:,}" if job.total else ""
    failed = f", {job.errors} failed" if job.errors else ""
    return f"{_STATES[job.state]}{counted}{failed}"


def time_text(seconds: float) -> str:
    """Seconds as people say them: "40 s", "3 min", "2 h 5 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def show(job_id: str, *, key: str, on_end: Callable[[], None] | None = None) -> Job | None:
    """Draw a job where it was started. While it runs it refreshes itself; when it ends the whole page runs again.

    Returns the job, or None when it no longer exists. `on_end` is called once, before the page runs again.
    """
    try:
        job = runner().get(job_id)
    except NeuronscopeError as error:
        server_wide.show_error(error)
        return None
    with st.container(border=True, key=f"{key}.job"):
        if job.active:
            _live(job_id, key, on_end)
        else:
            _ended(job, key)
    return job


@st.fragment(run_every=_LOOK_EVERY)
def _live(job_id: str, key: str, on_end: Callable[[], None] | None) -> None:
    job = runner().get(job_id)
    if not job.active:
        if on_end is not None:
            on_end()
        st.rerun()
    left, right = st.columns([5, 1], vertical_alignment="center")
    eta = f", about {time_text(job.eta_seconds)} left" if job.eta_seconds is not None else ""
    title = untrusted.escape(job.title)
    left.progress(job.fraction, text=f"{title}: {state_text(job)}{eta}")
    message = untrusted.escape(job.message)
    left.caption(f"{message} · {time_text(job.seconds)} so far" if message else "waiting")
    if right.button(
        "Stop", icon=":material/stop_circle:", key=f"{key}.stop", width="stretch", help="What is finished stays; it can be resumed"
    ):
        runner().cancel(job_id)


def _ended(job: Job, key: str) -> None:
    left, right = st.columns([5, 1], vertical_alignment="center")
    said = f": {job.message}" if job.state == "failed" else ""
    tone: untrusted.Kind = "negative" if job.state == "failed" else ""
    with left:
        untrusted.draw(
            [(job.title, "strong"), (f"  {state_text(job)} in {time_text(job.seconds)}", "muted"), (said, tone)], key=f"{key}.ended"
        )
    _resume(job, right, key)
    failed = runner().errors(job.id)
    if failed:
        with st.expander(f"Failed rows ({len(failed)})"):
            rows = [(row.get("row"), str(row.get("error"))) for row in failed]
            st.dataframe(pd.DataFrame(rows, columns=["Row", "Why"]), hide_index=True, key=f"{key}.failed", height="auto")


def _resume(job: Job, place: st.delta_generator.DeltaGenerator, key: str) -> None:
    if job.state in RESUMABLE and place.button(
        "Resume", icon=":material/play_arrow:", key=f"{key}.resume", width="stretch", type="primary"
    ):
        with server_wide.errors_shown():
            runner().resume(job.id)
            st.rerun()
