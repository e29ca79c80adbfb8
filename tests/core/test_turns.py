"""Turns at a shared thing: in the order of asking, re-entrant, with a visible place, and a stop while waiting."""

from __future__ import annotations

import threading
import time

import pytest

from neurons.core.errors import Cancelled
from neurons.core.tasks import Task, Tasks
from neurons.core.turns import Turns, told_while_waiting

PATIENCE = 30


def until(what: object) -> None:
    deadline = time.monotonic() + PATIENCE
    while not what():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_who_lets_go_and_asks_again_is_behind_those_who_wait() -> None:
    turns, order = Turns(), []

    def pieces(name: str) -> None:
        for _ in range(3):
            with turns:
                order.append(name)
                if name == "long" and len(order) == 1:
                    until(lambda: turns.waiting == 2)

    first = threading.Thread(target=pieces, args=("long",))
    first.start()
    until(lambda: order == ["long"])
    others = [threading.Thread(target=pieces, args=(name,)) for name in ("a", "b")]
    for other in others:
        other.start()
    for thread in (first, *others):
        thread.join(PATIENCE)
    assert sorted(order) == ["a"] * 3 + ["b"] * 3 + ["long"] * 3
    assert set(order[1:3]) == {"a", "b"}, "the long work took two turns running while others waited"


def test_one_thread_may_take_it_again() -> None:
    turns = Turns()
    with turns, turns:
        pass
    with pytest.raises(RuntimeError):
        turns.release()


def test_a_stop_ends_the_waiting_and_the_place_is_shown() -> None:
    turns, tasks = Turns(), Tasks()
    task, behind = Task[None](what="answering"), Task[None](what="answering")

    def work() -> None:
        with turns:
            pass

    with turns:
        tasks.start(task, work)
        until(lambda: turns.waiting == 1)
        tasks.start(behind, work)
        until(lambda: (task.before, behind.before) == (1, 2))
        assert task.standing().message == "waiting for the model: 1 is before you"
        assert behind.standing().message == "waiting for the model: 2 are before you"
        task.stop()
        assert task.wait(PATIENCE)
        assert isinstance(task.error(), Cancelled)
        until(lambda: behind.before == 1)
    assert behind.wait(PATIENCE)
    assert behind.error() is None
    assert turns.waiting == 0
    with turns:
        pass


def test_an_error_while_waiting_loses_no_turn() -> None:
    """Whoever gives up at the moment when the turn comes hands it on."""
    turns = Turns()

    def impatient(_before: int) -> None:
        raise Cancelled("no")

    def give_up() -> None:
        with pytest.raises(Cancelled), told_while_waiting(impatient), turns:
            pass

    for _ in range(20):
        with turns:
            threads = [threading.Thread(target=give_up) for _ in range(3)]
            for thread in threads:
                thread.start()
            until(lambda: turns.waiting == 3)
        for thread in threads:
            thread.join(PATIENCE)
        assert turns.waiting == 0
    with turns:
        pass


def test_the_list_of_tasks_can_be_read_while_others_begin() -> None:
    tasks, stop = Tasks(threads=2), threading.Event()
    problems: list[Exception] = []

    def look() -> None:
        while not stop.is_set():
            try:
                tasks.all()
            except RuntimeError as error:
                problems.append(error)

    lookers = [threading.Thread(target=look) for _ in range(2)]
    for looker in lookers:
        looker.start()
    for _ in range(3_000):
        tasks.start(Task[None](what="x"), lambda: None)
    stop.set()
    for looker in lookers:
        looker.join(PATIENCE)
    assert not problems
