"""The steers that a linearisation recommends: as a linear programme in what is done to the most useful neurons, and back to plans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from neurons.core.types import NeuronSide
from neurons.repair.batch import Action, Neuron, Plan, RowGradients
from neurons.repair.evaluate import GOAL, PAIRS
from neurons.repair.linear import LinearModel, Matrix, Weights, path
from neurons.repair.slopes import Slopes

_POOL = 400  # columns in the linear programme
_HALVED = (4, 9)
WEIGHTS = (Weights(goal=GOAL), Weights(goal=GOAL / 2, broken=15.0))
"""Margins that carry over, controls where that is possible; and controls before all else, margins that just turn."""
_STEP_LOGITS = 1.5  # no neuron may move a question by more in one round
_FARTHEST = (3.0, 1.0)  # in one round, of a multiplier and of what is added (in largest activations)
_FINEST = 1 / 16  # a multiplier is changed by this or more
_STAY = Action()


@dataclass(frozen=True, eq=False)
class _Columns:
    """Every neuron twice: its multiplier, then what is added to it in units of its largest activation. N neurons, 2 N columns."""

    slopes: Slopes

    @cached_property
    def peak_LI(self) -> torch.Tensor:
        """Largest absolute activation in any question or control."""
        return torch.maximum(self.slopes.questions.peak_LI, self.slopes.controls.peak_LI)

    def of(self, rows: RowGradients, which: slice) -> Matrix:
        """Slopes of the chosen objectives, shape (rows x objectives, 2 N)."""
        both = (rows.mul_RKLI[:, which], rows.add_RKLI[:, which] * self.peak_LI)
        return np.concatenate([x.flatten(0, 1).flatten(1).numpy() for x in both], axis=1)

    def place(self, neuron: Neuron, added: bool) -> int:
        """Column of a neuron's multiplier or of what is added to it."""
        layers, width = self.peak_LI.shape
        return (layers * width if added else 0) + neuron[0] * width + neuron[1]

    def name(self, column: int) -> tuple[Neuron, bool]:
        """The neuron of a column, and whether it is added to."""
        layers, width = self.peak_LI.shape
        added, neuron = divmod(column, layers * width)
        return (neuron // width, neuron % width), bool(added)

    def unit(self, neuron: Neuron) -> float:
        """What 1 of an added column means, in activation."""
        return float(self.peak_LI[neuron]) or 1.0


def candidates(slopes: Slopes, radius: float, sizes: Sequence[int], *, within: Sequence[NeuronSide] = ()) -> list[Plan]:
    """Plans of at most each of `sizes` neurons (of `within`, where given), and half steps towards some, fewest neurons first."""
    columns = _Columns(slopes)
    asked, guarded = slopes.questions, slopes.controls
    slope_PN, probe_PN = columns.of(asked, slice(0, PAIRS)), columns.of(guarded, slice(PAIRS, None))
    control_CN = np.concatenate([columns.of(guarded, slice(0, PAIRS)), columns.of(asked, slice(PAIRS, None))])
    reach_N = 1 / (np.maximum(np.abs(slope_PN).max(0) / _STEP_LOGITS, np.abs(probe_PN).max(0)) + 1e-6)
    reach_N = np.minimum(reach_N, np.repeat(_FARTHEST, reach_N.size // 2))
    pool = _pool(columns, np.abs(slope_PN.mean(0)) * reach_N, within)
    names = [columns.name(int(column)) for column in pool]
    model = LinearModel(
        margin_P=asked.value_RK[:, :PAIRS].flatten().double().numpy(),
        slope_PN=slope_PN[:, pool].astype(np.float64),
        question_P=np.repeat(np.arange(len(asked.value_RK)), PAIRS),
        control_C=torch.cat([slopes.control_margins(slopes.at).flatten(), asked.value_RK[:, PAIRS]]).double().numpy(),
        control_slope_CN=control_CN[:, pool].astype(np.float64),
        at_N=np.array([_amount(columns, slopes.at, *name) for name in names]),
        range_N=radius * reach_N[pool].astype(np.float64),
    )
    solutions = [(size, x_N) for weights in WEIGHTS for size, x_N in path(model, weights, tuple(sizes)).items()]
    halves = [(x_N + model.at_N) / 2 for size, x_N in solutions if size in _HALVED]
    plans: list[Plan] = []
    for x_N in [*(x_N for _, x_N in solutions), *halves]:
        plan = _plan(columns, names, x_N)
        if plan and plan not in plans and len(plan) <= max(sizes):
            plans.append(plan)
    return sorted(plans, key=len) or [dict(slopes.at)]


def _pool(columns: _Columns, gain_N: Matrix, within: Sequence[NeuronSide]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The columns of most gain, and those that are in use."""
    if within:
        allowed = [columns.place((side.layer, side.index), added) for side in within for added in (False, True)]
        gain_N = np.where(np.isin(np.arange(gain_N.size), allowed), gain_N, 0.0)
    strongest = np.argpartition(-gain_N, min(_POOL, gain_N.size - 1))[:_POOL]
    inside = [columns.place(neuron, False) for neuron, action in columns.slopes.at.items() if action.mul != 1]
    inside += [columns.place(neuron, True) for neuron, action in columns.slopes.at.items() if action.add != 0]
    return np.unique(np.concatenate([strongest[gain_N[strongest] > 0], np.array(inside, dtype=np.int64)]))


def _amount(columns: _Columns, plan: Plan, neuron: Neuron, added: bool) -> float:
    """What a plan does to a column, 0 being nothing."""
    action = plan.get(neuron, _STAY)
    return action.add / columns.unit(neuron) if added else action.mul - 1


def _plan(columns: _Columns, names: Sequence[tuple[Neuron, bool]], x_N: Matrix) -> Plan:
    """Amounts as a plan of round numbers."""
    plan: dict[Neuron, Action] = {}
    for (neuron, added), x in zip(names, x_N.tolist(), strict=True):
        if abs(x) < _FINEST / 2:
            continue
        old = plan.get(neuron, _STAY)
        if added:
            plan[neuron] = Action(old.mul, float(f"{round(32 * x) / 32 * columns.unit(neuron):.4g}"))
        elif abs(x) >= _FINEST:
            plan[neuron] = Action(round(8 * (1 + x)) / 8, old.add)
    return plan
