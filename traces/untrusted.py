"""Checks for a trace folder that came from somebody else, before anything of it is opened with Zarr or listed.

Zarr v3 only, the codecs `bytes` and `crc32c` only, the arrays, types, shapes and chunks that a trace has and no others,
every chunk present and of its exact size, every number finite and in range.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from neurons.core.clock import parse_moment
from neurons.core.errors import UNFORESEEN, InvalidFile, InvalidInput, NeuronscopeError, StoreError
from neurons.storage.files import walk
from neurons.storage.manifest import MANIFEST, changed, problem_of, read_manifest
from traces import activations, attributions
from traces.folders import META, RECORD, read_meta
from traces.schema import TraceRecord, check_created, from_json_text, with_meta
from traces.tensors import (
    ACTIVATIONS,
    CANDIDATE,
    COORDINATES,
    DIMENSIONS,
    GROUP,
    KL_FROM_BASELINE,
    KL_TO_BASELINE,
    OLD_CANDIDATE,
    files_below,
    open_dataset,
)

MAX_JSON = 64 << 20
_MAX_CHUNK = 1 << 30
_LARGEST_NATS = 1e6
_ROUNDING = 0.01
_KEY = r"[a-z0-9][a-z0-9-]{0,80}"
ALLOWED_NAMES = re.compile(
    rf"(?:{RECORD}|{META}|{MANIFEST}|{activations.STATE}"
    rf"|{GROUP}/zarr\.json|{GROUP}/(?:{'|'.join((*DIMENSIONS, *COORDINATES))})/(?:zarr\.json|c(?:/\d{{1,9}}){{1,3}})"
    rf"|attributions/{_KEY}/(?:{MANIFEST}|{attributions.INFO}|rows\.zarr/zarr\.json"
    rf"|rows\.zarr/(?:{'|'.join(attributions.DIMENSIONS)})/(?:zarr\.json|c(?:/\d{{1,9}}){{1,2}})))"
)
"""Every path a trace may have, relative to its folder: nothing else is ever written to disk."""
_TENSORS: dict[str, tuple[str, ...]] = {**DIMENSIONS, **{name: (name,) for name in COORDINATES}}
_WHOLE = ("topk_ids", "rank", "layer", "index", "token", "neuron", CANDIDATE, "row", *attributions.MASS_AXES)
_TYPES: dict[str, tuple[str, ...]] = {ACTIVATIONS: ("float16", "float32"), **dict.fromkeys(_WHOLE, ("int32",))}
_SIZES = {"float16": 2, "float32": 4, "int32": 4}
_CODECS = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]


def check_folder(folder: Path) -> TraceRecord:
    """Check an unpacked trace from top to bottom; returns its record. Raises `InvalidFile` that says what is wrong."""
    try:
        return _check(folder)
    except InvalidFile:
        raise
    except NeuronscopeError as error:
        raise InvalidFile(str(error)) from error
    except UNFORESEEN as error:
        raise InvalidFile(f"a part of it cannot be read ({type(error).__name__}: {str(error)[:200]})") from error


def _check(folder: Path) -> TraceRecord:
    read_json(folder / RECORD)
    record = from_json_text((folder / RECORD).read_bytes())
    if record.id != folder.name:
        raise InvalidFile(f"trace.json is of trace {record.id!r}, but stands in the folder {folder.name!r}")
    check_created(record)
    entry = read_manifest(folder).get(RECORD)
    if entry is None or problem_of(folder, RECORD, entry, contents=True):
        raise InvalidFile(f"{RECORD} is not what the manifest says")
    if (folder / META).exists():
        read_json(folder / META)
        record = with_meta(record, read_meta(folder))
    held = activations.holding(folder)
    problems = changed(folder, held.files)
    if problems:
        raise InvalidFile(problems[0])
    others = (MANIFEST, META, activations.STATE)
    extra = [name for name, _ in walk(folder) if name not in held.files and name not in others and not name.startswith("attributions/")]
    if extra:
        raise InvalidFile(f"{extra[0]} is not in the manifest")
    sizes = {"layer": record.model.n_layers, "token": len(record.token_ids), "neuron": record.model.n_neurons}
    _check_group(folder / GROUP, sizes, _TENSORS)
    with open_dataset(folder / GROUP, files_below(held.files, GROUP)) as dataset:
        _check_tensors(dataset, record)
    for key in attributions.keys(folder):
        _check_attribution(folder, key, record)
    return record


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object without NaN, of a sane size. Raises `InvalidFile`."""

    def refuse(constant: str) -> float:
        raise InvalidFile(f"{path.name} holds {constant}")

    try:
        if path.stat().st_size > MAX_JSON:
            raise InvalidFile(f"{path.name} is larger than {MAX_JSON >> 20} MB")
        raw = json.loads(path.read_bytes(), parse_constant=refuse)
    except FileNotFoundError as error:
        raise InvalidFile(f"{path.name} is missing") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidFile(f"{path.name} is not readable JSON: {error}") from error
    if not isinstance(raw, dict):
        raise InvalidFile(f"{path.name} is not a JSON object")
    return raw


