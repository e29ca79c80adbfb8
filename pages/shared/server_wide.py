"""What all pages of one server share: the loaded model, the trace store, background work; and how an error is shown.

The pages reach the engine through this module alone. Nothing here is kept per browser: see the pages' session state for that.
"""

from __future__ import annotations

import gc
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from neurons.checking.load import load_model
from neurons.core.errors import Cancelled, NeuronscopeError
from neurons.core.home import home
from neurons.models.loaded import LoadedModel
from pages.shared.untrusted import escape
from traces.store import TraceStore

MODEL_VARIABLE = "NEURONSCOPE_MODEL"
_KEPT_JOBS = 50


@dataclass(eq=False)
class Job:
    """Work in a thread of its own. The page polls it; the thread never calls streamlit."""

    id: str
    what: str
    """What a person is told while it runs, such as "loading the model"."""
    started: float = field(default_factory=time.monotonic)
    done: int = 0
    total: int | None = None
    message: str = ""
    live: list[Any] = field(default_factory=list)
    """What the work hands out before it ends, such as token ids."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What the page wants to remember about it."""
    stopping: threading.Event = field(default_factory=threading.Event)
    future: Future[Any] | None = None

    def progress(self, done: int, total: int | None, message: str) -> None:
        """A `Progress` for the engine. Raises `Cancelled` once `stop` was called."""
        self.done, self.total, self.message = done, total, message
        self.check()

    def check(self) -> None:
        """Raise `Cancelled` once `stop` was called."""
        if self.stopping.is_set():
            raise Cancelled(f"stopped: {self.what}")

    def stop(self) -> None:
        """Ask the work to end at its next check."""
        self.stopping.set()

    @property
    def running(self) -> bool:
        return self.future is None or not self.future.done()

    def error(self) -> NeuronscopeError | None:
        """Why it failed, if it did and it has ended. An error that nobody foresaw is raised."""
        try:
            self.result()
        except NeuronscopeError as error:
            return error
        return None

    def result(self) -> Any:
        """What the work returned, or its error raised; None while it runs."""
        return None if self.running or self.future is None else self.future.result()


class Server:
    """One per process and home: models, traces and jobs."""

    def __init__(self) -> None:
        self.store = TraceStore()
        self._pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="neuronscope")
        self._jobs: dict[str, Job] = {}
        self._guard = threading.Lock()
        self._loaded: LoadedModel | None = None
        self._loading: Job | None = None
        self.spec = os.environ.get(MODEL_VARIABLE) or "default"

    def start(self, what: str, work: Callable[[Job], Any], **facts: Any) -> Job:
        """Run `work(job)` in a thread and return its job at once."""
        job = Job(secrets.token_hex(4), what, facts=facts)
        with self._guard:
            ended = [name for name, old in self._jobs.items() if not old.running]
            for name in ended[: max(0, len(self._jobs) - _KEPT_JOBS)]:
                del self._jobs[name]
            self._jobs[job.id] = job
        job.future = self._pool.submit(work, job)
        return job

    def job(self, job_id: str | None) -> Job | None:
        """A job by its id, as long as it is remembered."""
        return self._jobs.get(job_id or "")

    def jobs(self) -> tuple[Job, ...]:
        """Every remembered job, oldest first."""
        return tuple(self._jobs.values())

    def load(self, spec: str, *, device: str | None = None, dtype: str | None = None) -> Job:
        """Load a model in the background; once loaded it takes the present one's place, in every browser."""

        def work(job: Job) -> None:
            self.adopt(load_model(spec, device=device, dtype=dtype, progress=job.progress), spec)
            _spare_the_collector()

        with self._guard:
            if self._loading is not None and self._loading.running and self._loading.facts["spec"] == spec:
                return self._loading
        job = self.start(f"loading {spec}", work, spec=spec)
        self._loading = job
        return job

    def adopt(self, loaded: LoadedModel, spec: str) -> None:
        """Take a loaded model for every browser of this server. Jobs that have ended let go of the one before."""
        for job in self.jobs():
            if not job.running:
                job.facts.pop("loaded", None)
        self._loaded, self.spec = loaded, spec

    @property
    def loaded(self) -> LoadedModel | None:
        """The model, or None while it loads (the first look starts that) and when loading failed."""
        if self._loaded is None and self._loading is None:
            self.load(self.spec)
        return self._loaded

    @property
    def loading(self) -> Job | None:
        """The latest load, running or ended."""
        return self._loading


def _spare_the_collector() -> None:
    """Take what is loaded by now out of garbage collection.

    Streamlit runs a full collection after every run of a page or fragment. Over the objects of torch and transformers that takes
    a third of a second with the interpreter's lock held: an answer that streams beside it slows down several times.
    """
    gc.collect()
    gc.freeze()


@st.cache_resource(show_spinner=False, max_entries=4)
def _server_of(home_folder: str) -> Server:
    return Server()


def server() -> Server:
    """The shared state of this process (one for each NEURONSCOPE_HOME)."""
    return _server_of(str(home()))


def store() -> TraceStore:
    """The user's traces, examples included."""
    return server().store


def model() -> LoadedModel | None:
    """The shared model, or None while it loads: then `loading_notice` says so."""
    return server().loaded


def model_with(weights_hash: str) -> LoadedModel | None:
    """The shared model where it has these weights: what was made with them can be run, decoded and steered."""
    loaded = model()
    return loaded if loaded is not None and loaded.ref.weights_hash == weights_hash else None


def loading_notice() -> None:
    """While the model loads: what is done, and a rerun when it is there. When it failed: why, and a button to try again."""
    model()  # the first look starts the loading
    job = server().loading
    if job is None:
        return
    if job.running:
        _loading_progress(job)
        return
    error = job.error()
    if error is not None:
        show_error(error)
        if server().loaded is None and st.button("Try again", icon=":material/refresh:", key="engine.retry"):
            server().load(job.facts["spec"])
            st.rerun()


@st.fragment(run_every=0.5)
def _loading_progress(job: Job) -> None:
    if not job.running:
        st.rerun()
    share = min(1.0, job.done / job.total) if job.total else None
    text = escape(job.message or "Getting ready")
    st.progress(share if share is not None else 0.0, text=f"Loading the model: {text} ({time.monotonic() - job.started:.0f} s)")


def show_error(error: NeuronscopeError) -> None:
    """The one way in which a page shows an error that was raised on purpose."""
    st.error(escape(str(error)), icon=":material/error:")


@contextmanager
def errors_shown() -> Iterator[None]:
    """Show a `NeuronscopeError` raised in the block instead of breaking the page."""
    try:
        yield
    except NeuronscopeError as error:
        show_error(error)
