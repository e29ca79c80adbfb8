"""Writing an atlas folder: files first, each whole or absent, then the manifest, which is what makes them count."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from neurons.atlas.arrays import write_arrays
from neurons.atlas.corpus import Corpus
from neurons.core.clock import now, stamp
from neurons.core.errors import StoreError
from neurons.core.json_text import json_text
from neurons.core.types import ModelRef
from neurons.storage.files import atomic_path, disk_errors, sweep_leftovers
from neurons.storage.manifest import MANIFEST, entry_of, parse_document
from neurons.storage.sealed import write_sealed

FORMAT = "neuronscope-atlas"
VERSION = 1
NEURONS = "neurons.zarr.zip"
CORPUS = "corpus.zarr.zip"
DESCRIPTIONS = "descriptions"
_SIDES = ("side", "layer", "neuron")
FIGURES: dict[str, tuple[str, ...]] = {
    "extreme": (*_SIDES, "rank"),
    "tail_scale": _SIDES,
    "mean": _SIDES[1:],
    "body": (*_SIDES[1:], "quantile"),
    "histogram": (*_SIDES[1:], "bin"),
    "histogram_range": (*_SIDES[1:], "end"),
    **{f"exemplar_{what}": (*_SIDES, "exemplar") for what in ("value", "sequence", "position")},
    **{f"token_{what}": (*_SIDES, "listed_token") for what in ("id", "mean")},
    **{f"previous_{what}": (*_SIDES, "listed_previous") for what in ("id", "mean")},
    **{f"promoted_{what}": (*_SIDES, "listed_promoted") for what in ("id", "score")},
    **{f"probe_{what}": (*_SIDES, "listed_probe") for what in ("id", "value")},
    "token_count": ("vocabulary",),
}
"""The dimensions of `neurons.zarr.zip`."""
READINGS: dict[str, tuple[str, ...]] = {
    "mean": ("embedding",),
    "whiten": ("embedding", "component"),
    "vector": ("row", "component"),
    "scale": ("row",),
    "part_text": ("byte",),
    "part_vector": ("part", "embedding"),
    "part_index": ("reading_part",),
    "part_level": ("reading_part",),
    "part_count": ("row",),
    "map_row": ("mapped",),
    "map_xy": ("mapped", "axis"),
}
"""The dimensions of the arrays beside the descriptions: `row` is a row of their table."""
_FIELDS = ("model", "tokens", "documents", "sources", "settings", "complete", "created", "descriptions")
_LARGEST = 1 << 53
_WEIGHTS = re.compile(r"[0-9A-Za-z_-]{0,128}")
_CURE = "remove the folder and build or import the atlas again"


def read_manifest(folder: Path, *, strict: bool) -> dict[str, Any] | None:
    """The manifest of a folder, None when there is none (or when it is damaged and `strict` is off)."""
    path = folder / MANIFEST
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if strict:
            raise StoreError(f"{path} cannot be read: {error.strerror or error}; {_CURE}") from error
        return None
    try:
        manifest, _ = parse_document(data, what=str(path), kind=FORMAT, version=VERSION, unsealed=_FIELDS, cure=_CURE)
        manifest["model"] = asdict(_check_fields(path, manifest))
    except StoreError:
        if strict:
            raise
        return None
    return manifest


class _Source(BaseModel):
    """What is shown of each source of texts."""

    name: str
    domain: str
    licence: str
    tokens: int = Field(ge=0, le=_LARGEST)
    share: float = Field(ge=0, le=1.01)


class _Described(BaseModel):
    """What a manifest says of its descriptions; what else it says of them is for people."""

    table: str
    arrays: str | None = None
    described: int = Field(ge=0, le=_LARGEST)


class _Fields(BaseModel):
    """What a manifest must say beside its files."""

    model_config = ConfigDict(strict=True)

    model: ModelRef
    tokens: int = Field(ge=0, le=_LARGEST)
    documents: int = Field(ge=0, le=_LARGEST)
    sources: list[_Source]
    settings: dict[str, Any] = {}
    complete: bool = True
    created: str
    descriptions: _Described | None = None


def _check_fields(path: Path, manifest: Mapping[str, Any]) -> ModelRef:
    """The model, without what else is said of it.

    Raises `StoreError` where the manifest lacks something that every reader asks for, or names a file it does not have.
    """
    try:
        found = _Fields.model_validate_json(json_text(manifest))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise StoreError(f"{path} is no atlas manifest this version reads ({place}: {first['msg']}); {_CURE}") from error
    model, described = found.model, found.descriptions
    sizes = (model.n_layers, model.n_neurons, model.n_vocab, model.max_positions)
    if not all(0 < size <= _LARGEST for size in sizes) or not _WEIGHTS.fullmatch(model.weights_hash):
        raise StoreError(f"{path} names a model that cannot be ({model.name[:80]}); {_CURE}")
    for name in () if described is None else (described.table, described.arrays):
        if name is not None and name not in manifest["files"]:
            raise StoreError(f"{path} names descriptions that are not among its files; {_CURE}")
    return model


class AtlasWriter:
    """Writes an atlas folder: files first, each whole or absent, then the manifest, which is what makes them count."""

    def __init__(self, folder: Path, *, base: Mapping[str, Any] | None = None) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._manifest: dict[str, Any] = dict(base or {"format": FORMAT, "version": VERSION, "files": {}})
        self._manifest["files"] = dict(self._manifest["files"])

    @classmethod
    def keeping_descriptions(cls, folder: Path, ref: ModelRef) -> AtlasWriter:
        """A writer for new figures; descriptions of the same weights that `folder` holds already stay."""
        old = read_manifest(folder, strict=False)
        if old is None or old["model"]["weights_hash"] != ref.weights_hash or "descriptions" not in old:
            return cls(folder)
        entry = old["descriptions"]
        files = {name: old["files"][name] for name in (entry["table"], entry.get("arrays")) if name in old["files"]}
        return cls(folder, base={"format": FORMAT, "version": VERSION, "files": files, "descriptions": entry})

    def put_figures(self, arrays: Mapping[str, NDArray[Any]], *, attributes: Mapping[str, Any], labels: Mapping[str, NDArray[Any]]) -> None:
        write_arrays(self.folder / NEURONS, arrays, dimensions=FIGURES, attributes=attributes, labels=labels)
        self._note(NEURONS)

    def put_corpus(self, corpus: Corpus) -> None:
        corpus.save(self.folder / CORPUS)
        self._note(CORPUS)

    def put_descriptions(self, table: pd.DataFrame, *, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Under names of their own, so the ones before stay valid until the manifest names the new ones."""
        when = stamp()
        name = f"{DESCRIPTIONS}-{when}.parquet"
        with disk_errors(self.folder / name), atomic_path(self.folder / name) as temporary:
            table.to_parquet(temporary, compression="zstd", compression_level=15, index=False)
        self._note(name)
        entry: dict[str, Any] = {"table": name, "described": len(table), **meta}
        if arrays:
            entry["arrays"] = f"{DESCRIPTIONS}-{when}.zarr.zip"
            write_arrays(self.folder / entry["arrays"], arrays, dimensions=READINGS)
            self._note(entry["arrays"])
        old = self._manifest.get("descriptions", {})
        for key in ("table", "arrays"):
            self._manifest["files"].pop(old.get(key, ""), None)
        self._manifest["descriptions"] = entry

    def commit(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Write the manifest and remove files it no longer names. Returns it."""
        self._manifest.update(fields)
        self._manifest["created"] = now()
        write_sealed(self.folder / MANIFEST, self._manifest)
        sweep_leftovers(self.folder)
        for path in self.folder.glob(f"{DESCRIPTIONS}-*"):
            if path.name not in self._manifest["files"]:
                path.unlink(missing_ok=True)
        return self._manifest

    def _note(self, name: str) -> None:
        self._manifest["files"][name] = asdict(entry_of(self.folder / name))
