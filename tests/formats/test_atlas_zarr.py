"""Atlases, corpora and detectors as Zarr, read back by xarray and zarr-python alone: names, labels, values; version 1 opens as before."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.codecs import ZstdCodec
from zarr.storage import ZipStore

from neurons.atlas.arrays import ArrayFile, write_arrays
from neurons.atlas.build import finish
from neurons.atlas.finalise import FinaliseSettings
from neurons.atlas.store import SHIPPED, Atlas, open_folder
from neurons.atlas.validate import check_atlas
from neurons.atlas.writer import CORPUS, NEURONS
from neurons.core.errors import StoreError
from neurons.storage.manifest import entry_of
from tests.formats.test_zarr import check_labels
from tests.support.atlases import collected, tiny_corpus
from tests.support.tiny_models import tiny_model


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Atlas:
    path = tmp_path_factory.mktemp("labels")
    collected(tiny_model(), tiny_corpus(), path / "collection")
    return finish(tiny_model(), path / "collection", target=path / "atlas", settings=FinaliseSettings(exemplars=6))


def test_plain_xarray_reads_an_atlas_by_its_labels(atlas: Atlas) -> None:
    with ZipStore(atlas.folder / NEURONS, mode="r") as packed, xr.open_zarr(packed, consolidated=False) as dataset:
        assert set(dataset.sizes) == set(dataset.indexes)
        assert not set(dataset.sizes) & set(dataset.data_vars)
        assert dataset["rank"].values.tolist() == list(atlas.extreme_ranks)
        third = atlas.extreme_ranks[2]
        np.testing.assert_array_equal(dataset.extreme.sel(side=1, layer=1, rank=third), atlas.extremes(1)[1, :, 2].astype(np.float16))
        level = float(dataset["quantile"].values[3])
        np.testing.assert_array_equal(dataset.body.sel(quantile=level), dataset.body[..., 3])
        np.testing.assert_array_equal(dataset["mean"], atlas.mean_LI())
        np.testing.assert_array_equal(dataset.token_count.sel(vocabulary=65), atlas.token_counts_V()[65])


def test_plain_xarray_reads_its_corpus(atlas: Atlas) -> None:
    with ZipStore(atlas.folder / CORPUS, mode="r") as packed, xr.open_zarr(packed, consolidated=False) as dataset:
        check_labels(dataset)
        np.testing.assert_array_equal(dataset["tokens"], atlas.corpus.tokens)
        assert dataset.start_S.sel(window=0) == atlas.corpus.start_S[0]


def as_version_1(source: Path, target: Path) -> None:
    """The same arrays without names, labels and version."""
    with ArrayFile(source) as file, ZipStore(target, mode="w") as packed:
        group = zarr.create_group(packed, zarr_format=3, attributes=file.attributes)
        for name in file.names:
            group.create_array(name, data=file.read(name), compressors=ZstdCodec(level=1, checksum=True))


def test_an_atlas_of_version_1_opens_as_before(atlas: Atlas, tmp_path: Path) -> None:
    shutil.copytree(atlas.folder, tmp_path / "old")
    for name in (NEURONS, CORPUS):
        (tmp_path / "old" / name).unlink()
        as_version_1(atlas.folder / name, tmp_path / "old" / name)
    files = {**atlas.manifest["files"], **{name: asdict(entry_of(tmp_path / "old" / name)) for name in (NEURONS, CORPUS)}}
    old = Atlas(tmp_path / "old", {**atlas.manifest, "files": files})
    check_atlas(old)
    np.testing.assert_array_equal(old.extremes(1), atlas.extremes(1))
    np.testing.assert_array_equal(old.quantile(1e-2), atlas.quantile(1e-2))
    assert old.exemplars(1, 3, "+") == atlas.exemplars(1, 3, "+")
    assert open_folder(SHIPPED).mean_LI().shape == (30, 1536)


def test_labels_are_no_arrays(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr.zip"
    write_arrays(path, {"x": np.ones((2, 3)), "y": np.zeros(4)}, dimensions={"x": ("side", "rank")}, labels={"rank": np.array([1, 5, 9])})
    with ArrayFile(path) as file:
        assert file.names == ("x", "y")
        assert file.read("rank").tolist() == [1, 5, 9]
        assert file.attributes == {}


@pytest.mark.parametrize("dimensions", [{"x": ("a", "y")}, {"x": ("a", "b"), "y": ("b",)}])
def test_dimensions_that_do_not_fit_are_refused(tmp_path: Path, dimensions: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(StoreError, match="does not fit"):
        write_arrays(tmp_path / "a.zarr.zip", {"x": np.ones((2, 3)), "y": np.zeros(4)}, dimensions=dimensions)
    assert not list(tmp_path.iterdir())
