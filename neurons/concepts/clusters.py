"""Group neuron sides that do like things: HDBSCAN over their meanings, noise kept as noise, labelled by what members share.

Campello, Moulavi & Sander 2013. Brute-force distances: the same clusters as the tree algorithms at these dimensions, many times faster.
Deterministic: no step draws random numbers that are not seeded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from neurons.concepts.labels import label_groups, terms
from neurons.concepts.search import SearchIndex
from neurons.core.errors import InvalidInput
from neurons.core.progress import Progress, no_progress
from neurons.core.types import NeuronSide

NOISE = -1
_BRUTE_LIMIT = 15_000
_SAMPLE = 12_000
TIGHT = 2.5
"""A cluster's members must be this many standard deviations of unrelated pairs more alike than the usual pair."""


@dataclass(frozen=True)
class ClusterSettings:
    """Parameters, shown with every result."""

    min_size: int = 5
    """Fewest members of a cluster."""
    min_samples: int = 3
    """How many neighbours make a place dense: higher calls more noise."""
    method: str = "leaf"
    """"leaf" gives many fine clusters, "eom" fewer and broader ones."""
    components: int = 50
    """Principal components that distances are taken in (30 above 15,000 sides)."""

    def check(self) -> ClusterSettings:
        """Return self, or raise `InvalidInput`."""
        if not (2 <= self.min_size <= 10_000 and 1 <= self.min_samples <= 1_000):
            raise InvalidInput("a cluster needs min_size from 2 and min_samples from 1", field="min_size")
        if self.method not in ("leaf", "eom"):
            raise InvalidInput(f"cluster method is {self.method!r}; use leaf or eom", field="method")
        if not 2 <= self.components <= 384:
            raise InvalidInput(f"components is {self.components}; use 2 to 384", field="components")
        return self


@dataclass(frozen=True)
class Cluster:
    """A group of sides. Number -1 is the noise: sides that belong to no group."""

    number: int
    label: str
    sides: tuple[NeuronSide, ...]
    """Strongest first where weights were given, else as they came."""
    coherence: float
    """Mean cosine between members, less the mean cosine between all sides clustered: 0 is no better than chance."""
    weight: float
    """Sum of the members' weights (activation or attribution)."""


@dataclass(frozen=True)
class Clustering:
    """Clusters by weight (then size), the noise last."""

    clusters: tuple[Cluster, ...]
    settings: ClusterSettings
    sides: int
    noise: int
    note: str = ""

    def rows(self) -> list[dict[str, object]]:
        """As JSON rows."""
        return [{**asdict(c), "sides": [str(side) for side in c.sides], "size": len(c.sides)} for c in self.clusters]


