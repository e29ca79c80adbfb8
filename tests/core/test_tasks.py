"""Work in threads: how it stands, how it is stopped, what it results in and how it fails."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import pytest

from neurons.core.errors import Cancelled, ModelError, NeuronscopeError
from neurons.core.progress import Pace
from neurons.core.tasks import Task, Tasks


@dataclass(eq=False, kw_only=True)
class Counting(Task[int]):
    """Work of a kind that remembers how far it was to count."""

    until: int


@pytest.fixture
def tasks() -> Tasks:
    return Tasks(threads=1)


def test_a_task_goes_from_waiting_to_done_and_is_found_by_its_kind(tasks: Tasks) -> None:
    reached, go = threading.Event(), threading.Event()
    first, second = Counting(what="counting", until=3), Counting(what="counting on", until=4)

    def work() -> int:
        first.progress(1, 3, "one")
        reached.set()
        assert go.wait(20)
        return first.until

    tasks.start(first, work)
    tasks.start(second, lambda: second.until)
    assert reached.wait(20)
    now = first.standing()
    assert (now.title, now.state, now.done, now.total, now.message, now.active) == ("counting", "running", 1, 3, "one", True)
    assert second.standing().state == "queued"
    with pytest.raises(RuntimeError, match="has not ended"):
        first.result()
    assert tasks.running(Counting, lambda task: task.until == 4) is second
    assert tasks.running(Counting, lambda task: task.until == 5) is None
    go.set()
    assert first.wait(20)
    assert second.wait(20)
    assert tasks.running(Counting, lambda task: True) is None
    assert (first.result(), second.result(), first.standing().state) == (3, 4, "done")
    assert tasks.find(first.id, Counting) is first
    assert tasks.all() == (first, second)

    class Other(Task[int]):
        """Another kind."""

    assert tasks.find(first.id, Other) is None
    assert tasks.find(None, Counting) is None


def test_a_stopped_task_says_so_until_it_has_ended(tasks: Tasks) -> None:
    task, reached, go = Counting(what="counting", until=9), threading.Event(), threading.Event()

    def work() -> int:
        reached.set()
        assert go.wait(20)
        task.progress(1, 9, "one")
        return 9

    tasks.start(task, work)
    assert reached.wait(20)
    task.stop()
    assert task.standing().stopping
    go.set()
    assert task.wait(20)
    assert (task.standing().state, task.standing().stopping) == ("cancelled", False)
    assert isinstance(task.error(), Cancelled)


def test_what_nobody_foresaw_is_an_error_that_pages_can_show(tasks: Tasks, caplog: pytest.LogCaptureFixture) -> None:
    def refuse() -> int:
        raise ModelError("no such model")

    def stumble() -> int:
        raise AssertionError("oops")

    refused, stumbled = Counting(what="loading x", until=0), Counting(what="loading y", until=0)
    tasks.start(refused, refuse)
    tasks.start(stumbled, stumble)
    assert refused.wait(20)
    assert stumbled.wait(20)
    assert str(refused.error()) == "no such model"
    assert str(stumbled.error()) == "loading y failed unexpectedly: AssertionError: oops"
    assert stumbled.standing().state == "failed"
    assert "oops" in caplog.text
    with pytest.raises(NeuronscopeError):
        stumbled.result()


def test_the_time_left_is_told_for_the_present_step_alone() -> None:
    pace = Pace()
    assert pace.eta(0, 10) is None
    left = pace.eta(5, 10)
    assert left is not None
    assert left >= 0
    assert pace.eta(10, 10) == 0
    assert pace.eta(0, 4) is None, "a count that falls begins a new step"
    assert pace.eta(2, None) is None
    assert pace.eta(3, 4) is None, "so does a total that is known again"
