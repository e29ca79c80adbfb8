"""Atlases in and out: tables (CSV, Parquet), Neuronpedia's JSONL, published description tables, and the whole folder as a zip.

Everything read is untrusted: sizes are bounded, names are checked, and a row that does not fit is named, skipped and counted.
"""

from __future__ import annotations

import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neurons.atlas.readers import Skipped
from neurons.atlas.store import Atlas, open_folder
from neurons.atlas.validate import check_atlas
from neurons.core.errors import InvalidFile, StoreError
from neurons.core.json_text import json_text
from neurons.core.progress import Progress, no_progress
from neurons.core.types import ModelRef, Polarity
from neurons.models.token_texts import Pieces
from neurons.storage.files import SHARED, atomic_folder, atomic_path, disk_errors
from neurons.storage.manifest import MANIFEST
from neurons.storage.tables import read_table

Kind = Literal["neurons", "exemplars", "explanations", "activations", "atlas"]
MAX_ZIP_BYTES = 20_000_000_000
MAX_DESCRIPTION = 2_000
_POLARITY: dict[str, Polarity] = {
    "+": "+", "-": "-", "pos": "+", "neg": "-", "positive": "+", "negative": "-", "1": "+", "-1": "-", "1.0": "+", "-1.0": "-", "": "+",
}  # fmt: skip
_ALIASES = {
    "layer": ("layer",),
    "index": ("index", "neuron", "neuron_index", "neuron_idx", "feature"),
    "polarity": ("polarity", "sign", "activation_sign"),
    "description": ("description", "explanation", "summary"),
    "score": ("score", "simulator_score", "simulation_score", "correlation"),
}


@dataclass(frozen=True, eq=False)
class ImportedDescriptions:
    """Descriptions as read: a table with layer, index, polarity, description, score (NaN where none), and what was skipped."""

    table: pd.DataFrame
    skipped: tuple[Skipped, ...]


def neuron_table(atlas: Atlas, pieces: Pieces, *, progress: Progress = no_progress) -> pd.DataFrame:
    """One row per neuron side: description columns where there are some, quantile, extreme, mean, and its tokens as texts."""
    quantile, extreme, mean = atlas.quantile(1e-5), atlas.quantile(1e-7), atlas.mean_LI()
    rows = []
    for layer in range(atlas.n_layers):
        tokens, promoted = atlas.token_arrays(layer), atlas.projection_arrays(layer)[0]
        for side, polarity in enumerate("+-"):
            for index in range(atlas.n_neurons):
                rows.append(
                    {
                        "layer": layer,
                        "index": index,
                        "polarity": polarity,
                        "quantile_1e-5": float(quantile[side, layer, index]),
                        "extreme": float(extreme[side, layer, index]),
                        "mean": float(mean[layer, index]),
                        "tokens": json_text(_texts(pieces, tokens.ids_2IK[side, index])),
                        "promoted": json_text(_texts(pieces, promoted.ids_2IK[side, index])),
                    }
                )
        progress(layer + 1, atlas.n_layers, "layers written")
    table = pd.DataFrame(rows)
    described = atlas.descriptions()
    if described is None:
        return table
    plain = described[[c for c in described.columns if c not in table.columns or c in ("layer", "index", "polarity")]]
    return table.merge(plain.astype({"layer": "int64", "index": "int64"}), on=["layer", "index", "polarity"], how="left")


def _texts(pieces: Pieces, ids_K: NDArray[np.int32]) -> list[str]:
    """Tokens of a list, each by itself."""
    return [pieces([int(token)])[0] for token in ids_K if token >= 0]


def _whole(texts: Sequence[str], at: int) -> str:
    """The text of a token, or the character that it is a part of."""
    return next((text for text in reversed(texts[: at + 1]) if text), "")


