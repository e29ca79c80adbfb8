"""What a server keeps: a scaled-down day ends where it was after its first fifth; what pages keep has one limit in bytes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from neurons.core.errors import Cancelled
from neurons.core.tasks import Task, Tasks
from pages.shared import kept
from tests.support.tally import size, tally

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_day_of_use_ends_where_it_began(tmp_path: Path, tiny_folder: Path) -> None:
    generations, attributions = size(60, 300), size(20, 60)
    command = [sys.executable, "-m", "tests.support.day_of_use", str(tmp_path), str(tiny_folder), str(generations), str(attributions)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    grown = found["last"] / found["first"] - 1
    tally(
        f"memory: {generations} answers, {attributions} attributions, growth {100 * grown:.1f}%",
        generations + attributions,
        int(grown > 0.1),
    )
    assert grown < 0.1, found


def test_the_limit_in_bytes_is_kept_and_the_longest_unused_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kept.LIMIT_VARIABLE, "10")
    store, made = kept.Store(), []

    def make(number: int) -> np.ndarray:
        made.append(number)
        return np.zeros(3_000_000, np.uint8)

    for number in (1, 2, 3):
        store.get(number, lambda number=number: make(number))
    store.get(1, lambda: make(1))
    store.get(4, lambda: make(4))
    assert store.bytes <= 10_000_000
    store.get(1, lambda: make(1))
    assert made == [1, 2, 3, 4], "the one that was used last was dropped"
    store.get(2, lambda: make(2))
    assert made[-1] == 2
    store.get("large", lambda: np.zeros(50_000_000, np.uint8))
    assert store.bytes < 51_000_000


def test_of_many_who_ask_one_makes_it() -> None:
    store, made, wait = kept.Store(), [], threading.Event()

    def make() -> int:
        made.append(1)
        wait.wait(10)
        return 7

    threads = [threading.Thread(target=lambda: store.get("x", make)) for _ in range(6)]
    for thread in threads:
        thread.start()
    wait.set()
    for thread in threads:
        thread.join()
    assert len(made) == 1


@dataclass
class Table:
    frame: pd.DataFrame
    rows: tuple[np.ndarray, ...]


def test_sizes_are_those_of_what_is_within() -> None:
    table = Table(pd.DataFrame({"a": np.zeros(100_000)}), (np.zeros(50_000), np.zeros(25_000)))
    assert 1_400_000 < kept.size_of(table) < 1_500_000


def test_a_stopped_task_keeps_none_of_its_tensors() -> None:
    import weakref

    tasks = Tasks(threads=1)
    seen: list[weakref.ref[np.ndarray]] = []

    def work() -> None:
        large = np.zeros(1000)
        seen.append(weakref.ref(large))
        raise Cancelled("stopped")

    task = Task[None](what="x")
    tasks.start(task, work)
    assert task.wait(20)
    assert isinstance(task.error(), Cancelled)
    second = Task[None](what="y")  # the thread has gone on
    tasks.start(second, lambda: None)
    assert second.wait(20)
    assert seen[0]() is None, "the error holds the frames in which it was raised"
