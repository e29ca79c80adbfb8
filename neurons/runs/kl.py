"""How far two next-token distributions are apart."""

from __future__ import annotations

from torch import Tensor


def kl_divergence(p_logp: Tensor, q_logp: Tensor) -> Tensor:
    """KL(p, q) in nats from log-probabilities over the vocabulary, which is the last axis; at least 0. Shape: that of both without it."""
    return (p_logp.exp() * (p_logp - q_logp)).sum(-1).clamp_min(0)
