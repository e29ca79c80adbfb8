"""Long jobs on a page: the server's runner, with all kinds of jobs it does, and a job's row with resume and failed rows.

The jobs themselves are `neurons.storage.jobs`: on disk, so that a reload or a restart finds them again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from neurons.core.errors import InvalidInput
from neurons.core.home import home
from neurons.core.progress import RESUMABLE
from neurons.storage.job_files import Job
from neurons.storage.jobs import JobRunner
from pages.shared import progress_row, server_wide

_THREADS = 2


@st.cache_resource(show_spinner=False, max_entries=4)
def _runner_of(home_folder: str) -> JobRunner:
    from neurons.describing import atlas_jobs  # here, since pages that only show a job need none of this to be drawn
    from neurons.prompts import runs
    from neurons.repair import job as repair_job
    from neurons.statistics import job as comparison

    jobs, server = JobRunner(Path(home_folder) / "jobs", threads=_THREADS), server_wide.server()
    jobs.register(repair_job.JOB_KIND, repair_job.job_worker(server.shared.for_job))
    jobs.register(comparison.JOB_KIND, comparison.job_worker(server.shared.for_job))
    atlas_jobs.register(jobs, server.shared.for_job)
    runs.register(jobs, server.shared.for_job, lambda: server.store)
    return jobs


def runner() -> JobRunner:
    """The server's job runner (one for each NEURONSCOPE_HOME)."""
    return _runner_of(str(home()))


def start(kind: str, params: Mapping[str, Any], *, title: str) -> Job:
    """Queue a job for the shared model, whose weights it then needs. Raises `InvalidInput` while that loads."""
    loaded = server_wide.model()
    if loaded is None:
        raise InvalidInput("the model is still loading; try again in a moment")
    return runner().start(kind, {**params, "model": loaded.ref.weights_hash, "precision": loaded.ref.dtype}, title=title)


def show(job: Job, *, key: str, on_end: Callable[[], None] | None = None) -> None:
    """Draw a job where it was started. While it runs it refreshes itself; when it ends the whole page runs again.

    What else the page says of the job comes from the same `job`, so that nothing says "waiting" above a row that says "done".
    `on_end` is called once, before the page runs again.
    """
    with st.container(border=True, key=f"{key}.job"):
        if job.active:
            jobs = runner()
            progress_row.live(
                partial(jobs.get, job.id),
                partial(jobs.cancel, job.id),
                key=key,
                on_end=on_end,
                stop_help="What is finished stays; it can be resumed",
            )
        else:
            _ended(job, key)


def _ended(job: Job, key: str) -> None:
    left, right = st.columns([5, 1], vertical_alignment="center")
    with left:
        progress_row.ended(job, key=key)
    if job.state in RESUMABLE and right.button(
        "Resume", icon=":material/play_arrow:", key=f"{key}.resume", width="stretch", type="primary"
    ):
        with server_wide.errors_shown():
            runner().resume(job.id)
            st.rerun()
    failed = runner().errors(job.id)
    if failed:
        with st.expander(f"Failed rows ({len(failed)})"):
            rows = [(row.get("row"), str(row.get("error"))) for row in failed]
            st.dataframe(pd.DataFrame(rows, columns=["Row", "Why"]), hide_index=True, key=f"{key}.failed", height="auto")
