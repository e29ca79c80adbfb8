"""HDBSCAN over meanings: groups, who else belongs to them, how stable each is, and the tree they were cut from.

Campello, Moulavi & Sander 2013. Brute-force distances: the same clusters as the tree algorithms at these dimensions, many times faster.
Deterministic: no step draws random numbers that are not seeded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neurons.core.errors import InvalidInput
from neurons.core.progress import Progress, no_progress

NOISE = -1
TIGHT = 2.5
"""A group's members must be this many standard deviations of unrelated pairs more alike than the usual pair."""
JOIN = 0.3
"""A side that HDBSCAN leaves out joins the group it most belongs to from this soft membership on."""
RESAMPLES = 20
SHARE = 0.8
"""How often, and with which share of the sides, the clustering is done again to see whether a group comes back."""
STABILITY_MOST = 2_000
"""Above so many sides stability is not measured: twenty more clusterings take too long."""
BREADTHS = ("fine", "broad")
FORMER = {"leaf": "fine", "eom": "broad"}
"""What earlier versions called them."""
_METHOD = {"fine": "leaf", "broad": "eom"}
_BRUTE_LIMIT = 15_000
_SAMPLE = 12_000


@dataclass(frozen=True)
class ClusterSettings:
    """Parameters, shown with every result."""

    min_size: int = 5
    """Fewest members of a group that is found by likeness, and of a field."""
    min_samples: int = 3
    """How many neighbours make a place dense: higher calls more noise."""
    breadth: str = "fine"
    """"fine" groups by concept, "broad" by field; what is left by HDBSCAN's leaf or eom."""
    components: int = 50
    """Principal components that distances are taken in (30 above 15,000 sides)."""

    def check(self) -> ClusterSettings:
        """Return self, or raise `InvalidInput`."""
        if not (2 <= self.min_size <= 10_000 and 1 <= self.min_samples <= 1_000):
            raise InvalidInput("a cluster needs min_size from 2 and min_samples from 1", field="min_size")
        if self.breadth not in BREADTHS:
            raise InvalidInput(f"breadth is {self.breadth!r}; use fine or broad", field="breadth")
        if not 2 <= self.components <= 384:
            raise InvalidInput(f"components is {self.components}; use 2 to 384", field="components")
        return self


DEFAULT = ClusterSettings()


@dataclass(frozen=True)
class Branch:
    """A group of the condensed tree: it parts from its parent at density `born` and falls apart, or loses its last member, at `ends`."""

    born: float
    """1 / distance."""
    ends: float
    size: int
    """Sides in it when it is born."""
    start: int
    """Sides to the left of it, where branches are drawn side by side."""
    chosen: bool
    """HDBSCAN took it as a group (it may still have been called noise for being loose)."""


@dataclass(frozen=True, eq=False)
class Density:
    """What HDBSCAN found in N rows."""

    label_N: NDArray[np.int64]
    """Group of each row, or -1."""
    stability: dict[int, float]
    """Of each group, where it was measured: mean, over resamples, of the best Jaccard overlap with a group found there."""
    tree: tuple[Branch, ...]
    note: str = ""


def cluster_vectors(vectors: NDArray[np.float32], settings: ClusterSettings = DEFAULT, *, progress: Progress = no_progress) -> Density:
    """Groups of rows. Above 15,000 rows a spread-out sample is clustered and the others join groups within whose reach they lie."""
    settings.check()
    count = len(vectors)
    if count < max(2 * settings.min_size, settings.min_samples + 1):
        note = f"{count} sides are too few to cluster: at least {2 * settings.min_size} are needed"
        return Density(np.full(count, NOISE, dtype=np.int64), {}, (), note)
    from sklearn.decomposition import PCA  # here and below: a second of imports that the app's start need not wait for

    components = min(settings.components if count <= _BRUTE_LIMIT else 30, count - 1, vectors.shape[1])
    reduced = PCA(components, svd_solver="covariance_eigh").fit_transform(vectors.astype(np.float64)).astype(np.float32)
    if count > _BRUTE_LIMIT:
        return _by_sample(vectors, reduced, settings)
    model = _fitted(reduced, settings)
    core = _core(model)
    tight = _tight(vectors, core)
    label_N = _joined(vectors, tight, model) if tight.max() >= 0 else tight
    branches = condensed(model)
    if count > STABILITY_MOST:
        return Density(label_N, {}, branches, f"stability was not measured: {count:,} sides are left, more than {STABILITY_MOST:,}")
    return Density(label_N, _stability(reduced, core, np.unique(tight[tight >= 0]), settings, progress), branches)


