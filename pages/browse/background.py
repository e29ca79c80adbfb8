"""Work on one neuron in the background: started once for all browsers, kept, shown with progress and a stop where it was asked for.

A session that goes on to another neuron stops what it had started for the one before; coming back starts it again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from neurons.core.errors import Cancelled
from neurons.core.home import home
from pages.shared import server_wide, untrusted
from pages.shared.server_wide import Job

_MINE = "neurons.storage.jobs"
_LOOK_EVERY = 0.7
_LEFT = "left"


@dataclass(eq=False)
class _Place:
    """Where the job of one key is kept, with its result."""

    guard: threading.Lock = field(default_factory=threading.Lock)
    job: Job | None = None


@st.cache_resource(show_spinner=False, max_entries=256)
def _place(home_folder: str, key: tuple[str, ...]) -> _Place:
    return _Place()


def peek(key: tuple[str, ...]) -> Job | None:
    """The job of a key, if it was started."""
    return _place(str(home()), key).job


def ensure(key: tuple[str, ...], what: str, work: Callable[[Job], Any], *, again: bool = False) -> Job:
    """The job of a key, started when there is none (or it was stopped because its browser left; or `again`)."""
    place = _place(str(home()), key)
    with place.guard:
        job = place.job
        if job is None or (not job.running and (again or job.facts.get(_LEFT))):
            job = place.job = server_wide.server().start(what, work, kind="neuron")
            st.session_state.setdefault(_MINE, []).append((key, job.id))
    return job


def leave(keep: str) -> None:
    """Stop what this session still has running for anything but the neuron named `keep`."""
    still = []
    for key, job_id in st.session_state.get(_MINE, ()):
        job = server_wide.server().job(job_id)
        if job is None or not job.running:
            continue
        if keep in key:
            still.append((key, job_id))
        else:
            job.facts[_LEFT] = True
            job.stop()
    st.session_state[_MINE] = still


def watch(job: Job, *, key: str, body: Callable[[], None] | None = None) -> bool:
    """Draw a running job's progress with a stop button (and `body`, which may show what is there so far). True once it has ended.

    When it ends, the whole page runs again.
    """
    if job.running:
        _live(job, key, body)
        return False
    return True


@st.fragment(run_every=_LOOK_EVERY)
def _live(job: Job, key: str, body: Callable[[], None] | None) -> None:
    if not job.running:
        st.rerun()
    left, right = st.columns([5, 1], vertical_alignment="center")
    share = min(1.0, job.done / job.total) if job.total else 0.0
    counted = f" {job.done:,} of {job.total:,}" if job.total else ""
    doing = "stopping" if job.stopping.is_set() else job.message or job.what
    left.progress(share, text=f"{untrusted.escape(doing)}{counted} ({time.monotonic() - job.started:.0f} s)")
    right.button(
        "Stop", icon=":material/stop_circle:", key=f"{key}.stop", on_click=job.stop, disabled=job.stopping.is_set(), width="stretch"
    )
    if body is not None:
        body()


def ended(job: Job, *, key: str, retry: Callable[[], Any]) -> bool:
    """Whether an ended job has its result; else why not, and a button that calls `retry`."""
    error = job.error()
    if error is None:
        return True
    if isinstance(error, Cancelled):
        st.caption("Stopped before it was complete.")
    else:
        server_wide.show_error(error)
    if st.button("Start again", icon=":material/refresh:", key=f"{key}.again"):
        retry()
        st.rerun()
    return False
