"""The ways to estimate every neuron's effect on a metric. All are signed, in the metric's unit, and aim at the same number:

    effect = metric - metric with the neuron set to 0 at that token

    grad       activation x gradient of the metric, as published
    logodds    the same through the log-odds, from which the change of the probability or log-probability is computed exactly
    refined    logodds, and the strongest entries re-estimated by running their own token without them (`neurons.attribution.refine`)
    ig         activation x gradient averaged while all activations are scaled from nearly 0 to 1 (integrated gradients), its steps doubled
               until the sum is the metric's change, or it says that it is not
    direct     what the neuron writes straight to the unembedding, the final norm frozen
    frozen     gradient with attention patterns and norms frozen
    relp       frozen, with linear activation functions and the half rule in gated products

`docs/attribution.md` has how well each agrees with measured effects.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from neurons.attribution.ablation import batch_replace
from neurons.attribution.metrics import effect_from_latent, latent_value, metric_value
from neurons.attribution.refine import refined
from neurons.attribution.rules import Rules, backward_rules, halved
from neurons.core.errors import InvalidInput
from neurons.core.types import TargetSpec
from neurons.models.loaded import LoadedModel
from neurons.models.sites import Part
from neurons.runs.backward import gradients
from neurons.runs.graph_run import GraphRun
from neurons.runs.hooks import Edit, GraphActs, Replace, run_forward

IG_STEPS, IG_MAX_STEPS = 4, 64
"""Parts of the path that integrated gradients begins with, and the most that it goes on to."""
IG_GAP = 0.02
"""Its convergence gap that is small: part of the metric's change along the path that its sum over all neurons misses."""
_NEARLY_ZERO = 1e-3  # what all activations are shrunk to: at 0 itself nothing can be divided by
_NO_CHANGE = 1e-6


@dataclass(frozen=True, eq=False)
class Estimate:
    """What a method gives: a layer's activations and attributions are each (T, I) float32, on the model's device."""

    value: float
    """The metric in the run itself."""
    acts: list[Tensor]
    attrs: list[Tensor]
    refined: int = 0
    """How many entries were re-estimated one by one."""
    gap: float | None = None
    """Of integrated gradients: the part of the metric's change that the sum misses. None: the method has no such sum."""
    steps: int = 0
    """Of integrated gradients."""
    gradients: Callable[[], list[Tensor]] | None = None
    """Gives activation x gradient of the metric where a method knows it besides its own estimate."""
    stands_in: str = ""
    """Which method stands in for this one and why, if one does."""


Method = Callable[[LoadedModel, Sequence[int], TargetSpec, Sequence[Edit]], Estimate]


def gradient(loaded: LoadedModel, ids: Sequence[int], target: TargetSpec, edits: Sequence[Edit]) -> Estimate:
    """activation x d metric / d activation, by one forward and one backward pass."""
    acts, grads, logits_BV = activation_gradients(loaded, ids, edits, lambda logits: metric_value(logits, target)[0])
    return Estimate(float(metric_value(logits_BV, target)[0]), acts, [a * g for a, g in zip(acts, grads, strict=True)])


def log_odds(loaded: LoadedModel, ids: Sequence[int], target: TargetSpec, edits: Sequence[Edit]) -> Estimate:
    """activation x gradient of the log-odds, turned into the exact change of the probability; other metrics as `gradient`."""
    acts, grads, logits_BV = activation_gradients(loaded, ids, edits, lambda logits: latent_value(logits, target)[0])
    latent = float(latent_value(logits_BV, target)[0])
    attrs = [effect_from_latent(latent, a * g, target) for a, g in zip(acts, grads, strict=True)]
    return Estimate(float(metric_value(logits_BV, target)[0]), acts, attrs)


def refined_log_odds(
    loaded: LoadedModel, ids: Sequence[int], target: TargetSpec, edits: Sequence[Edit], run: GraphRun | None = None
) -> Estimate:
    """`log_odds`, its strongest entries re-estimated by running their own token (`attribution.refine`). `run` saves the first pass."""
    found = refined(loaded, ids, target, edits, run=run)
    return Estimate(found.value, found.acts, found.attrs, found.count, gradients=found.gradients, stands_in=found.stands_in)


