"""The lexicon run through a model: every text's mean activations in one file on disk, in chunks, so that a stopped job goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurons.core.errors import StoreError
from neurons.core.progress import Progress, no_progress
from neurons.detectors.features import Prefixes, encode_texts, text_means
from neurons.detectors.lexicon import HELD_OUT, ConceptEntry, Lexicon
from neurons.models.loaded import LoadedModel
from neurons.storage.files import write_json

CHUNK = 256
"""Texts that a stopped job may lose."""


@dataclass(frozen=True, eq=False)
class Texts:
    """Every text of a lexicon, concept by concept: what it is (definition and typical words), its sentences, its near misses."""

    texts: tuple[str, ...]
    class_N: NDArray[np.int64]
    near_N: NDArray[np.bool_]
    held_N: NDArray[np.bool_]
    """Every third sentence and near miss; never the definition or the words."""

    @classmethod
    def of(cls, lexicon: Lexicon) -> Texts:
        """The lexicon's texts, concept by concept."""
        rows = [row for number, concept in enumerate(lexicon.concepts) for row in _rows(number, concept.entry)]
        texts, classes, near, held = zip(*rows, strict=True)
        return cls(tuple(texts), np.asarray(classes), np.asarray(near), np.asarray(held))


def _rows(number: int, entry: ConceptEntry) -> Iterator[tuple[str, int, bool, bool]]:
    """(text, concept, near miss, held out)."""
    for text in (f"{entry.name}: {entry.definition}", ", ".join(entry.words)):
        yield text, number, False, False
    for near, part in ((False, entry.sentences), (True, entry.near)):
        for place, text in enumerate(part):
            yield text, number, near, place % HELD_OUT == HELD_OUT - 1


class FeatureFile:
    """Mean activations of N texts, (L, N, I) float16 on disk: one layer is one read."""

    def __init__(self, folder: Path, shape_LNI: tuple[int, int, int]) -> None:
        self._path = folder / "features.npy"
        self.shape_LNI = shape_LNI
        self._array: NDArray[np.float16] = np.load(self._path, mmap_mode="r+")
        if self._array.shape != shape_LNI:
            raise StoreError(f"{self._path} has another shape; remove {folder} and start again")

    def layer(self, layer: int, rows: NDArray[np.int64] | slice = slice(None)) -> Tensor:
        """(N, I) float32."""
        return torch.from_numpy(np.asarray(self._array[layer][rows], dtype=np.float32))

    def put(self, rows: Sequence[int], means_NLI: Tensor) -> None:
        self._array[:, list(rows)] = means_NLI.clamp(-65_000, 65_000).transpose(0, 1).numpy().astype(np.float16)

    def flush(self) -> None:
        self._array.flush()  # type: ignore[attr-defined]


def collect_features(loaded: LoadedModel, texts: Texts, folder: Path, *, fingerprint: str, progress: Progress = no_progress) -> FeatureFile:
    """Run all texts that `folder` does not hold yet; what another lexicon or model left there is begun anew. `progress` may cancel."""
    shape_LNI = (loaded.n_layers, len(texts.texts), loaded.n_neurons)
    done = _begun(folder, shape_LNI, fingerprint)
    file = FeatureFile(folder, shape_LNI)
    encoded = encode_texts(loaded, texts.texts)
    order = sorted(range(len(encoded)), key=lambda row: (encoded[row].prefix, len(encoded[row].own), row))
    prefixes: Prefixes = {}
    for at in range(0, len(order), CHUNK):
        if at // CHUNK not in done:
            rows = order[at : at + CHUNK]
            file.put(rows, text_means(loaded, [encoded[row] for row in rows], prefixes))
            file.flush()
            done.append(at // CHUNK)
            write_json(folder / "done.json", {"fingerprint": fingerprint, "chunks": done})
        progress(min(at + CHUNK, len(order)), len(order), "sentences run")
    return file


def _begun(folder: Path, shape_LNI: tuple[int, int, int], fingerprint: str) -> list[int]:
    """Which chunks are there; makes the empty file where nothing fits."""
    try:
        found = json.loads((folder / "done.json").read_text(encoding="utf-8"))
        if found["fingerprint"] == fingerprint and (folder / "features.npy").is_file():
            return list(found["chunks"])
    except (OSError, ValueError, KeyError):
        pass
    try:
        folder.mkdir(parents=True, exist_ok=True)
        np.lib.format.open_memmap(folder / "features.npy", mode="w+", dtype=np.float16, shape=shape_LNI).flush()
        write_json(folder / "done.json", {"fingerprint": fingerprint, "chunks": []})
    except OSError as error:
        raise StoreError(f"{folder} cannot be written: {error}; free some disk space") from error
    return []
