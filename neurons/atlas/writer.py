"""Writing an atlas folder: files first, each whole or absent, then the manifest, which is what makes them count."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from numpy.typing import NDArray

from neurons.atlas.arrays import write_arrays
from neurons.atlas.corpus import Corpus
from neurons.core.errors import StoreError
from neurons.core.types import ModelRef

FORMAT = "neuronscope-atlas"
VERSION = 1
MANIFEST = "manifest.json"
NEURONS = "neurons.zarr.zip"
CORPUS = "corpus.zarr.zip"
DESCRIPTIONS = "descriptions"


def read_manifest(folder: Path, *, strict: bool) -> dict[str, Any] | None:
    """The manifest of a folder, None when there is none (or when it is damaged and `strict` is off)."""
    path = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT or manifest["version"] > VERSION or not isinstance(manifest["files"], dict):
            raise ValueError(f"format {manifest['format']!r} version {manifest['version']}")
        ModelRef(**manifest["model"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        if strict:
            raise StoreError(
                f"{path} is no atlas manifest this version reads ({error}); remove the folder and build or import the atlas again"
            ) from error
        return None
    return manifest


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

    def put_arrays(self, name: str, arrays: Mapping[str, NDArray[Any]], *, attributes: Mapping[str, Any] | None = None) -> None:
        write_arrays(self.folder / name, arrays, attributes=attributes)
        self._note(name)

    def put_corpus(self, corpus: Corpus) -> None:
        corpus.save(self.folder / CORPUS)
        self._note(CORPUS)

    def put_descriptions(self, table: pd.DataFrame, *, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Under names of their own, so the ones before stay valid until the manifest names the new ones."""
        stamp = datetime.now(UTC).strftime("%Y%m%d%H%M%S%f")
        name = f"{DESCRIPTIONS}-{stamp}.parquet"
        partial = self.folder / (name + ".partial")
        try:
            table.to_parquet(partial, compression="zstd", compression_level=15, index=False)
            partial.replace(self.folder / name)
        except OSError as error:
            raise StoreError(f"descriptions cannot be written to {self.folder}: {error}; free some disk space") from error
        self._note(name)
        entry: dict[str, Any] = {"table": name, "described": len(table), **meta}
        if arrays:
            entry["arrays"] = f"{DESCRIPTIONS}-{stamp}.zarr.zip"
            self.put_arrays(entry["arrays"], arrays)
        old = self._manifest.get("descriptions", {})
        for key in ("table", "arrays"):
            self._manifest["files"].pop(old.get(key, ""), None)
        self._manifest["descriptions"] = entry

    def commit(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Write the manifest and remove files it no longer names. Returns it."""
        self._manifest.update(fields)
        self._manifest["created"] = datetime.now(UTC).isoformat(timespec="seconds")
        partial = self.folder / (MANIFEST + ".partial")
        with partial.open("w", encoding="utf-8") as file:
            json.dump(self._manifest, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.folder / MANIFEST)
        for path in self.folder.glob(f"{DESCRIPTIONS}-*"):
            if path.name not in self._manifest["files"]:
                path.unlink(missing_ok=True)
        return self._manifest

    def _note(self, name: str) -> None:
        path = self.folder / name
        self._manifest["files"][name] = {"size": path.stat().st_size, "sha256": file_sha256(path)}


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