def _check_group(group: Path, sizes: dict[str, int], dimensions: Mapping[str, tuple[str, ...]]) -> None:
    raw = read_json(group / "zarr.json")
    if raw.get("zarr_format") != 3 or raw.get("node_type") != "group":
        raise InvalidFile(f"{group.name} is not a Zarr version 3 group")
    if set(raw) - {"zarr_format", "node_type", "attributes"}:
        raise InvalidFile(f"{group.name}/zarr.json has parts that a trace does not use: {sorted(set(raw) - {'zarr_format'})[:4]}")
    for array in sorted(path for path in group.iterdir() if path.is_dir()):
        _check_array(array, sizes, dimensions.get(array.name, ()))


def _check_array(array: Path, sizes: dict[str, int], dimensions: tuple[str, ...]) -> None:
    """The metadata of one array, and that exactly its chunks are there."""
    raw = read_json(array / "zarr.json")
    name = array.name

    def need(good: bool, what: str) -> None:
        if not good:
            raise InvalidFile(f"{name}/zarr.json: {what}")

    need(raw.get("zarr_format") == 3 and raw.get("node_type") == "array", "not a Zarr version 3 array")
    need(not raw.get("storage_transformers"), "storage transformers are not allowed")
    data_type = raw.get("data_type")
    need(data_type in _TYPES.get(name, ("float32",)), f"the data type {str(data_type)[:40]!r} is not allowed here")
    need(raw.get("codecs") == _CODECS, "only the codecs bytes (little endian) and crc32c are allowed")
    need(
        raw.get("chunk_key_encoding") == {"name": "default", "configuration": {"separator": "/"}}, "another chunk key encoding than default"
    )
    shape, grid = raw.get("shape"), raw.get("chunk_grid")
    need(isinstance(shape, list) and all(type(n) is int and 0 <= n < 1 << 40 for n in shape), "the shape is not a list of sizes")
    configuration = grid.get("configuration") if isinstance(grid, dict) and grid.get("name") == "regular" else None
    chunk = configuration.get("chunk_shape") if isinstance(configuration, dict) else None
    good_chunk = isinstance(chunk, list) and isinstance(shape, list) and len(chunk) == len(shape)
    need(good_chunk and all(type(n) is int and n > 0 for n in chunk or []), "the chunk grid is not regular")
    need(isinstance(shape, list) and len(shape) == len(dimensions), f"it needs the dimensions {dimensions}")
    if not (isinstance(shape, list) and isinstance(chunk, list) and isinstance(data_type, str)):
        raise InvalidFile(f"{name}/zarr.json: shape, chunks or type are missing")
    for dimension, length in zip(dimensions, shape, strict=True):
        wrong = f"{length} entries along {dimension}, the trace has {sizes.get(dimension)}"
        need(length == sizes.setdefault(dimension, length), wrong)
    older = [OLD_CANDIDATE if dimension == CANDIDATE else dimension for dimension in dimensions]
    need(raw.get("dimension_names") in (list(dimensions), older), f"the dimension names are not {dimensions}")
    need(all(n <= max(1, m) for n, m in zip(chunk, shape, strict=True)), "chunks larger than the array")
    size = math.prod(chunk) * _SIZES[data_type] + 4
    need(size <= _MAX_CHUNK, "chunks over 1 GB")
    counts = [-(-m // n) for n, m in zip(chunk, shape, strict=True)]
    need(math.prod(counts) <= 1_000_000, "more than a million chunks")
    expected = {"/".join(("c", *(str(i) for i in place))) for place in product(*(range(n) for n in counts))}
    present = {found: path.stat().st_size for found, path in walk(array) if found != "zarr.json"}
    need(set(present) == expected, f"{len(expected)} chunks belong to it, {len(present)} are there")
    need(all(found == size for found in present.values()), "a chunk has the wrong size")


def _check_tensors(dataset: xr.Dataset, record: TraceRecord) -> None:
    """Every number finite and in its range. Reads layer by layer."""
    _check_coordinates(dataset)
    for name in dataset.data_vars:
        array = dataset[name]
        parts = (array[layer] for layer in range(array.shape[0])) if name == ACTIVATIONS else (array,)
        for part in parts:
            try:
                values = np.asarray(part.values)
            except (OSError, ValueError, RuntimeError) as error:
                raise StoreError(f"{name} cannot be read: {error}") from error
            if values.size == 0:
                continue
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                raise InvalidFile(f"{name} holds NaN or infinite values")
            low, high = float(values.min()), float(values.max())
            if name in ("topk_ids", "rank") and not (low >= -1 and high < record.model.n_vocab):
                raise InvalidFile(f"{name} holds ids outside the vocabulary")
            if name == "topk_probs" and not (low >= 0 and high <= 1.001):
                raise InvalidFile("topk_probs holds values that are no probabilities")
            if name == "logprob" and not (low >= -_LARGEST_NATS and high <= _ROUNDING):
                raise InvalidFile("logprob holds values that are no log-probabilities: they are 0 or below")
            if name in (KL_FROM_BASELINE, KL_TO_BASELINE) and not (low >= -1 and high <= _LARGEST_NATS):
                raise InvalidFile(f"{name} holds values that are no divergence")
            if name == "entropy" and not (low >= -_ROUNDING and high <= math.log(record.model.n_vocab) + _ROUNDING):
                raise InvalidFile("entropy holds values that no distribution over this vocabulary has")


def _check_coordinates(dataset: xr.Dataset) -> None:
    for name, labels in dataset.coords.items():
        if not np.array_equal(labels.values, np.arange(labels.size)):
            raise InvalidFile(f"the coordinate {name} does not count from 0")


def _check_attribution(folder: Path, key: str, record: TraceRecord) -> None:
    place = folder / attributions.FOLDER / key
    manifest = read_manifest(place)
    problems = changed(place, manifest)
    extra = [name for name, _ in walk(place) if name not in manifest and name != MANIFEST]
    if problems or extra:
        raise InvalidFile(f"attribution {key}: {(problems or [f'{extra[0]} is not in the manifest'])[0]}")
    read_json(place / attributions.INFO)
    info = attributions.parse_info((place / attributions.INFO).read_bytes(), what=f"attribution {key}")
    if info.key != key:
        raise InvalidFile(f"attribution {key} says that it is {info.key}")
    target = info.target
    ids = [number for number in (target.token_id, target.against_id) if number is not None]
    if not (0 < target.token < len(record.token_ids) and all(number < record.model.n_vocab for number in ids)):
        raise InvalidFile(f"attribution {key} explains a token that the trace does not have")
    if info.created:
        parse_moment(info.created)
    sizes = {"row": info.kept, attributions.MASS_AXES[0]: record.model.n_layers}
    _check_group(place / attributions.ROWS, sizes, attributions.DIMENSIONS)
    with open_dataset(place / attributions.ROWS, files_below(manifest, attributions.ROWS)) as dataset:
        _check_coordinates(dataset)
    stored = attributions.load(folder, key)
    limits = ((stored.layer_N, record.model.n_layers), (stored.index_N, record.model.n_neurons), (stored.token_N, len(record.token_ids)))
    if any(column.size and (column.min() < 0 or column.max() >= limit) for column, limit in limits):
        raise InvalidFile(f"attribution {key} names neurons or tokens that the trace does not have")
    columns = [stored.activation_N, stored.attribution_N, *([stored.mass_LT] if stored.mass_LT is not None else [])]
    if not all(np.isfinite(column).all() for column in columns):
        raise InvalidFile(f"attribution {key} holds NaN or infinite values")
    if stored.mass_LT is not None and stored.mass_LT.size and float(stored.mass_LT.min()) < 0:
        raise InvalidFile(f"attribution {key} holds a negative sum of absolute attributions")