def _by_sample(vectors: NDArray[np.float32], reduced: NDArray[np.float32], settings: ClusterSettings) -> Density:
    count = len(vectors)
    sample = np.linspace(0, count - 1, _SAMPLE).astype(np.int64)
    model = _fitted(reduced[sample], settings, soft=False)
    label_S = _tight(vectors[sample], _core(model))
    labels = np.full(count, NOISE, dtype=np.int64)
    numbers = np.unique(label_S[label_S >= 0])
    if len(numbers):
        centres = np.stack([reduced[sample[label_S == n]].mean(axis=0) for n in numbers])
        reach = np.array(
            [np.quantile(np.linalg.norm(reduced[sample[label_S == n]] - c, axis=1), 0.9) for n, c in zip(numbers, centres, strict=True)]
        )
        distance = np.sqrt(np.maximum((reduced**2).sum(1)[:, None] - 2 * reduced @ centres.T + (centres**2).sum(1), 0))
        nearest = distance.argmin(axis=1)
        close = distance[np.arange(count), nearest] <= reach[nearest]
        labels[close] = numbers[nearest[close]]
    labels[sample] = label_S
    note = f"clustered a sample of {_SAMPLE:,} of {count:,} sides; the others joined a cluster where they lie within its reach"
    return Density(labels, {}, condensed(model), f"{note}; stability was not measured")


def _fitted(reduced: NDArray[np.float32], settings: ClusterSettings, *, soft: bool = True) -> Any:
    from hdbscan import HDBSCAN

    return HDBSCAN(
        min_cluster_size=settings.min_size,
        min_samples=max(1, settings.min_samples - 1),  # the package does not count the point itself
        algorithm="generic",  # its tree algorithms take 12 to 24 times as long at these dimensions
        cluster_selection_method=_METHOD[settings.breadth],
        prediction_data=soft,
    ).fit(reduced.astype(np.float64))


def _core(model: Any) -> NDArray[np.int64]:
    """HDBSCAN's labels without members of little membership: a dense group that no other parts from has all that lies about it as such."""
    return np.where(model.probabilities_ >= JOIN, model.labels_, NOISE).astype(np.int64)


def _joined(vectors: NDArray[np.float32], label_N: NDArray[np.int64], model: Any) -> NDArray[np.int64]:
    """Labels with left-over rows in the group they most belong to; a group that its new members would make loose keeps its old ones."""
    from hdbscan import all_points_membership_vectors

    member_NG = np.nan_to_num(np.asarray(all_points_membership_vectors(model), dtype=np.float64)).reshape(len(label_N), -1)
    column_G = np.argsort(np.argsort(model.condensed_tree_._select_clusters()))  # columns are in the order of the tree's nodes
    kept = np.unique(label_N[label_N >= 0])
    member_NK = member_NG[:, column_G[kept]]
    best = kept[member_NK.argmax(axis=1)]
    joins = (label_N == NOISE) & (member_NK.max(axis=1) >= JOIN)
    joined = np.where(joins, best, label_N)
    loose = np.setdiff1d(kept, _tight(vectors, joined))
    return np.where(joins & np.isin(joined, loose), NOISE, joined)


