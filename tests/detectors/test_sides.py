"""Which concept a neuron's side is most for: planted ones are found, dead ones are for none, t is what it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from neurons.detectors.collect import Texts
from neurons.detectors.sides import strongest_concepts

CONCEPTS, TEXTS = 3, 30


class Given:
    """Features that are in memory."""

    shape_LNI = (2, TEXTS, 4)

    def __init__(self, acts_LNI: NDArray[np.float32]) -> None:
        self.acts_LNI = acts_LNI

    def layer(self, layer: int, rows: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(self.acts_LNI[layer][rows])


@pytest.fixture
def texts() -> Texts:
    number_N = np.arange(TEXTS)
    return Texts(tuple(map(str, number_N)), number_N % CONCEPTS, number_N % 10 == 9, number_N % 5 == 4)


@pytest.fixture
def features(texts: Texts) -> Given:
    acts_LNI = np.random.default_rng(0).normal(size=Given.shape_LNI).astype(np.float32)
    acts_LNI[0, :, 0] += 9 * (texts.class_N == 2)
    acts_LNI[0, :, 1] -= 9 * (texts.class_N == 1)
    acts_LNI[0, :, 2] = 0.5
    unseen = texts.held_N | texts.near_N
    acts_LNI[1, unseen, 3] = 1_000 * (texts.class_N[unseen] == 0)
    return Given(acts_LNI)


def test_planted_sides_are_found_and_dead_neurons_are_for_none(features: Given, texts: Texts) -> None:
    seen: list[int] = []
    concept_2LI, t_2LI = strongest_concepts(features, texts, CONCEPTS, progress=lambda done, total, message: seen.append(done))
    assert concept_2LI[0, 0, 0] == 2
    assert concept_2LI[1, 0, 1] == 1, "below zero on its sentences: the negative side"
    assert t_2LI[0, 0, 0] > 10
    assert (concept_2LI[:, 0, 2] == -1).all()
    assert (t_2LI[:, 0, 2] == 0).all()
    assert seen == [1, 2]


def test_t_is_the_difference_of_means_over_its_error_on_training_sentences_alone(features: Given, texts: Texts) -> None:
    concept_2LI, t_2LI = strongest_concepts(features, texts, CONCEPTS)
    rows = ~texts.held_N & ~texts.near_N
    class_N = texts.class_N[rows]
    for layer, neuron in ((0, 3), (1, 0), (1, 3)):
        value_N = features.acts_LNI[layer, rows, neuron].astype(float)
        groups = [value_N[class_N == c] for c in range(CONCEPTS)]
        within = sum(((group - group.mean()) ** 2).sum() for group in groups) / (len(value_N) - CONCEPTS)
        truth = []
        for c, group in enumerate(groups):
            rest = value_N[class_N != c]
            truth.append((group.mean() - rest.mean()) / np.sqrt(within * (1 / len(group) + 1 / len(rest))))
        assert concept_2LI[0, layer, neuron] == int(np.argmax(truth))
        assert t_2LI[0, layer, neuron] == pytest.approx(max(truth), rel=2e-3)
        assert concept_2LI[1, layer, neuron] == int(np.argmin(truth))
        assert t_2LI[1, layer, neuron] == pytest.approx(-min(truth), rel=2e-3)


def test_among_some_concepts_the_others_and_their_sentences_are_left_out(features: Given, texts: Texts) -> None:
    concept_2LI, t_2LI = strongest_concepts(features, texts, CONCEPTS, among=np.array([True, True, False]))
    assert not (concept_2LI == 2).any()
    kept = texts.class_N != 2
    fewer = Texts(tuple(np.array(texts.texts)[kept]), texts.class_N[kept], texts.near_N[kept], texts.held_N[kept])
    alone = Given(features.acts_LNI[:, kept])
    expected_concept, expected_t = strongest_concepts(alone, fewer, 2)
    assert np.array_equal(concept_2LI, expected_concept)
    assert np.allclose(t_2LI, expected_t, rtol=1e-2)
    assert concept_2LI[0, 0, 0] in (0, 1), "most for the concept that is left out; now for another one"
