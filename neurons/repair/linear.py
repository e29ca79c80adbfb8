"""The small convex problem inside each step of the search: few neurons, all questions turned, no control moved. Knows only matrices.

Around the current steer every margin, of a wanted or a control's token over one other token, is close to linear in what is done to the
neurons, x (0 is 'as it is'). In units of how far each may be trusted, z = x / range:

    minimise   sum_q s_q / Q  +  broken sum_c t_c  +  sparse sum_n w_n |z_n|
    with       s_q >= goal - m_qj - G_qj (z - z0)        for each of the other tokens j nearest to a question's wanted one
               t_c >= guard_c - M_c - H_c (z - z0)       for each of the nearest pairs of a control
               low <= z <= high,  |z - z0| <= 1

A linear programme (HiGHS): its solutions have few neurons by themselves, and controls are kept to the letter where that is possible at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_array

Matrix = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, eq=False)
class LinearModel:
    """The linearisation over a pool of N columns (a neuron's multiplier or what is added to it)."""

    margin_P: Matrix
    slope_PN: Matrix
    question_P: np.ndarray[Any, np.dtype[np.intp]]
    """Which question each of the pairs belongs to."""
    control_C: Matrix
    control_slope_CN: Matrix
    at_N: Matrix
    """x0."""
    range_N: Matrix
    """How far a column may be trusted to go in one step. The search works in units of it: z = x / range."""


@dataclass(frozen=True)
class Weights:
    """What the trade-off is between."""

    goal: float = 2.0
    """Margin (logits) each question should reach."""
    guard: float = 0.1
    """Margin each pair of a control should keep, or the one it has where that is smaller."""
    broken: float = 3.0
    """What a control's pair costs a logit, where a question's costs one per question."""
    low: float = -4.0
    high: float = 5.0
    """Bounds of x."""


def solve(model: LinearModel, weights: Weights, sparse: float) -> Matrix:
    """The minimiser x, shape (N,). The penalty is on |z|, less for columns that are in already (reweighted l1)."""
    unit_N = model.range_N
    count, questions, pairs = len(unit_N), int(model.question_P.max()) + 1, len(model.control_C)
    at = model.at_N / unit_N
    low, high = np.maximum(weights.low / unit_N, at - 1), np.minimum(weights.high / unit_N, at + 1)
    low, high = np.minimum(low, high), np.maximum(low, high)
    slope_PN, control_CN = model.slope_PN * unit_N, model.control_slope_CN * unit_N
    guard_C = np.minimum(weights.guard, np.maximum(model.control_C, 0.02))
    price_N = sparse * 0.3 / (0.3 + np.abs(at))
    # z = u - v; then the questions' slacks s and the controls' t
    lack_PQ = -np.eye(questions)[model.question_P]
    rows = np.block(
        [
            [-slope_PN, slope_PN, lack_PQ, np.zeros((len(slope_PN), pairs))],
            [-control_CN, control_CN, np.zeros((pairs, questions)), -np.eye(pairs)],
        ]
    )
    limits = np.concatenate([model.margin_P - slope_PN @ at - weights.goal, model.control_C - control_CN @ at - guard_C])
    costs = np.concatenate([price_N, price_N, np.full(questions, 1 / questions), np.full(pairs, weights.broken / questions)])
    bounds = np.concatenate(
        [
            np.stack([np.maximum(low, 0), np.maximum(high, 0)], 1),
            np.stack([np.maximum(-high, 0), np.maximum(-low, 0)], 1),
            np.stack([np.zeros(questions + pairs), np.full(questions + pairs, np.inf)], 1),
        ]
    )
    found = linprog(costs, A_ub=csr_array(rows), b_ub=limits, bounds=bounds, method="highs")
    if found.x is None:
        return model.at_N.copy()
    return np.asarray((found.x[:count] - found.x[count : 2 * count]) * unit_N, dtype=np.float64)


def path(model: LinearModel, weights: Weights, sizes: tuple[int, ...]) -> dict[int, Matrix]:
    """Solutions with at most each of `sizes` columns: the penalty is lowered until so many enter, then lifted and the support refitted."""
    strongest = float(np.abs(model.slope_PN * model.range_N).max()) + 1e-9
    found: dict[int, Matrix] = {}
    x = np.zeros_like(model.at_N)
    for sparse in strongest * np.geomspace(1.0, 0.003, 12):
        x = solve(model, weights, float(sparse))
        size_N = np.abs(x) / model.range_N
        order = np.argsort(-size_N)
        support = int((size_N > 1e-3).sum())
        for size in sizes:
            if support >= size and size not in found:
                found[size] = refit(model, weights, order[:size])
        if len(found) == len(sizes):
            break
    for size in sizes:
        if size not in found and (support := int((np.abs(x) > 1e-3 * model.range_N).sum())):
            found[size] = refit(model, weights, np.argsort(-np.abs(x) / model.range_N)[: min(size, support)])
    return found


def refit(model: LinearModel, weights: Weights, support: np.ndarray[Any, np.dtype[np.intp]]) -> Matrix:
    """The solution on some of the columns alone, all but unpenalised; the others go back to 0."""
    zero_N = model.at_N.copy()
    zero_N[support] = 0.0
    gone = -zero_N  # columns that leave: the margins change by their part
    part = LinearModel(
        model.margin_P + model.slope_PN @ gone,
        model.slope_PN[:, support],
        model.question_P,
        model.control_C + model.control_slope_CN @ gone,
        model.control_slope_CN[:, support],
        model.at_N[support],
        model.range_N[support],
    )
    solution = np.zeros_like(model.at_N)
    solution[support] = solve(part, weights, 1e-4)
    return solution
