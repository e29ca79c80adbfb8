"""The detectors that ship: small, of this lexicon and the default model; and they name what sentences of the test's own are about."""

from __future__ import annotations

import numpy as np
import pytest

from neurons.concepts.clusters import SURE
from neurons.detectors.features import encode_texts, text_means
from neurons.detectors.lexicon import SHIPPED as SHIPPED_LEXICON
from neurons.detectors.lexicon import load_lexicon
from neurons.detectors.records import RATES
from neurons.detectors.store import SHIPPED, Detectors, open_detectors
from neurons.models.loaded import LoadedModel

SENTENCES = {
    "My dentist says I need a filling in one of my molars.": "teeth-dentist",
    "How do I keep sourdough from sticking to the proofing basket?": "baking",
    "The striker scored twice before half-time and the goalkeeper was furious.": "football",
    "What is seven times eight plus seven times nine?": "multiplication",
    "The jury found the defendant guilty on all three counts.": "courts-trials",
    "Write a Python function that reads a file and returns its lines.": "python",
    "Bonjour, je voudrais savoir quand part le prochain train.": "french",
    "A thunderstorm with hail is expected along the coast tonight.": "storms",
    "I am furious with him, he lied to my face again.": "anger",
    "Plate tectonics explains why the ground shook in Lisbon in 1755.": "earthquakes",
    "The bride threw her bouquet and the guests cheered.": "weddings",
    "Please accept my apologies for the late reply.": "apologising",
    "The orchestra played a Mozart symphony and a Brahms concerto.": "classical-music",
    "Which vaccine should my baby get at three months?": "vaccines",
    "Interest on my mortgage has gone up twice this year.": "loans-debt",
    "The rabbi read from the Torah on Friday evening.": "judaism",
    "Voters went to the polls to choose a new president.": "elections",
    "My cat purrs when I scratch her behind the ears.": "cats",
    "Astronomers found a planet that circles two stars.": "planets",
    "The surgeon removed his appendix through a tiny cut.": "surgery",
    "She poured the espresso and frothed some milk for a cappuccino.": "coffee",
    "The submarine fired a torpedo at the destroyer.": "navy",
    "Roses and tulips were in bloom all along the path.": "flowers",
    "The judge sent him to jail for nine years without parole.": "prison",
}
"""Sentence -> the concept that a reader would name first."""


@pytest.fixture(scope="module")
def detectors(default_model: LoadedModel) -> Detectors:
    found = open_detectors(default_model.ref)
    assert found is not None
    assert not found.note_for(default_model.ref)
    return found


def test_they_are_small_and_of_this_lexicon(detectors: Detectors) -> None:
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) <= 2_000_000
    lexicon = load_lexicon([SHIPPED_LEXICON])
    assert detectors.lexicon == lexicon.fingerprint, "the lexicon has changed: run `make detectors`"
    assert detectors.keys == tuple(c.key for c in lexicon.concepts)
    assert detectors.fields == tuple(c.field for c in lexicon.concepts)
    arrays = detectors.arrays
    assert arrays.neuron_CK.shape[1] <= 100
    assert np.isfinite(arrays.weight_CK).all()
    assert np.isfinite(arrays.tail_3CQ).all()
    assert arrays.tail_3CQ.shape == (3, len(detectors), len(RATES))
    assert detectors.corpus_tokens >= 100_000


def test_most_are_found_and_shuffled_labels_find_nothing(detectors: Detectors) -> None:
    arrays = detectors.arrays
    assert detectors.found.mean() >= 0.9
    assert np.median(arrays.auroc_C) >= 0.95
    assert abs(np.median(arrays.auroc_shuffled_C) - 0.5) < 0.05
    assert (arrays.q_C[detectors.found] <= 0.01).all()


def test_they_name_what_new_sentences_are_about(default_model: LoadedModel, detectors: Detectors) -> None:
    means_NLI = text_means(default_model, encode_texts(default_model, list(SENTENCES)), {})
    places = []
    for key, means_LI in zip(SENTENCES.values(), means_NLI, strict=True):
        row_numbers = [row.key for row in detectors.active(means_LI[:, None].numpy(), [0], len(detectors))]
        [score_C] = detectors.score(means_LI[:, None].numpy())
        right = detectors.keys.index(key)
        assert (key in row_numbers) == (bool(detectors.found[right]) and score_C[right] > 0)
        places.append(int((score_C > score_C[right]).sum()))
    assert np.mean([place < 5 for place in places]) >= 0.75, places
    assert np.median(places) <= 1


def test_most_neurons_have_a_sure_concept(detectors: Detectors) -> None:
    strongest_LI = detectors.arrays.side_t_2LI.max(axis=0)
    assert (strongest_LI > 4).mean() > 0.5
    assert (detectors.arrays.side_concept_2LI < len(detectors)).all()


def test_topics_are_no_languages_and_the_strongest_concepts_of_all_other_sides(detectors: Detectors) -> None:
    arrays = detectors.arrays
    language_2LI = np.isin(arrays.side_concept_2LI, detectors.languages)
    assert not np.isin(arrays.side_topic_2LI, detectors.languages).any()
    assert 0.2 < language_2LI.mean() < 0.5
    assert (arrays.side_topic_2LI == arrays.side_concept_2LI)[~language_2LI].mean() > 0.8
    sure = language_2LI & (arrays.side_t_2LI >= SURE)
    assert (arrays.side_topic_t_2LI[sure] >= SURE).mean() > 0.6
