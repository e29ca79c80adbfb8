"""Clusters by named concept: grouped where sure and found; the rest by likeness, with names that tell; noise has a total."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from neurons.concepts.clusters import SURE, Cluster, Clustering, cluster_sides
from neurons.concepts.density import NOISE, ClusterSettings
from neurons.concepts.labels import name_of, words
from neurons.core.errors import InvalidInput
from neurons.core.types import ModelRef, NeuronSide
from neurons.detectors import store
from neurons.detectors.records import ConceptLabel, DetectorArrays
from neurons.detectors.store import Detectors

NAMES = ("Fruit", "Bread", "Soup", "Cheese", "Anger", "Ghosts")
FIELDS = ("Food", "Food", "Food", "Food", "Feelings", "Tales")
COUNT = 120
REF = ModelRef("tiny", "tiny", "LlamaForCausalLM", "f" * 64, "float32", "cpu", 1, COUNT, 99, 99)


def detectors(concept: list[int], t: list[float]) -> Detectors:
    """Of a model whose positive sides have these strongest concepts."""
    n, none = len(NAMES), np.zeros(len(NAMES), np.float32)
    found = np.array([name != "Ghosts" for name in NAMES])
    side_concept, side_t = np.full((2, 1, COUNT), -1, np.int16), np.zeros((2, 1, COUNT), np.float16)
    side_concept[0, 0], side_t[0, 0] = concept, t
    neuron_CK, weight_CK = np.zeros((n, 1), np.int32), np.ones((n, 1), np.float32)
    mean_LI, tail = np.zeros((1, COUNT), np.float16), np.zeros((3, n, 12), np.float32)
    arrays = DetectorArrays(neuron_CK, weight_CK, none, none, none, none, none, found, mean_LI, tail, *2 * (side_concept, side_t))
    labels = [ConceptLabel(name.lower(), name, field, "") for name, field in zip(NAMES, FIELDS, strict=True)]
    return Detectors(REF, labels, arrays, {})


def index(vectors: np.ndarray, themes: list[str], peaks: list[str]) -> Any:
    """As much of a search index as clustering reads, of given meanings."""
    space = SimpleNamespace(parts=(), vectors=lambda rows: vectors[rows])
    table = pd.DataFrame({"theme": themes, "peaks": peaks})
    atlas = SimpleNamespace(ref=REF, n_layers=1, n_neurons=COUNT)
    return SimpleNamespace(
        space=space, table=table, atlas=atlas, rows=lambda sides: np.array([side.index for side in sides], dtype=np.int64)
    )


SIDES = [NeuronSide(0, n) for n in range(COUNT)]
# Sure: 0-9 fruit, 10-11 bread, 12-13 soup, 14 cheese, 15-17 anger, 18-23 ghosts (not found). Unsure: 24-43 of anger. 44-63 share a theme.
CONCEPT = [0] * 10 + [1] * 2 + [2] * 2 + [3] + [4] * 3 + [5] * 6 + [4] * 20 + [0, 1, 2, 3] * 10 + [-1] * 36
T = [SURE + 1] * 24 + [3.5] * 20 + [0.5] * 40 + [0] * 36


def given() -> tuple[Any, Detectors]:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 24))
    vectors = rng.normal(size=(COUNT, 24))
    for group, start in enumerate((24, 44, 64)):
        vectors[start : start + 20] = centres[group] + 0.12 * rng.normal(size=(20, 24))
    themes = [""] * 44 + ["law, court"] * 20 + [""] * 56
    peaks = ['"a" 3, "b" 1 of 4'] * 64 + ['" bee" 3, "b" 1 of 4', '"x" 1, " bee" 2 of 4'] * 10 + ["line break 4 of 4"] * 36
    return index(vectors.astype(np.float32), themes, peaks), detectors(CONCEPT, T)


def clustered(**changed: Any) -> Clustering:
    where, known = given()
    named = {"weights": [float(COUNT - n) for n in range(COUNT)], "detectors": known, **changed}
    return cluster_sides(where, SIDES, **named)


def by_name(done: Clustering) -> dict[str, Cluster]:
    named = [c.label for c in done.clusters if c.kind == "concept"]
    assert len(set(named)) == len(named)
    return {c.label: c for c in done.clusters}


def test_sure_sides_are_grouped_by_concept_and_what_is_left_of_a_field_together() -> None:
    found = by_name(clustered())
    assert [side.index for side in found["Fruit"].sides] == list(range(10))
    assert [side.index for side in found["Food: other concepts"].sides] == list(range(10, 15))
    assert found["Fruit"].kind == "concept"
    assert found["Fruit"].stability is None
    assert {side.index for side in found["Anger"].sides} == {15, 16, 17}
    assert not any("Ghosts" in label or "Tales" in label for label in found)


def test_broad_groups_by_field() -> None:
    found = by_name(clustered(settings=ClusterSettings(breadth="broad")))
    assert [side.index for side in found["Food"].sides] == list(range(15))
    assert "Fruit" not in found


def test_the_rest_is_grouped_by_likeness_with_names_that_tell() -> None:
    done = clustered(settings=ClusterSettings(breadth="broad"))
    found = by_name(done)
    law, bee = found["court"], found["unnamed, around 'bee'"]
    assert {side.index for side in law.sides} >= set(range(46, 62))
    assert {side.index for side in bee.sides} >= set(range(66, 82))
    assert {side.index for side in found["Anger"].sides} >= set(range(26, 42))
    assert all(c.stability is not None and c.stability > 0.6 and not c.unstable for c in (law, bee, found["Anger"]))
    assert done.tree
    assert done == clustered(settings=ClusterSettings(breadth="broad"))


def test_noise_is_a_cluster_with_its_total() -> None:
    done = clustered()
    noise = done.clusters[-1]
    assert (noise.number, noise.kind, len(noise.sides)) == (NOISE, "noise", done.noise)
    assert noise.weight == sum(COUNT - side.index for side in noise.sides)
    assert noise.share == pytest.approx(noise.weight / (COUNT * (COUNT + 1) / 2), abs=1e-4)
    assert sum(c.share for c in done.clusters) == pytest.approx(1, abs=0.01)
    assert sorted(side for c in done.clusters for side in c.sides) == SIDES
    assert {"share", "stability", "size", "kind"} <= set(done.rows()[-1])
    assert noise.share < clustered(detectors=None).clusters[-1].share


def test_without_detectors_likeness_alone_groups_and_the_note_leads_on() -> None:
    done = clustered(detectors=None)
    assert "neuronscope atlas concepts" in done.note
    assert {c.kind for c in done.clusters} == {"likeness", "noise"}


def test_detectors_of_another_model_are_refused() -> None:
    where, known = given()
    where.atlas.n_layers = 2
    with pytest.raises(InvalidInput, match="another shape"):
        cluster_sides(where, SIDES, detectors=known)


def test_a_name_that_others_have_too_is_not_used() -> None:
    member_N = np.arange(20) < 6
    named = {"concept_N": np.full(20, 0), "t_N": np.full(20, 3.0), "peaks_N": [""] * 20, "detectors": detectors(CONCEPT, T)}
    assert name_of(member_N, words_N=[("court",)] * 20, **named) == "unnamed"  # type: ignore[arg-type]
    assert name_of(member_N, words_N=[("court",)] * 6 + [()] * 14, **named) == "court"  # type: ignore[arg-type]
    named["t_N"] = np.where(member_N, 3.0, 1.0)
    assert name_of(member_N, words_N=[("court",)] * 20, **named) == "Fruit"  # type: ignore[arg-type]


def test_words_of_a_headline_and_a_theme() -> None:
    assert words("law, court", "the word art, mostly after sport") == ("law", "court", "art", "sport")


def test_a_language_groups_only_where_the_text_is_in_it_elsewhere_the_topic_does() -> None:
    where, known = given()
    topic, topic_t = known.arrays.side_topic_2LI.copy(), known.arrays.side_topic_t_2LI.copy()
    topic[0, 0, :10], topic_t[0, 0, :8], topic_t[0, 0, 8:10] = 1, SURE + 1, 1.0  # bread; two of them not surely
    arrays = replace(known.arrays, side_topic_2LI=topic, side_topic_t_2LI=topic_t)
    spoken_of = Detectors(REF, [ConceptLabel("fruit", "Fruit text", "Languages", ""), *known.labels[1:]], arrays, {})
    assert spoken_of.languages == (0,)
    groups = {
        spoken: {one.label: set(one.sides) for one in cluster_sides(where, SIDES, detectors=spoken_of, spoken=spoken).clusters}
        for spoken in (None, (0,), ())
    }
    assert groups[None]["Fruit text"] == groups[(0,)]["Fruit text"] == set(SIDES[:10])
    assert "Fruit text" not in groups[()]
    assert groups[()]["Bread"] == set(SIDES[:8]) | set(SIDES[10:12])


def test_detectors_of_before_there_were_topics_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, known = given()
    labels = [ConceptLabel("fruit", "Fruit text", "Languages", ""), *known.labels[1:]]
    whole = store._packed
    monkeypatch.setattr(store, "_packed", lambda arrays: {name: value for name, value in whole(arrays).items() if "topic" not in name})
    opened = store.save_detectors(tmp_path, REF, labels, known.arrays, facts={"corpus_tokens": 1, "lexicon": ""})
    assert opened.strongest_topic(SIDES[0]) is None, "a language"
    assert opened.strongest_topic(SIDES[10]) == opened.strongest_concept(SIDES[10]) == (1, SURE + 1)
