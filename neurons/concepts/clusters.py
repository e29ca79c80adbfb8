"""Group neuron sides that do like things: by the named concept each is most surely for; what is left by likeness of meaning; then noise."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from neurons.concepts.density import DEFAULT, NOISE, Branch, ClusterSettings, cluster_vectors, mean_cosine, unit_rows
from neurons.concepts.labels import check_same_shape, name_of, words
from neurons.concepts.search import SearchIndex
from neurons.core.errors import InvalidInput
from neurons.core.progress import Progress, no_progress
from neurons.core.types import NeuronSide
from neurons.detectors.store import Detectors

SURE = 5.0
"""A side is grouped by its strongest concept from this t on. Bonferroni over some 800 concepts is 4; over 5, two disjoint halves of the
lexicon gave 85% of the sides the same field."""
SHARED = 3
"""Sides that must share a concept for it to be a cluster of its own."""
STABLE = 0.6
"""Groups that come back with less overlap than this when other sides are left out are called unstable."""
_NO_CONCEPTS = "this model has no named concepts yet; `neuronscope atlas concepts` finds them and gives named groups"


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
    share: float = 0.0
    """The size of the members' weights over that of all sides', 0 to 1."""
    stability: float | None = None
    """Of a group found by likeness: how much of it comes back when other sides are left out, 0 to 1. None: by concept, or not measured."""
    kind: Literal["concept", "likeness", "noise"] = "likeness"

    @property
    def unstable(self) -> bool:
        return self.stability is not None and self.stability < STABLE


@dataclass(frozen=True)
class Clustering:
    """Clusters by weight (then size), the noise last."""

    clusters: tuple[Cluster, ...]
    settings: ClusterSettings
    sides: int
    noise: int
    note: str = ""
    tree: tuple[Branch, ...] = ()
    """HDBSCAN's condensed tree of the sides that no sure concept groups."""

    def rows(self) -> list[dict[str, object]]:
        """As JSON rows."""
        return [{**asdict(c), "sides": [str(side) for side in c.sides], "size": len(c.sides)} for c in self.clusters]


