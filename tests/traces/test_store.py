"""The trace store: whole or absent, found again, checked, kept under its budget."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from zarr.storage import LocalStore

from neurons.core.errors import InvalidInput, NeuronscopeError, NotFound, StoreError
from neurons.core.types import AttributionRow, TargetSpec
from tests.support.trace_runs import LAYERS, NEURONS, make_arrays, make_record
from traces import AttributionInfo, Evicted, TraceStore, from_rows
from traces.schema import from_json_text, to_json


def save(store: TraceStore, **changes: object):
    record = make_record(**changes)
    return store.save(record, make_arrays(record))


def test_round_trip(store: TraceStore) -> None:
    record = make_record(name="a name", tags=("x", "y"), note="n", set_name="s", set_row=3, error="")
    arrays = make_arrays(record)
    saved = store.save(record, arrays)
    assert store.load(saved.id) == saved == replace(record, id=saved.id)
    for name, array in arrays.items():
        read = store.read(saved.id, name)
        assert read.dtype == array.dtype
        np.testing.assert_array_equal(read, array)
    np.testing.assert_array_equal(store.read(saved.id, "activations", layer=1, token=slice(2, 4)), arrays["activations"][1, 2:4])
    assert store.verify(saved.id).ok
    assert saved == from_json_text(to_json(saved))


def test_plain_xarray_opens_it(store: TraceStore, tmp_path: Path) -> None:
    saved = save(store)
    with xr.open_zarr(str(tmp_path / "traces" / saved.id / "tensors.zarr"), consolidated=False) as dataset:
        assert dataset.activations.dims == ("layer", "token", "neuron")
        assert dataset.topk_ids.dims == ("token", "rank")
        assert dataset.attrs == {"format": "neuronscope-tensors", "version": 1}
        assert dataset.activations.shape == (LAYERS, 7, NEURONS)


def test_float32_only_where_float16_overflows(store: TraceStore) -> None:
    record = make_record()
    arrays = make_arrays(record)
    small, large = arrays["activations"].astype(np.float32), arrays["activations"].astype(np.float32)
    large[0, 0, 0] = 70_000.0
    assert store.read(store.save(record, {"activations": small}).id, "activations").dtype == np.float16
    wide = store.read(store.save(record, {"activations": large}).id, "activations")
    assert wide.dtype == np.float32
    np.testing.assert_array_equal(wide, large)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda arrays: {**arrays, "activations": np.full_like(arrays["activations"], np.nan)},
        lambda arrays: {**arrays, "entropy": np.full_like(arrays["entropy"], np.inf)},
        lambda arrays: {**arrays, "rank": arrays["rank"][:2]},
        lambda arrays: {**arrays, "activations": arrays["activations"][:, :, :3]},
        lambda arrays: {**arrays, "surprise": arrays["rank"]},
    ],
)
def test_unfit_arrays_leave_nothing(store: TraceStore, spoil) -> None:
    record = make_record()
    with pytest.raises(StoreError):
        store.save(record, spoil(make_arrays(record)))
    assert store.list() == ()
    assert not any(path.is_dir() and not path.name.startswith(".") for path in store.root.iterdir())


def test_first_writer_wins(store: TraceStore) -> None:
    first = save(store, id="abcd1234", answer="one")
    with pytest.raises(StoreError, match="exists already"):
        save(store, id="abcd1234", answer="two")
    assert store.load(first.id).answer == "one"


def test_search_sort_filter(store: TraceStore) -> None:
    france = save(store, prompt="Capital of FRANCE?", answer="Paris", tags=("geo",), created="2026-01-01T00:00:00.000Z")
    spain = save(
        store, prompt="Capital of Spain?", answer="Madrid é", name="Straße", created="2026-02-01T00:00:00.000Z", set_name="caps", set_row=1
    )
    assert [row.id for row in store.list()] == [spain.id, france.id]
    assert [row.id for row in store.list("france capital")] == [france.id]
    assert [row.id for row in store.list("MADRID É")] == [spain.id]
    assert [row.id for row in store.list("strasse")] == [spain.id]
    assert [row.id for row in store.list("100% '\" _")] == []
    assert [row.id for row in store.list(tag="geo")] == [france.id]
    assert [row.id for row in store.list(set_name="caps")] == [spain.id]
    assert [row.id for row in store.list(since="2026-01-15")] == [spain.id]
    assert [row.id for row in store.list(sort="prompt", descending=False)] == [france.id, spain.id]
    assert [row.id for row in store.list(limit=1, offset=1)] == [france.id]
    with pytest.raises(InvalidInput):
        store.list(sort="id; DROP TABLE traces")
    assert store.catalogue.tags() == ("geo",)
    assert store.catalogue.distinct("set_name") == ("caps",)


def test_update_is_kept_and_checked(store: TraceStore) -> None:
    saved = save(store)
    before = store.verify(saved.id)
    store.update(saved.id, name="new", tags=("b", "b", " a "), pinned=True, note="line\nline")
    again = TraceStore(store.root, examples=None)
    record = again.load(saved.id)
    assert (record.name, record.tags, record.pinned, record.note) == ("new", ("b", "a"), True, "line\nline")
    assert again.list("new")[0].pinned
    assert before.ok
    assert again.verify(saved.id).ok
    with pytest.raises(InvalidInput) as caught:
        store.update(saved.id, name="x" * 500)
    assert caught.value.field == "name"
    with pytest.raises(InvalidInput):
        store.update(saved.id, note="\ud800")
    assert store.load(saved.id).name == "new"


def test_prefixes(store: TraceStore) -> None:
    save(store, id="abcd1111"), save(store, id="abcd2222")
    assert store.resolve("abcd1") == "abcd1111"
    assert store.resolve("ABCD2222") == "abcd2222"
    assert store.resolve("last") in ("abcd1111", "abcd2222")
    with pytest.raises(InvalidInput, match="several"):
        store.resolve("abcd")
    for nothing in ("zzzz", "", "../etc", "%"):
        with pytest.raises(NotFound):
            store.resolve(nothing)


def test_trash_and_undo(store: TraceStore) -> None:
    saved = save(store)
    store.delete(saved.id)
    assert store.list() == ()
    assert [row.id for row in store.list(trashed=True)] == [saved.id]
    with pytest.raises(NotFound):
        store.delete(saved.id)
    assert store.restore(saved.id).id == saved.id
    assert [row.id for row in store.list()] == [saved.id]
    assert store.verify(saved.id).ok
    store.delete(saved.id)
    assert store.purge() == 1
    assert store.list(trashed=True) == ()
    with pytest.raises(NotFound):
        store.load(saved.id)
    for strange in ("../../etc", "abcd1234\n"):
        with pytest.raises(InvalidInput):
            store.restore(strange)


def _chunk(store: TraceStore, trace_id: str) -> Path:
    return store.root / trace_id / "tensors.zarr" / "activations" / "c" / "1" / "0" / "0"


def test_flipped_bit_is_noticed(store: TraceStore) -> None:
    saved = save(store)
    data = bytearray(_chunk(store, saved.id).read_bytes())
    data[5] ^= 4
    _chunk(store, saved.id).write_bytes(bytes(data))
    report = store.verify(saved.id)
    assert not report.ok
    assert "c/1/0/0" in report.problems[0]
    with pytest.raises(StoreError):
        store.read(saved.id, "activations", layer=1)


def test_deleted_chunk_is_noticed(store: TraceStore) -> None:
    saved = save(store)
    _chunk(store, saved.id).unlink()
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


def test_budget_evicts_oldest_unpinned_first(store: TraceStore) -> None:
    records = [save(store) for _ in range(5)]
    for age, record in enumerate(records):
        moment = 1_700_000_000 + age
        os.utime(store.root / record.id / "tensors.zarr" / "activations" / "zarr.json", (moment, moment))
    store.rebuild()
    one = store.summary(records[0].id).tensor_bytes
    store.update(records[0].id, pinned=True)
    store.delete(records[3].id)
    store.set_budget(2 * one)
    states = [store.activation_state(record.id) for record in records]
    assert states == ["stored", "evicted", "evicted", "evicted", "stored"]
    assert store.usage().activation_bytes <= 2 * one
    for record in (records[1], records[2]):
        assert store.verify(record.id).ok
        assert store.load(record.id).answer == "Paris."
        with pytest.raises(Evicted):
            store.read(record.id, "activations")
        assert store.read(record.id, "logprob").shape == (7,)
    newest = save(store)
    assert store.activation_state(newest.id) == "stored"
    assert store.activation_state(records[4].id) == "evicted"
    assert TraceStore(store.root, examples=None).budget_bytes == 2 * one


def test_evicted_activations_come_back_bit_for_bit(store: TraceStore) -> None:
    record = make_record()
    arrays = make_arrays(record)
    saved = store.save(record, arrays)
    manifest = (store.root / saved.id / "manifest.json").read_bytes()
    assert store.evict(saved.id) > 0
    assert store.put_activations(saved.id, arrays["activations"]) is True
    assert store.verify(saved.id).ok
    assert store.activation_state(saved.id) == "stored"
    np.testing.assert_array_equal(store.read(saved.id, "activations"), arrays["activations"])
    store.evict(saved.id)
    other = arrays["activations"] + np.float16(0.5)
    assert store.put_activations(saved.id, other, reason="another machine") is False
    assert store.verify(saved.id).ok
    np.testing.assert_array_equal(store.read(saved.id, "activations"), other)
    _chunk(store, saved.id).unlink()
    assert not store.verify(saved.id).ok
    assert (store.root / saved.id / "manifest.json").read_bytes() == manifest


def test_attributions(store: TraceStore) -> None:
    saved = save(store)
    rows = [AttributionRow(1, 2, 0, "+", 1.5, 0.25), AttributionRow(2, 3, 1, "-", -0.5, -0.125)]
    info = AttributionInfo(TargetSpec(5, "contrast", 12, 13), "grad", 0.75, 0.4, 1000, 2, extra={"seconds": 0.5})
    mass = np.ones((LAYERS, 5), np.float32)
    key = store.save_attribution(saved.id, from_rows(info, rows, mass_LT=mass))
    assert key == "t5-contrast-12-13-grad"
    assert store.attributions(saved.id) == (info,)
    found = store.attribution(saved.id, key)
    assert found.rows() == tuple(rows)
    assert found.mass_LT is not None
    assert found.mass_LT.shape == mass.shape
    store.save_attribution(saved.id, from_rows(replace(info, kept=1), rows[:1]))
    assert len(store.attribution(saved.id, key).rows()) == 1
    assert store.verify(saved.id).ok
    with pytest.raises(NotFound):
        store.attribution(saved.id, "t1-prob")
    with pytest.raises(InvalidInput):
        store.attribution(saved.id, "../../x")
    chunk = store.root / saved.id / "attributions" / key / "rows.zarr" / "token" / "c" / "0"
    chunk.write_bytes(b"\0" * 8)
    assert not store.verify(saved.id).ok
    with pytest.raises(StoreError):
        store.attribution(saved.id, key)


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


_SAVER = """
import sys
from pathlib import Path
from tests.support.trace_runs import make_arrays, make_record
from traces import TraceStore
store = TraceStore(Path(sys.argv[1]), examples=None)
print("ready", flush=True)
for number in range(int(sys.argv[2])):
    record = make_record(n_prompt=40)
    store.save(record, make_arrays(record))
    print(number, flush=True)
