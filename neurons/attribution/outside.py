"""Which share of what causes a token the neurons found do not hold: other channels of a layer, outside attention, that write to its output.

Gemma's gated per-layer embeddings and an adapter's bottleneck are such: products that are no MLP's and have no neuron's name.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neurons.attribution.metrics import check_target, metric_value
from neurons.core.percent import percent
from neurons.core.types import TargetSpec
from neurons.models.loaded import LoadedModel
from neurons.models.sites import other_writers
from neurons.runs.backward import gradients
from neurons.runs.hooks import GraphActs, run_forward


@dataclass(frozen=True)
class Outside:
    """What writes beside the neurons."""

    modules: tuple[str, ...]
    """Paths of the modules whose inputs have no neuron's name; none where the neurons hold everything outside attention."""
    share: float
    """Their part of the absolute activation x gradient mass of neurons and them together, 0 to 1."""

    def __str__(self) -> str:
        if not self.modules:
            return "nothing outside attention is left out"
        kinds = sorted({name.rpartition(".")[2] for name in self.modules})
        return f"{', '.join(kinds)} ({len(self.modules)} modules) are no neurons: {percent(self.share)} of the gradient mass"


def outside(loaded: LoadedModel, ids: Sequence[int], target: TargetSpec) -> Outside:
    """Measure on one token of a text what is left out. Raises `InvalidInput` for a target that is not there."""
    target = check_target(loaded, ids, target)
    modules = other_writers(loaded.model, loaded.sites)
    if not modules:
        return Outside((), 0.0)
    kept: list[Tensor] = []

    def keep(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        kept.append(args[0] if args[0].requires_grad else args[0].detach().requires_grad_())
        return (kept[-1], *args[1:])

    acts = GraphActs(loaded)
    with loaded.lock, ExitStack() as stack:
        for name in modules:
            stack.callback(loaded.model.get_submodule(name).register_forward_pre_hook(keep).remove)
        output = run_forward(loaded, torch.tensor([list(ids[: target.token])]), graph=acts, logits_to_keep=1, grad=True)
    assert output.logits is not None
    inputs = [*acts.tensors(), *kept]
    grads = gradients(loaded, metric_value(output.logits[:, -1], target)[0], inputs)
    masses = [float((x.detach() * grad).abs().sum(dtype=torch.float64)) for x, grad in zip(inputs, grads, strict=True)]
    left = sum(masses[len(inputs) - len(kept) :])
    return Outside(modules, left / max(sum(masses), 1e-30))
