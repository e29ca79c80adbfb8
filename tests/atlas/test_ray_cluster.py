"""Two real Ray actors on this machine: the same bits as one process, also when one of them is killed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from neurons.atlas.collect import collect, prepare
from neurons.atlas.collection import Collection, merge
from neurons.atlas.ray_cluster import Workers, collect_on_ray
from neurons.core.errors import ModelError
from tests.support.atlases import SETTINGS, tiny_corpus
from tests.support.tiny_models import tiny_model

ray = pytest.importorskip("ray", reason="Ray is the optional extra neuronscope[cluster]")
pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """A Ray of our own with two slots, and one torch thread as in the actors."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    root = Path(__file__).parents[2]
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=80_000_000,
        runtime_env={"env_vars": {"PYTHONPATH": f"{root}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}},
    )
    yield
    ray.shutdown()
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """What one process finds."""
    folder = tmp_path_factory.mktemp("alone")
    loaded, corpus = tiny_model(), tiny_corpus(120)
    prepare(loaded, corpus, folder, settings=SETTINGS)
    collect(loaded, folder)
    merge(folder)
    return Collection(folder)


def assert_equal(one: Collection, two: Collection) -> None:
    assert one.tokens == two.tokens
    for path in sorted(one._arrays.glob("*.npy")):
        assert path.read_bytes() == (two._arrays / path.name).read_bytes(), path.name
    assert (one.folder / "merged" / "body.npy").read_bytes() == (two.folder / "merged" / "body.npy").read_bytes()


def test_two_actors_find_what_one_process_finds(tmp_path: Path, alone: Collection) -> None:
    prepare(tiny_model(), alone.corpus, tmp_path, settings=SETTINGS)
    seen: list[int] = []
    collect_on_ray(
        tmp_path, workers=Workers(actors=2, shards=5, threads=1), load=tiny_model, progress=lambda done, total, text: seen.append(done)
    )
    assert seen == [0, 1, 2, 3, 4, 5]
    merge(tmp_path)
    assert_equal(alone, Collection(tmp_path))


def test_a_killed_actor_changes_nothing(tmp_path: Path, alone: Collection) -> None:
    prepare(tiny_model(), alone.corpus, tmp_path, settings=SETTINGS)
    killed: list[bool] = []

    def watch(actors: Sequence[Any]) -> None:
        """Kill the first actor as soon as some shard has a checkpoint: both are in the middle of one."""

        def wait() -> None:
            while not list(tmp_path.glob("shard-*/current.json")):
                time.sleep(0.01)
            ray.kill(actors[0])
            killed.append(True)

        threading.Thread(target=wait, daemon=True).start()

    collect_on_ray(tmp_path, workers=Workers(actors=2, shards=2, threads=1, checkpoint_seconds=0.0), load=tiny_model, on_start=watch)
    assert killed
    merge(tmp_path)
    assert_equal(alone, Collection(tmp_path))


def dying_model():  # type: ignore[no-untyped-def]
    """A model whose passes end the process."""
    loaded = tiny_model()
    loaded.sites[0].module.register_forward_pre_hook(lambda module, args: os._exit(1))
    return loaded


def test_a_shard_that_always_kills_its_worker_is_named(tmp_path: Path, alone: Collection) -> None:
    prepare(tiny_model(), alone.corpus, tmp_path, settings=SETTINGS)
    with pytest.raises(ModelError, match="lost its worker 3 times"):
        collect_on_ray(tmp_path, workers=Workers(actors=1, shards=2, threads=1), load=dying_model)
