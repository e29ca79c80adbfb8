"""What an attribution or effect is about: one number read off the next-token logits.

    prob      p = softmax(logits)[token], the published metric
    logprob   log p
    logit     logits[token]
    contrast  logits[token] - logits[against]
    logodds   log p/(1 - p)

The token at position t is explained from the logits at t - 1.

Probabilities bend: a probability near 1 hardly moves however strong a push. The log-odds log p/(1 - p) = logits[token] -
logsumexp(the others) does not, so some methods estimate its change and compute the change of p or log p from it exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import torch
from torch import Tensor
from torch.nn import functional

from neurons.core.errors import InvalidInput
from neurons.core.types import Metric, TargetSpec
from neurons.models.loaded import LoadedModel

METRICS: tuple[Metric, ...] = get_args(Metric)
SATURATED = 0.995
"""A probability above this hardly moves: p (1 - p) is under .005, whatever a neuron does. Its log-odds do."""


def check_target(loaded: LoadedModel, ids: Sequence[int], target: TargetSpec) -> TargetSpec:
    """The target with its token id filled in.

    Raises `InvalidInput` for token 0 (nothing comes before it), a position past the end, an id the model does not have,
    an unknown metric, or a contrast without a second, different token.
    """
    if target.metric not in METRICS:
        raise InvalidInput(f"metric {target.metric!r} is unknown; use one of {', '.join(METRICS)}", field="metric")
    if target.token == 0:
        raise InvalidInput("token 0 is the first: nothing before it can explain it; choose token 1 or later", field="token")
    if not 0 < target.token <= len(ids) or (target.token == len(ids) and target.token_id is None):
        raise InvalidInput(
            f"token {target.token} is not in this text, which has tokens 0 to {len(ids) - 1}; choose 1 to {len(ids) - 1}", field="token"
        )
    token_id = ids[target.token] if target.token_id is None else target.token_id
    for name, given in (("token_id", token_id), ("against", target.against_id)):
        if given is not None and not 0 <= given < loaded.ref.n_vocab:
            raise InvalidInput(f"token id {given} is not in the model's vocabulary of {loaded.ref.n_vocab}", field=name)
    if target.metric == "contrast":
        if target.against_id is None:
            raise InvalidInput("a contrast needs a second token to compare with; name it", field="against")
        if target.against_id == token_id:
            raise InvalidInput("a contrast compares two different tokens, but both are the same; choose another", field="against")
    return replace(target, token_id=int(token_id))


def metric_value(logits_BV: Tensor, target: TargetSpec) -> Tensor:
    """The metric, shape (B,), float32 and differentiable, of logits (B, V) for a target whose `token_id` is known."""
    logits_BV = logits_BV.float()
    chosen_B = logits_BV[:, target.token_id]
    if target.metric == "logit":
        return chosen_B
    if target.metric == "contrast":
        return chosen_B - logits_BV[:, target.against_id]
    if target.metric == "logodds":
        return latent_value(logits_BV, target)
    logprob_B = chosen_B - torch.logsumexp(logits_BV, dim=-1)
    return logprob_B.exp() if target.metric == "prob" else logprob_B


def latent_value(logits_BV: Tensor, target: TargetSpec) -> Tensor:
    """The log-odds for the probability metrics, else the metric itself, shape (B,), float32 and differentiable."""
    if target.metric in ("logit", "contrast"):
        return metric_value(logits_BV, target)
    logits_BV = logits_BV.float()
    chosen_1 = torch.tensor([target.token_id], device=logits_BV.device)
    return logits_BV[:, target.token_id] - torch.logsumexp(logits_BV.index_fill(1, chosen_1, -torch.inf), dim=-1)


def from_latent(latent: Tensor, target: TargetSpec) -> Tensor:
    """The metric at a value of `latent_value`."""
    if target.metric == "prob":
        return torch.sigmoid(latent)
    return functional.logsigmoid(latent) if target.metric == "logprob" else latent


def slope(latent: float, target: TargetSpec) -> float:
    """d metric / d latent: turns a gradient of the latent into one of the metric."""
    at = torch.tensor(latent, dtype=torch.float64)
    if target.metric == "prob":
        return float(torch.sigmoid(at) * torch.sigmoid(-at))
    return float(torch.sigmoid(-at)) if target.metric == "logprob" else 1.0


def effect_from_latent(latent: float, change: Tensor, target: TargetSpec) -> Tensor:
    """The effect on the metric of an effect `change` (present minus ablated) on the latent."""
    present = torch.tensor(latent, dtype=change.dtype, device=change.device)
    return from_latent(present, target) - from_latent(present - change, target)
