"""Traces and attributions as Zarr, read back by xarray and zarr-python alone: values, types, labels; those of version 1 open as before."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from neurons.core.errors import StoreError
from neurons.core.types import AttributionRow, TargetSpec
from neurons.storage.manifest import read_manifest
from tests.formats.test_golden_homes import GOLDEN
from tests.support.trace_runs import LAYERS, NEURONS, make_arrays, make_record
from traces import AttributionInfo, TraceStore, from_rows
from traces.exchange import export_zip, import_zip
from traces.store import EXAMPLES
from traces.tensors import files_below, open_dataset

SHIPPED = sorted(path for path in EXAMPLES.iterdir() if (path / "trace.json").exists())
FIRST_LAYOUT = [path for path in GOLDEN if path.name.partition(".")[0] in ("13f838a", "3ec63ce", "4fe682a")]
"""Homes of versions that wrote traces without labels."""


@pytest.fixture
def saved(store: TraceStore) -> Path:
    """The folder of a trace with an attribution."""
    record = make_record()
    record = store.save(record, make_arrays(record))
    info = AttributionInfo(TargetSpec(5, "prob", 12), "grad", 0.75, 0.4, 1000, 2)
    rows = [AttributionRow(1, 2, 0, "+", 1.5, 0.25), AttributionRow(2, 7, 4, "-", -0.5, -0.125)]
    store.save_attribution(record.id, from_rows(info, rows, mass_LT=np.ones((LAYERS, 5), np.float32)))
    return store.root / record.id


def check_labels(dataset: xr.Dataset) -> None:
    """Every dimension has its labels and nothing else is named like one."""
    assert set(dataset.sizes) == set(dataset.coords) == set(dataset.indexes)
    assert not set(dataset.sizes) & set(dataset.data_vars)
    for name, labels in dataset.coords.items():
        np.testing.assert_array_equal(labels, np.arange(dataset.sizes[name]))


def test_plain_xarray_reads_values_types_and_labels(saved: Path) -> None:
    given = make_arrays(make_record())
    with xr.open_zarr(str(saved / "tensors.zarr"), consolidated=False) as dataset:
        check_labels(dataset)
        assert set(dataset.data_vars) == set(given)
        for name, array in given.items():
            assert dataset[name].dtype == array.dtype
            np.testing.assert_array_equal(dataset[name], array)
        np.testing.assert_array_equal(dataset.topk_ids.sel(candidate=0, token=[3, 1]), given["topk_ids"][[3, 1], 0])
        np.testing.assert_array_equal(dataset.activations.sel(layer=2, token=slice(1, 3), neuron=5), given["activations"][2, 1:4, 5])
        with pytest.raises((KeyError, ValueError)):
            dataset.topk_ids.sel(rank=0)


def test_plain_zarr_reads_the_same(saved: Path) -> None:
    group = zarr.open_group(str(saved / "tensors.zarr"), mode="r")
    for name, array in make_arrays(make_record()).items():
        found = group[name]
        assert isinstance(found, zarr.Array)
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found[...], array)
    assert group.attrs["version"] == 2


def test_attributions_have_labels(saved: Path) -> None:
    (rows,) = saved.glob("attributions/*/rows.zarr")
    with xr.open_zarr(str(rows), consolidated=False) as dataset:
        check_labels(dataset)
        assert dataset.sizes == {"row": 2, "layer_axis": LAYERS, "token_axis": 5}
        assert dataset.sel(row=1).layer == 2
        assert dataset.attribution.values.tolist() == [0.25, -0.125]
        frame = dataset.drop_vars(["mass", "layer_axis", "token_axis"]).to_dataframe()
    assert frame["index"].tolist() == [2, 7]


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda path: path.name)
def test_the_shipped_examples_have_labels(folder: Path, tmp_path: Path) -> None:
    record = TraceStore(tmp_path / "traces").load(folder.name)
    with xr.open_zarr(str(folder / "tensors.zarr"), consolidated=False) as dataset:
        check_labels(dataset)
        np.testing.assert_array_equal(dataset.topk_ids.sel(candidate=0), dataset.topk_ids.values[:, 0])
        first = len(record.prompt_ids)
        if record.sampling.temperature == 0 and not record.steers:
            assert tuple(dataset.topk_ids.sel(candidate=0, token=slice(first, None)).values) == record.answer_ids
        if record.baseline_id is not None:
            kl_T = dataset.kl_from_baseline.values
            assert (kl_T[:first] == -1).all()
            assert kl_T.max() > 0.1, "the whole KL, with which the comparison needs no bound"


@pytest.fixture(params=FIRST_LAYOUT, ids=lambda path: path.name.partition(".")[0])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[TraceStore, str]:
    """The store of a home that wrote version 1, and the id of a trace there with its activations."""
    with tarfile.open(request.param) as archive:
        archive.extractall(tmp_path / "old", filter="data")
    kept = json.loads((tmp_path / "old" / "golden.json").read_text())["kept"]
    return TraceStore(tmp_path / "old" / "traces", examples=None), kept


def test_a_trace_of_version_1_opens_with_labels(old: tuple[TraceStore, str]) -> None:
    store, kept = old
    raw = zarr.open_group(str(store.root / kept / "tensors.zarr"), mode="r")
    assert raw.attrs["version"] == 1
    with store.arrays(kept) as dataset:
        check_labels(dataset)
        for name in ("topk_ids", "rank", "activations"):
            found = raw[name]
            assert isinstance(found, zarr.Array)
            np.testing.assert_array_equal(dataset[name], found[...])
        np.testing.assert_array_equal(dataset.topk_ids.sel(candidate=0), dataset.topk_ids[:, 0])
    np.testing.assert_array_equal(store.read(kept, "rank"), np.asarray(raw["rank"]))


def test_a_trace_of_version_1_goes_out_and_in(old: tuple[TraceStore, str], tmp_path: Path) -> None:
    store, kept = old
    packed = io.BytesIO()
    export_zip(store, [kept], packed)
    other = TraceStore(tmp_path / "other", examples=None)
    (came,) = import_zip(other, io.BytesIO(packed.getvalue()))
    assert other.verify(came.id).ok
    with other.arrays(came.id) as dataset:
        check_labels(dataset)


def test_a_version_to_come_is_refused(saved: Path) -> None:
    files = files_below(read_manifest(saved), "tensors.zarr")
    assert open_dataset(saved / "tensors.zarr", files).sizes["neuron"] == NEURONS
    zarr.open_group(str(saved / "tensors.zarr"), mode="r+").attrs["version"] = 3
    with pytest.raises(StoreError, match="update Neuronscope"):
        open_dataset(saved / "tensors.zarr", files)
