"""The one model that everybody on a server uses: loading it in the background, replacing it, waiting for it."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from neurons.core.errors import ModelError
from neurons.core.progress import Progress
from neurons.core.tasks import Task, Tasks
from neurons.models.loaded import LoadedModel


class Load(Protocol):
    """How a model is loaded."""

    def __call__(self, spec: str, *, device: str | None, dtype: str | None, progress: Progress) -> LoadedModel: ...


@dataclass(eq=False, kw_only=True)
class Loading(Task[None]):
    """A model being loaded."""

    spec: str


class SharedModel:
    """The model of one server."""

    def __init__(self, tasks: Tasks, load: Load, *, spec: str) -> None:
        self._tasks, self._load = tasks, load
        self._guard = threading.Lock()
        self._loaded: LoadedModel | None = None
        self.spec = spec
        self.loading: Loading | None = None
        """The latest load, running or ended."""

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

    def adopt(self, loaded: LoadedModel, spec: str) -> None:
        """Take a loaded model for everybody. Tasks that have ended let go of the one before."""
        for task in self._tasks.all():
            if not task.running:
                task.let_go()
        self._loaded, self.spec = loaded, spec

    def wait(self, progress: Progress) -> LoadedModel:
        """The model, once it is loaded. Raises `ModelError` when loading failed."""
        while (loaded := self.loaded) is None:
            loading = self.loading
            if loading is not None and not loading.running and self.loaded is None:
                raise ModelError(f"the model could not be loaded: {loading.error()}; load one on the Models page and resume")
            progress(0, None, "waiting for the model")
            time.sleep(0.2)
        return loaded

    def for_job(self, params: Mapping[str, Any], progress: Progress) -> LoadedModel:
        """The model for a job. Raises `InvalidInput` where it was begun with other weights than those that are loaded.

        Repairs and comparisons name the weights in "model", prompt runs in "weights".
        """
        loaded = self.wait(progress)
        loaded.require(str(params["weights"] if "weights" in params else params.get("model", "")), "this job")
        return loaded

    def for_run(self, params: Mapping[str, Any], progress: Progress) -> LoadedModel:
        """The model for a run of prompts, whose "model" is a name: only its "weights" count."""
        return self.for_job({"weights": params.get("weights", "")}, progress)


def _spare_the_collector() -> None:
    """Take what is loaded by now out of garbage collection.

    Streamlit runs a full collection after every run of a page or fragment. Over the objects of torch and transformers that takes
    a third of a second with the interpreter's lock held: an answer that streams beside it slows down several times.
    """
    gc.collect()
    gc.freeze()
