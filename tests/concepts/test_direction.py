"""A steer from examples, on the real default model: it moves the means and the text towards the examples."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neurons.concepts.contrast import NEUTRAL
from neurons.concepts.direction import SKIPPED, steer_from_examples
from neurons.core.errors import InvalidInput
from neurons.core.types import Sampling
from neurons.models.chat import encode_text
from neurons.models.loaded import LoadedModel
from neurons.runs.hooks import run_forward
from neurons.tracing.record import run_pair

FOOD = (
    "She chopped the onions and fried them in butter with garlic.",
    "The soup was seasoned with salt, pepper and fresh basil.",
    "Bake the bread in a hot oven for forty minutes.",
    "They served roast chicken with potatoes and a green salad.",
    "A good cheese needs bread and a glass of wine.",
)


def mean_of(loaded: LoadedModel, texts: tuple[str, ...], layer: int, index: int) -> float:
    found: list[float] = []
    for text in texts:
        seen: list[torch.Tensor] = []
        ids = torch.tensor([encode_text(loaded, text)])
        run_forward(loaded, ids, record=lambda at, acts, seen=seen: seen.append(acts[0, SKIPPED:, index].clone()) if at == layer else None)
        found += seen[0].tolist()
    return float(np.mean(found))


def test_values_are_the_differences_of_the_means(default_model: LoadedModel) -> None:
    steer = steer_from_examples(default_model, FOOD, neurons=40, name="food")
    assert (len(steer.neurons), steer.mode, str(steer.tokens)) == (40, "add", "answer")
    assert steer.values is not None
    edge = default_model.n_layers // 5
    assert all(edge <= side.layer < default_model.n_layers - edge for side in steer.neurons)
    for side, value in list(zip(steer.neurons, steer.values, strict=True))[:3]:
        expected = mean_of(default_model, FOOD, side.layer, side.index) - mean_of(default_model, NEUTRAL, side.layer, side.index)
        assert value == pytest.approx(expected, rel=1e-3, abs=1e-4)
        assert side.polarity == ("+" if value >= 0 else "-")
    assert steer_from_examples(default_model, FOOD, neurons=40, name="food") == steer


def test_it_moves_an_answer_towards_the_examples(default_model: LoadedModel) -> None:
    steer = steer_from_examples(default_model, FOOD, strength=3.0)
    pair = run_pair(default_model, "Tell me about your weekend.", [steer], sampling=Sampling(max_new_tokens=40))
    words = (
        "food",
        "cook",
        "kitchen",
        "recipe",
        "bread",
        "chicken",
        "cheese",
        "oven",
        "flavor",
        "delicious",
        "garlic",
        "meal",
        "dish",
        "eat",
    )
    counts = [sum(run.answer.lower().count(word) for word in words) for run in (pair.baseline, pair.steered)]
    assert counts[1] > counts[0]


@pytest.mark.parametrize(("examples", "options"), [(["one"], {}), (["a b", " "], {}), (["a b", "c d"], {"neurons": 0})])
def test_bad_input(default_model: LoadedModel, examples: list[str], options: dict[str, int]) -> None:
    with pytest.raises(InvalidInput):
        steer_from_examples(default_model, examples, **options)
