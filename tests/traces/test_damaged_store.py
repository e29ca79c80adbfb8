"""What is damaged in the trace store is noticed: flipped bits, missing chunks, changed records, strange records, stale work."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from pathlib import Path

import pytest

from neurons.core.errors import InvalidInput, StoreError
from tests.support.trace_runs import a_chunk, make_record, save
from traces import TraceStore
from traces.schema import from_json_text, to_json


def test_flipped_bit_is_noticed(store: TraceStore) -> None:
    saved = save(store)
    data = bytearray(a_chunk(store, saved.id).read_bytes())
    data[5] ^= 4
    a_chunk(store, saved.id).write_bytes(bytes(data))
    report = store.verify(saved.id)
    assert not report.ok
    assert "c/1/0/0" in report.problems[0]
    with pytest.raises(StoreError):
        store.read(saved.id, "activations", layer=1)


def test_deleted_chunk_is_noticed(store: TraceStore) -> None:
    saved = save(store)
    a_chunk(store, saved.id).unlink()
    assert "missing" in store.verify(saved.id).problems[0]
    with pytest.raises(StoreError, match="missing"):
        store.read(saved.id, "activations", layer=0)


def test_changed_record_is_noticed_and_listed(store: TraceStore) -> None:
    saved = save(store)
    path = store.root / saved.id / "trace.json"
    path.write_text(path.read_text().replace("Paris", "Rome!"))
    assert not store.verify(saved.id).ok
    path.write_text("{")
    store.rebuild()
    (row,) = store.list()
    assert row.id == saved.id
    assert "damaged" in row.answer
    with pytest.raises(StoreError, match="damaged"):
        store.load(saved.id)
    store.delete(saved.id)


@pytest.mark.parametrize("harm", ["remove", "garbage", "truncate", "version"])
def test_catalogue_is_rebuilt(store: TraceStore, harm: str) -> None:
    kept, trashed = save(store, tags=("t",)), save(store)
    store.update(kept.id, name="kept")
    store.delete(trashed.id)
    path = store.catalogue.path
    if harm == "remove":
        for suffix in ("", "-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
    elif harm == "garbage":
        path.write_bytes(b"not a database" * 1000)
    elif harm == "truncate":
        path.write_bytes(path.read_bytes()[:1000])
    else:
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA user_version = 99")
        connection.close()
    again = TraceStore(store.root, examples=None)
    assert [(row.id, row.name, row.tags) for row in again.list()] == [(kept.id, "kept", ("t",))]
    assert [row.id for row in again.list(trashed=True)] == [trashed.id]
    # A store that was open meanwhile goes on too.
    assert [row.id for row in store.list()] == [kept.id]


def test_stale_work_is_swept(store: TraceStore) -> None:
    for name, age in (("old.1.x", 7200), ("fresh.2.y", 0)):
        folder = store.root / ".work" / name
        folder.mkdir()
        moment = time.time() - age
        os.utime(folder, (moment, moment))
    TraceStore(store.root, examples=None)
    assert [path.name for path in (store.root / ".work").iterdir()] == ["fresh.2.y"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda raw: raw | {"prompt_ids": [1, 2, 3, 1000]}, "vocabulary"),
        (lambda raw: raw | {"prompt_ids": []}, "prompt tokens"),
        (lambda raw: raw | {"prompt_ids": "1234"}, "prompt_ids"),
        (lambda raw: raw | {"version": 2}, "version"),
        (lambda raw: raw | {"format": "x"}, "format"),
        (lambda raw: raw | {"pieces": ["a"]}, "pieces"),
        (lambda raw: raw | {"id": "../../x"}, "id"),
        (lambda raw: raw | {"seconds": -1.0}, "seconds"),
        (lambda raw: raw | {"seconds": float("nan")}, "JSON"),
        (lambda raw: raw | {"sampling": raw["sampling"] | {"temperature": 99.0}}, "temperature"),
        (lambda raw: raw | {"created": "yesterday"}, "date"),
        (lambda raw: raw | {"finish_reason": "boom"}, "finish_reason"),
        (lambda raw: raw | {"segments": [{"role": "user", "start": 0, "stop": 99, "template": False}]}, "segment"),
        (lambda raw: {key: value for key, value in raw.items() if key != "model"}, "model"),
    ],
)
def test_strange_records_are_refused(edit, message: str) -> None:
    raw = json.loads(to_json(make_record(id="abcd1234")))
    with pytest.raises(InvalidInput, match=message):
        from_json_text(json.dumps(edit(raw)))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000])
def test_junk_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        from_json_text(data)
