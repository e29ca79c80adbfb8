"""One file of named arrays: Zarr v3 in an uncompressed zip, zstd chunks. Written to a sibling, synced, then renamed: whole or absent.

Since version 2 (an attribute) its dimensions have names, and labels as xarray looks for them: arrays named like a dimension.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec
from zarr.storage import ZipStore

from neurons.core.errors import StoreError
from neurons.storage.files import atomic_path, disk_errors

VERSION = 2
_CHUNK_BYTES = 1 << 20
_LABELLED = 1 << 18  # longer dimensions count from 0 without labels, which xarray selects by position
_CODECS = {"bytes", "zstd", "crc32c", "gzip", "blosc", "transpose"}
_STAMP = (2020, 1, 1, 0, 0, 0)


def write_arrays(
    path: Path,
    arrays: Mapping[str, NDArray[Any]],
    *,
    dimensions: Mapping[str, Sequence[str]],
    attributes: Mapping[str, Any] | None = None,
    labels: Mapping[str, NDArray[Any]] | None = None,
) -> None:
    """Write `arrays` (and JSON attributes) to `path`. The same input gives the same bytes.

    `dimensions` names the axes of the arrays, `labels` what stands along one; others are labelled from 0 up. Raises `StoreError` when
    the disk refuses or two arrays disagree about a dimension.
    """
    held = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    own = {name: [f"{name}_{axis}" for axis in range(array.ndim)] for name, array in held.items()}
    axes = {name: tuple(dimensions.get(name, own[name])) for name in held}
    for name, array in _labels(held, axes, labels or {}).items():
        held[name], axes[name] = array, (name,)
    with disk_errors(path), atomic_path(path) as temporary:
        store = ZipStore(temporary, mode="w", compression=zipfile.ZIP_STORED)
        group = zarr.create_group(store=store, zarr_format=3, attributes={**(attributes or {}), "version": VERSION})
        for name, array in sorted(held.items()):
            made = group.create_array(
                name,
                shape=array.shape,
                dtype=array.dtype,
                chunks=_chunk_shape(array),
                dimension_names=axes[name],
                compressors=ZstdCodec(level=9, checksum=True),
            )
            made[...] = array
        store.close()
        _repack(temporary)


def _labels(
    arrays: Mapping[str, NDArray[Any]], axes: Mapping[str, tuple[str, ...]], given: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """The labels of every dimension. Raises `StoreError` where two arrays disagree about one, or an array is named like one."""
    sizes: dict[str, int] = {}
    for name, array in arrays.items():
        for axis, size in zip(axes[name], array.shape, strict=True):
            if axis in arrays or sizes.setdefault(axis, size) != size:
                elsewhere = sizes.get(axis, "an array of that name")
                raise StoreError(f"{name} does not fit: its dimension {axis} is {size} long, {elsewhere} elsewhere")
    counted = {axis: np.arange(size, dtype=np.int32) for axis, size in sizes.items() if size <= _LABELLED}
    return counted | {axis: np.ascontiguousarray(array) for axis, array in given.items() if axis in sizes}


def _repack(path: Path) -> None:
    """Rewrite the zip with fixed time stamps, in order of names, without the stale entries that rewritten metadata leave."""
    with atomic_path(path) as repacked, zipfile.ZipFile(path) as old, zipfile.ZipFile(repacked, "w", zipfile.ZIP_STORED) as new:
        for name in sorted(set(old.namelist())):
            new.writestr(zipfile.ZipInfo(name, _STAMP), old.read(name))


def _chunk_shape(array: NDArray[Any]) -> tuple[int, ...]:
    """Whole trailing axes, as many of the first as fit in about a mebibyte."""
    if array.ndim == 0:
        return ()
    row = int(np.prod(array.shape[1:], dtype=np.int64)) * array.dtype.itemsize
    first = max(1, min(array.shape[0], _CHUNK_BYTES // max(row, 1)))
    return (first, *(max(1, size) for size in array.shape[1:]))


def check_array_file(path: Path) -> None:
    """Refuse a file from elsewhere whose arrays are not Zarr v3 with plain codecs. Raises `StoreError`."""
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith((".zarray", ".zgroup", ".zattrs")):
                    raise StoreError(f"{path.name} is a Zarr v2 file; only v3 is read")
                if name.endswith("zarr.json"):
                    codecs = json.loads(archive.read(name)).get("codecs", [])
                    strange = {str(codec.get("name")) for codec in codecs} - _CODECS
                    if strange:
                        raise StoreError(f"{path.name} uses codecs that are not read here: {', '.join(sorted(strange))}")
    except (zipfile.BadZipFile, ValueError, AttributeError) as error:
        raise StoreError(f"{path.name} is no array file: {error}") from error


class ArrayFile:
    """A file of arrays, open for reading; arrays are read when asked for."""

    def __init__(self, path: Path) -> None:
        """Raises `StoreError` when the file is missing or is no array file."""
        try:
            self._store = ZipStore(path, mode="r")
            self._group = zarr.open_group(self._store, mode="r", zarr_format=3)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise StoreError(f"{path} is damaged or no array file ({error}); build or import it again") from error
        self.path = path

    @property
    def attributes(self) -> dict[str, Any]:
        return {name: value for name, value in self._group.attrs.items() if name != "version"}

    @property
    def names(self) -> tuple[str, ...]:
        """Its arrays; labels of dimensions left out."""
        return tuple(sorted(name for name, array in self._group.arrays() if getattr(array.metadata, "dimension_names", ()) != (name,)))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._group

    def read(self, name: str, selection: Any = ...) -> NDArray[Any]:
        """One array, or a part of it. Raises `StoreError` when it is missing or its checksum is wrong."""
        try:
            array = self._group[name]
            if not isinstance(array, zarr.Array):
                raise KeyError(name)
            return np.asarray(array[selection])
        except (OSError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile) as error:
            raise StoreError(f"{self.path.name}: {name} cannot be read ({error}); build or import it again") from error

    def close(self) -> None:
        self._store.close()

    def __enter__(self) -> ArrayFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
