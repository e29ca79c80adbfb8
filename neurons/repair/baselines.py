"""What a fix has to beat: random neurons of the same layers, the top of the attribution without a search, a steering vector."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from neurons.core.progress import Progress, no_progress
from neurons.models.layers import decoder_layers
from neurons.models.loaded import LoadedModel
from neurons.repair.batch import Action, Neuron, Plan
from neurons.repair.evaluate import SHARE_OF_CONTROLS, SHARE_OF_QUESTIONS, Evaluator, Point
from neurons.repair.verify import Verdict, Verifier
from neurons.runs.layer_outputs import hidden_of, kept_outputs

DRAWS = 5
TOP_WITHOUT_SEARCH = 20
_DEPTHS = (0.3, 0.5, 0.65, 0.8, 0.9)
_STRENGTHS = (0.5, 1.0, 2.0, 4.0)
_CHECKED = 3


@dataclass(frozen=True)
class Baseline:
    """A simple fix and how it does on the same questions and controls."""

    name: str
    about: str
    """What was done, in one line."""
    neurons: int
    """0 for the steering vector, which is none."""
    verdict: Verdict


def random_sets(verifier: Verifier, plan: Plan, *, draws: int = DRAWS, progress: Progress = no_progress) -> tuple[Baseline, ...]:
    """The plan's own actions on other neurons: as many, in the same layers, drawn at random."""
    problem = verifier.problem
    found = []
    for draw in range(draws):
        progress(draw, draws, "trying random neurons of the same layers")
        chooser = random.Random(f"{problem.spec.seed}/{draw}")
        found.append(
            Baseline(
                f"random {draw + 1}",
                "random neurons, same number, layers and actions",
                len(plan),
                verifier.quick(random_match(problem.batcher.loaded, plan, chooser)),
            )
        )
    return tuple(found)


def random_match(loaded: LoadedModel, plan: Plan, chooser: random.Random) -> Plan:
    """Other neurons in the place of the plan's, layer by layer."""
    matched: dict[Neuron, Action] = {}
    for (layer, index), action in sorted(plan.items()):
        while (other := (layer, chooser.randrange(loaded.sites[layer].width))) in plan or other in matched:
            if loaded.sites[layer].width <= 2 * len(plan):
                other = (layer, index)
                break
        matched[other] = action
    return matched


def contrastive_attribution(evaluator: Evaluator) -> Tensor:
    """Mean over the training questions of activation x d (logit wanted - logit wrong) / d activation, summed over tokens. Shape (L, I)."""
    decisions = evaluator.decisions

    def contrast(n: int, logits_PV: Tensor) -> Tensor:
        decision = decisions[n]
        return (logits_PV[decision.turn, decision.chosen[decision.turn]] - logits_PV[decision.turn, decision.wrong])[None]

    rows, picks = [d.row for d in decisions], [d.picks for d in decisions]
    return evaluator.problem.batcher.gradients(rows, picks, contrast, {}).mul_RKLI[:, 0].mean(0)


