"""The space in which texts find neurons: a linear map from a text's embedding to how strongly each neuron side fires on such a text.

For chunks c of the describing corpus (64 tokens) with embeddings e_c, and
a_cn = log(1 + strongest activation of side n in c), standardised:
    reading_n = argmin_b  sum_c (a_cn - b . w_c)^2 + lambda |b|^2_s,      w_c = whitened first K principal components of e_c
so `reading_n . w / |w|` is the (shrunk) correlation, over the corpus, of the side's activation with the direction of a text's embedding:
what search ranks by is a prediction of what the model does, not a likeness of words. Readings are stored as int8, one scale a side.

Beside it stands what the descriptions say: each visible part ("words for animals", "than") has an embedding of its own, so a query is
compared with a few thousand parts, and each side's description gets the level-weighted mean. A description in other words (by hand, by a
language model, imported) is one part as a whole. An atlas of descriptions alone has no readings: it is searched by likeness only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from neurons.concepts.embed import DIMENSIONS
from neurons.core.errors import InvalidInput
from neurons.descriptions.features import Part
from neurons.descriptions.kinds import UNCLEAR
from neurons.descriptions.render import parse, value_text

COMPONENTS = 128
STEPS = 127
"""Whole numbers on each side of zero that a reading is stored as."""
SHRINK = 1.0
"""The ridge, in units of the mean variance over all components."""
PART_FLOOR = 0.3
"""Cosines below this between a query and a part say nothing."""
_NO_PARTS = np.zeros((0, DIMENSIONS), np.int8)
_NO_LEVELS = sparse.csr_matrix((0, 0), dtype=np.float32)
Encode = Callable[[list[str]], NDArray[np.float32]]


class Peaks(Protocol):
    """What `ConceptSpace.fit` reads: each side's strongest activation in each chunk."""

    @property
    def n_layers(self) -> int: ...

    def layer(self, layer: int) -> NDArray[np.float32]:
        """(C, 2I): positive sides, then negative sides, all values at least 0."""
        ...


class Sides(Protocol):
    """A recording, as far as peaks need it."""

    def sides(self, layer: int, neurons: slice = ...) -> NDArray[np.float32]: ...


@dataclass(frozen=True, eq=False)
class WindowPeaks:
    """Peaks taken from a recording; `chunk_T` numbers each token's chunk, in order."""

    recording: Sides
    chunk_T: NDArray[np.int64]

    n_layers: int

    def layer(self, layer: int) -> NDArray[np.float32]:
        """(C, 2I)."""
        starts = np.flatnonzero(np.diff(self.chunk_T, prepend=-1))
        return np.asarray(np.maximum.reduceat(self.recording.sides(layer), starts, axis=0))


