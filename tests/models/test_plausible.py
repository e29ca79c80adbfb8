"""Numbers that no model has are refused by the name of their field, before anything of their size is built."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from neurons.core.errors import ModelError
from neurons.models.plausible import MOST_LAYERS, check_longest, check_numbers, check_size


@pytest.mark.parametrize(
    "config",
    [
        {"num_hidden_layers": 30, "hidden_size": 576, "n_inner": None},
        {"num_hidden_layers": MOST_LAYERS},
        {"intermediate_size": [512, 1024]},
        {"text_config": {"n_layer": 2}, "anything_else": -5},
        {"a": {"b": {"c": {"d": {"num_layers": -1}}}}},  # nobody nests a model's sizes so deep
    ],
)
def test_plausible(config: dict[str, Any]) -> None:
    check_numbers("config.json", config)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0; it has to be a whole number from 1 to 2,000"),
        ({"num_hidden_layers": MOST_LAYERS + 1}, "num_hidden_layers is 2001"),
        ({"hidden_size": -1}, "hidden_size is -1; it has to be a whole number from 1 to 20,000,000"),
        ({"vocab_size": True}, "vocab_size is True"),
        ({"vocab_size": 3.5}, "vocab_size is 3.5"),
        ({"vocab_size": "many"}, "vocab_size is many"),
        ({"vocab_size": 10**40}, "a number of more than 30 digits"),
        ({"intermediate_size": [512, -1]}, "intermediate_size is -1"),
        ({"text_config": {"n_layer": -2}}, "text_config.n_layer is -2"),
    ],
)
def test_implausible(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelError) as raised:
        check_numbers("config.json", config)
    assert str(raised.value).startswith("config.json: ")
    assert said in str(raised.value)


def test_far_more_weights_than_the_files_hold() -> None:
    with torch.device("meta"):
        model = torch.nn.Linear(10_000, 10_000)
    check_size("x.gguf", model, 20_000_000)
    with pytest.raises(ModelError, match=r"x\.gguf describes a model of 100 million weights, but its files hold 1,000 bytes"):
        check_size("x.gguf", model, 1_000)


@pytest.mark.parametrize("longest", [0, -1, True, "1024", None, float("nan")])
def test_a_longest_text_that_is_no_number_is_named(longest: Any) -> None:
    with pytest.raises(ModelError, match="it has to be a number above 0"):
        check_longest(SimpleNamespace(model_max_length=longest))


def test_what_tokenizers_say_of_no_limit_is_good() -> None:
    for longest in (512, 1e30, float("inf")):
        check_longest(SimpleNamespace(model_max_length=longest))
