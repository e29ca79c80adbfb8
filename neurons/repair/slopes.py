"""How the margins move around a steer: what each round of the search spends its passes on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from neurons.repair.batch import Action, Plan, RowGradients
from neurons.repair.evaluate import GOAL, PAIRS, Evaluator, Point

_PROBES = 1
_NEAR = 6.0  # sum of changed multipliers over which the controls' slopes are taken to be the same


@dataclass(frozen=True, eq=False)
class Slopes:
    """The linearisation of all margins around a plan."""

    at: Plan
    here: Point
    """The plan itself, measured."""
    questions: RowGradients
    """Of `Evaluator.question_gradients`, around `at`."""
    controls: RowGradients
    """Of `Evaluator.control_gradients`, around `guarded_at`: controls move so little that their slopes may serve again."""
    guarded_at: Plan

    def question_margins(self, plan: Plan) -> torch.Tensor:
        """The margins of each question's pairs at a plan, were they linear, shape (Q, PAIRS)."""
        return _margins(self.questions, self.at, plan)

    def control_margins(self, plan: Plan) -> torch.Tensor:
        """Those of each control, shape (C, PAIRS)."""
        return _margins(self.controls, self.guarded_at, plan)

    def promised_lack(self, plan: Plan) -> float:
        """What a plan's `Point.lack` would be, were the margins linear."""
        return float(torch.relu(GOAL - self.question_margins(plan).amin(1)).mean())

    def promised_merit(self, plan: Plan) -> float:
        """What a plan's `Point.merit` would be, likewise."""
        return replace(self.here, lack=self.promised_lack(plan), unchanged=self.promised_unchanged(plan)).merit

    def promised_unchanged(self, plan: Plan) -> int:
        """What a plan's `Point.unchanged` would be, likewise."""
        return int((self.control_margins(plan).amin(1) > 0).sum())


def slopes_at(evaluator: Evaluator, plan: Plan, before: Slopes | None) -> Slopes:
    """The slopes at a plan, where the answers are decided under it. Those of the controls are kept while they tell what happens."""
    here = evaluator.follow(plan)
    questions = evaluator.question_gradients(plan)
    if before is not None and _near(plan, before.guarded_at) and before.promised_unchanged(plan) <= (here.unchanged or 0):
        return Slopes(plan, here, questions, before.controls, before.guarded_at)
    return Slopes(plan, here, questions, evaluator.control_gradients(plan, _PROBES), plan)


def _near(plan: Plan, other: Plan) -> bool:
    stay = Action()
    return sum(abs(plan.get(n, stay).mul - other.get(n, stay).mul) for n in {*plan, *other}) < _NEAR


def _margins(rows: RowGradients, start: Plan, plan: Plan) -> torch.Tensor:
    stay = Action()
    margin_RP = rows.value_RK[:, :PAIRS].clone()
    for neuron in {*plan, *start}:
        there, here = plan.get(neuron, stay), start.get(neuron, stay)
        margin_RP += (there.mul - here.mul) * rows.mul_RKLI[:, :PAIRS, *neuron]
        margin_RP += (there.add - here.add) * rows.add_RKLI[:, :PAIRS, *neuron]
    return margin_RP
