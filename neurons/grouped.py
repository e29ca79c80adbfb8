"""Attribution of a whole answer, and of concepts and clusters: sums of the single entries.

The metric of a range of tokens is the sum of its tokens' metrics; with log-probability it is the log-probability of the whole
piece of text. One forward and one backward pass give activation x gradient of that sum.

Sums add up what each neuron would do alone. Ablating a whole concept at once is another question: see `neurons.effect.measure_sets`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neurons.attribution import RangeAttribution, Scores, stacked
from neurons.errors import InvalidInput
from neurons.hooks import run_forward, with_graph
from neurons.metrics import check_target, metric_value
from neurons.models.loaded import LoadedModel
from neurons.steering import compile_edits
from neurons.types import Metric, NeuronSide, Steer, TargetSpec


@dataclass(frozen=True)
class GroupSum:
    """What one concept or cluster contributed."""

    name: str
    attribution: float
    """Promoting plus suppressing."""
    promoting: float
    suppressing: float
    share: float
    """Its absolute attributions' part of all neurons' absolute attributions, 0 to 1."""
    neurons: int
    """How many of its neuron sides were active at all."""


@dataclass(frozen=True)
class SideSum:
    """What one side of a neuron contributed over all source tokens."""

    neuron: NeuronSide
    attribution: float
    peak: float
    """Its largest activation in size, signed."""
    token: int
    """The source token at which its attribution is largest in size."""


def attribute_range(
    loaded: LoadedModel,
    ids: Sequence[int],
    start: int,
    stop: int,
    *,
    metric: Metric = "logprob",
    steers: Sequence[Steer] = (),
    prompt_tokens: int | None = None,
) -> RangeAttribution:
    """Attribute the tokens [start, stop) of `ids` together (activation x gradient of the sum of their metrics).

    Raises `InvalidInput` for an empty range, one that begins at token 0, or a contrast (which compares two tokens at one place).
    """
    if metric == "contrast":
        raise InvalidInput("a contrast compares two tokens at one place; choose probability, log-probability or logit", field="metric")
    if not 1 <= start < stop <= len(ids):
        raise InvalidInput(f"tokens {start}:{stop} cannot be explained; choose a range within 1:{len(ids)}", field="tokens")
    begin = time.perf_counter()
    targets = [check_target(loaded, ids, TargetSpec(token, metric)) for token in range(start, stop)]
    edits = compile_edits(loaded, steers, len(ids) if prompt_tokens is None else prompt_tokens)
    acts: list[Tensor] = []

    with loaded.lock:
        output = run_forward(
            loaded, torch.tensor([list(ids[: stop - 1])]), edits=edits, record=with_graph(acts), logits_to_keep=stop - start, grad=True
        )
        assert output.logits is not None
        value = torch.stack([metric_value(output.logits[:, n], target)[0] for n, target in enumerate(targets)]).sum()
        grads = torch.autograd.grad(value, acts, materialize_grads=True)
    plain = [act.detach()[0].float() for act in acts]
    attr_LTI = stacked([a * g[0].float() for a, g in zip(plain, grads, strict=True)], loaded.n_neurons)
    acts_LTI = stacked(plain, loaded.n_neurons)
    return RangeAttribution(start, stop, metric, float(value.detach()), attr_LTI, acts_LTI, time.perf_counter() - begin)


def by_side(scores: Scores, k: int) -> tuple[SideSum, ...]:
    """The `k` neuron sides of largest absolute attribution summed over the source tokens at which they are on that side."""
    sums = []
    for polarity, on_LTI in (("+", scores.acts_LTI > 0), ("-", scores.acts_LTI < 0)):
        side_LTI = np.where(on_LTI, scores.attr_LTI, 0.0)
        total_LI = side_LTI.sum(1)
        order = np.argsort(-np.abs(total_LI), axis=None)[:k]
        for layer, index in zip(*np.unravel_index(order, total_LI.shape), strict=True):
            acts_T = np.where(on_LTI[layer, :, index], scores.acts_LTI[layer, :, index], 0.0)
            neuron = NeuronSide(int(layer), int(index), "+" if polarity == "+" else "-")
            token = int(np.abs(side_LTI[layer, :, index]).argmax())
            sums.append(SideSum(neuron, float(total_LI[layer, index]), float(acts_T[np.abs(acts_T).argmax()]), token))
    return tuple(sorted(sums, key=lambda s: -abs(s.attribution))[:k])


def by_group(scores: Scores, groups: Mapping[str, Sequence[NeuronSide]], *, tokens: Sequence[int] | None = None) -> tuple[GroupSum, ...]:
    """What each named set of neuron sides contributed (at the given source tokens, None: all), strongest first.

    A side counts where the neuron's activation has its sign. A neuron in two groups counts in both, so shares may add up to more than 1.
    """
    kept = slice(None) if tokens is None else sorted(set(tokens))
    attr_LTI, acts_LTI = scores.attr_LTI[:, kept], scores.acts_LTI[:, kept]
    mass = float(np.abs(attr_LTI).sum(dtype=np.float64))
    sums = []
    for name, sides in groups.items():
        unique = sorted(set(sides))
        if any(side.layer >= attr_LTI.shape[0] or side.index >= attr_LTI.shape[2] for side in unique):
            raise InvalidInput(f"concept {name!r} names neurons that this model does not have; it was made for another", field="concept")
        layers, indices = [side.layer for side in unique], [side.index for side in unique]
        sign_N1 = np.array([[1.0 if side.polarity == "+" else -1.0] for side in unique]).reshape(-1, 1)
        on_NT = acts_LTI[layers, :, indices] * sign_N1 > 0
        part_NT = np.where(on_NT, attr_LTI[layers, :, indices], 0.0)
        promoting, suppressing = float(part_NT[part_NT > 0].sum()), float(part_NT[part_NT < 0].sum())
        share = (promoting - suppressing) / mass if mass else 0.0
        sums.append(GroupSum(name, promoting + suppressing, promoting, suppressing, share, int(on_NT.any(1).sum())))
    return tuple(sorted(sums, key=lambda s: -abs(s.attribution)))
