"""Shards on a Ray cluster: actors keep the model loaded, shards are tasks, a dead actor's shard is redone. Needs neuronscope[cluster].

The folder must be one that every node sees. A shard's checkpoint lives there too, so what a dead actor had finished is not done twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurons.atlas.collect import collect, open_plan
from neurons.checking.load import load_model
from neurons.core.errors import InvalidInput, ModelError
from neurons.core.progress import Progress, no_progress
from neurons.models.loaded import LoadedModel

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_ATTEMPTS = 3


@dataclass(frozen=True)
class Workers:
    """The actors of a cluster, and how the work is dealt out to them."""

    actors: int = 2
    shards: int | None = None
    """Parts of the work; None: four per actor."""
    cpus: float = 1
    """Per actor, as Ray counts them."""
    gpus: float = 0
    threads: int | None = None
    """Set in each actor: the same number on every machine keeps results bit for bit alike. None: as the machine has it."""
    checkpoint_seconds: float = 60.0
    address: str | None = None
    """Of a running cluster; None: Ray's own choice."""


class ShardWorker:
    """What an actor is: a loaded model that does one shard after another."""

    def __init__(self, load: Callable[[], LoadedModel], threads: int | None) -> None:
        if threads:
            import torch

            torch.set_num_threads(threads)
        self._loaded = load()

    def ready(self) -> bool:
        return True

    def run(self, folder: str, shard: int, shards: int, checkpoint_seconds: float) -> int:
        """Do one shard (going on from its checkpoint). Returns its number."""
        collect(self._loaded, Path(folder), shard=shard, shards=shards, checkpoint_seconds=checkpoint_seconds)
        return shard


def collect_on_ray(
    folder: Path,
    *,
    model: str = "default",
    dtype: str | None = None,
    workers: Workers = Workers(),
    load: Callable[[], LoadedModel] | None = None,
    on_start: Callable[[Sequence[Any]], None] | None = None,
    progress: Progress = no_progress,
) -> Path:
    """Do every shard of the plan in `folder` on the actors of a cluster. Returns `folder`; merge it next.

    `load` replaces loading `model` (it is sent to the actors). `on_start` receives the actor handles. A shard whose actor dies goes to
    another actor, at most three times; then `ModelError`. Raises `InvalidInput` when Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise InvalidInput("a cluster needs Ray: install neuronscope[cluster]", field="ray") from error
    open_plan(folder)
    started = not ray.is_initialized()
    if started:
        ray.init(address=workers.address, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        worker = ray.remote(num_cpus=workers.cpus, num_gpus=workers.gpus, max_restarts=0)(ShardWorker)
        loader = load or _Loader(model, "cuda" if workers.gpus else None, dtype)

        def actor() -> Any:
            return worker.remote(loader, workers.threads)

        pool = [actor() for _ in range(workers.actors)]
        if on_start is not None:
            on_start(pool)
        _run(ray, actor, pool, folder, workers, progress)
    finally:
        if started:
            ray.shutdown()
    return folder


class _Loader:
    """Loads a model by its spec; small enough to be sent to actors."""

    def __init__(self, spec: str, device: str | None, dtype: str | None) -> None:
        self.spec, self.device, self.dtype = spec, device, dtype

    def __call__(self) -> LoadedModel:
        return load_model(self.spec, device=self.device, dtype=self.dtype)


def _run(ray: Any, new_actor: Callable[[], Any], pool: list[Any], folder: Path, workers: Workers, progress: Progress) -> None:
    shards = workers.shards or workers.actors * 4
    waiting = list(range(shards))
    attempts: dict[int, int] = dict.fromkeys(waiting, 0)
    running: dict[Any, tuple[int, Any]] = {}
    free = list(pool)
    done = 0
    progress(0, shards, "shards collected")
    while waiting or running:
        while waiting and free:
            shard, actor = waiting.pop(0), free.pop()
            attempts[shard] += 1
            running[actor.run.remote(str(folder), shard, shards, workers.checkpoint_seconds)] = (shard, actor)
        finished, _ = ray.wait(list(running), num_returns=1)
        for reference in finished:
            shard, actor = running.pop(reference)
            try:
                ray.get(reference)
            except ray.exceptions.RayActorError as error:
                if attempts[shard] >= MAX_ATTEMPTS:
                    raise ModelError(
                        f"shard {shard} of {shards} lost its worker {MAX_ATTEMPTS} times; look at the nodes' memory"
                    ) from error
                waiting.insert(0, shard)
                free.append(new_actor())
                continue
            except ray.exceptions.RayTaskError as error:
                raise error.as_instanceof_cause() from error
            free.append(actor)
            done += 1
            progress(done, shards, "shards collected")
