"""The arrays of a trace as a Zarr v3 group that `xarray.open_zarr` opens: names, dimensions, chunks, codecs.

    tensors.zarr/  activations (layer, token, neuron) float16, float32 where float16 would overflow
                   topk_ids, topk_probs (token, candidate); rank, logprob, entropy (token)
                   layer, token, neuron, candidate: the coordinates, 0 up
                   kl_from_baseline, kl_to_baseline (token), in the steered run of a pair

Version 1 had no coordinates and called the dimension `candidate` `rank`, like the array: `open_dataset` gives both as version 2.
No compression: activations shrink by 6% under any codec. crc32c notices flipped bits while reading; a missing chunk, which
Zarr would read as the fill value, is an error here: the manifest says which files there are.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from zarr.abc.store import ByteRequest
from zarr.codecs import BytesCodec, Crc32cCodec
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore

from neurons.core.errors import UNFORESEEN, StoreError
from neurons.storage.manifest import Manifest

GROUP = "tensors.zarr"
VERSION = 2
ACTIVATIONS = "activations"
CANDIDATE = "candidate"
KL_FROM_BASELINE = "kl_from_baseline"
KL_TO_BASELINE = "kl_to_baseline"
FLOAT16_MAX = 65_504.0
_CRC = 4  # bytes of the checksum at the end of every chunk
DIMENSIONS: dict[str, tuple[str, ...]] = {
    ACTIVATIONS: ("layer", "token", "neuron"),
    "topk_ids": ("token", CANDIDATE),
    "topk_probs": ("token", CANDIDATE),
    "rank": ("token",),
    "logprob": ("token",),
    "entropy": ("token",),
    KL_FROM_BASELINE: ("token",),
    KL_TO_BASELINE: ("token",),
}
COORDINATES = ("layer", "token", "neuron", CANDIDATE)
OLD_CANDIDATE = "rank"
MEANING: dict[str, str] = {
    ACTIVATIONS: "input of the MLP's down projection, activation units",
    "topk_ids": "ids of the most probable tokens that could have stood here, most probable first; -1 at position 0",
    "topk_probs": "their probabilities, before temperature, top-p and top-k",
    "rank": "rank of the token that stands here in that distribution, 0 is the most probable; -1 at position 0",
    "logprob": "its natural log-probability; 0 at position 0",
    "entropy": "entropy of that distribution in nats; 0 at position 0",
    KL_FROM_BASELINE: "KL(unsteered, this run) of that distribution in nats, over the whole vocabulary; -1 where it was not measured",
    KL_TO_BASELINE: "KL(this run, unsteered) likewise",
}
_INTEGER = frozenset({"topk_ids", "rank"})


def narrow(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """The array in the type it is stored in. Raises `StoreError` for unknown names, wrong shapes and non-finite values."""
    if name not in DIMENSIONS:
        raise StoreError(f"a trace has no array named {name!r}; it has {', '.join(DIMENSIONS)}")
    if array.ndim != len(DIMENSIONS[name]):
        raise StoreError(f"{name} has {array.ndim} dimensions; it needs {DIMENSIONS[name]}")
    if name in _INTEGER:
        return np.ascontiguousarray(array, dtype=np.int32)
    if not np.isfinite(array).all():
        raise StoreError(f"{name} holds NaN or infinite values, which a trace cannot store; lower the steer's strength")
    if name != ACTIVATIONS:
        return np.ascontiguousarray(array, dtype=np.float32)
    if array.dtype == np.float16:
        return np.ascontiguousarray(array)
    fits = array.size == 0 or float(np.abs(array).max()) <= FLOAT16_MAX
    return np.ascontiguousarray(array, dtype=np.float16 if fits else np.float32)


def check_shapes(arrays: Mapping[str, NDArray[Any]], *, n_layers: int, n_tokens: int, n_neurons: int) -> dict[str, int]:
    """The size of every dimension. Raises `StoreError` where an array does not belong to a run of this size."""
    sizes = {"layer": n_layers, "token": n_tokens, "neuron": n_neurons}
    for name, array in arrays.items():
        for axis, (dimension, length) in enumerate(zip(DIMENSIONS[name], array.shape, strict=True)):
            if length != sizes.setdefault(dimension, length):
                raise StoreError(f"{name} has {length} entries along {dimension} (axis {axis}); the trace has {sizes[dimension]}")
    return sizes


def _chunks(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    if name != ACTIVATIONS:
        return tuple(max(1, length) for length in shape)
    tokens = 128 if shape[2] <= 4096 else 64
    return (1, max(1, min(tokens, shape[1])), max(1, shape[2]))


def write_array(group: zarr.Group, name: str, array: NDArray[Any]) -> None:
    """Write one narrowed array into an open group."""
    put_array(group, name, array, DIMENSIONS[name], chunks=_chunks(name, array.shape), attributes={"description": MEANING[name]})


def put_array(
    group: zarr.Group,
    name: str,
    array: NDArray[Any],
    dimensions: Sequence[str],
    *,
    chunks: tuple[int, ...] | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Write an array into an open group: little-endian, each chunk with its CRC32C, unwritten places -1 or NaN. `chunks`: one if None."""
    target = group.create_array(
        name,
        shape=array.shape,
        dtype=array.dtype,
        chunks=chunks or tuple(max(1, length) for length in array.shape),
        dimension_names=dimensions,
        serializer=BytesCodec(endian="little"),
        compressors=[Crc32cCodec()],
        filters=None,
        fill_value=-1 if array.dtype.kind == "i" else float("nan"),
        attributes=dict(attributes or {}),
        config={"write_empty_chunks": True},
    )
    target[...] = array


