"""What pages keep: a limit in bytes, the longest unused goes first, made once."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from neurons.core.errors import NotFound
from pages.shared.kept import LIMIT_VARIABLE, Kept, Store, limit_bytes, size_of


@pytest.fixture(autouse=True)
def _two_megabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, "2")


def test_the_longest_unused_goes_first() -> None:
    store = Store()
    for name in "ab":
        store.put(name, np.zeros(900_000, np.uint8))
    assert store.find("a") is not None  # used: now b is the one unused longest
    store.put("c", np.zeros(900_000, np.uint8))
    assert store.find("b", "gone") == "gone"
    assert store.find("a") is not None
    assert store.bytes < 2_000_000


def test_the_newest_stays_even_where_it_is_larger_alone() -> None:
    store = Store()
    store.put("small", 1)
    store.put("large", np.zeros(3_000_000, np.uint8))
    assert store.find("small") is None
    assert store.find("large") is not None


def test_a_value_that_is_put_again_is_counted_once() -> None:
    store = Store()
    store.put("a", np.zeros(1000, np.uint8))
    once = store.bytes
    store.put("a", np.zeros(1000, np.uint8))
    assert store.bytes == once
    store.clear()
    assert (store.bytes, store.find("a")) == (0, None)


def test_of_several_who_ask_at_once_one_makes_it() -> None:
    store, made, ready = Store(), [], threading.Barrier(4)

    def make() -> int:
        made.append(1)
        return len(made)

    def ask() -> None:
        ready.wait(10)
        assert store.get("key", make) == 1

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert made == [1]


def test_what_could_not_be_made_is_tried_again() -> None:
    answers = iter([NotFound("not yet"), "found"])

    def read(name: str, _how: object = None) -> str:
        answer = next(answers)
        if isinstance(answer, NotFound):
            raise answer
        return answer

    kept = Kept(read, None)
    name = "tests/what-could-not-be-made"
    with pytest.raises(NotFound):
        kept(name)
    assert kept(name) == "found"
    assert kept(name, object()) == "found"  # what begins with an underscore is not part of the key
    kept.clear(name)
    with pytest.raises(StopIteration):
        kept(name)


@pytest.mark.parametrize(("given", "megabytes"), [("", 1000), ("7", 7), ("-1", 1000), ("a lot", 1000), ("1234567890", 1000)])
def test_the_limit_of_the_environment(given: str, megabytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, given)
    assert limit_bytes() == megabytes * 1_000_000


def test_sizes_count_what_is_inside() -> None:
    array = np.zeros(1000, np.float64)
    assert size_of({"a": [array, array[:10]]}) > 8080
    assert size_of(None) < 100
