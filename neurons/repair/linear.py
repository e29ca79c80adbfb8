"""The small convex problem inside each step of the search: few neurons, all questions turned, no control moved. Knows only matrices.

Around the current steer the margins of the questions and of the controls are close to linear in the multipliers x (0 is 'as it is'):

    minimise   sum_q h(goal - m_q - G_q (x - x0)) / Q        +  w sum_c relu(guard - M_c - H_c (x - x0))^2 / C
             + v / C sum_p (F_p x)^2  +  sparse |x|_1          with low <= x <= high and |x - x0| <= radius

m, M: margins now; F: random-sign gradients of all of a control's token margins, each divided by the margin itself, so that the square is an
unbiased estimate of sum_t (change_t / margin_t)^2 (Hutchinson). Solved by FISTA.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Matrix = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, eq=False)
class LinearModel:
    """The linearisation over a pool of N neurons."""

    margin_Q: Matrix
    slope_QN: Matrix
    control_C: Matrix
    control_slope_CN: Matrix
    probe_PN: Matrix
    at_N: Matrix
    """x0."""
    range_N: Matrix
    """How far a neuron's multiplier may be trusted to go in one step. The search works in units of it: z = x / range."""


@dataclass(frozen=True)
class Weights:
    """What the trade-off is between."""

    goal: float = 2.0
    """Margin (logits) each question should reach."""
    hopeless: float = 3.0
    """A question that lacks more than this (logits) pulls no harder: Huber's loss, so that one stubborn wording does not decide."""
    guard: float = 0.25
    """Margin each control should keep, or the one it has where that is smaller."""
    control: float = 60.0
    probe: float = 0.5
    low: float = -4.0
    high: float = 5.0
    """Bounds of x = multiplier - 1."""
    radius: float = 3.0


def solve(model: LinearModel, weights: Weights, sparse: float, *, start_N: Matrix | None = None, steps: int = 300) -> Matrix:
    """The minimiser x, shape (N,). The penalty is on |z|, less for neurons that are in already (reweighted l1)."""
    unit_N = model.range_N
    at = model.at_N / unit_N
    low = np.maximum(weights.low / unit_N, at - 1)
    high = np.minimum(weights.high / unit_N, at + 1)
    shrink_N = sparse * 0.3 / (0.3 + np.abs(at))
    slope_QN, control_CN, probe_PN = model.slope_QN * unit_N, model.control_slope_CN * unit_N, model.probe_PN * unit_N
    guard_C = np.minimum(weights.guard, np.maximum(model.control_C, 0.02))
    a, b, c = 1 / len(model.margin_Q), weights.control / max(1, len(model.control_C)), weights.probe / max(1, len(probe_PN))
    stacked = np.concatenate([slope_QN * np.sqrt(a), control_CN * np.sqrt(b), probe_PN * np.sqrt(c)])
    lipschitz = 2 * float(np.linalg.norm(stacked, 2) ** 2) + 1e-9
    z = np.clip(at if start_N is None else start_N / unit_N, low, high)
    y, momentum = z, 1.0
    for _ in range(steps):
        lack_Q = np.clip(weights.goal - model.margin_Q - slope_QN @ (y - at), 0.0, weights.hopeless)
        lack_C = np.maximum(0.0, guard_C - model.control_C - control_CN @ (y - at))
        gradient = -2 * a * (lack_Q @ slope_QN) - 2 * b * (lack_C @ control_CN) + 2 * c * ((probe_PN @ y) @ probe_PN)
        stepped = y - gradient / lipschitz
        shrunk = np.sign(stepped) * np.maximum(0.0, np.abs(stepped) - shrink_N / lipschitz)
        after = np.clip(shrunk, low, high)
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        y = after + (momentum - 1) / following * (after - z)
        z, momentum = after, following
    return z * unit_N


def path(model: LinearModel, weights: Weights, sizes: tuple[int, ...]) -> dict[int, Matrix]:
    """Solutions with at most each of `sizes` neurons: the penalty is lowered until so many enter, then lifted and the support refitted."""
    strongest = float(np.abs(2 * weights.goal * (model.slope_QN * model.range_N).mean(0)).max()) + 1e-9
    found: dict[int, Matrix] = {}
    x = np.zeros_like(model.at_N)
    for sparse in strongest * np.geomspace(1.0, 0.01, 24):
        x = solve(model, weights, float(sparse), start_N=x, steps=120)
        size_N = np.abs(x) / model.range_N
        order = np.argsort(-size_N)
        support = int((size_N > 1e-3).sum())
        for size in sizes:
            if support >= size and size not in found:
                found[size] = refit(model, weights, order[:size])
        if len(found) == len(sizes):
            break
    for size in sizes:
        if size not in found and support:
            found[size] = refit(model, weights, np.argsort(-np.abs(x) / model.range_N)[: min(size, support)])
    return found


def refit(model: LinearModel, weights: Weights, support: np.ndarray[Any, np.dtype[np.intp]]) -> Matrix:
    """The solution on some of the neurons alone, all but unpenalised; the others go back to 0."""
    zero_N = model.at_N.copy()
    zero_N[support] = 0.0
    gone = -zero_N  # neurons that leave: the margins change by their part
    part = LinearModel(
        model.margin_Q + model.slope_QN @ gone,
        model.slope_QN[:, support],
        model.control_C + model.control_slope_CN @ gone,
        model.control_slope_CN[:, support],
        model.probe_PN[:, support],
        model.at_N[support],
        model.range_N[support],
    )
    solution = np.zeros_like(model.at_N)
    solution[support] = solve(part, weights, 1e-4, steps=400)
    return solution