def meaning_vectors(index: SearchIndex, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Vectors whose closeness is likeness of meaning, (n, D): readings and the parts of descriptions, each of length 1 (or 0)."""
    space = index.space
    reading = _unit(space.vectors(rows))
    said = _unit(np.asarray(space.levels_NP[rows] @ space.part_PE.astype(np.float32), dtype=np.float32)) if space.parts else reading[:, :0]
    return np.concatenate([reading, said], axis=1)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1), dtype=np.float32)


def cluster_vectors(vectors: NDArray[np.float32], settings: ClusterSettings = ClusterSettings()) -> tuple[NDArray[np.int64], str]:
    """(cluster number of each row, or -1; a note). Above 15,000 rows a spread-out sample is clustered and the others join near clusters."""
    settings.check()
    count = len(vectors)
    if count < max(2 * settings.min_size, settings.min_samples + 1):
        return np.full(count, NOISE, dtype=np.int64), f"{count} sides are too few to cluster: at least {2 * settings.min_size} are needed"
    from sklearn.decomposition import PCA  # here and below: a second of imports that the app's start need not wait for

    components = min(settings.components if count <= _BRUTE_LIMIT else 30, count - 1, vectors.shape[1])
    reduced = PCA(components, svd_solver="covariance_eigh").fit_transform(vectors.astype(np.float64)).astype(np.float32)
    if count <= _BRUTE_LIMIT:
        return _tight(vectors, _hdbscan(reduced, settings)), ""
    sample = np.linspace(0, count - 1, _SAMPLE).astype(np.int64)
    label_S = _tight(vectors[sample], _hdbscan(reduced[sample], settings))
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
    return labels, f"clustered a sample of {_SAMPLE:,} of {count:,} sides; the others joined a cluster where they lie within its reach"


def _hdbscan(reduced: NDArray[np.float32], settings: ClusterSettings) -> NDArray[np.int64]:
    from hdbscan import HDBSCAN

    model = HDBSCAN(
        min_cluster_size=settings.min_size,
        min_samples=max(1, settings.min_samples - 1),  # the package does not count the point itself
        algorithm="generic",  # its tree algorithms take 12 to 24 times as long at these dimensions
        cluster_selection_method=settings.method,
    )
    return np.asarray(model.fit_predict(reduced.astype(np.float64)), dtype=np.int64)


def _tight(vectors: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Labels with loose clusters called noise: members must be more alike, on average, than unrelated sides are.

    The cosines of unrelated pairs are read off the lower half of random pairs: the upper half holds members of the same groups.
    Without this HDBSCAN makes small clusters of what merely lies near by chance, or of sides without a description (short vectors).
    """
    unit = _unit(vectors - vectors.mean(axis=0))
    pairs = np.random.default_rng(0).integers(0, len(unit), (20_000, 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    low, middle = np.quantile(np.einsum("nd,nd->n", unit[pairs[:, 0]], unit[pairs[:, 1]]), (0.16, 0.5))
    least = float(middle + TIGHT * (middle - low))
    overall = _mean_cosine(vectors)
    loose = [
        number
        for number in np.unique(labels[labels >= 0])
        if _mean_cosine(unit[labels == number]) < least or _mean_cosine(vectors[labels == number]) <= overall
    ]
    return np.where(np.isin(labels, loose), NOISE, labels)


def cluster_sides(
    index: SearchIndex,
    sides: Sequence[NeuronSide],
    *,
    weights: Sequence[float] | None = None,
    settings: ClusterSettings = ClusterSettings(),
    progress: Progress = no_progress,
) -> Clustering:
    """Cluster sides by meaning and label the clusters. `weights` (one per side, such as activation or attribution) sort them."""
    sides = list(dict.fromkeys(sides)) if weights is None else list(sides)
    if weights is not None and len(weights) != len(sides):
        raise InvalidInput(f"{len(sides)} sides but {len(weights)} weights", field="weights")
    known = [n for n, side in enumerate(sides) if len(index.rows([side]))]
    rows = index.rows([sides[n] for n in known])
    weight = np.array([weights[n] for n in known]) if weights is not None else np.ones(len(known))
    progress(0, None, f"clustering {len(known)} neurons")
    vectors = meaning_vectors(index, rows)
    labels, note = cluster_vectors(vectors, settings)
    numbers = [int(n) for n in np.unique(labels) if n >= 0]
    description, theme = index.table["description"].to_numpy()[rows], index.table["theme"].to_numpy()[rows]
    words = [terms(str(a), str(b)) for a, b in zip(description, theme, strict=True)]
    named = label_groups([[words[n] for n in np.flatnonzero(labels == number)] for number in numbers])
    overall = _mean_cosine(vectors)
    found = []
    for number, label in [*zip(numbers, named, strict=True), (NOISE, "in no cluster")]:
        members = np.flatnonzero(labels == number)
        members = members[np.argsort(-np.abs(weight[members]), kind="stable")]
        if len(members):
            coherence = _mean_cosine(vectors[members]) - overall if number != NOISE else 0.0
            chosen = tuple(sides[known[n]] for n in members)
            found.append(Cluster(number, label or "mixed", chosen, round(coherence, 3), float(weight[members].sum())))
    order = sorted(found, key=lambda c: (c.number == NOISE, -abs(c.weight), -len(c.sides), c.number))
    renumbered = tuple(Cluster(n if c.number != NOISE else NOISE, c.label, c.sides, c.coherence, c.weight) for n, c in enumerate(order))
    return Clustering(renumbered, settings, len(known), int((labels == NOISE).sum()), note)


def _mean_cosine(vectors: NDArray[np.float32]) -> float:
    """Mean cosine between different rows: (|sum|^2 - n) / (n^2 - n) for unit rows."""
    count = len(vectors)
    if count < 2:
        return 0.0
    unit = _unit(vectors)
    return float(((unit.sum(axis=0, dtype=np.float64) ** 2).sum() - (unit**2).sum()) / (count * count - count))