def write_group(folder: Path, arrays: Mapping[str, NDArray[Any]], *, sizes: Mapping[str, int]) -> None:
    """Write `arrays` (already narrowed) as the group at `folder`, with a coordinate for each dimension in `sizes`."""
    group = zarr.create_group(str(folder), zarr_format=3, attributes={"format": "neuronscope-tensors", "version": VERSION})
    for name, array in arrays.items():
        write_array(group, name, array)
    write_coordinates(group, sizes)


def write_coordinates(group: zarr.Group, sizes: Mapping[str, int]) -> None:
    """Write what xarray takes for a dimension's labels: 0 up to its size."""
    for dimension, size in sizes.items():
        put_array(group, dimension, np.arange(size, dtype=np.int32), (dimension,))


def add_to_group(folder: Path, name: str, array: NDArray[Any]) -> None:
    """Write one more narrowed array into an existing group."""
    write_array(zarr.open_group(str(folder), mode="r+", zarr_format=3), name, array)


def add_attributes(folder: Path, name: str, attributes: Mapping[str, Any]) -> None:
    """Say more of one array of an existing group."""
    zarr.open_array(str(folder / name), mode="r+", zarr_format=3).update_attributes(dict(attributes))


class _ManifestStore(LocalStore):
    """A folder of arrays read by its manifest: a file that is named there and missing or cut is an error, whenever it is asked for."""

    def __init__(self, root: Path, files: Manifest) -> None:
        super().__init__(root, read_only=True)
        self.files = files

    async def get(self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None) -> Buffer | None:
        found = await super().get(key, prototype, byte_range)
        entry = self.files.get(key)
        if entry is None or byte_range is not None:
            return found
        if found is None or len(found) != entry.size:
            raise StoreError(f"{key} is missing or cut; if nobody else is changing this trace, import it again or delete it")
        data = found.to_bytes() if "/c/" in key else b""
        if data and google_crc32c.value(data[:-_CRC]) != int.from_bytes(data[-_CRC:], "little"):
            raise StoreError(
                f"{key} was changed (its checksum differs); run `neuronscope traces verify`, then recompute or delete the trace"
            )
        return found

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """What the manifest names in a folder, whatever somebody is putting there at the moment."""
        start = f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""
        for name in sorted({key.removeprefix(start).split("/", 1)[0] for key in self.files if key.startswith(start)}):
            yield name


def open_dataset(folder: Path, files: Manifest) -> xr.Dataset:
    """The group as a lazy dataset: nothing is read before it is asked for. Raises `StoreError`.

    `files` are a manifest's, named from the group's own folder. Whatever of them is missing when it is read raises `StoreError`, too.
    """
    try:
        store = _ManifestStore(folder, files)
        dataset: xr.Dataset = xr.open_zarr(store, consolidated=False, zarr_format=3, chunks=None)
    except StoreError:
        raise
    except UNFORESEEN as error:
        raise StoreError(f"{folder} is not a readable Zarr group: {error}") from error
    missing = {name.split("/", 1)[0] for name in files if "/" in name} - set(map(str, dataset.variables))
    if missing:
        raise StoreError(f"{folder} has no {min(missing)}; import the trace again or delete it")
    version = dataset.attrs.get("version", 1)
    if version not in (1, VERSION):
        raise StoreError(f"{folder} has version {str(version)[:20]}; this program reads up to {VERSION}: update Neuronscope")
    return _labelled(dataset)


def _labelled(dataset: xr.Dataset) -> xr.Dataset:
    """With a coordinate for every dimension and no array named like one, whatever version wrote it."""
    if OLD_CANDIDATE in dataset.dims:
        beside = [name for name in (OLD_CANDIDATE,) if name in dataset.coords]
        dataset = dataset.reset_coords(beside).rename_dims({OLD_CANDIDATE: CANDIDATE})
    bare = {str(name): np.arange(size, dtype=np.int32) for name, size in dataset.sizes.items() if name not in dataset.coords}
    return dataset.assign_coords(bare)


def files_below(files: Manifest, folder: str) -> Manifest:
    """The entries of a manifest below one folder, named from there."""
    return {name.removeprefix(f"{folder}/"): entry for name, entry in files.items() if name.startswith(f"{folder}/")}


def read_array(dataset: xr.Dataset, name: str, selection: Mapping[str, slice | int]) -> NDArray[Any]:
    """Values of one array. Raises `StoreError` when a chunk fails its checksum."""
    try:
        return np.asarray(dataset[name].isel(dict(selection)).values)
    except StoreError:
        raise
    except UNFORESEEN as error:
        raise StoreError(f"{name} cannot be read: {error}; run `neuronscope traces verify`, then recompute or delete the trace") from error
