"""Looking into a model's attention while it runs, whatever its code looks like, and freezing its patterns.

Every architecture that computes attention by `torch.nn.functional.scaled_dot_product_attention` is seen; one that writes the
softmax out is frozen at its softmax, but not seen. Thread-local: other sessions' passes are untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

SOFTMAXES = (functional.softmax, torch.softmax, Tensor.softmax)


@dataclass(frozen=True, eq=False)
class AttentionCall:
    """One layer's attention: what went in and came out. H heads, G key/value heads (H or fewer), D channels per head."""

    query_BHTD: Tensor
    key_BGTD: Tensor
    value_BGTD: Tensor
    out_BHTD: Tensor
    options: Mapping[str, Any]
    """The call's other arguments: attn_mask, is_causal, scale..."""

    def log_pattern(self) -> tuple[Tensor, Tensor]:
        """Scaled scores and log attention probabilities of the first batch row, each (H, query T, key T), masked entries -inf."""
        query_HTD = self.query_BHTD[0].detach()
        key_HTD = per_head(self.key_BGTD[0].detach(), query_HTD.shape[0])
        scores = (query_HTD @ key_HTD.transpose(1, 2)) * self.scale
        mask = self.options.get("attn_mask")
        if self.options.get("is_causal"):
            mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        if mask is not None:
            mask = mask[0] if mask.dim() == 4 else mask
            scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
        return scores, scores - torch.logsumexp(scores.float(), dim=-1, keepdim=True).to(scores.dtype)

    def upto(self, tokens: int) -> AttentionCall:
        """The call as it would be of the first `tokens` tokens alone."""
        if self.query_BHTD.shape[2] == tokens:
            return self
        query, key, value, out = (x[:, :, :tokens] for x in (self.query_BHTD, self.key_BGTD, self.value_BGTD, self.out_BHTD))
        mask = self.options.get("attn_mask")
        options = self.options if mask is None else {**self.options, "attn_mask": mask[..., :tokens, :tokens]}
        return AttentionCall(query, key, value, out, options)

    @property
    def scale(self) -> float:
        """What scores are multiplied by before the softmax."""
        scale = self.options.get("scale")
        return float(scale) if scale is not None else float(self.query_BHTD.shape[-1] ** -0.5)


class AttentionTap(TorchFunctionMode):
    """While entered: keeps every attention call (`keep`), or cuts the gradient through the patterns (`freeze`)."""

    def __init__(self, *, keep: bool = False, freeze: bool = False) -> None:
        super().__init__()
        self.keep = keep
        self.freeze = freeze
        self.calls: list[AttentionCall] = []
        self.frozen = 0
        """Number of attention patterns frozen."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is functional.scaled_dot_product_attention:
            return self._attend(func, args, dict(kwargs or {}))
        out = func(*args, **(kwargs or {}))
        if self.freeze and func in SOFTMAXES and out.dim() == 4:
            self.frozen += 1
            return out.detach()
        return out

    def _attend(self, func: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Tensor:
        query, key, value = args[0], args[1], args[2]
        if self.freeze:
            query, key = query.detach(), key.detach()
            self.frozen += 1
        out: Tensor = func(query, key, value, *args[3:], **options)
        if self.keep:
            self.calls.append(AttentionCall(query, key, value, out, options))
        return out


def per_head(keys_GTD: Tensor, heads: int) -> Tensor:
    """Keys or values (..., G, T, D) repeated so that each of `heads` query heads has its own."""
    groups = keys_GTD.shape[-3]
    return keys_GTD if groups == heads else keys_GTD.repeat_interleave(heads // groups, dim=-3)
