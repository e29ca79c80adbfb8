"""A real repair on the default model, from the unsteered answer to the verdict on wordings that the search never saw."""

from __future__ import annotations

import pytest

from neurons.models.loaded import LoadedModel
from neurons.repair.controls import builtin_controls
from neurons.repair.repair import repair
from neurons.repair.result import result_to_json
from neurons.repair.search import SearchState
from neurons.repair.spec import parse_spec

NEAR = [f"What is the capital of {country}?" for country in ("Canada", "Japan", "Norway", "Egypt", "Kenya", "Peru")]
WORDINGS = [
    "Name the capital city of Turkey.",
    "Which city is the capital of Turkey?",
    "Tell me the capital of Turkey.",
    "What's the capital city of Turkey?",
    "I forgot the capital of Turkey. What is it?",
    "Capital of Turkey?",
    "Complete the sentence: The capital of Turkey is",
    "For a quiz: what is the capital of Turkey?",
]


@pytest.mark.slow
@pytest.mark.timeout(1500)  # about two minutes on two quiet cores
def test_the_capital_of_turkey(default_model: LoadedModel) -> None:
    spec = parse_spec(
        {
            "prompt": "What is the capital of Turkey?",
            "wanted": "Ankara",
            "unwanted": "Istanbul",
            "paraphrases": WORDINGS,
            "controls": [*NEAR, *(c for c in builtin_controls() if c not in NEAR)][:20],
        }
    )
    fixes: list[int] = []

    def on_best(state: SearchState) -> None:
        if state.best is not None and state.best.holds:
            fixes.append(state.best.neurons)

    result = repair(default_model, spec, budget=1500, compare=False, resume=False, keep=False, on_best=on_best)
    data = result_to_json(result)
    shown = {key: data[key] for key in ("message", "heldout", "controls", "forward_passes", "seconds")}
    assert result.unsteered.strip() == "The capital of Turkey is Istanbul."
    assert result.found, shown
    assert result.neurons <= min(10, fixes[0]), shown  # the first fix is made smaller
    assert data["heldout"]["fixed"] >= 3, shown
    assert data["controls"]["unchanged"] >= 19, shown
    assert result.verdict is not None
    assert "Ankara" in result.verdict.answers[0].steered
