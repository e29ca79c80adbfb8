"""The fixes that the tours ship, on the default model: they act where the question stands, whatever stands before it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from neurons.core.steers import Steer, TokenScope
from neurons.core.types import Message, Sampling
from neurons.models.chat import decode, encode_prompt
from neurons.models.loaded import LoadedModel
from neurons.repair.spec import is_fixed, parse_spec
from neurons.runs.generation import generate
from neurons.runs.steering import parse_steers, resolve
from neurons.tours.tours import TOURS, fact

REPAIRS = [(tour.id, found) for tour in TOURS if (found := fact(tour.id, "repair"))]


@pytest.mark.slow
@pytest.mark.parametrize("system", [None, "Be concise."])
@pytest.mark.parametrize(("tour", "found"), REPAIRS, ids=[tour for tour, _ in REPAIRS])
def test_a_shipped_fix_holds_under_another_system_prompt(
    default_model: LoadedModel, tour: str, found: dict[str, dict[str, str]], system: str | None
) -> None:
    spec = parse_spec(found["spec"])
    steers = parse_steers(found["steer"], ref=default_model.ref)
    turns = [Message("user", spec.prompt)] if system is None else [Message("system", system), Message("user", spec.prompt)]
    prompt = encode_prompt(default_model, turns)

    def said(used: tuple[Steer, ...]) -> str:
        applied = resolve(default_model, used, prompt=prompt)
        run = generate(default_model, prompt.ids, sampling=Sampling(max_new_tokens=20), steers=applied, record=False)
        return decode(default_model, run.answer_ids)

    answer = said(steers)
    assert is_fixed(spec, answer) or (tour == "numbers" and system is not None and "9.9" in answer)
    counted = tuple(replace(steer, tokens=TokenScope.parse("24:8192")) for steer in steers)  # as older versions shipped them
    if system is None:
        assert said(counted) == answer
    elif tour == "siblings":
        assert not is_fixed(spec, said(counted))