def integrated(loaded: LoadedModel, ids: Sequence[int], target: TargetSpec, edits: Sequence[Edit]) -> Estimate:
    """The integral, over the path on which all activations shrink together to 0, of activation x gradient; later neurons respond.

    By the trapezoid rule, whose steps are doubled until the sum over all neurons is the metric's change along the path to within `IG_GAP`,
    or `IG_MAX_STEPS` are taken. `Estimate.gap` says how far it is.
    """
    plain = batch_replace(loaded, [()], edits, lambda _place: 0.0, 0)

    def at(factor: float) -> tuple[list[Tensor], float]:
        """Activation before it is shrunk x gradient, and the metric, where all activations are `factor` of themselves."""

        def scaled(part: Part, acts_BTI: Tensor) -> Tensor:
            edited = plain(part, acts_BTI)
            return (acts_BTI if edited is None else edited) * factor

        acts, grads, logits_BV = activation_gradients(loaded, ids, (), lambda logits: metric_value(logits, target)[0], replace=scaled)
        return [a * g / factor for a, g in zip(acts, grads, strict=True)], float(metric_value(logits_BV, target)[0])

    start = gradient(loaded, ids, target, edits)
    first, base = at(_NEARLY_ZERO)
    change = start.value - base
    sums = [(a + b) / 2 for a, b in zip(start.attrs, first, strict=True)]
    steps, gap = 1, math.inf
    while steps < IG_STEPS or (gap > IG_GAP and steps < IG_MAX_STEPS):
        for step in range(steps):
            sums = [total + one for total, one in zip(sums, at((step + 0.5) / steps)[0], strict=True)]
        steps *= 2
        gap = abs(sum(float(total.sum(dtype=torch.float64)) for total in sums) / steps - change) / max(abs(change), _NO_CHANGE)
    return Estimate(start.value, start.acts, [total / steps for total in sums], gap=gap, steps=steps)


def by_rules(rules: Rules) -> Method:
    """activation x gradient under changed backward rules: see `neurons.attribution.rules`."""

    def method(loaded: LoadedModel, ids: Sequence[int], target: TargetSpec, edits: Sequence[Edit]) -> Estimate:
        replace = halved(loaded) if rules == "relp" else None
        acts, grads, logits_BV = activation_gradients(
            loaded, ids, edits, lambda logits: metric_value(logits, target)[0], rules=rules, replace=replace
        )
        return Estimate(float(metric_value(logits_BV, target)[0]), acts, [a * g for a, g in zip(acts, grads, strict=True)])

    return method


METHODS: dict[str, Method] = {
    "refined": refined_log_odds,
    "grad": gradient,
    "logodds": log_odds,
    "ig": integrated,
    "direct": by_rules("direct"),
    "frozen": by_rules("frozen"),
    "relp": by_rules("relp"),
}


def estimate(
    loaded: LoadedModel, ids: Sequence[int], target: TargetSpec, edits: Sequence[Edit], method: str, run: GraphRun | None = None
) -> Estimate:
    """Run one method on a checked target; `run` serves the method that starts from one ("refined").

    Raises `InvalidInput` for a method that is not in `METHODS`.
    """
    if method not in METHODS:
        raise InvalidInput(f"attribution method {method!r} is unknown; use one of {', '.join(METHODS)}", field="method")
    if method == "refined":
        return refined_log_odds(loaded, ids, target, edits, run)
    return METHODS[method](loaded, ids, target, edits)


def activation_gradients(
    loaded: LoadedModel,
    ids: Sequence[int],
    edits: Sequence[Edit],
    value_of: Callable[[Tensor], Tensor],
    *,
    rules: Rules | None = None,
    replace: Replace | None = None,
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Each layer's activations and d value / d activations, (T, I) float32, and the last token's logits (1, V)."""
    acts = GraphActs(loaded)

    with loaded.lock, backward_rules(loaded, rules) if rules else nullcontext():
        output = run_forward(loaded, torch.tensor([list(ids)]), edits=edits, graph=acts, replace=replace, logits_to_keep=1, grad=True)
    assert output.logits is not None
    grads = acts.layers(gradients(loaded, value_of(output.logits[:, -1]), acts.tensors()))
    return [act.detach()[0].float() for act in acts.layers()], [grad[0].float() for grad in grads], output.logits[:, -1].detach()
