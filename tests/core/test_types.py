"""Neurons as people write them, and the settings of a run."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurons.core.errors import InvalidInput, InvalidSteer
from neurons.core.types import ExpertSide, NeuronSide, Sampling, Segment, question_of


@pytest.mark.parametrize("text", ["17:803", "17:803+", "L17:n803", " 17 / 803 ", "17.803:+", "l17:803 +"])
def test_a_neuron_can_be_written_in_several_ways(text: str) -> None:
    assert NeuronSide.parse(text) == NeuronSide(17, 803, "+")


@given(st.integers(0, 999_999_999), st.integers(0, 999_999_999), st.sampled_from("+-"))
def test_a_neurons_name_comes_back(layer: int, index: int, sign: str) -> None:
    side = NeuronSide(layer, index, sign)  # type: ignore[arg-type]
    assert NeuronSide.parse(str(side)) == side


@pytest.mark.parametrize("text", ["", "17", "17:", ":803", "17:803*", "-1:2", "1:2:3", "17:1234567890", "a:b"])
def test_what_is_no_neuron_is_refused(text: str) -> None:
    with pytest.raises(InvalidSteer, match="is not a neuron; write layer:index") as told:
        NeuronSide.parse(text)
    assert told.value.field == "neurons"


def test_a_place_in_an_expert_needs_the_model() -> None:
    side = NeuronSide.parse("17:e2/35-", experts=True)
    assert side == ExpertSide(17, 35, "-", "e2")
    assert str(side) == "17:e2/35-"
    assert str(NeuronSide.parse("17:s/3", experts=True)) == "17:s/3+"
    with pytest.raises(InvalidSteer, match="counts within an expert"):
        NeuronSide.parse("17:e2/35")


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        (Sampling(temperature=-0.1), "temperature"),
        (Sampling(temperature=math.inf), "temperature"),
        (Sampling(top_p=0), "top_p"),
        (Sampling(top_p=1.1), "top_p"),
        (Sampling(top_k=-1), "top_k"),
        (Sampling(max_new_tokens=0), "max_new_tokens"),
        (Sampling(seed=2**63), "seed"),
        (Sampling(seed=-1), "seed"),
        (Sampling(follow=(("repetition_penalty", 0),)), "follow"),
        (Sampling(follow=(("no_repeat_ngram_size", 2.5),)), "follow"),
        (Sampling(follow=(("suppress_tokens", (-1,)),)), "follow"),
        (Sampling(follow=(("forced_bos_token_id", 3),)), "follow"),
    ],
)
def test_a_setting_out_of_bounds_is_named(settings: Sampling, field: str) -> None:
    with pytest.raises(InvalidInput) as told:
        settings.check()
    assert told.value.field == field


def test_the_bounds_themselves_are_good() -> None:
    for settings in (Sampling(10, 1, 0, 32_768, 2**63 - 1), Sampling(0, 1e-9, 1, 1, 0)):
        assert settings.check() is settings


def test_settings_say_how_tokens_are_chosen() -> None:
    assert Sampling().how == "greedy"
    assert Sampling(1e-40).how == "greedy (temperature 1e-40 is too small to draw at)"
    assert Sampling(1e-40).greedy
    assert Sampling(0.7).how == "temperature 0.7"
    assert Sampling(follow=(("repetition_penalty", 1.2),)).how == "greedy, repetition penalty followed"


def test_settings_come_back_from_their_json() -> None:
    followed = Sampling(0.5, 0.9, 40, 16, 7, (("suppress_tokens", (1, 2)),))
    assert Sampling(**followed.to_json()) == followed
    assert "follow" not in Sampling().to_json()  # as older files have it


def test_the_question_is_the_last_turn_of_the_user() -> None:
    segments = [
        Segment("user", 0, 2, template=True),
        Segment("user", 2, 5),
        Segment("assistant", 5, 8),
        Segment("user", 8, 9, template=True),
        Segment("user", 9, 12),
        Segment("user", 12, 12),
        Segment("assistant", 12, 13, template=True),
    ]
    assert question_of(segments) == (9, 12)
    assert question_of(segments[:1]) is None
    assert question_of([]) is None