def exemplar_table(atlas: Atlas, pieces: Pieces, *, count: int = 24, progress: Progress = no_progress) -> Iterator[dict[str, Any]]:
    """One row an exemplar: the neuron side, rank, activation, place in the corpus, the peak token and its surroundings as text."""
    for layer in range(atlas.n_layers):
        for index in range(atlas.n_neurons):
            for polarity in ("+", "-"):
                for one in atlas.exemplars(layer, index, polarity)[:count]:
                    texts = pieces(one.ids)
                    yield {
                        "layer": layer,
                        "index": index,
                        "polarity": polarity,
                        "rank": one.rank,
                        "activation": one.value,
                        "window": one.sequence,
                        "position": one.position,
                        "document": one.document,
                        "token": _whole(texts, one.peak),
                        "text": "".join(texts),
                    }
        progress(layer + 1, atlas.n_layers, "layers written")


def neuronpedia_explanations(atlas: Atlas, *, model_id: str) -> Iterator[dict[str, Any]]:
    """Neuronpedia's explanation records, one a described side. Their format has no polarity: it is in `typeName`."""
    table = atlas.descriptions()
    for row in [] if table is None else table.to_dict("records"):
        yield {
            "modelId": model_id,
            "layer": f"{row['layer']}-mlp",
            "index": str(row["index"]),
            "description": str(row["description"]),
            "typeName": "neuronscope-positive" if row["polarity"] == "+" else "neuronscope-negative",
            "explanationModelName": str(row.get("author", "template")),
            "score": _number(row.get("score")),
        }


def neuronpedia_activations(atlas: Atlas, pieces: Pieces, *, model_id: str, count: int = 5) -> Iterator[dict[str, Any]]:
    """Neuronpedia's activation records: tokens around the peak, the activation at the peak only (0 elsewhere: recompute it)."""
    for layer in range(atlas.n_layers):
        for index in range(atlas.n_neurons):
            for one in atlas.exemplars(layer, index, "+")[:count]:
                values = [0.0] * len(one.ids)
                values[one.peak] = one.value
                yield {
                    "modelId": model_id,
                    "layer": f"{layer}-mlp",
                    "index": str(index),
                    "tokens": list(pieces(one.ids)),
                    "values": values,
                    "maxValue": one.value,
                    "maxValueTokenIndex": one.peak,
                }


def read_descriptions(path: Path, ref: ModelRef) -> ImportedDescriptions:
    """Descriptions from a CSV, Parquet or JSONL table: layer, neuron (or index), polarity, description, score; Neuronpedia's records too.

    Of two rows for the same side the last counts. Raises `InvalidFile` when the file is none of these or no row fits the model.
    """
    rows, skipped = [], []
    for number, row in _table_rows(path):
        made = _description(row, ref) if isinstance(row, Mapping) else str(row)
        if isinstance(made, str):
            skipped.append(Skipped(f"{path.name}, row {number}", made))
        else:
            rows.append(made)
    if not rows:
        reason = f"; first reason: {skipped[0].name} {skipped[0].reason}" if skipped else ""
        raise InvalidFile(f"{path.name} holds no description for this model ({len(skipped)} rows skipped{reason})", field="path")
    table = pd.DataFrame(rows).drop_duplicates(["layer", "index", "polarity"], keep="last").sort_values(["layer", "index", "polarity"])
    return ImportedDescriptions(
        table.astype({"layer": "int16", "index": "int32", "score": "float32"}).reset_index(drop=True), tuple(skipped)
    )


def _table_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    """The rows of a table in the file's order, or why one cannot be read."""
    ending = path.suffix.lower()
    if ending not in (".parquet", ".csv", ".jsonl", ".json"):
        raise InvalidFile(f"{path.name}: give a .csv, .parquet, .jsonl or .json file", field="path")
    try:
        if ending == ".parquet":
            frame = pd.read_parquet(path)
            yield from enumerate(({str(k): v for k, v in row.items()} for row in frame.to_dict("records")), start=1)
            return
        table = read_table(path.read_bytes(), name=path.name, header=True, limit=None)
    except (OSError, ValueError) as error:
        if isinstance(error, InvalidFile):
            raise
        raise InvalidFile(f"{path.name} cannot be read as {ending.removeprefix('.')}: {error}", field="path") from error
    rows: dict[int, Mapping[str, Any] | str] = {**dict(table.rows), **{error.row: error.message for error in table.errors}}
    yield from sorted(rows.items(), key=lambda row: row[0])