def _stability(
    reduced: NDArray[np.float32], core: NDArray[np.int64], numbers: NDArray[np.int64], settings: ClusterSettings, progress: Progress
) -> dict[int, float]:
    if not len(numbers):
        return {}
    count, rng = len(core), np.random.default_rng(0)
    best = np.zeros((RESAMPLES, len(numbers)))
    for n in range(RESAMPLES):
        progress(n, RESAMPLES, "clustering again with other neurons left out")
        drawn = np.sort(rng.choice(count, int(SHARE * count), replace=False))
        again = _core(_fitted(reduced[drawn], settings, soft=False))
        for column, number in enumerate(numbers):
            best[n, column] = _best_overlap(core[drawn] == number, again)
    return {int(number): round(float(value), 3) for number, value in zip(numbers, best.mean(axis=0), strict=True)}


def _best_overlap(member_N: NDArray[np.bool_], label_N: NDArray[np.int64]) -> float:
    """The largest Jaccard overlap of a set with a group."""
    found = np.unique(label_N[member_N & (label_N >= 0)])
    return max((float((member_N & (label_N == n)).sum() / (member_N | (label_N == n)).sum()) for n in found), default=0.0)


def condensed(model: Any) -> tuple[Branch, ...]:
    """The condensed tree's groups, parents first, laid out side by side."""
    table: pd.DataFrame = model.condensed_tree_.to_pandas()
    if table.empty:
        return ()
    finite = table["lambda_val"].replace(np.inf, np.nan)
    table = table.assign(lambda_val=finite.fillna(finite.max() if finite.notna().any() else 1.0))
    root = int(table["parent"].min())
    ends = table.groupby("parent")["lambda_val"].max()
    groups = table[table["child"] >= root]
    chosen = {int(node) for node in model.condensed_tree_._select_clusters()}
    size = {root: int((table["child"] < root).sum()), **dict(zip(groups["child"], groups["child_size"], strict=True))}
    born = {root: 0.0, **dict(zip(groups["child"], groups["lambda_val"], strict=True))}
    start, used = {root: 0}, dict[int, int]()
    for parent, child in zip(groups["parent"], groups["child"], strict=True):
        start[child] = start[parent] + used.get(parent, 0)
        used[parent] = used.get(parent, 0) + int(size[child])
    return tuple(
        Branch(round(float(born[n]), 4), round(float(ends.get(n, born[n])), 4), int(size[n]), start[n], n in chosen) for n in sorted(size)
    )


def unit_rows(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row over its length; rows of 0 stay."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1), dtype=np.float32)


def mean_cosine(vectors: NDArray[np.float32]) -> float:
    """Mean cosine between different rows: (|sum|^2 - n) / (n^2 - n) for unit rows."""
    count = len(vectors)
    if count < 2:
        return 0.0
    unit = unit_rows(vectors)
    return float(((unit.sum(axis=0, dtype=np.float64) ** 2).sum() - (unit**2).sum()) / (count * count - count))


def _tight(vectors: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Labels with loose clusters called noise: members must be more alike, on average, than unrelated sides are.

    The cosines of unrelated pairs are read off the lower half of random pairs: the upper half holds members of the same groups.
    Without this HDBSCAN makes small clusters of what merely lies near by chance, or of sides without a description (short vectors).
    """
    unit = unit_rows(vectors - vectors.mean(axis=0))
    pairs = np.random.default_rng(0).integers(0, len(unit), (20_000, 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    low, middle = np.quantile(np.einsum("nd,nd->n", unit[pairs[:, 0]], unit[pairs[:, 1]]), (0.16, 0.5))
    least = float(middle + TIGHT * (middle - low))
    overall = mean_cosine(vectors)
    loose = [
        number
        for number in np.unique(labels[labels >= 0])
        if mean_cosine(unit[labels == number]) < least or mean_cosine(vectors[labels == number]) <= overall
    ]
    return np.where(np.isin(labels, loose), NOISE, labels)
