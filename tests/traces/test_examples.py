"""The example traces: read-only until somebody changes one, and examples still after that."""

from __future__ import annotations

from pathlib import Path

from tests.support.trace_runs import save
from traces import TraceStore


def test_examples_are_read_only_until_changed(tmp_path: Path) -> None:
    shipped = TraceStore(tmp_path / "shipped", examples=None)
    example = save(shipped, id="example-one")
    store = TraceStore(tmp_path / "mine", examples=tmp_path / "shipped")
    (row,) = store.list()
    assert row.example
    assert store.load(example.id).answer == "Paris."
    assert store.usage().traces == 0
    store.update(example.id, name="mine now")
    assert not store.summary(example.id).example
    assert shipped.load(example.id).name == ""
    store.delete(example.id)
    assert store.list() == ()
    assert store.restore(example.id).name == "mine now"
    store.delete(example.id), store.purge()
    assert store.list() == ()


def test_an_example_stays_an_example_after_it_was_changed(tmp_path: Path) -> None:
    store = TraceStore(tmp_path / "traces")
    shipped = {record.id for record in store.examples()}
    assert len(shipped) >= 3
    one, other = sorted(shipped)[:2]
    store.update(one, name="mine now")
    assert {record.id for record in store.examples()} == shipped
    assert {record.name for record in store.examples() if record.id == one} == {"mine now"}
    store.delete(other)
    assert {record.id for record in store.examples()} == shipped - {other}
