"""Groups by likeness: the same every time, noise as noise, stability by clustering again; of a described atlas as a whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.cluster import HDBSCAN  # another implementation, as a reference
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

from neurons.concepts import density
from neurons.concepts.clusters import cluster_sides
from neurons.concepts.density import NOISE, ClusterSettings, cluster_vectors
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


@pytest.mark.parametrize("breadth", ["fine", "broad"])
def test_known_groups_are_found_and_noise_stays_noise(breadth: str) -> None:
    vectors, truth = blobs(900, 12)
    done = cluster_vectors(vectors, ClusterSettings(breadth=breadth))
    found = done.label_N
    assert done.note == ""
    members = [truth[found == number] for number in np.unique(found[found >= 0])]
    assert np.mean([(group == np.bincount(group[group >= 0], minlength=12).argmax()).mean() for group in members]) > 0.9
    assert {int(np.bincount(group[group >= 0], minlength=12).argmax()) for group in members} == set(range(12))
    assert (found[truth == NOISE] == NOISE).mean() > 0.7
    again = cluster_vectors(vectors, ClusterSettings(breadth=breadth))
    assert np.array_equal(found, again.label_N)
    assert done.stability == again.stability
    assert set(done.stability) == set(found[found >= 0])
    assert breadth == "fine" or np.median(list(done.stability.values())) > 0.7
    assert done.tree[0].size == 900
    assert {branch.chosen for branch in done.tree} == {True, False}
    assert all(branch.born <= branch.ends and branch.start + branch.size <= 900 for branch in done.tree)


def test_what_is_near_by_chance_does_not_come_back() -> None:
    vectors, truth = blobs(200, 3, seed=4)
    core = np.where(truth == 0, 0, np.where(np.arange(200) % 9 == 0, 1, NOISE))  # a real group, and one at random
    stable = density._stability(vectors, core, np.array([0, 1]), ClusterSettings(breadth="broad"), density.no_progress)
    assert stable[0] > 0.6 > 0.3 > stable[1]


def test_left_over_sides_join_the_group_they_belong_to() -> None:
    vectors, _ = blobs(900, 12)
    model = density._fitted(
        PCA(50, svd_solver="covariance_eigh").fit_transform(vectors.astype(np.float64)).astype(np.float32), ClusterSettings()
    )
    tight = density._tight(vectors, density._core(model))
    joined = density._joined(vectors, tight, model)
    assert np.array_equal(joined[tight >= 0], tight[tight >= 0])
    assert (joined == NOISE).sum() < (tight == NOISE).sum()
    assert np.array_equal(density._tight(vectors, joined), joined)


def test_the_same_as_the_reference_implementations_other_algorithm() -> None:

    vectors, _ = blobs(600, 6, seed=1)
    settings = ClusterSettings()
    reduced = PCA(50, svd_solver="covariance_eigh").fit_transform(vectors.astype(np.float64)).astype(np.float32)
    tree = HDBSCAN(min_cluster_size=5, min_samples=3, algorithm="kd_tree", cluster_selection_method="leaf", copy=True).fit_predict(reduced)
    ours = density._fitted(reduced, settings).labels_
    assert adjusted_rand_score(tree, ours) == 1


@pytest.mark.slow
def test_many_sides_are_clustered_by_a_sample() -> None:
    vectors, truth = blobs(16_000, 8, size=12, seed=2)
    done = cluster_vectors(vectors, ClusterSettings(min_size=50))
    found = done.label_N
    assert "sample" in done.note
    assert adjusted_rand_score(truth[truth >= 0], found[truth >= 0]) > 0.8


def test_few_sides_are_all_noise_and_say_so() -> None:
    done = cluster_vectors(np.eye(6, dtype=np.float32))
    assert (done.label_N == NOISE).all()
    assert "too few" in done.note


@pytest.mark.parametrize(
    "settings",
    [ClusterSettings(min_size=1), ClusterSettings(min_samples=0), ClusterSettings(breadth="leaf"), ClusterSettings(components=1)],
)
def test_bad_settings_are_refused(settings: ClusterSettings) -> None:
    with pytest.raises(InvalidInput):
        cluster_vectors(np.zeros((100, 4), np.float32), settings)


@pytest.mark.slow
def test_clusters_of_a_described_atlas(tmp_path: Path, home: Path) -> None:
    loaded, atlas = tiny_atlas(tmp_path)
    done = describe_atlas(loaded, atlas, settings=DescribeSettings(**DESCRIBE), encode=letter_pairs, work=tmp_path / "work")
    index = SearchIndex(done)
    sides = [NeuronSide(layer, n, sign) for layer in range(3) for n in range(48) for sign in ("+", "-")]  # type: ignore[arg-type]
    weights = [float(n % 7) - 3 for n in range(len(sides))]
    found = cluster_sides(index, sides, weights=weights, settings=ClusterSettings(min_size=3, min_samples=2))
    assert sum(len(c.sides) for c in found.clusters) == found.sides == len(sides)
    assert "neuronscope atlas concepts" in found.note
    assert sum(c.share for c in found.clusters) == pytest.approx(1, abs=0.01)
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
