"""Concepts as sets: whose neurons they are, and files that come from anybody."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurons.concepts.sets import MOST, Concept, named_json
from neurons.core.errors import InvalidInput, NeuronscopeError
from neurons.core.types import NeuronSide

SIDES = st.builds(NeuronSide, st.integers(0, 40), st.integers(0, 9000), st.sampled_from("+-"))
A, B, C = NeuronSide(1, 2), NeuronSide(1, 2, "-"), NeuronSide(3, 4)


def of_model(sides: list[NeuronSide], name: str = "tiny", weights: str = "abc") -> Concept:
    return replace(Concept.of(sides), model=name, weights_hash=weights)


@given(st.lists(SIDES, max_size=12), st.lists(SIDES, max_size=12))
def test_combining_is_what_sets_do(one: list[NeuronSide], two: list[NeuronSide]) -> None:
    a, b = Concept.of(one), Concept.of(two)
    assert set(a.union(b).sides) == set(one) | set(two)
    assert set(a.intersection(b).sides) == set(one) & set(two)
    assert set(a.difference(b).sides) == set(one) - set(two)
    for made in (a.union(b), a.intersection(b), a.difference(b)):
        assert len(made.sides) == len(set(made.sides))


def test_the_two_sides_of_a_neuron_are_two_members() -> None:
    assert Concept.of([A, B, A]).sides == (A, B)
    assert Concept.of([A]).intersection(Concept.of([B])).sides == ()


@pytest.mark.parametrize("operation", ["union", "intersection", "difference"])
def test_what_is_made_of_a_models_neurons_belongs_to_that_model(operation: str) -> None:
    known, typed = of_model([A, C]), Concept.of([A])
    for one, two in ((known, typed), (typed, known), (known, known)):
        made = getattr(one, operation)(two)
        assert (made.model, made.weights_hash) == ("tiny", "abc")
    assert getattr(typed, operation)(typed).weights_hash == ""
    with pytest.raises(InvalidInput, match="belong to different models") as told:
        getattr(known, operation)(of_model([A], "other", "def"))
    assert told.value.field == "concept"


def test_how_it_was_made_is_said_and_old_figures_go() -> None:
    one = replace(of_model([A, C]), origin="search: court", note="mine", similarity={"1:2+": 0.5})
    made = one.union(Concept.of([B]))
    assert made.origin == "union of search: court and 1 neurons"
    assert (made.note, made.similarity) == ("", {})


@given(st.lists(SIDES, min_size=1, max_size=8, unique=True), st.text(max_size=20), st.floats(-1, 1))
def test_a_concept_comes_back_from_its_file(sides: list[NeuronSide], note: str, fit: float) -> None:
    concept = replace(of_model(sides), note=note, origin="list", similarity={str(sides[0]): round(fit, 4)})
    assert Concept.from_json(concept.to_json()) == concept
    assert Concept.from_json(named_json("sea", concept)) == concept
    assert Concept.from_json([str(side) for side in sides]).sides == concept.sides


@pytest.mark.parametrize(
    "content",
    [
        None,
        "17:803",
        {},
        {"neurons": "17:803"},
        {"neurons": ["17"]},
        {"neurons": [{"layer": 1}]},
        {"neurons": ["1:e2/3"]},
        {"neurons": ["1:2"], "model": "tiny"},
        {"neurons": ["1:2"], "similarity": [1]},
        {"neurons": ["1:2"], "similarity": {"1:2+": "much"}},
        {"neurons": ["1:2"], "similarity": {"1:2+": float("nan")}},
        [f"0:{n}" for n in range(MOST + 1)],
    ],
)
def test_what_is_no_concept_is_refused(content: Any) -> None:
    with pytest.raises(NeuronscopeError):
        Concept.from_json(content)


def test_the_steer_of_a_concept_takes_its_first_neurons() -> None:
    steer = replace(of_model([A, C]), origin="list").steer(strength=0.5, most=1)
    assert (steer.neurons, steer.strength, steer.mode, steer.name) == ((A,), 0.5, "set", "list")
    with pytest.raises(NeuronscopeError):
        of_model([A]).steer(strength=5000)
