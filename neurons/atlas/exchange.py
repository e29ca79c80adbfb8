"""Atlases in and out: tables (CSV, Parquet), Neuronpedia's JSONL, published description tables, and the whole folder as a zip.

Everything read is untrusted: sizes are bounded, names are checked, and a row that does not fit is named, skipped and counted.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import pandas as pd

from neurons.atlas.readers import Skipped
from neurons.atlas.store import Atlas, open_folder
from neurons.atlas.validate import check_atlas
from neurons.core.errors import InvalidFile, InvalidInput, StoreError
from neurons.core.progress import Progress, no_progress
from neurons.core.types import ModelRef, Polarity
from neurons.storage.files import SHARED, atomic_folder, atomic_path, disk_errors
from neurons.storage.manifest import MANIFEST

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


def neuron_table(atlas: Atlas, token_text: Callable[[int], str], *, progress: Progress = no_progress) -> pd.DataFrame:
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
                        "tokens": json.dumps([token_text(int(i)) for i in tokens.ids_2IK[side, index] if i >= 0], ensure_ascii=False),
                        "promoted": json.dumps([token_text(int(i)) for i in promoted.ids_2IK[side, index] if i >= 0], ensure_ascii=False),
                    }
                )
        progress(layer + 1, atlas.n_layers, "layers written")
    table = pd.DataFrame(rows)
    described = atlas.descriptions()
    if described is None:
        return table
    plain = described[[c for c in described.columns if c not in table.columns or c in ("layer", "index", "polarity")]]
    return table.merge(plain.astype({"layer": "int64", "index": "int64"}), on=["layer", "index", "polarity"], how="left")


def exemplar_table(
    atlas: Atlas, token_text: Callable[[int], str], *, count: int = 24, progress: Progress = no_progress
) -> Iterator[dict[str, Any]]:
    """One row an exemplar: the neuron side, rank, activation, place in the corpus, the peak token and its surroundings as text."""
    for layer in range(atlas.n_layers):
        for index in range(atlas.n_neurons):
            for polarity in ("+", "-"):
                for one in atlas.exemplars(layer, index, polarity)[:count]:
                    yield {
                        "layer": layer,
                        "index": index,
                        "polarity": polarity,
                        "rank": one.rank,
                        "activation": one.value,
                        "window": one.sequence,
                        "position": one.position,
                        "document": one.document,
                        "token": token_text(one.ids[one.peak]),
                        "text": "".join(map(token_text, one.ids)),
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


def neuronpedia_activations(atlas: Atlas, token_text: Callable[[int], str], *, model_id: str, count: int = 5) -> Iterator[dict[str, Any]]:
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
                    "tokens": [token_text(i) for i in one.ids],
                    "values": values,
                    "maxValue": one.value,
                    "maxValueTokenIndex": one.peak,
                }


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows as JSONL, CSV or Parquet, by the path's suffix. Returns how many. Raises `InvalidInput` for another suffix."""
    suffix = path.suffix.lower()
    if suffix not in (".parquet", ".jsonl", ".csv"):
        raise InvalidInput(f"{path.name}: write to a .jsonl, .csv or .parquet file", field="path")
    with disk_errors(path), atomic_path(path, mode=SHARED) as temporary:
        if suffix == ".parquet":
            table = pd.DataFrame(list(rows))
            table.to_parquet(temporary, compression="zstd", index=False)
            return len(table)
        with temporary.open("w", encoding="utf-8", newline="") as file:
            return _write_csv(file, rows) if suffix == ".csv" else _write_jsonl(file, rows)


def _write_jsonl(file: IO[str], rows: Iterable[Mapping[str, Any]]) -> int:
    count = 0
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
        count += 1
    return count


def _write_csv(file: IO[str], rows: Iterable[Mapping[str, Any]]) -> int:
    count, writer = 0, None
    for row in rows:
        if writer is None:
            writer = csv.DictWriter(file, list(row))
            writer.writeheader()
        writer.writerow({key: _csv_safe(value) for key, value in row.items()})
        count += 1
    return count


def _csv_safe(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula gets an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value not in ("+", "-") else value


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
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            frame = pd.read_parquet(path)
            yield from enumerate(({str(k): v for k, v in row.items()} for row in frame.to_dict("records")), start=1)
        elif suffix == ".csv":
            with path.open(encoding="utf-8-sig", newline="") as file:
                yield from enumerate(csv.DictReader(file), start=1)
        elif suffix in (".jsonl", ".json"):
            text = path.read_text(encoding="utf-8-sig")
            lines = json.loads(text) if text.lstrip().startswith("[") else [line for line in text.split("\n") if line.strip()]
            for number, line in enumerate(lines, start=1):
                yield number, _json_row(line)
        else:
            raise InvalidFile(f"{path.name}: give a .csv, .parquet, .jsonl or .json file", field="path")
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        if isinstance(error, InvalidFile):
            raise
        raise InvalidFile(f"{path.name} cannot be read as {suffix.removeprefix('.')}: {error}", field="path") from error


def _json_row(line: Any) -> Mapping[str, Any] | str:
    if isinstance(line, str):
        try:
            line = json.loads(line)
        except ValueError:
            return "is no JSON"
    return line if isinstance(line, Mapping) else "is no object"


def _description(row: Mapping[str, Any], ref: ModelRef) -> dict[str, Any] | str:
    """The row as ours, or why it does not fit."""
    found = {name: next((row[a] for a in aliases if a in row and row[a] is not None), None) for name, aliases in _ALIASES.items()}
    digits = re.match(r"\s*(\d+)(?:-mlp)?(?:\.0)?\s*$", str(found["layer"])), re.match(r"\s*(\d+)(?:\.0)?\s*$", str(found["index"]))
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
        if sum(entry.file_size for entry in archive.infolist()) > MAX_ZIP_BYTES:
            raise InvalidFile(f"{path.name} unpacks to more than {MAX_ZIP_BYTES // 10**9} GB", field="path")
        archive.extractall(scratch)
    return names