def attribution_plans(evaluator: Evaluator, sizes: Sequence[int]) -> dict[int, Plan]:
    """The neurons that speak most for the wrong answer, by attribution alone, switched off; by their number. Of `within`, where given."""
    attribution_LI = contrastive_attribution(evaluator)
    width = attribution_LI.shape[1]
    if within := evaluator.problem.spec.within:
        allowed_LI = torch.zeros_like(attribution_LI, dtype=torch.bool)
        allowed_LI[[side.layer for side in within], [side.index for side in within]] = True
        attribution_LI = attribution_LI.masked_fill(~allowed_LI, float("inf"))
    worst = [n for n in attribution_LI.flatten().argsort()[: max(sizes)].tolist() if attribution_LI[n // width, n % width] < 0]
    return {len(worst[:size]): {(n // width, n % width): Action(0.0) for n in worst[:size]} for size in sizes if worst}


def top_by_attribution(evaluator: Evaluator, verifier: Verifier, sizes: Sequence[int]) -> tuple[Baseline, ...]:
    """What such plans do without a search."""
    return tuple(
        Baseline(f"top {size} by attribution", "switched off, no search", size, verifier.quick(plan))
        for size, plan in sorted(attribution_plans(evaluator, sizes).items())
    )


def mean_difference(evaluator: Evaluator, verifier: Verifier, *, progress: Progress = no_progress) -> Baseline:
    """A vector added to the residual stream: mean of (wanted answer - wrong answer) over the training questions.

    Five depths by four strengths are tried on the training questions, the most promising on the controls as well, and the best is reported.
    """
    problem = evaluator.problem
    loaded = problem.batcher.loaded
    layers = sorted({min(loaded.n_layers - 1, int(depth * loaded.n_layers)) for depth in _DEPTHS})
    vectors = _differences(evaluator, layers)
    tried: list[tuple[float, Point, int, float]] = []
    for n, layer in enumerate(layers):
        progress(n, len(layers), "trying a steering vector")
        for strength in _STRENGTHS:
            with added_to_residual(loaded, layer, strength * vectors[layer]):
                point = evaluator.questions([{}])[0]
            tried.append((point.turned / point.questions - 0.001 * strength, point, layer, strength))  # of two that do as much, the weaker
    best: tuple[tuple[bool, float], int, float] | None = None
    for share, point, layer, strength in sorted(tried, key=lambda one: (one[0], *one[2:]), reverse=True)[:_CHECKED]:
        with added_to_residual(loaded, layer, strength * vectors[layer]):
            unchanged_C, _ = evaluator.controls({})
        rank = rank_of(point, share, float(unchanged_C.float().mean()))
        if best is None or rank > best[0]:
            best = (rank, layer, strength)
    assert best is not None
    _, layer, strength = best
    with added_to_residual(loaded, layer, strength * vectors[layer]):
        verdict = verifier.quick({})
    return Baseline("mean-difference vector", f"added to the residual after layer {layer}, strength {strength:g}", 0, verdict)


def rank_of(point: Point, share: float, kept: float) -> tuple[bool, float]:
    """How good a vector is: first whether it does what is asked of a fix, then how much it turns and leaves alone.

    `share` is that of the questions turned, `kept` that of the controls unchanged.
    """
    return point.turned >= SHARE_OF_QUESTIONS * point.questions and kept >= SHARE_OF_CONTROLS, share + kept


def _differences(evaluator: Evaluator, layers: Sequence[int]) -> dict[int, Tensor]:
    """Mean residual at the last wanted token minus that at the wrong answer's token in the same place, by layer; shape (d,)."""
    problem = evaluator.problem
    loaded, head = problem.batcher.loaded, problem.head
    sums = {layer: torch.zeros(0) for layer in layers}
    for decision in evaluator.decisions:
        row = decision.row
        wanted = (*row.ids, decision.chosen[-1])
        wrong = (*row.ids[: row.asked + decision.turn], decision.wrong)
        for sign, ids in ((1, wanted), (-1, wrong)):
            with kept_outputs(loaded) as outputs:
                problem.batcher.logits([replace(row, ids=ids)], [[head + len(ids) - 1]])
            for layer in layers:
                last_d = hidden_of(outputs[layer - len(decoder_layers(loaded))])[0, -1].detach()  # the prefix may have been run before
                sums[layer] = sums[layer] + sign * last_d if sums[layer].numel() else sign * last_d
    return {layer: total / len(evaluator.decisions) for layer, total in sums.items()}


@contextmanager
def added_to_residual(loaded: LoadedModel, layer: int, vector_d: Tensor) -> Iterator[None]:
    """Add a vector to what a layer passes on, at every token that goes through while the block runs. Holds the model's lock."""

    def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
        return (output[0] + vector_d, *output[1:]) if isinstance(output, tuple) else output + vector_d

    with loaded.lock:
        handle = decoder_layers(loaded)[layer].register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()
