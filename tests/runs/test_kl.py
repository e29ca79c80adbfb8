"""The one KL divergence: of known distributions, and never below 0."""

from __future__ import annotations

import math

import torch

from neurons.runs.kl import kl_divergence


def test_of_known_distributions() -> None:
    p_TV = torch.tensor([[0.5, 0.5], [0.25, 0.75]]).log()
    q_TV = torch.tensor([[0.25, 0.75], [0.25, 0.75]]).log()
    expected = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    torch.testing.assert_close(kl_divergence(p_TV, q_TV), torch.tensor([expected, 0.0]))


def test_rounding_never_makes_it_negative() -> None:
    logp_TV = torch.randn(200, 500, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    assert (kl_divergence(logp_TV, logp_TV + 1e-7) >= 0).all()