"""


def _start_saver(root: Path, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _SAVER, str(root), str(count)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )


@pytest.mark.slow
def test_kill_during_writes_leaves_whole_traces_or_none(tmp_path: Path) -> None:
    root = tmp_path / "traces"
    for attempt in range(4):
        with _start_saver(root, 10_000) as saver:
            assert saver.stdout is not None
            for _ in range(2 + attempt):
                saver.stdout.readline()
            time.sleep(0.003 * attempt)
            saver.send_signal(signal.SIGKILL)
    store = TraceStore(root, examples=None)
    rows = store.list()
    assert rows
    for row in rows:
        assert store.verify(row.id).ok, store.verify(row.id).problems
        store.read(row.id, "activations")


@pytest.mark.slow
def test_two_processes_save_at_once(tmp_path: Path) -> None:
    root = tmp_path / "traces"
    with _start_saver(root, 12) as one, _start_saver(root, 12) as two:
        assert one.wait(60) == 0
        assert two.wait(60) == 0
    store = TraceStore(root, examples=None)
    assert len(store.list()) == 24
    assert all(store.verify(row.id).ok for row in store.list())


def test_threads_share_a_store(store: TraceStore) -> None:
    saved = save(store)
    errors: list[NeuronscopeError] = []

    def work(number: int) -> None:
        try:
            save(store)
            store.update(saved.id, tags=(*store.load(saved.id).tags, f"t{number}"))
            store.list("capital")
        except NeuronscopeError as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(store.list()) == 7


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


def test_one_token_or_layer_is_read_without_the_rest(store: TraceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    record = make_record(n_prompt=400, n_answer=100)
    record = replace(record, model=replace(record.model, n_layers=30, n_neurons=1536), prompt_ids=(1,) * 400, answer_ids=(2,) * 100)
    rng = np.random.default_rng(0)
    acts = rng.standard_normal((30, 500, 1536), dtype=np.float32).astype(np.float16)
    saved = store.save(record, {"activations": acts})
    assert store.load(saved.id) == saved
    read: list[int] = []
    plain = LocalStore.get

    async def counting(self: LocalStore, *args: Any, **options: Any) -> Any:
        found = await plain(self, *args, **options)
        read.append(0 if found is None else len(found))
        return found

    monkeypatch.setattr(LocalStore, "get", counting)
    assert store.read(saved.id, "activations", token=slice(40, 41)).shape == (30, 1, 1536)
    assert store.read(saved.id, "activations", layer=7).shape == (500, 1536)
    assert 0 < sum(read) < acts.nbytes / 3  # a chunk is one layer of 128 tokens


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
