"""Reading a metric off few columns of the unembedding, which costs as much as several layers.

A logit needs its own column and a contrast two. A probability needs all of them, but the likeliest few thousand hold nearly all
of it: they are computed, and the others move together, like their probability-weighted mean, which is one more column.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from neurons.core.types import TargetSpec
from neurons.models.loaded import LoadedModel

COLUMNS = 2048
"""Tokens of the vocabulary whose logits are computed for a probability."""
NEGLIGIBLE = 1e-3
"""Probability of all other tokens together below which they are taken as unmoved."""


@dataclass(frozen=True, eq=False)
class Unembedding:
    """Some columns of the unembedding. Column 0 is the target, 1 the other token of a contrast, or else the likeliest others."""

    target: TargetSpec
    module: Any
    """The model's unembedding, whose work it does."""
    weight_CD: Tensor
    bias_C: Tensor | None
    expected_K: Tensor
    """The first run's logits in the first columns, a mean column left out."""
    rest: float
    """Log of the summed exponentials of the tokens without a column, in the first run."""

    @property
    def columns(self) -> int:
        return len(self.weight_CD)

    def __call__(self, hidden: Tensor) -> Tensor:
        """What the unembedding gives in these columns."""
        return functional.linear(hidden, self.weight_CD, self.bias_C)

    def changes(self, logits_RC: Tensor) -> Tensor:
        """Latent (`metrics.latent_value`) of row 0, which is the first run's, minus that of each later row: (R - 1,)."""
        if self.target.metric == "contrast":
            latent_R = logits_RC[:, 0] - logits_RC[:, 1]
        elif self.target.metric == "logit":
            latent_R = logits_RC[:, 0]
        else:
            known = len(self.expected_K)
            rest_R = torch.full_like(logits_RC[:, 0], self.rest)
            if known < self.columns:
                rest_R = rest_R + logits_RC[:, -1] - logits_RC[0, -1]
            latent_R = logits_RC[:, 0] - torch.logsumexp(torch.cat([logits_RC[:, 1:known], rest_R[:, None]], dim=1), dim=1)
        return latent_R[0] - latent_R[1:]


def make_unembedding(loaded: LoadedModel, logits_V: Tensor, target: TargetSpec) -> Unembedding | None:
    """The columns that a target needs, given the first run's logits. None for a model whose unembedding is no plain matrix."""
    model: Any = loaded.model
    module = model.get_output_embeddings()
    if not isinstance(module, torch.nn.Linear) or len(module.weight) != len(logits_V):
        return None
    logits_V = logits_V.float()
    chosen = [int(target.token_id or 0)]
    rest, share_V = -math.inf, None
    if target.metric == "contrast":
        chosen.append(int(target.against_id or 0))
    elif target.metric != "logit":
        others_V = logits_V.clone()
        others_V[chosen] = -torch.inf
        chosen += torch.topk(others_V, min(COLUMNS, len(others_V) - 1)).indices.tolist()
        others_V[chosen] = -torch.inf
        rest = float(torch.logsumexp(others_V, 0))
        if rest - float(torch.logsumexp(logits_V, 0)) > math.log(NEGLIGIBLE):
            share_V = torch.softmax(others_V, 0).to(module.weight.dtype)
    weight_CD, bias_C = module.weight[chosen], None if module.bias is None else module.bias[chosen]
    if share_V is not None:
        weight_CD = torch.cat([weight_CD, (share_V @ module.weight)[None]])
        bias_C = None if bias_C is None else torch.cat([bias_C, (share_V @ module.bias)[None]])
    return Unembedding(target, module, weight_CD, bias_C, logits_V[chosen], rest)
