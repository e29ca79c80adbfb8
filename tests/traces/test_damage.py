"""Changed bits, missing files and bad rows in a store: told on opening, listed, deletable, never shown as data."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from neurons.core.errors import NeuronscopeError, StoreError
from neurons.storage.sealed import seal
from tests.support.changes import attribution
from tests.support.damage import everything, flips
from tests.support.trace_runs import make_arrays, make_record
from traces import TraceStore
from traces.schema import meta_of


@pytest.fixture
def store(tmp_path: Path) -> TraceStore:
    return TraceStore(tmp_path / "traces", examples=None)


@pytest.fixture
def trace_id(store: TraceStore) -> str:
    """A trace with everything: a changed name, an attribution, recomputed activations."""
    record = make_record(name="name")
    saved = store.save(record, make_arrays(record)).id
    store.update(saved, note="note", tags=("tag",))
    store.save_attribution(saved, attribution(0.25))
    store.evict(saved)
    store.put_activations(saved, make_arrays(record)["activations"] + np.float16(1), reason="test")
    return saved


@pytest.mark.slow
def test_no_changed_bit_of_any_file_is_read_as_data(store: TraceStore, trace_id: str) -> None:
    folder = store.root / trace_id
    expected = everything(store, trace_id)
    for number, path in enumerate(sorted(path for path in folder.rglob("*") if path.is_file())):
        data = path.read_bytes()
        for spoiled in flips(data, 30 if path.suffix == ".json" else 4, number):
            path.write_bytes(spoiled)
            try:
                found = everything(store, trace_id)
            except NeuronscopeError:
                continue
            # An attribution that was changed is left out of the list; `verify` names it.
            assert found[2] == [], f"a changed bit of {path.relative_to(folder)} was not told"
            assert not store.verify(trace_id).ok
            assert [found[0], found[1], found[3]] == [expected[0], expected[1], expected[3]]
        path.write_bytes(data)
    assert everything(store, trace_id) == expected


def test_no_missing_file_is_read_as_data(store: TraceStore, trace_id: str) -> None:
    folder = store.root / trace_id
    needed = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "meta.json"]
    for path in needed:
        data = path.read_bytes()
        path.unlink()
        try:
            found = everything(store, trace_id)
        except NeuronscopeError:
            continue
        finally:
            path.write_bytes(data)
        assert found[2] == [], f"{path.relative_to(folder)} was missing"


def test_changed_bits_of_the_catalogue_heal(store: TraceStore, trace_id: str) -> None:
    for number in range(5):
        store.save(make_record(name=f"more {number}"))
    expected = (store.list(), store.list("note"), store.catalogue.tags())
    store.catalogue.healthy()
    with sqlite3.connect(store.catalogue.path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    data = store.catalogue.path.read_bytes()
    for spoiled in flips(data, 60, 3):
        for suffix in ("-wal", "-shm"):
            Path(f"{store.catalogue.path}{suffix}").unlink(missing_ok=True)
        store.catalogue.path.write_bytes(spoiled)
        again = TraceStore(store.root, examples=None)
        assert (again.list(), again.list("note"), again.catalogue.tags()) == expected


BAD_META = [{"set_row": 2**70}, {"set_row": -5}, {"name": "\ud800"}, {"tags": ["\ud800"]}, {"pinned": 3}, {"name": ["x"]}]


@pytest.mark.parametrize("bad", BAD_META, ids=str)
def test_a_bad_row_is_listed_as_damaged_and_can_be_deleted(store: TraceStore, bad: dict[str, object]) -> None:
    """What an older version let in."""
    good = store.save(make_record()).id
    saved = store.save(make_record())
    meta = {**meta_of(saved), **bad}
    (store.root / saved.id / "meta.json").write_text(json.dumps(meta))
    again = TraceStore(store.root, examples=None)
    rows = {row.id: row for row in again.list()}
    assert set(rows) == {good, saved.id}
    assert "damaged" in rows[saved.id].answer
    assert "meta.json" in rows[saved.id].note or "characters" in rows[saved.id].note or "row" in rows[saved.id].note
    again.delete(saved.id)
    again.purge(saved.id)
    assert [row.id for row in TraceStore(store.root, examples=None).list()] == [good]


def test_a_row_that_the_catalogue_cannot_hold_is_listed_as_damaged(store: TraceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else may be wrong with a record that passed every check."""
    good = store.save(make_record()).id
    bad = store.save(make_record(name="bad")).id
    monkeypatch.setattr("traces.schema.MAX_WHOLE", 1 << 80)
    (store.root / bad / "meta.json").write_bytes(seal({**meta_of(store.load(bad)), "set_row": 2**70}))
    again = TraceStore(store.root, examples=None)
    rows = {row.id: row for row in again.list()}
    assert set(rows) == {good, bad}
    assert "damaged" in rows[bad].answer


