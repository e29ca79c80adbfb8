"""What all pages of one server share: the loaded model, the trace store, work in the background; and how an error is shown.

The pages reach the engine through this module alone. Nothing here is kept per browser: see the pages' session state for that.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import streamlit as st

from neurons.checking.load import load_model
from neurons.core.errors import NeuronscopeError
from neurons.core.home import home
from neurons.core.tasks import R, T, Task, Tasks
from neurons.models.loaded import LoadedModel
from neurons.models.shared import Loading, SharedModel
from neurons.storage.error_reports import unforeseen
from pages.serving import housekeeping
from pages.shared import progress_row
from pages.shared.untrusted import escape
from traces.store import TraceStore

MODEL_VARIABLE = "NEURONSCOPE_MODEL"


class Server:
    """One for each process and home: the model, the traces, the work in the background."""

    def __init__(self) -> None:
        self.store = TraceStore()
        self._tasks = Tasks(unforeseen=unforeseen)
        housekeeping.WORK.append(self._tasks)
        self.shared = SharedModel(self._tasks, load_model, spec=os.environ.get(MODEL_VARIABLE) or "default")

    def start(self, task: Task[R], work: Callable[[], R]) -> None:
        """Do `work` in a thread as `task`, which every browser can find by its id. The work never calls streamlit."""
        self._tasks.start(task, work)

    def task(self, task_id: str | None, kind: type[T]) -> T | None:
        """A task by its id, as long as it is remembered and of this kind."""
        return self._tasks.find(task_id, kind)

    def running(self, kind: type[T], fits: Callable[[T], bool]) -> T | None:
        """A task of this kind that `fits` and has not ended, whichever browser began it."""
        return self._tasks.running(kind, fits)

    def tasks(self) -> tuple[Task[Any], ...]:
        """Every remembered task, oldest first."""
        return self._tasks.all()

    def load(self, spec: str, *, device: str | None = None, dtype: str | None = None) -> Loading:
        """Load a model in the background; once loaded it takes the present one's place, in every browser."""
        return self.shared.load(spec, device=device, dtype=dtype)

    def adopt(self, loaded: LoadedModel, spec: str) -> None:
        """Take a loaded model for every browser of this server."""
        self.shared.adopt(loaded, spec)

    @property
    def loaded(self) -> LoadedModel | None:
        """The model, or None while it loads (the first look starts that) and when loading failed."""
        return self.shared.loaded

    @property
    def loading(self) -> Loading | None:
        """The latest load, running or ended."""
        return self.shared.loading


@st.cache_resource(show_spinner=False, max_entries=4)
def _server_of(home_folder: str) -> Server:
    housekeeping.start()
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
    """The model with these weights, the shared one or one beside it: what was made with them can be run, decoded and steered."""
    return server().shared.with_weights(weights_hash)


def loading_notice() -> None:
    """While the model loads: what is done, and a rerun when it is there. When it failed: why, and a button to try again."""
    model()  # the first look starts the loading
    job = server().loading
    if job is None:
        return
    if not progress_row.watch(job, key="engine.loading", stop=False):
        return
    error = job.error()
    if error is not None:
        show_error(error)
        if server().loaded is None and st.button("Try again", icon=":material/refresh:", key="engine.retry"):
            server().load(job.spec)
            st.rerun()


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