@dataclass(frozen=True, eq=False)
class ConceptSpace:
    """Rows are those of the descriptions' table, all layers, positive sides before negative ones within a layer."""

    mean_E: NDArray[np.float32]
    whiten_EK: NDArray[np.float32]
    """Takes a centred embedding to whitened components."""
    vector_NK: NDArray[np.int8]
    scale_N: NDArray[np.float32]
    parts: tuple[str, ...]
    part_PE: NDArray[np.int8]
    """Unit vectors of the parts' texts, times 127."""
    levels_NP: sparse.csr_matrix
    """Positive levels of each description, rows summing to 1 (or 0)."""

    @classmethod
    def fit(
        cls,
        peaks: Peaks,
        chunk_CE: NDArray[np.float32],
        encode: Encode,
        descriptions: Sequence[str],
        *,
        components: int = COMPONENTS,
        steps: int = STEPS,
    ) -> ConceptSpace:
        """Fit the map; fewer components and steps (at most 127) take less room. Raises `InvalidInput` below 8 chunks."""
        chunks = len(chunk_CE)
        if chunks < 8:
            raise InvalidInput(f"{chunks} chunks of text are too few to search by; describe with more tokens", field="tokens")
        mean_E = chunk_CE.mean(axis=0)
        _, spread, axes = np.linalg.svd((chunk_CE - mean_E).astype(np.float64), full_matrices=False)
        kept = min(components, int((spread > 1e-6 * spread[0]).sum()))
        variance_K = spread[:kept] ** 2
        whiten_EK = (axes[:kept].T / spread[:kept] * np.sqrt(chunks)).astype(np.float32)
        white_CK = (chunk_CE - mean_E) @ whiten_EK
        shrink_K = variance_K / (variance_K + SHRINK * float((spread**2).mean()))
        vectors, scales = [], []
        for layer in range(peaks.n_layers):
            strength_CN = np.log1p(peaks.layer(layer))
            strength_CN -= strength_CN.mean(axis=0)
            strength_CN /= np.maximum(strength_CN.std(axis=0), 1e-6)
            reading_NK = (strength_CN.T @ white_CK / chunks) * shrink_K
            scale = np.maximum(np.abs(reading_NK).max(axis=1), 1e-12) / steps
            vectors.append(np.rint(reading_NK / scale[:, None]).astype(np.int8))
            scales.append(scale.astype(np.float32))
        readings = cls(mean_E, whiten_EK, np.concatenate(vectors), np.concatenate(scales), (), _NO_PARTS, _NO_LEVELS)
        return readings.described(descriptions, encode)

    @classmethod
    def without_readings(cls, sides: int) -> ConceptSpace:
        """Of an atlas that has no figures: likeness of descriptions is all there is, once `described`."""
        nothing = np.zeros((DIMENSIONS, 0), np.float32)
        return cls(nothing.sum(1), nothing, np.zeros((sides, 0), np.int8), np.zeros(sides, np.float32), (), _NO_PARTS, _NO_LEVELS)

    def described(self, descriptions: Sequence[str], encode: Encode) -> ConceptSpace:
        """The same readings with the parts of these descriptions, one per side in the order of the rows."""
        parts, levels_NP = part_levels(descriptions)
        part_PE = np.rint(encode([part_words(text) for text in parts]) * 127).astype(np.int8) if parts else _NO_PARTS
        return replace(self, parts=parts, part_PE=part_PE, levels_NP=levels_NP)

    @property
    def has_readings(self) -> bool:
        """Whether sides are found by what the model does, not by their descriptions alone."""
        return bool(self.vector_NK.shape[1])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """As an atlas stores them."""
        text = np.frombuffer("\n".join(self.parts).encode("utf-8"), dtype=np.uint8)
        half = self.scale_N.max(initial=0) < 6e4 and self.scale_N.min(initial=1) > 1e-4
        readings = {
            "mean": self.mean_E.astype(np.float32),
            "whiten": self.whiten_EK.astype(np.float32),
            "vector": self.vector_NK,
            "scale": self.scale_N.astype(np.float16 if half else np.float32),
        }
        return {
            **(readings if self.has_readings else {}),
            "part_text": text,
            "part_vector": self.part_PE,
            "part_index": self.levels_NP.indices.astype(np.uint16 if len(self.parts) < 1 << 16 else np.uint32),
            "part_level": np.rint(self.levels_NP.data * 255).astype(np.uint8),
            "part_count": np.diff(self.levels_NP.indptr).astype(np.uint8),
        }

    @classmethod
    def load(cls, arrays: dict[str, NDArray[Any]]) -> ConceptSpace:
        """What `arrays` gave. Raises `InvalidInput` when the atlas was described without embeddings."""
        if "part_text" not in arrays:
            raise InvalidInput(
                "this atlas has no embeddings, so it cannot be searched by meaning; run `neuronscope atlas describe`", field="atlas"
            )
        parts = tuple(bytes(arrays["part_text"]).decode("utf-8").split("\n")) if len(arrays["part_text"]) else ()
        pointers = np.concatenate([[0], np.cumsum(arrays["part_count"], dtype=np.int64)])
        levels = (arrays["part_level"].astype(np.float32) / 255, arrays["part_index"].astype(np.int32), pointers)
        sides = len(arrays["part_count"])
        levels_NP = sparse.csr_matrix(levels, shape=(sides, len(parts)))
        if "vector" not in arrays:
            return replace(cls.without_readings(sides), parts=parts, part_PE=arrays["part_vector"], levels_NP=levels_NP)
        return cls(
            arrays["mean"].astype(np.float32),
            arrays["whiten"].astype(np.float32),
            arrays["vector"],
            arrays["scale"].astype(np.float32),
            parts,
            arrays["part_vector"],
            levels_NP,
        )

    def direction(self, vector_E: NDArray[np.float32]) -> NDArray[np.float32]:
        """A text embedding's unit direction among the whitened components, shape (K,)."""
        white = (vector_E - self.mean_E) @ self.whiten_EK
        return np.asarray(white / max(float(np.linalg.norm(white)), 1e-12), dtype=np.float32)

    def reading(self, vector_E: NDArray[np.float32]) -> NDArray[np.float32]:
        """The correlation of each side with the direction of an embedding, shape (N,), between -1 and 1."""
        return np.asarray(self._vectors_f @ self.direction(vector_E) * self.scale_N, dtype=np.float32)

    def likeness(self, vector_E: NDArray[np.float32]) -> NDArray[np.float32]:
        """How like the query the visible parts of each description are, shape (N,), between 0 and 1."""
        if not self.parts:
            return np.zeros(len(self.vector_NK), dtype=np.float32)
        cosine_P = self.part_PE.astype(np.float32) @ vector_E / 127
        return np.asarray(self.levels_NP @ np.clip((cosine_P - PART_FLOOR) / (1 - PART_FLOOR), 0, 1), dtype=np.float32)

    def vectors(self, rows: NDArray[np.int64] | slice = slice(None)) -> NDArray[np.float32]:
        """Readings of some sides, shape (n, K)."""
        return self.vector_NK[rows].astype(np.float32) * self.scale_N[rows, None]

    @property
    def _vectors_f(self) -> NDArray[np.float32]:
        """The stored int8 values as float32, made once: a product of int8 arrays is a hundred times slower."""
        cached = self.__dict__.get("_float")
        if cached is None:
            cached = self.vector_NK.astype(np.float32)
            object.__setattr__(self, "_float", cached)
        return np.asarray(cached)


