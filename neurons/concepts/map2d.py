"""A map of the atlas: neuron sides of like meaning near each other, in two dimensions.

Some thousand sides that mean something clearly are laid out; all others are put between those whose readings are most like theirs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neurons.concepts.space import ConceptSpace
from neurons.core.progress import Progress, no_progress

POINTS = 5_000
"""Sides that are laid out unless told otherwise."""
MOST_POINTS = 8_000
_PERPLEXITY = 30
_NEAREST = 6
"""Of the sides that are laid out: those that place another one."""
_SHARPNESS = 20.0
"""How much more the nearest counts: a side that is .05 less alike has a weight of exp(-1)."""
_BLOCK = 2_048


@dataclass(frozen=True, eq=False)
class Map2D:
    """Places of some sides. `row_M` are rows of the descriptions' table; x and y run from -1 to 1."""

    row_M: NDArray[np.int64]
    xy_M2: NDArray[np.float32]

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """As an atlas stores them."""
        return {"map_row": self.row_M.astype(np.uint32), "map_xy": self.xy_M2.astype(np.float16)}

    @classmethod
    def load(cls, arrays: dict[str, NDArray[np.generic]]) -> Map2D | None:
        """None when the atlas has no map."""
        if "map_row" not in arrays:
            return None
        return cls(arrays["map_row"].astype(np.int64), arrays["map_xy"].astype(np.float32))


def place_all(space: ConceptSpace, drawn: Map2D) -> Map2D:
    """All rows: those of `drawn` where they are, each other one at the mean of the six whose readings are most like its own.

    Likeness is the cosine of centred readings. Seconds for 100,000 rows.
    """
    vector_NK = space.vector_NK.astype(np.float32)
    vector_NK -= vector_NK.mean(axis=0)
    vector_NK /= np.maximum(np.linalg.norm(vector_NK, axis=1, keepdims=True), 1e-6)
    near = min(_NEAREST, len(drawn.row_M))
    xy_N2 = np.zeros((len(vector_NK), 2), dtype=np.float32)
    for start in range(0, len(vector_NK) if near else 0, _BLOCK):
        like_BM = vector_NK[start : start + _BLOCK] @ vector_NK[drawn.row_M].T
        best_BK = np.argpartition(like_BM, -near, axis=1)[:, -near:]
        like_BK = np.take_along_axis(like_BM, best_BK, axis=1)
        weight_BK = np.exp(_SHARPNESS * (like_BK - like_BK.max(axis=1, keepdims=True)))
        weight_BK /= weight_BK.sum(axis=1, keepdims=True)
        xy_N2[start : start + _BLOCK] = (weight_BK[:, :, None] * drawn.xy_M2[best_BK]).sum(axis=1)
    xy_N2[drawn.row_M] = drawn.xy_M2
    return Map2D(np.arange(len(xy_N2)), xy_N2)


def choose_points(usable_N: NDArray[np.bool_], strength_N: NDArray[np.float32], *, points: int = POINTS) -> NDArray[np.int64]:
    """Which rows to show: of the usable ones, every k-th in order of how clearly they mean something (so each layer keeps its share)."""
    rows = np.flatnonzero(usable_N)
    wanted = min(points, MOST_POINTS, len(rows))
    best = rows[np.argsort(-strength_N[rows], kind="stable")][: 4 * wanted]
    return np.sort(best[np.linspace(0, len(best) - 1, wanted).astype(np.int64)]) if wanted else rows[:0]


def lay_out(vectors: NDArray[np.float32], *, progress: Progress = no_progress) -> NDArray[np.float32]:
    """Two coordinates per row, each from -1 to 1: t-SNE (van der Maaten & Hinton 2008) started from PCA, PCA alone for a few points.
    Seeded.
    """
    progress(0, None, f"drawing the map of {len(vectors)} neurons")
    if len(vectors) < 3:
        return np.zeros((len(vectors), 2), dtype=np.float32)
    from sklearn.decomposition import PCA  # a second of imports
    from sklearn.manifold import TSNE

    reduced = PCA(min(30, len(vectors) - 1, vectors.shape[1]), svd_solver="covariance_eigh").fit_transform(vectors.astype(np.float64))
    if len(vectors) < 4 * _PERPLEXITY:
        xy = reduced[:, :2] if reduced.shape[1] > 1 else np.pad(reduced, ((0, 0), (0, 1)))
    else:
        xy = TSNE(2, perplexity=_PERPLEXITY, init="pca", random_state=0, metric="cosine", max_iter=500).fit_transform(reduced)
    xy = xy - xy.mean(axis=0)
    return np.asarray(xy / np.maximum(np.abs(xy).max(axis=0), 1e-12), dtype=np.float32)


def draw_map(space: ConceptSpace, usable_N: NDArray[np.bool_], *, points: int = POINTS, progress: Progress = no_progress) -> Map2D:
    """Choose points by how strong their readings are and lay them out."""
    strength = np.linalg.norm(space.vector_NK.astype(np.float32), axis=1) * space.scale_N
    rows = choose_points(usable_N, strength.astype(np.float32), points=points)
    return Map2D(rows, lay_out(space.vectors(rows), progress=progress))
