"""The one model that everybody on a server uses: loading it in the background, replacing it, waiting for it."""

from __future__ import annotations

import gc
import threading
import time
from dataclasses import dataclass
from typing import Protocol

from neurons.core.errors import ModelError
from neurons.core.progress import Progress
from neurons.core.tasks import Task, Tasks
from neurons.models.beside import Beside
from neurons.models.loaded import LoadedModel
from neurons.storage.job_parameters import JobParameters


class Load(Protocol):
    """How a model is loaded."""

    def __call__(self, spec: str, *, device: str | None, dtype: str | None, progress: Progress) -> LoadedModel: ...


@dataclass(eq=False, kw_only=True)
class Loading(Task[None]):
    """A model being loaded."""

    spec: str
    weights: str = ""
    """Of a model that is loaded beside the server's own: the weights that are wanted."""


class SharedModel:
    """The model of one server."""

    def __init__(self, tasks: Tasks, load: Load, *, spec: str) -> None:
        self._tasks, self._load = tasks, load
        self._guard = threading.Lock()
        self._loaded: LoadedModel | None = None
        self.spec = spec
        self.loading: Loading | None = None
        """The latest load, running or ended."""
        self.beside = Beside()

    @property
    def loaded(self) -> LoadedModel | None:
        """The model, or None while it loads (the first look starts that) and when loading failed."""
        if self._loaded is None and self.loading is None:
            self.load(self.spec)
        return self._loaded

    def load(self, spec: str, *, device: str | None = None, dtype: str | None = None) -> Loading:
        """Load a model in the background; once loaded it takes the present one's place."""
        with self._guard:
            if self.loading is not None and self.loading.running and self.loading.spec == spec:
                return self.loading
            task = self.loading = Loading(what=f"loading the model {spec}", spec=spec)

        def work() -> None:
            self.adopt(self._load(spec, device=device, dtype=dtype, progress=task.progress), spec)
            _spare_the_collector()

        self._tasks.start(task, work)
        return task

    def with_weights(self, weights_hash: str) -> LoadedModel | None:
        """The model with these weights, the server's own or one beside it; None where neither has them."""
        own = self.loaded
        return own if own is not None and own.ref.weights_hash == weights_hash else self.beside.find(weights_hash)

    def load_beside(self, spec: str, *, weights: str = "") -> Loading:
        """Load a model beside the server's own, which stays everybody's. With `weights`, any other ones are refused."""
        with self._guard:
            same = self._tasks.running(Loading, lambda task: (task.spec, task.weights) == (spec, weights) and task is not self.loading)
            if same is not None:
                return same
            task = Loading(what=f"loading {spec} beside the server's model", spec=spec, weights=weights)

        def work() -> None:
            self._take_beside(spec, weights, task.progress)

        self._tasks.start(task, work)
        return task

    def answering(self, spec: str, progress: Progress) -> LoadedModel:
        """The model that `spec` names, the server's own or one beside it, loaded first where it is not."""
        with self._guard:
            own = self._loaded
        held = (*((own,) if own is not None else ()), *self.beside.all())
        found = next((loaded for loaded in held if loaded.ref.id == spec), None)
        return found or self._take_beside(spec, "", progress)

    def _take_beside(self, spec: str, weights: str, progress: Progress) -> LoadedModel:
        loaded = self._load(spec, device=None, dtype=None, progress=progress)
        if weights:
            loaded.require(weights, "this trace")
        own = self._loaded
        if own is not None and own.ref.weights_hash == loaded.ref.weights_hash:
            return own
        self.beside.take(loaded)
        _spare_the_collector()
        return loaded

    def adopt(self, loaded: LoadedModel, spec: str) -> None:
        """Take a loaded model for everybody. Tasks that have ended let go of the one before."""
        for task in self._tasks.all():
            if not task.running:
                task.let_go()
        self._loaded, self.spec = loaded, spec
        self.beside.drop(loaded.ref.weights_hash)

    def wait(self, progress: Progress) -> LoadedModel:
        """The model, once it is loaded. Raises `ModelError` when loading failed."""
        while (loaded := self.loaded) is None:
            loading = self.loading
            if loading is not None and not loading.running and self.loaded is None:
                raise ModelError(f"the model could not be loaded: {loading.error()}; load one on the Models page and resume")
            progress(0, None, "waiting for the model")
            time.sleep(0.2)
        return loaded

    def for_job(self, params: JobParameters, progress: Progress) -> LoadedModel:
        """The model for a job, the server's own or one beside it. Raises `InvalidInput` where it was begun with other ones."""
        beside = self.beside.find(params.weights_hash)
        loaded = self.wait(progress) if beside is None else beside
        loaded.require(params.weights_hash, "this job", params.precision)
        return loaded


def _spare_the_collector() -> None:
    """Take what is loaded by now out of garbage collection.

    Streamlit runs a full collection after every run of a page or fragment. Over the objects of torch and transformers that takes
    a third of a second with the interpreter's lock held: an answer that streams beside it slows down several times.
    """
    gc.collect()
    gc.freeze()