def part_levels(descriptions: Sequence[str]) -> tuple[tuple[str, ...], sparse.csr_matrix]:
    """The distinct visible parts of the descriptions, and each description's positive levels over them, rows summing to 1."""
    numbers: dict[str, int] = {}
    rows, columns, values = [], [], []
    for row, text in enumerate(descriptions):
        try:
            pattern = parse(text)
        except InvalidInput:
            if (whole := " ".join(text.split())) and whole != UNCLEAR:
                rows.append(row)
                columns.append(numbers.setdefault(whole, len(numbers)))
                values.append(1.0)
            continue
        positive = [(part, level) for part, level in pattern.parts if level > 0]
        total = sum(level for _, level in positive)
        for part, level in positive:
            rows.append(row)
            columns.append(numbers.setdefault(_name(part), len(numbers)))
            values.append(level / total)
    matrix = sparse.csr_matrix((np.asarray(values, dtype=np.float32), (rows, columns)), shape=(len(descriptions), len(numbers)))
    matrix.sort_indices()
    return tuple(numbers), matrix


def _name(part: Part) -> str:
    text = value_text(part)
    return text if part.where == "at" else f"{part.where} {text}"


def part_words(name: str) -> str:
    """A part's name as the embedder should read it: without quotes or place."""
    words = name.removeprefix("after ").removeprefix("before ").removeprefix("in ")
    return words.strip('"') or name
