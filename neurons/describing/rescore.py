"""Score the descriptions that an atlas has, on its held-out text: after an import, with more tokens, or for the secondary score."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from neurons.atlas.store import Atlas
from neurons.core.errors import InvalidInput, NotFound
from neurons.core.home import subfolder
from neurons.core.progress import Progress, no_progress
from neurons.describing.recording import record_windows
from neurons.describing.score import score_layer
from neurons.describing.survey import heldout_rows, piece_table, read_windows
from neurons.descriptions.features import Part
from neurons.descriptions.patterns import Pattern, predict
from neurons.descriptions.render import parse
from neurons.models.loaded import LoadedModel

TOKENS = 49_152
_BLOCK = 384


@dataclass(frozen=True)
class LayerSummary:
    """Medians over the scored sides of one layer (or of all, layer -1). None where nothing is scored."""

    layer: int
    sides: int
    scored: int
    unclear: int
    score: float | None
    null: float | None
    ceiling: float | None
    ceiling_null: float | None
    auprc: float | None
    auprc_null: float | None
    top_random: float | None
    """Secondary: the published top-20-plus-5-random protocol."""


def summarise(table: pd.DataFrame) -> list[LayerSummary]:
    """One row per layer, and one over all at the end."""
    layers = [(int(str(layer)), rows) for layer, rows in table.groupby("layer")]
    return [_summary(layer, rows) for layer, rows in [*layers, (-1, table)]]


def _summary(layer: int, rows: pd.DataFrame) -> LayerSummary:
    scored = rows[rows["score"].notna()]

    def median(name: str) -> float | None:
        values = scored[name].to_numpy(dtype=np.float64) if name in scored else np.empty(0)
        return round(float(np.nanmedian(values)), 4) if np.isfinite(values).any() else None

    unclear = int((rows["kind"] == "unclear").sum())
    names = ("score", "null", "ceiling", "ceiling_null", "auprc", "auprc_null", "top_random")
    return LayerSummary(layer, len(rows), len(scored), unclear, *(median(name) for name in names))


def rescore(
    loaded: LoadedModel,
    atlas: Atlas,
    *,
    tokens: int = TOKENS,
    secondary: bool = False,
    work: Path | None = None,
    progress: Progress = no_progress,
) -> Atlas:
    """Score every description in the grammar of patterns and write the scores; free text keeps the score it came with, or none.

    Raises `InvalidInput` when the atlas is of other weights or holds nothing out, `NotFound` when it has no descriptions.
    """
    if atlas.ref.weights_hash != loaded.ref.weights_hash:
        raise InvalidInput(f"this atlas was collected from {atlas.ref.name} with other weights; score it with that model", field="atlas")
    table = atlas.descriptions()
    if table is None:
        raise NotFound("this atlas has no descriptions yet; run `neuronscope atlas describe`")
    patterns = [_pattern(text) for text in table["description"].astype(str)]
    parts: dict[Part, int] = {}
    for pattern in patterns:
        for part, _ in pattern.parts if pattern else ():
            parts.setdefault(part, len(parts))
    corpus = atlas.corpus
    held = read_windows(corpus, heldout_rows(corpus, tokens), piece_table(loaded))
    folder = work or subfolder("work") / f"score-{loaded.ref.weights_hash[:16]}"
    key = f"{corpus.fingerprint}:{loaded.ref.weights_hash}:{loaded.ref.dtype}:held:{len(held.ids)}"
    recording = record_windows(loaded, held, folder, key=key, progress=progress, message="held-out tokens read")
    features = held.features(parts, range(len(held.ids)))
    window_T = held.chunk_T() if secondary else None
    columns = ("score", "null", "auprc", "auprc_null", "top_random", "top_random_null")
    found = np.full((len(columns), len(table)), np.nan, dtype=np.float32)
    row_of = {key: row for row, key in enumerate(zip(table["layer"], table["index"], table["polarity"], strict=True))}
    for layer in range(atlas.n_layers):
        for at in range(0, atlas.n_neurons, _BLOCK):
            some = range(at, min(at + _BLOCK, atlas.n_neurons))
            rows = np.array([row_of.get((layer, index, sign), -1) for sign in "+-" for index in some])
            given = [patterns[row] if row >= 0 else None for row in rows]
            usable = np.array([pattern is not None for pattern in given])
            if usable.any():
                truth = recording.sides(layer, slice(some.start, some.stop))
                scores = score_layer(predict(given, features, parts), truth, usable=usable, window_T=window_T, seed=layer)
                values = (scores.pearson, scores.pearson_null, scores.auprc, scores.auprc_null, scores.top_random, scores.top_random_null)
                for number, column in enumerate(values):
                    found[number, rows[usable]] = column[usable]
        progress(layer + 1, atlas.n_layers, "layers scored")
    scored = np.array([pattern is not None for pattern in patterns])
    table = table.copy()
    for name, column in zip(columns, found, strict=True):
        table[name] = np.where(scored, column.round(3), table[name].to_numpy(dtype=np.float32) if name in table else np.float32(np.nan))
    meta = {name: value for name, value in atlas.manifest.get("descriptions", {}).items() if name not in ("table", "arrays", "described")}
    result = atlas.with_descriptions(table, arrays=atlas.embeddings(), meta={**meta, "held_out_tokens": held.tokens})
    shutil.rmtree(folder, ignore_errors=True)
    return result


def _pattern(text: str) -> Pattern | None:
    try:
        return parse(text)
    except InvalidInput:
        return None
