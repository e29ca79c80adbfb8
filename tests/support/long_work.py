"""Long work of a tiny model that is killed and goes on: `python -m tests.support.long_work NAME FOLDER TRIES SEED`.

Half of the tries are killed just before a step that changes files, evenly over all such steps, half at a random moment. Then the work is
started again and must end as if nothing had happened. Prints {"tries", "killed"}; ends with a traceback where a result is another one.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tarfile
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from neurons.models.loaded import LoadedModel
from tests.support.changes import KINDS
from tests.support.faults import Disk, dying_at, watched
from tests.support.tally import within

GOLDEN = sorted((Path(__file__).parents[1] / "formats" / "golden").glob("*.tar.xz"))
TEXT = "The cat sat on the mat. " * 40


@dataclass(frozen=True)
class Work:
    """One kind of long work in a home."""

    build: Callable[[LoadedModel, Path], object]
    """What is there before."""
    run: Callable[[LoadedModel, Path], object]
    """The work, begun or gone on with."""
    result: Callable[[Path], Iterable[Any]]
    """What it came to: values, arrays, tables."""


def _nothing(_loaded: LoadedModel, _home: Path) -> None:
    pass


def _build_atlas(loaded: LoadedModel, home: Path) -> None:
    from neurons.atlas.build import BuildSettings, finish, prepare_collection
    from neurons.atlas.collect import collect
    from neurons.atlas.finalise import FinaliseSettings
    from tests.support.atlases import SETTINGS

    (home / "text.txt").write_text(TEXT)
    settings = BuildSettings((str(home / "text.txt"),), tokens=600, held_out=0, collect=replace(SETTINGS, block=4), memory_bytes=1 << 24)
    folder, _ = prepare_collection(loaded, settings, folder=home / "collection")
    collect(loaded, folder, checkpoint_seconds=0)
    finish(loaded, folder, target=home / "atlas", settings=FinaliseSettings(probe=False))


def _atlas(home: Path) -> Iterable[Any]:
    from neurons.atlas.store import open_folder
    from neurons.atlas.writer import FIGURES

    atlas = open_folder(home / "atlas")
    assert atlas.manifest["complete"]
    yield from (atlas._read(name) for name in FIGURES if atlas._has(name))
    yield atlas.descriptions()
    yield from (values for _, values in sorted(atlas.embeddings().items()))


def _an_atlas(loaded: LoadedModel, home: Path) -> None:
    from neurons.atlas.collection import Collection, merge
    from neurons.atlas.finalise import FinaliseSettings, finalise
    from tests.support.atlases import SETTINGS, collected
    from tests.support.descriptions import english_corpus

    collected(loaded, english_corpus(loaded, documents=16), home / "collection", replace(SETTINGS, exemplars=12, extremes=64))
    merge(home / "collection")
    finalise(loaded, Collection(home / "collection"), home / "atlas", settings=FinaliseSettings(probe=False))
    shutil.rmtree(home / "collection")


def _describe(loaded: LoadedModel, home: Path) -> None:
    from neurons.atlas.store import open_folder
    from neurons.describing.explainer import DescribeSettings, describe_atlas
    from tests.support.descriptions import letter_pairs

    atlas = open_folder(home / "atlas")
    if atlas.descriptions() is None:
        settings = DescribeSettings(tokens=1500, held_tokens=600)
        describe_atlas(loaded, atlas, settings=settings, encode=letter_pairs, work=home / "work")


def _detectors(loaded: LoadedModel, home: Path) -> None:
    from neurons.detectors import collect
    from neurons.detectors.build import DetectorSettings, build_detectors
    from neurons.detectors.fit import FitSettings
    from tests.support.atlases import tiny_corpus
    from tests.support.lexicons import letter_lexicon

    collect.CHUNK = 16
    settings = DetectorSettings(FitSettings(neurons=10), corpus_tokens=600)
    lexicon = letter_lexicon(planted=3, unplanted=1, sentences=9)
    build_detectors(loaded, lexicon, settings=settings, folder=home / "detectors", corpus=tiny_corpus(4))


def _found(home: Path) -> Iterable[Any]:
    from neurons.detectors.store import Detectors
    from neurons.storage.manifest import MANIFEST

    made = Detectors.read(home / "detectors", json.loads((home / "detectors" / MANIFEST).read_text()))
    return [made.names, *(value for _, value in sorted(vars(made.arrays).items()))]


def _prompts(loaded: LoadedModel, home: Path) -> None:
    """A run over prompts, as a server starts it, or goes on with it after its last one was killed."""
    from neurons.core.types import Sampling
    from neurons.prompts import runs
    from neurons.prompts.files import pasted
    from neurons.storage.jobs import JobRunner
    from traces import TraceStore

    runner = JobRunner(home / "jobs")
    store = TraceStore(home / "traces", examples=None)
    runs.register(runner, lambda _params, _progress: loaded, lambda: store)
    jobs = runner.list()
    if jobs and jobs[0].state == "interrupted":
        runner.resume(jobs[0].id)
    elif not jobs:
        runs.start(
            runner,
            pasted("One?\nTwo?\nThree?\nFour?"),
            runs.RunParameters(run="all", sampling=Sampling(temperature=0.8, seed=3, max_new_tokens=3)),
        )
    ended = runner.wait(runner.list()[0].id, timeout=60)
    assert ended.state == "done", ended
    runner.close()


def _answers(home: Path) -> Iterable[Any]:
    from neurons.storage.jobs import JobRunner
    from traces import TraceStore

    runner, store = JobRunner(home / "jobs"), TraceStore(home / "traces", examples=None)
    (job,) = runner.list()
    rows = sorted(store.list(set_name="all"), key=lambda row: row.set_row or 0)
    yield [job.state, job.done, job.total, job.errors, job.result["rows"]]
    yield [row["row"] for row in runner.rows(job.id)]
    yield [(row.set_row, store.load(row.id).token_ids) for row in rows]
    assert all(store.verify(row.id).ok for row in rows)


def _old_home(_loaded: LoadedModel, home: Path) -> None:
    with tarfile.open(GOLDEN[0]) as archive:
        archive.extractall(home, filter="data")


def _take_over(_loaded: LoadedModel, home: Path) -> None:
    """What this version does to a home of an earlier one: a catalogue of its own, and the new form of what is changed."""
    from neurons.concepts.sets import SavedConcepts
    from traces import TraceStore

    store = TraceStore(home / "traces", examples=None)
    for row in store.list():
        store.update(row.id, note="taken over")
    concepts = SavedConcepts()
    for entry in concepts.list():
        concepts.save(entry.name, concepts.load(entry.name), replace=True)


def _taken_over(home: Path) -> Iterable[Any]:
    from neurons.concepts.sets import SavedConcepts
    from neurons.prompts.sets import saved_sets
    from traces import TraceStore

    store = TraceStore(home / "traces", examples=None)
    for row in store.list():
        assert store.verify(row.id).ok
        yield [row.id, row.name, row.tags, row.activations, store.load(row.id).note, store.load(row.id).token_ids]
    yield [row.id for row in store.list(trashed=True)]
    yield [(entry.name, SavedConcepts().load(entry.name).sides) for entry in SavedConcepts().list()]
    yield list(saved_sets().names())


WORKS = {
    "atlas build": Work(_nothing, _build_atlas, _atlas),
    "describe": Work(_an_atlas, _describe, _atlas),
    "detectors": Work(_nothing, _detectors, _found),
    "prompt run": Work(_nothing, _prompts, _answers),
    "home of an earlier version": Work(_old_home, _take_over, _taken_over),
}


def digest(values: Iterable[Any]) -> str:
    """One text for all of a result."""
    total = hashlib.sha256()
    for value in values:
        if isinstance(value, pd.DataFrame):
            total.update(value.to_json().encode())
        elif isinstance(value, np.ndarray):
            total.update(f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes())
        else:
            total.update(repr(value).encode())
    return total.hexdigest()


def in_a_process(work: Callable[[], object], *, after: float | None = None) -> tuple[bool, float]:
    """Whether it lived to its end in a process of its own, which is killed `after` so many seconds (None: never); and how long it took."""
    begun = time.perf_counter()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:  # noqa: BLE001  # this process ends here, and says why
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert ended in (0, -signal.SIGKILL), f"it ended with {ended}"
    return ended == 0, time.perf_counter() - begun


class Trials:
    """One kind of work, broken off again and again."""

    def __init__(self, name: str, folder: Path) -> None:
        self.work, self.folder = WORKS[name], folder
        self.loaded = _model()
        self.before = folder / "before"
        self.before.mkdir()
        self.work.build(self.loaded, self.before)
        self.count = 0
        whole = self.home()
        steps = whole / "steps.txt"

        def counted() -> None:
            disk = Disk(lambda step, kind: None, KINDS)
            with watched(disk):
                self.work.run(self.loaded, whole)
            steps.write_text(str(disk.steps))

        self.do(whole, counted)
        self.steps = int(steps.read_text())
        self.expected = self.outcome(whole)
        again = self.home()
        _, self.seconds = self.do(again, lambda: self.work.run(self.loaded, again))
        assert self.outcome(again) == self.expected, "the work itself does not give the same twice"

    def home(self) -> Path:
        self.count += 1
        home = self.folder / str(self.count)
        shutil.copytree(self.before, home, symlinks=True)
        return home

    def do(self, home: Path, work: Callable[[], object], *, after: float | None = None) -> tuple[bool, float]:
        os.environ["NEURONSCOPE_HOME"] = str(home)
        return in_a_process(work, after=after)

    def outcome(self, home: Path) -> str:
        told = home / "digest.txt"
        assert self.do(home, lambda: told.write_text(digest(self.work.result(home))))[0]
        return told.read_text()

    def broken_off(self, *, step: int | None = None, after: float | None = None) -> bool:
        """Kill it, go on, compare. Whether it was killed before its end."""
        home = self.home()

        def work() -> None:
            with watched(dying_at(step or 0, KINDS)):
                self.work.run(self.loaded, home)

        lived, _ = self.do(home, work, after=after)
        assert self.do(home, lambda: self.work.run(self.loaded, home))[0]
        assert self.outcome(home) == self.expected, f"killed at step {step} / after {after} s, it ends otherwise"
        shutil.rmtree(home)
        return not lived


def _model() -> LoadedModel:
    from tests.support.tiny_models import tiny_model

    torch.set_num_threads(1)  # a process that was forked has no threads to help it
    return tiny_model()


def main(name: str, folder: Path, tries: int, seed: int) -> None:
    rng, trials = random.Random(f"{name} {seed}"), Trials(name, folder)
    at_steps = (tries + 1) // 2
    steps = [1 + number * trials.steps // at_steps for number in range(at_steps)]
    rng.shuffle(steps)  # where the time is out early, they are from all of the work
    done = killed = 0
    for number in within(tries):
        step = None if number % 2 else steps[number // 2]
        ended = trials.broken_off(step=step) if step else trials.broken_off(after=rng.uniform(0, trials.seconds))
        assert ended or not step, f"step {step} was not reached"
        done, killed = done + 1, killed + ended
    print(json.dumps({"tries": done, "killed": killed, "steps": trials.steps, "seconds": round(trials.seconds, 2)}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