def meaning_vectors(index: SearchIndex, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Vectors whose closeness is likeness of meaning, (n, D): readings and the parts of descriptions, each of length 1 (or 0)."""
    space = index.space
    reading = unit_rows(space.vectors(rows))
    if not space.parts:
        return reading
    said = np.asarray(space.levels_NP[rows] @ space.part_PE.astype(np.float32), dtype=np.float32)
    return np.concatenate([reading, unit_rows(said)], axis=1)


def cluster_sides(
    index: SearchIndex,
    sides: Sequence[NeuronSide],
    *,
    weights: Sequence[float] | None = None,
    settings: ClusterSettings = DEFAULT,
    detectors: Detectors | None = None,
    spoken: Collection[int] | None = None,
    progress: Progress = no_progress,
) -> Clustering:
    """Cluster sides and name the clusters. `weights` (one per side, such as activation or attribution) sort them.

    `spoken` are the languages that the text is in (`Detectors.spoken`): no group is named by another one. A side whose strongest concept
    is another language is grouped by its strongest topic: its t for the language is large because the letters are rare, and says nothing
    of this text. None groups by every language.
    Without `detectors` all are grouped by likeness alone, and the note says so. Raises `InvalidInput`.
    """
    settings.check()
    sides = list(dict.fromkeys(sides)) if weights is None else list(sides)
    if weights is not None and len(weights) != len(sides):
        raise InvalidInput(f"{len(sides)} sides but {len(weights)} weights", field="weights")
    known = [n for n, side in enumerate(sides) if len(index.rows([side]))]
    kept = [sides[n] for n in known]
    weight_N = np.array([weights[n] for n in known]) if weights is not None else np.ones(len(known))
    rows = index.rows(kept)
    progress(0, None, f"clustering {len(known)} neurons")
    vectors = meaning_vectors(index, rows)
    concept_N, t_N = _strongest(index, kept, detectors, spoken)
    groups = concept_groups(concept_N, t_N, detectors, settings) if detectors is not None else {}
    left = np.setdiff1d(np.arange(len(kept)), np.concatenate([np.zeros(0, np.int64), *groups.values()]))
    found = cluster_vectors(vectors[left], settings, progress=progress)
    table = index.table.iloc[rows]
    said = table["headline"].astype(str).tolist() if "headline" in table else [""] * len(kept)
    words_N = [words(theme, headline) for theme, headline in zip(table["theme"].astype(str), said, strict=True)]
    peaks_N = table["peaks"].astype(str).tolist() if "peaks" in table else [""] * len(kept)
    total, overall = float(np.abs(weight_N).sum()) or 1.0, mean_cosine(vectors)

    def cluster(label: str, members: NDArray[np.int64], kind: Literal["concept", "likeness", "noise"], stability: float | None) -> Cluster:
        members = members[np.argsort(-np.abs(weight_N[members]), kind="stable")]
        coherence = 0.0 if kind == "noise" else round(mean_cosine(vectors[members]) - overall, 3)
        given = weight_N[members]
        share = round(float(np.abs(given).sum()) / total, 4)
        number = NOISE if kind == "noise" else 0
        return Cluster(number, label, tuple(kept[n] for n in members), coherence, float(given.sum()), share, stability, kind)

    made = [cluster(label, members, "concept", None) for label, members in groups.items()]
    for number in np.unique(found.label_N[found.label_N >= 0]):
        members = left[found.label_N == number]
        member_N = np.isin(np.arange(len(kept)), members)
        label = name_of(member_N, concept_N=concept_N, t_N=t_N, words_N=words_N, peaks_N=peaks_N, detectors=detectors)
        free = f"{label}, by likeness" if label in groups else label
        made.append(cluster(free, members, "likeness", found.stability.get(int(number))))
    made.sort(key=lambda c: (-abs(c.weight), -len(c.sides), c.label, c.sides))
    noise = left[found.label_N == NOISE]
    last = [cluster("in no cluster", noise, "noise", None)] if len(noise) else []
    clusters = (*(replace(c, number=n) for n, c in enumerate(made)), *last)
    about_left = f"of the {len(left):,} left over: {found.note}" if groups and found.note and len(left) else "" if groups else found.note
    notes = [_NO_CONCEPTS if detectors is None else detectors.note_for(index.atlas.ref), about_left]
    return Clustering(clusters, settings, len(kept), len(noise), "; ".join(filter(None, notes)), found.tree)


def _strongest(
    index: SearchIndex, sides: Sequence[NeuronSide], detectors: Detectors | None, spoken: Collection[int] | None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Each side's strongest concept and its t, its strongest topic where that is a language that is not spoken; -1 and 0 for none."""
    if detectors is None:
        return np.full(len(sides), -1, dtype=np.int64), np.zeros(len(sides))
    check_same_shape(detectors, (index.atlas.n_layers, index.atlas.n_neurons))
    other = set() if spoken is None else set(detectors.languages) - set(spoken)
    strongest = [detectors.strongest_concept(side) or (-1, 0.0) for side in sides]
    found = [
        one if one[0] not in other else detectors.strongest_topic(side) or (-1, 0.0) for side, one in zip(sides, strongest, strict=True)
    ]
    return np.array([c for c, _ in found], dtype=np.int64), np.array([t for _, t in found], dtype=np.float64)


def concept_groups(
    concept_N: NDArray[np.int64],
    t_N: NDArray[np.float64],
    detectors: Detectors,
    settings: ClusterSettings,
) -> dict[str, NDArray[np.int64]]:
    """Members of each named group, by place: sides whose strongest concept is sure, by field or by concept.

    Fine: a concept that at least `SHARED` of them share; the others of its field together. What is then smaller than the least size of a
    cluster is in no group here.
    """
    by_field: dict[str, list[int]] = defaultdict(list)
    for n in np.flatnonzero((t_N >= SURE) & (concept_N >= 0)):
        if detectors.found[concept_N[n]]:
            by_field[detectors.fields[concept_N[n]]].append(int(n))
    groups: dict[str, NDArray[np.int64]] = {}
    for field, members in by_field.items():
        rest = np.array(members, dtype=np.int64)
        name = field
        if settings.breadth == "fine":
            shared = [c for c, count in zip(*np.unique(concept_N[rest], return_counts=True), strict=True) if count >= SHARED]
            for c in shared:
                _add(groups, detectors.names[c], field, rest[concept_N[rest] == c])
            rest = rest[~np.isin(concept_N[rest], shared)]
            name = f"{field}: other concepts" if shared else field
        if len(rest) >= settings.min_size:
            _add(groups, name, field, rest)
    return groups


def _add(groups: dict[str, NDArray[np.int64]], name: str, field: str, members: NDArray[np.int64]) -> None:
    """Under a name of its own: two fields may have concepts of the same name."""
    free = name if name not in groups else f"{name} ({field})"
    groups[free if free not in groups else f"{free}, again"] = members
