"""One file of named arrays: Zarr v3 in an uncompressed zip, zstd chunks. Written to a sibling, synced, then renamed: whole or absent."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
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

_CHUNK_BYTES = 1 << 20
_CODECS = {"bytes", "zstd", "crc32c", "gzip", "blosc", "transpose"}
_STAMP = (2020, 1, 1, 0, 0, 0)


def write_arrays(
    path: Path,
    arrays: Mapping[str, NDArray[Any]],
    *,
    attributes: Mapping[str, Any] | None = None,
    chunks: Mapping[str, tuple[int, ...]] | None = None,
) -> None:
    """Write `arrays` (and JSON attributes) to `path`. The same input gives the same bytes. Raises `StoreError` when the disk refuses."""
    with disk_errors(path), atomic_path(path) as temporary:
        store = ZipStore(temporary, mode="w", compression=zipfile.ZIP_STORED)
        group = zarr.create_group(store=store, zarr_format=3, attributes=dict(attributes or {}))
        for name in sorted(arrays):
            array = np.ascontiguousarray(arrays[name])
            shape = (chunks or {}).get(name) or _chunk_shape(array)
            made = group.create_array(
                name, shape=array.shape, dtype=array.dtype, chunks=shape, compressors=ZstdCodec(level=9, checksum=True)
            )
            made[...] = array
        store.close()
        _repack(temporary)


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
        return dict(self._group.attrs)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(name for name, _ in self._group.arrays()))

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
