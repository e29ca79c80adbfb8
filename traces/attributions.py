"""Attributions computed for a trace, each in its own published folder `attributions/<key>/` beside the tensors.

Only the strongest rows are kept (attributions are not sparse), with the share of the absolute mass that they hold.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from neurons.core.errors import UNFORESEEN, InvalidInput, NotFound, StoreError
from neurons.core.json_text import json_text, strict_json
from neurons.core.types import AttributionRow, TargetSpec
from neurons.storage import journal
from neurons.storage.files import disk_errors
from neurons.storage.manifest import Manifest, changed, opening_problems, prepare_folder, read_manifest, write_folder
from traces.schema import MAX_WHOLE
from traces.tensors import files_below, open_dataset, put_array, write_coordinates

FOLDER = "attributions"
ROWS = "rows.zarr"
INFO = "attribution.json"
FORMAT = "neuronscope-attribution"
MASS_AXES = ("layer_axis", "token_axis")
_ATTEMPTS = 5
_KEY_FORM = re.compile(r"^[a-z0-9][a-z0-9-]{0,80}$")
_COLUMNS: dict[str, np.dtype[Any]] = {
    "layer": np.dtype(np.int32),
    "index": np.dtype(np.int32),
    "token": np.dtype(np.int32),
    "activation": np.dtype(np.float32),
    "attribution": np.dtype(np.float32),
}
DIMENSIONS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_COLUMNS, ("row",)),
    "mass": MASS_AXES,
    **{name: (name,) for name in ("row", *MASS_AXES)},
}
"""The arrays of `rows.zarr`, coordinates included."""


@dataclass(frozen=True)
class AttributionInfo:
    """What an attribution explains and how much of it was kept."""

    target: TargetSpec
    method: str
    """How it was computed, such as "grad" (gradient times activation)."""
    metric_value: float
    """The metric in this run."""
    share: float
    """Share of the absolute attribution mass that the kept rows hold, 0 to 1."""
    total: int
    """How many (neuron, source token) entries there were."""
    kept: int
    sources: str = ""
    """The source tokens it was restricted to, such as "3:9"; "" is all before the target."""
    created: str = ""
    extra: Mapping[str, float | int | str] = field(default_factory=dict)
    """Anything else worth a label, plain values only."""

    @property
    def key(self) -> str:
        """Its name within the trace."""
        return attribution_key(self.target, self.method, sources=self.sources)


@dataclass(frozen=True)
class StoredAttribution:
    """The kept rows, strongest first, as columns of equal length."""

    info: AttributionInfo
    layer_N: NDArray[np.int32]
    index_N: NDArray[np.int32]
    token_N: NDArray[np.int32]
    activation_N: NDArray[np.float32]
    attribution_N: NDArray[np.float32]
    mass_LT: NDArray[np.float32] | None = None
    """Sum of absolute attributions of every layer and source token (all entries, not only the kept)."""

    def rows(self, limit: int | None = None) -> tuple[AttributionRow, ...]:
        """The kept rows as objects. A neuron's polarity is the sign of its activation."""
        columns = zip(
            self.layer_N[:limit].tolist(),
            self.index_N[:limit].tolist(),
            self.token_N[:limit].tolist(),
            self.activation_N[:limit].tolist(),
            self.attribution_N[:limit].tolist(),
            strict=True,
        )
        return tuple(AttributionRow(layer, index, token, "-" if act < 0 else "+", act, attr) for layer, index, token, act, attr in columns)


_INFO = TypeAdapter(AttributionInfo)


def attribution_key(target: TargetSpec, method: str, *, sources: str = "") -> str:
    """A folder name that is the same for the same question: t41-prob-284-grad."""
    ids = [str(i) for i in (target.token_id, target.against_id) if i is not None]
    parts = [f"t{target.token}", target.metric, *ids, re.sub(r"[^a-z0-9]+", "-", method.lower()).strip("-")]
    if sources:
        parts.append("from-" + re.sub(r"[^0-9]+", "-", sources).strip("-"))
    return "-".join(parts)[:80].rstrip("-")


def check_key(key: str) -> str:
    """Return the key, or raise `InvalidInput`."""
    if not _KEY_FORM.fullmatch(key):
        raise InvalidInput(f"{key[:80]!r} is not the key of an attribution", field="key")
    return key


def from_rows(info: AttributionInfo, rows: Sequence[AttributionRow], *, mass_LT: NDArray[Any] | None = None) -> StoredAttribution:
    """Build the columns from row objects."""
    return StoredAttribution(
        info,
        np.array([row.layer for row in rows], np.int32),
        np.array([row.index for row in rows], np.int32),
        np.array([row.token for row in rows], np.int32),
        np.array([row.activation for row in rows], np.float32),
        np.array([row.attribution for row in rows], np.float32),
        None if mass_LT is None else np.asarray(mass_LT, np.float32),
    )


def save(trace_folder: Path, workshop: Path, attribution: StoredAttribution) -> str:
    """Publish an attribution inside a trace's folder; one with the same key is replaced at once or not at all. Returns its key.

    Hold the lock of the store, whose workshop it is.
    """
    key = check_key(attribution.info.key)
    columns = _columns(attribution)
    sizes = {"row": len(columns["layer"])}
    if "mass" in columns:
        sizes |= dict(zip(MASS_AXES, columns["mass"].shape, strict=True))
    info = strict_json({"format": FORMAT, "version": 1, **asdict(attribution.info)}, indent=1)

    def fill(folder: Path) -> None:
        (folder / INFO).write_text(info, encoding="utf-8")
        group = zarr.create_group(str(folder / ROWS), zarr_format=3)
        for name, column in columns.items():
            put_array(group, name, column, DIMENSIONS[name])
        write_coordinates(group, sizes)

    final = trace_folder / FOLDER / key
    with disk_errors(final):
        final.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        write_folder(final, workshop, fill)
    except FileExistsError:
        _replace(final, workshop, fill)
    return key