def test_a_change_whose_row_was_not_written_is_noticed_at_the_next_start(store: TraceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = store.save(make_record()).id
    monkeypatch.setattr("traces.indexing.Indexer.put", lambda self, *ids: None)  # as if killed in between
    store.update(saved, name="new", tags=("new",))
    monkeypatch.undo()
    again = TraceStore(store.root, examples=None)
    assert [(row.name, row.tags) for row in again.list("new")] == [("new", ("new",))]
    assert again.catalogue.tags() == ("new",)


def repeat(stop: threading.Event, errors: list[Exception], work: Callable[[], None]) -> threading.Thread:
    def run() -> None:
        try:
            while not stop.is_set():
                work()
        except Exception as error:  # noqa: BLE001  # shown by the test
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.slow
def test_a_trace_that_is_deleted_and_put_back_is_never_read_as_nan(store: TraceStore) -> None:
    record = make_record(n_prompt=300)
    arrays = make_arrays(record)
    saved = store.save(record, arrays).id
    stop, errors = threading.Event(), []

    def back_and_forth() -> None:
        store.delete(saved)
        store.restore(saved)

    thread = repeat(stop, errors, back_and_forth)
    told = 0
    for _ in range(150):
        try:
            np.testing.assert_array_equal(store.read(saved, "activations"), arrays["activations"])
        except NeuronscopeError:
            told += 1
        try:
            np.testing.assert_array_equal(store.arrays(saved)["activations"].values, arrays["activations"])
        except StoreError:
            told += 1
    stop.set()
    thread.join()
    assert not errors
    assert told < 300, "nothing was ever read"


def test_activations_that_are_exchanged_are_never_mixed(store: TraceStore) -> None:
    record = make_record(n_prompt=300)
    one = make_arrays(record)["activations"]
    two = one + np.float16(1)
    saved = store.save(record, {"activations": one}).id
    stop, errors, turn = threading.Event(), [], [0]

    def exchange() -> None:
        turn[0] += 1
        store.evict(saved)
        store.put_activations(saved, two if turn[0] % 2 else one)

    thread = repeat(stop, errors, exchange)
    for _ in range(100):
        try:
            found = store.read(saved, "activations")
        except NeuronscopeError:
            continue
        assert np.array_equal(found, one) or np.array_equal(found, two)
    stop.set()
    thread.join()
    assert not errors


def test_a_trace_that_is_put_back_between_two_looks_is_found(store: TraceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = store.save(make_record()).id
    store.delete(saved)
    look, looked = Path.is_dir, []

    def put_back_after_it(path: Path) -> bool:
        there = look(path)
        if path == store.root / saved and not looked:
            looked.append(there)
            store.restore(saved)
        return there

    monkeypatch.setattr(Path, "is_dir", put_back_after_it)
    assert store.folders.find(saved, trashed=True) == store.root / saved
    assert looked == [False]


def test_what_is_being_put_beside_a_traces_arrays_is_no_part_of_them(store: TraceStore) -> None:
    record = make_record()
    saved = store.save(record, make_arrays(record)).id
    store.evict(saved)
    beside = store.folders.find(saved) / "tensors.zarr" / "activations"
    beside.mkdir(exist_ok=True)  # as while they are put back; zarr warns of a folder that is no array, which is an error here
    assert "activations" not in store.arrays(saved)
