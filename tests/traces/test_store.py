"""The trace store: whole or absent, found again, changed, deleted and restored; one token or layer read without the rest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from zarr.storage import LocalStore

from neurons.core.errors import InvalidInput, NotFound, StoreError
from neurons.core.types import AttributionRow, TargetSpec
from tests.support.trace_runs import LAYERS, NEURONS, make_arrays, make_record, save
from traces import AttributionInfo, TraceStore, from_rows
from traces.schema import from_json_text, to_json


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
        assert dataset.topk_ids.dims == ("token", "candidate")
        assert dataset.attrs == {"format": "neuronscope-tensors", "version": 2}
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