def _replace(final: Path, workshop: Path, fill: Callable[[Path], None]) -> None:
    """Write the new folder whole, then change places with the old one."""
    bench = workshop / f"replace-{secrets.token_hex(6)}"
    try:
        new = prepare_folder(bench, final.name, fill)
        journal.rename_all(workshop.parent, bench, [(final, bench / "old"), (new, final)])
    except StoreError:
        if not (bench / journal.JOURNAL).exists():
            shutil.rmtree(bench, ignore_errors=True)
        raise


def _columns(attribution: StoredAttribution) -> dict[str, NDArray[Any]]:
    columns: dict[str, NDArray[Any]] = {}
    for name, dtype in _COLUMNS.items():
        columns[name] = np.ascontiguousarray(getattr(attribution, f"{name}_N"), dtype)
    if len({column.shape for column in columns.values()}) != 1 or columns["layer"].ndim != 1:
        raise StoreError("the columns of an attribution have different lengths")
    if attribution.mass_LT is not None:
        columns["mass"] = np.ascontiguousarray(attribution.mass_LT, np.float32)
    if not all(np.isfinite(column).all() for column in columns.values()) or not math.isfinite(attribution.info.metric_value):
        raise StoreError("an attribution holds NaN or infinite values and was not stored; lower the steer's strength")
    return columns


def keys(trace_folder: Path) -> tuple[str, ...]:
    """The keys of a trace's attributions, sorted."""
    folder = trace_folder / FOLDER
    if not folder.is_dir():
        return ()
    return tuple(sorted(path.name for path in folder.iterdir() if _KEY_FORM.fullmatch(path.name) and path.is_dir()))


def info(trace_folder: Path, key: str) -> AttributionInfo:
    """What one attribution explains. Raises `NotFound`, `StoreError`."""
    folder = trace_folder / FOLDER / check_key(key)
    try:
        data = (folder / INFO).read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"the trace has no attribution {key!r}; compute it again") from error
    entry = read_manifest(folder).get(INFO)
    if entry is None or hashlib.sha256(data).hexdigest() != entry.sha256:
        raise StoreError(f"{key}/{INFO} was changed (SHA-256 differs); compute the attribution again")
    return parse_info(data, what=f"{key}/{INFO}")


def parse_info(data: bytes, *, what: str) -> AttributionInfo:
    """Read an `attribution.json` that may come from anybody. Raises `StoreError`."""
    try:
        raw = json.loads(data)
        if not isinstance(raw, dict) or raw.pop("format", None) != FORMAT or raw.pop("version", None) != 1:
            raise StoreError(f"{what} has another format or version; update Neuronscope")
        found = _INFO.validate_json(json_text(raw), strict=True)
    except (ValidationError, ValueError, RecursionError) as error:
        raise StoreError(f"{what} is damaged; delete the attribution and compute it again ({str(error).splitlines()[0]})") from error
    whole = (found.kept, found.total, found.target.token, found.target.token_id or 0, found.target.against_id or 0)
    plain = all(not isinstance(value, int | float) or abs(value) <= MAX_WHOLE for value in found.extra.values())
    bounded = plain and all(0 <= number <= MAX_WHOLE for number in whole)
    if not (bounded and math.isfinite(found.metric_value) and 0 <= found.share <= 1.0001):
        raise StoreError(f"{what} holds impossible numbers; delete the attribution and compute it again")
    return found


def load(trace_folder: Path, key: str) -> StoredAttribution:
    """Read one attribution. Raises `NotFound`, or `StoreError` where it is damaged."""
    folder = trace_folder / FOLDER / check_key(key)
    for _ in range(_ATTEMPTS):  # it may be replaced by another program meanwhile
        found, before = info(trace_folder, key), read_manifest(folder)
        try:
            stored = _read(found, folder, before)
        except StoreError:
            if _manifest_now(folder) == before:
                raise
            continue
        if _manifest_now(folder) == before:
            return stored
    raise StoreError(f"attribution {key} is being changed by another program; try again")


def _manifest_now(folder: Path) -> Mapping[str, Any] | None:
    try:
        return read_manifest(folder)
    except StoreError:
        return None


def _read(found: AttributionInfo, folder: Path, files: Manifest) -> StoredAttribution:
    key = folder.name
    problems = opening_problems(folder, files)
    if problems:
        raise StoreError(f"attribution {key} is damaged ({problems[0]}); compute it again")
    dataset = open_dataset(folder / ROWS, files_below(files, ROWS))
    try:
        values = {str(name): np.asarray(dataset[name].values) for name in dataset.data_vars}
        layer, index, token, activation, attribution = (values[name].astype(dtype, copy=False) for name, dtype in _COLUMNS.items())
    except UNFORESEEN as error:
        raise StoreError(f"attribution {key} is damaged ({error}); compute it again") from error
    return StoredAttribution(found, layer, index, token, activation, attribution, values.get("mass"))


def problems_of(trace_folder: Path) -> list[str]:
    """The full check of every attribution of a trace."""
    found = []
    for key in keys(trace_folder):
        folder = trace_folder / FOLDER / key
        try:
            found += [f"{FOLDER}/{key}/{problem}" for problem in changed(folder, read_manifest(folder))]
            info(trace_folder, key)
        except StoreError as error:
            found.append(f"{FOLDER}/{key}: {error}")
    return found
