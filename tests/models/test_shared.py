"""The one model of a server: loaded at the first look, once; replaced for everybody; never handed to work of other weights."""

from __future__ import annotations

import threading

import pytest

from neurons.core.errors import InvalidInput, ModelError
from neurons.core.progress import Progress, no_progress
from neurons.core.tasks import Task, Tasks
from neurons.models.loaded import LoadedModel
from neurons.models.shared import SharedModel
from neurons.storage.job_parameters import JobParameters
from tests.support.tiny_models import tiny_model


class Loader:
    """Loads a tiny model when it is told to go on; "broken" cannot be loaded."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go = threading.Event()

    def __call__(self, spec: str, *, device: str | None, dtype: str | None, progress: Progress) -> LoadedModel:
        self.asked.append(spec)
        assert self.go.wait(60)
        if spec == "broken":
            raise ModelError("config.json is cut off")
        return tiny_model(seed=len(spec))


@pytest.fixture
def loader() -> Loader:
    return Loader()


def test_the_first_look_loads_it_once(loader: Loader) -> None:
    shared = SharedModel(Tasks(), loader, spec="one")
    assert loader.asked == []
    assert shared.loaded is None
    loading = shared.loading
    assert loading is not None
    assert shared.load("one") is loading, "asked again while it loads, it is the same load"
    assert shared.loaded is None
    loader.go.set()
    assert loading.wait(60)
    assert shared.loaded is not None
    assert loader.asked == ["one"]


def test_another_model_takes_its_place_and_ended_work_lets_go_of_the_first(loader: Loader) -> None:
    loader.go.set()
    tasks, gone = Tasks(), threading.Event()

    class Holding(Task[int]):
        """Work that holds on to what the model computed."""

        def let_go(self) -> None:
            gone.set()

    shared = SharedModel(tasks, loader, spec="one")
    first = shared.wait(no_progress)
    task = Holding(what="computing")
    tasks.start(task, lambda: 1)
    assert task.wait(60)
    assert not gone.is_set()
    assert shared.load("another").wait(60)
    assert gone.is_set()
    assert shared.spec == "another"
    assert shared.loaded is not None
    assert shared.loaded.ref.weights_hash != first.ref.weights_hash


def test_what_cannot_be_loaded_is_told_to_who_waits(loader: Loader) -> None:
    loader.go.set()
    shared = SharedModel(Tasks(), loader, spec="broken")
    with pytest.raises(ModelError, match=r"config\.json is cut off; load one on the Models page"):
        shared.wait(no_progress)
    assert shared.loaded is None
    assert loader.asked == ["broken"], "it is not tried again and again"


def test_a_job_of_other_weights_is_refused(loader: Loader) -> None:
    loader.go.set()
    shared = SharedModel(Tasks(), loader, spec="one")
    loaded = shared.wait(no_progress)
    assert shared.for_job(JobParameters(model=loaded.ref.weights_hash), no_progress) is loaded
    assert shared.for_job(JobParameters(), no_progress) is loaded
    with pytest.raises(InvalidInput, match="this job"):
        shared.for_job(JobParameters(model="f" * 64), no_progress)
    assert shared.for_job(JobParameters(precision=loaded.ref.dtype), no_progress) is loaded
    with pytest.raises(InvalidInput, match=r"begun in float64, and .* is float32 now"):
        shared.for_job(JobParameters(precision="float64"), no_progress)
