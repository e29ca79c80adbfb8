"""Many prompts and many candidate steers in one pass: exactly what each gives alone. Plans and steers."""

from __future__ import annotations

import random

import pytest
import torch

from neurons.core.types import Sampling
from neurons.models.loaded import LoadedModel
from neurons.repair.baselines import added_to_residual, random_match, rank_of
from neurons.repair.batch import Action, Batcher, Row
from neurons.repair.evaluate import Point
from neurons.repair.steers import plan_to_steers, told
from neurons.runs.generation import generate
from neurons.runs.hooks import run_forward
from neurons.runs.steering import compile_edits, resolve
from tests.support.repairs import PLAN
from tests.support.tiny_models import tiny_model

PROMPTS = ("ab", "xyz?", "what is it", "0 1 2")


def _rows(loaded: LoadedModel, head: int = 3) -> tuple[Batcher, list[Row]]:
    generator = torch.Generator().manual_seed(0)
    prefix = tuple(torch.randint(0, 250, (head,), generator=generator).tolist())
    rows = [Row(tuple(torch.randint(0, 250, (n,), generator=generator).tolist()), max(1, n - 2)) for n in (4, 9, 6)]
    return Batcher(loaded, prefix), rows


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2", "mixtral", "gpt_neox"])
def test_a_batch_gives_what_each_row_gives_alone(architecture: str) -> None:
    loaded = tiny_model(architecture)
    batcher, rows = _rows(loaded)
    plans = [{}, PLAN, {(2, 1): Action(-2.0)}]
    picks = [[3, 2 + len(row.ids)] for row in rows]
    together = batcher.logits(rows, picks, plans)
    for row, pick, plan, got in zip(rows, picks, plans, together, strict=True):
        ids = torch.tensor([[*batcher.prefix, *row.ids]])
        steers = resolve(loaded, plan_to_steers(plan, "3:512"))
        alone = run_forward(loaded, ids, edits=compile_edits(loaded, steers, 3 + row.asked)).logits[0, pick]
        torch.testing.assert_close(got, alone, atol=2e-5, rtol=1e-4)
    assert batcher.meter.passes == 1 + len(rows)  # the prefix once


def test_no_hook_is_left_behind() -> None:
    loaded = tiny_model("llama")
    batcher, rows = _rows(loaded)
    with pytest.raises(IndexError):
        batcher.logits(rows, [[999]] * 3, [PLAN])
    assert not loaded.model.get_output_embeddings()._forward_pre_hooks
    assert not any(site.module._forward_pre_hooks for site in loaded.sites)
    with pytest.raises(ZeroDivisionError), added_to_residual(loaded, 1, torch.zeros(32)):
        raise ZeroDivisionError
    assert not any(module._forward_hooks for module in loaded.model.modules())


def test_batched_greedy_answers_are_those_of_generate() -> None:
    loaded = tiny_model("llama")
    batcher, rows = _rows(loaded)
    asked = [Row(row.ids, len(row.ids)) for row in rows]
    steers = resolve(loaded, plan_to_steers(PLAN, "3:512"))
    for plan, used in (({}, ()), (PLAN, steers)):
        answers = batcher.generate(asked, 6, [plan])
        for row, answer in zip(asked, answers, strict=True):
            alone = generate(loaded, (*batcher.prefix, *row.ids), sampling=Sampling(max_new_tokens=6), steers=used, record=False)
            assert answer == alone.answer_ids


def test_answer_scope_leaves_the_first_answer_token_alone() -> None:
    loaded = tiny_model("llama")
    batcher, rows = _rows(loaded)
    limited = Batcher(loaded, batcher.prefix, "answer")
    before, after = [[2 + row.asked] for row in rows], [[2 + len(row.ids)] for row in rows]
    for plain, steered in zip(limited.logits(rows, before), limited.logits(rows, before, [PLAN]), strict=True):
        torch.testing.assert_close(plain, steered, atol=1e-6, rtol=0)
    for row, got in zip(rows, limited.logits(rows, after, [PLAN]), strict=True):
        steers = resolve(loaded, plan_to_steers(PLAN, "answer"))
        edits = compile_edits(loaded, steers, 3 + row.asked)
        alone = run_forward(loaded, torch.tensor([[*batcher.prefix, *row.ids]]), edits=edits).logits[0, -1:]
        torch.testing.assert_close(got, alone, atol=2e-5, rtol=1e-4)


def test_gradients_are_the_change_for_a_small_multiplier() -> None:
    loaded = tiny_model("qwen2")
    batcher, rows = _rows(loaded)
    picks = [[2 + len(row.ids)] for row in rows]

    def objectives(_n: int, logits_PV: torch.Tensor) -> torch.Tensor:
        return torch.stack([logits_PV[0, 5], logits_PV[0, 7] - logits_PV[0, 9]])

    slopes = batcher.gradients(rows, picks, objectives, PLAN)
    for neuron in ((0, 3), (1, 11), (2, 40)):
        step = 1e-2
        old = PLAN.get(neuron, Action())
        moved = {**PLAN, neuron: Action(old.mul + step, old.add)}
        after = torch.stack([objectives(n, part) for n, part in enumerate(batcher.logits(rows, picks, [moved]))])
        torch.testing.assert_close((after - slopes.value_RK) / step, slopes.mul_RKLI[:, :, *neuron], atol=3e-3, rtol=5e-2)
        moved = {**PLAN, neuron: Action(old.mul, old.add + step)}
        after = torch.stack([objectives(n, part) for n, part in enumerate(batcher.logits(rows, picks, [moved]))])
        torch.testing.assert_close((after - slopes.value_RK) / step, slopes.add_RKLI[:, :, *neuron], atol=3e-3, rtol=5e-2)


def test_a_plan_as_steers_does_the_same_to_each_neuron() -> None:
    steers = plan_to_steers(PLAN, "3:512")
    assert {s.mode for s in steers} == {"scale", "add"}
    done: dict[tuple[int, int], Action] = {}
    for steer in steers:
        for side, value in zip(steer.neurons, steer.values or [0.0] * steer.size, strict=True):
            old = done.get((side.layer, side.index), Action())
            done[side.layer, side.index] = (
                Action(steer.strength, old.add) if steer.mode == "scale" else Action(old.mul, steer.strength * value)
            )
    assert done == PLAN
    assert all(str(s.tokens) == "3:512" for s in steers)


def test_steers_are_told_neuron_by_neuron() -> None:
    assert [what for steer in plan_to_steers(PLAN, "all") for _side, what in told(steer)] == ["scale x0", "scale x3", "add +0.5", "add -1"]


def test_random_match_keeps_number_layers_and_actions() -> None:
    loaded = tiny_model("llama")

    drawn = random_match(loaded, PLAN, random.Random(1))
    assert [layer for layer, _ in sorted(drawn)] == [layer for layer, _ in sorted(PLAN)]
    assert not set(drawn) & set(PLAN)


@pytest.mark.parametrize(("turned", "kept", "enough"), [(4, 0.95, True), (5, 1.0, True), (3, 1.0, False), (4, 0.94, False)])
def test_a_baseline_has_to_do_what_is_asked_of_a_fix(turned: int, kept: float, enough: bool) -> None:
    """The same shares of questions and controls as for the search: a baseline is neither favoured nor held back."""
    point = Point(PLAN, True, turned, 5, 0.0, 0.0, round(kept * 100), 100, True)
    assert rank_of(point, turned / 5, kept) == (enough, turned / 5 + kept)
    assert point.holds == enough