def _description(row: Mapping[str, Any], ref: ModelRef) -> dict[str, Any] | str:
    """The row as ours, or why it does not fit."""
    found = {name: next((row[a] for a in aliases if a in row and row[a] is not None), None) for name, aliases in _ALIASES.items()}
    digits = re.match(r"\s*(\d{1,9})(?:-mlp)?(?:\.0)?\s*$", str(found["layer"])), re.match(r"\s*(\d{1,9})(?:\.0)?\s*$", str(found["index"]))
    if digits[0] is None or digits[1] is None:
        return "has no layer and neuron number"
    layer, index = int(digits[0][1]), int(digits[1][1])
    if layer >= ref.n_layers or index >= ref.n_neurons:
        return f"names {layer}:{index}, which {ref.name} does not have"
    given = str(found["polarity"] if found["polarity"] is not None else "").strip().lower()
    polarity: Polarity | None = "-" if "negative" in str(row.get("typeName", "")) else _POLARITY.get(given)
    if polarity is None:
        return f"has polarity {given!r}; use + or -"
    text = found["description"]
    if not isinstance(text, str) or not text.strip():
        return "has no description"
    score = _number(found["score"])
    return {
        "layer": layer,
        "index": index,
        "polarity": polarity,
        "description": " ".join(text.split())[:MAX_DESCRIPTION],
        "score": float("nan") if score is None else score,
    }


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if -1e9 < number < 1e9 else None


def export_zip(atlas: Atlas, path: Path) -> Path:
    """The whole atlas as one zip, which `import_zip` reads."""
    with disk_errors(path), atomic_path(path, mode=SHARED) as temporary:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            for name in (MANIFEST, *sorted(atlas.manifest["files"])):
                archive.write(atlas.folder / name, name)
    return path


def import_zip(path: Path, target: Path, *, ref: ModelRef) -> Atlas:
    """Unpack an exported atlas into `target` (which must not hold one) after checking all of it. Raises `InvalidFile`, `StoreError`.

    Only the files that the manifest names are taken, their sizes and checksums must agree, no codec may run code, and every figure
    and description must be readable and belong to the model. Nothing is installed before that.
    """
    if (target / MANIFEST).exists():
        raise StoreError(f"{target} holds an atlas of this model already; remove it first")
    try:
        with atomic_folder(target) as scratch:
            names = _unpack(path, scratch)
            atlas = open_folder(scratch, ref=ref)
            check_atlas(atlas)
            for extra in set(names) - {MANIFEST, *atlas.manifest["files"]}:
                (scratch / extra).unlink()
            shutil.rmtree(target, ignore_errors=True)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
        if isinstance(error, StoreError):
            raise
        raise InvalidFile(f"{path.name} cannot be unpacked: {error}", field="path") from error
    return open_folder(target)


def _unpack(path: Path, scratch: Path) -> list[str]:
    """Unpack the archive's files, whose names must be plain; returns them. Raises `InvalidFile`."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        plain = [name for name in names if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name)]
        if len(names) > 50 or plain != names or MANIFEST not in names or any(entry.flag_bits & 0x1 for entry in archive.infolist()):
            raise InvalidFile(f"{path.name} is no exported atlas", field="path")
        if any(entry.header_offset < 0 for entry in archive.infolist()):  # zipfile would seek there
            raise InvalidFile(f"{path.name} is damaged: a file would begin before it", field="path")
        if sum(entry.file_size for entry in archive.infolist()) > MAX_ZIP_BYTES:
            raise InvalidFile(f"{path.name} unpacks to more than {MAX_ZIP_BYTES // 10**9} GB", field="path")
        archive.extractall(scratch)
    return names
