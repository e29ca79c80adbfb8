"""Clusters: the same groups every time, noise as noise, labels from what members share, fast enough to wait for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.cluster import HDBSCAN  # another implementation, as a reference
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

from neurons.concepts import clusters
from neurons.concepts.clusters import NOISE, ClusterSettings, cluster_sides, cluster_vectors
from neurons.concepts.labels import label_groups, terms
from neurons.concepts.search import SearchIndex
from neurons.core.errors import InvalidInput
from neurons.core.types import NeuronSide
from neurons.describing.explainer import DescribeSettings, describe_atlas
from tests.support.descriptions import DESCRIBE, letter_pairs, tiny_atlas


def blobs(count: int, groups: int, *, size: int = 60, noise: float = 0.2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Tight groups on a sphere, and directions of no group."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(groups, size))
    label = rng.integers(0, groups, count)
    label[rng.random(count) < noise] = NOISE
    vectors = np.where((label >= 0)[:, None], centres[label] + 0.15 * rng.normal(size=(count, size)), rng.normal(size=(count, size)))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), label


@pytest.mark.parametrize("method", ["leaf", "eom"])
def test_known_groups_are_found_and_noise_stays_noise(method: str) -> None:
    vectors, truth = blobs(1500, 12)
    found, note = cluster_vectors(vectors, ClusterSettings(method=method))
    assert note == ""
    members = [truth[found == number] for number in np.unique(found[found >= 0])]
    assert np.mean([(group == np.bincount(group[group >= 0], minlength=12).argmax()).mean() for group in members]) > 0.9
    assert {int(np.bincount(group[group >= 0], minlength=12).argmax()) for group in members} == set(range(12))
    assert (found[truth == NOISE] == NOISE).mean() > 0.7
    assert np.array_equal(found, cluster_vectors(vectors, ClusterSettings(method=method))[0])


def test_the_same_as_the_reference_implementations_other_algorithm() -> None:

    vectors, _ = blobs(600, 6, seed=1)
    settings = ClusterSettings()
    reduced = PCA(50, svd_solver="covariance_eigh").fit_transform(vectors.astype(np.float64)).astype(np.float32)
    tree = HDBSCAN(min_cluster_size=5, min_samples=3, algorithm="kd_tree", cluster_selection_method="leaf", copy=True).fit_predict(reduced)
    assert adjusted_rand_score(tree, clusters._hdbscan(reduced, settings)) == 1
    ours = cluster_vectors(vectors, settings)[0]
    assert adjusted_rand_score(tree[ours >= 0], ours[ours >= 0]) > 0.99
    assert (ours[tree == NOISE] == NOISE).all()


@pytest.mark.slow
def test_many_sides_are_clustered_by_a_sample() -> None:
    vectors, truth = blobs(16_000, 8, size=12, seed=2)
    found, note = cluster_vectors(vectors, ClusterSettings(min_size=50))
    assert "sample" in note
    assert adjusted_rand_score(truth[truth >= 0], found[truth >= 0]) > 0.8


def test_few_sides_are_all_noise_and_say_so() -> None:
    found, note = cluster_vectors(np.eye(6, dtype=np.float32))
    assert (found == NOISE).all()
    assert "too few" in note


@pytest.mark.parametrize(
    "settings", [ClusterSettings(min_size=1), ClusterSettings(min_samples=0), ClusterSettings(method="x"), ClusterSettings(components=1)]
)
def test_bad_settings_are_refused(settings: ClusterSettings) -> None:
    with pytest.raises(InvalidInput):
        cluster_vectors(np.zeros((100, 4), np.float32), settings)


def test_labels_name_what_is_shared_and_special() -> None:
    groups = [
        [["court", "the"], ["court", "law", "the"], ["law", "the"]],
        [["river", "the"], ["river", "lake", "the"], ["unique", "the"]],
    ]
    labels = label_groups(groups, most=2)
    assert labels[0].split(", ")[0] in ("court", "law")
    assert labels[1].startswith("river")
    assert "unique" not in labels[1]
    assert label_groups([]) == []


def test_terms_leave_out_what_counts_against() -> None:
    found = terms('strongly "than", words in -ing; weakly after "of"/months; less on "x"; not commas', "court, law")
    assert found == ["words in -ing", "than", "of", "months", "court", "law"]


@pytest.mark.slow
def test_clusters_of_a_described_atlas(tmp_path: Path, home: Path) -> None:
    loaded, atlas = tiny_atlas(tmp_path)
    done = describe_atlas(loaded, atlas, settings=DescribeSettings(**DESCRIBE), encode=letter_pairs, work=tmp_path / "work")
    index = SearchIndex(done)
    sides = [NeuronSide(layer, n, sign) for layer in range(3) for n in range(48) for sign in ("+", "-")]  # type: ignore[arg-type]
    weights = [float(n % 7) - 3 for n in range(len(sides))]
    found = cluster_sides(index, sides, weights=weights, settings=ClusterSettings(min_size=3, min_samples=2))
    assert sum(len(c.sides) for c in found.clusters) == found.sides == len(sides)
    assert found.clusters[-1].number == NOISE
    assert len(found.clusters[-1].sides) == found.noise
    assert [c.number for c in found.clusters[:-1]] == list(range(len(found.clusters) - 1))
    assert all(c.coherence > 0 for c in found.clusters[:-1])
    sizes = [abs(c.weight) for c in found.clusters[:-1]]
    assert sizes == sorted(sizes, reverse=True)
    assert found == cluster_sides(index, sides, weights=weights, settings=ClusterSettings(min_size=3, min_samples=2))
    outside = cluster_sides(index, [*sides, NeuronSide(99, 0)], settings=ClusterSettings(min_size=3))
    assert outside.sides == len(sides)
    with pytest.raises(InvalidInput):
        cluster_sides(index, sides, weights=[1.0])
