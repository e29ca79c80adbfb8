"""How good a candidate steer is: do the questions turn, do the controls stay. One batched forward pass for many candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from neurons.models.chat import decode
from neurons.repair.batch import Action, Neuron, Plan, RowGradients
from neurons.repair.problem import Decision, Problem, Question, decide, margins, settled
from neurons.repair.spec import is_fixed

SHARE_OF_QUESTIONS = 0.8
"""Share of the training questions that must turn for a steer to count as a fix; the prompt itself always must."""
SHARE_OF_CONTROLS = 0.95
"""Share of the controls that must stay for a steer to count as a fix."""
GOAL = 2.0
"""Margin (logits) that each training question should reach, so that the fix carries over to other wordings."""
NEURON = 0.1
"""What a neuron in a fix costs, in logits of the mean margin."""
PAIRS = 4
"""Pairs (a chosen token, another one) of least margin that are linearised, of each question and each control."""
_SOFT = 0.1  # temperature (logits) of the smooth minimum; with .5, ten safe tokens looked like one in danger
_FLOOR = 0.3  # logits added to a margin before a change is divided by it


@dataclass(frozen=True)
class Point:
    """One steer that was tried, with what was measured on the questions the search may look at."""

    plan: Plan
    prompt_turned: bool
    """Whether the prompt itself, the first training question, turns."""
    turned: int
    """Training questions whose decisive tokens turn."""
    questions: int
    margin: float
    """The least decisive margin over the training questions, in logits; above 0: all turn."""
    lack: float
    """Mean over the training questions of what the margins of their wanted tokens lack to `GOAL`, in logits; see `_lack`."""
    unchanged: int | None = None
    """Controls with the same answer, token by token; None: not measured."""
    controls: int = 0
    confirmed: bool = False
    """Whether `turned` counts what is really answered, and not the decisive tokens alone."""
    control_margin: float | None = None
    """The least margin over all tokens of all controls, in logits; below 0: one changes."""

    @property
    def neurons(self) -> int:
        return len(self.plan)

    @property
    def holds(self) -> bool:
        """A fix: the prompt and enough of the training questions are answered right, and enough controls stay."""
        return self.confirmed and self.promises

    @property
    def promises(self) -> bool:
        """A fix, should the answers be what their decisive tokens say."""
        return self.turns and self.unchanged is not None and self.unchanged >= SHARE_OF_CONTROLS * self.controls

    @property
    def turns(self) -> bool:
        """The prompt and enough of the training questions turn."""
        return self.prompt_turned and self.turned >= SHARE_OF_QUESTIONS * self.questions

    @property
    def usable(self) -> bool:
        """Steers, measured on the controls too, and no turning that was not really answered."""
        return bool(self.plan) and self.unchanged is not None and (self.confirmed or not self.turns)

    @property
    def merit(self) -> float:
        """Lower is better: what the search descends on."""
        share = 0.0 if self.unchanged is None else self.unchanged / max(1, self.controls)
        return self.lack + 2 * (1 - share) + 10 * max(0.0, SHARE_OF_CONTROLS - share)

    @property
    def cost(self) -> float:
        """What is still wrong with a fix: margins that lack to the goal (they make it carry over), wordings, controls, neurons."""
        missed, changed = 1 - self.turned / self.questions, self.controls - (self.unchanged or 0)
        return self.lack + missed + 0.1 * changed + NEURON * self.neurons

    def rank(self) -> tuple[float, ...]:
        """Higher is better: fixes first, those of less cost; before that, progress."""
        return (2.0, -self.cost, self.margin) if self.promises else (1.0, -self.merit, self.margin)


class Evaluator:
    """Measures plans on one problem. Keeps the decisions: where each training question's answer is decided."""

    def __init__(self, problem: Problem, *, seed: int = 0) -> None:
        self.problem = problem
        self.decisions: list[Decision] = [decide(problem, q, q.answer_ids, {}) for q in problem.train]
        self._answered: dict[frozenset[tuple[Neuron, Action]], list[tuple[int, ...]]] = {}
        self._signs = torch.Generator().manual_seed(seed)

    def questions(self, plans: Sequence[Plan]) -> list[Point]:
        """Each plan on the training questions, all in one batch."""
        decisions = [d for _ in plans for d in self.decisions]
        spread = [plan for plan in plans for _ in self.decisions]
        logits = self.problem.batcher.logits([d.row for d in decisions], [d.picks for d in decisions], spread)
        all_margins = [margins(part, d.chosen) for part, d in zip(logits, decisions, strict=True)]
        margin_PQ = torch.stack([margin.amin() for margin in all_margins]).view(len(plans), -1)
        lacks = [_lack(margin, d.turn) for margin, d in zip(all_margins, decisions, strict=True)]
        lack_P = torch.stack(lacks).view(len(plans), -1).mean(1)
        return [
            Point(plan, bool(row[0] > 0), int((row > 0).sum()), len(row), float(row.amin()), float(lack))
            for plan, row, lack in zip(plans, margin_PQ, lack_P, strict=True)
        ]

    def with_controls(self, point: Point) -> Point:
        """The point with the controls measured too: the steered model agrees with each token of each unsteered answer, or not."""
        unchanged_C, least = self.controls(point.plan)
        return replace(point, unchanged=int(unchanged_C.sum()), controls=len(unchanged_C), control_margin=least)

    def controls(self, plan: Plan) -> tuple[Tensor, float]:
        """(which controls are answered as before, the least margin of any token)."""
        problem = self.problem
        rows = [c.answered for c in problem.controls]
        logits = problem.batcher.logits(rows, [c.answer_picks(problem.head) for c in problem.controls], [plan])
        least_C = torch.stack([margins(part, c.answer_ids).amin() for part, c in zip(logits, problem.controls, strict=True)])
        return least_C > 0, float(least_C.amin())

    def answers(self, questions: Sequence[Question], plan: Plan) -> list[tuple[int, ...]]:
        """Greedy steered answers."""
        return self.problem.batcher.generate([q.row for q in questions], self.problem.spec.max_new_tokens, [plan])

    def confirm(self, point: Point) -> Point:
        """The point with what is really answered under its plan."""
        return self._confirmed(point, self._answers_of(point.plan))

    def _answers_of(self, plan: Plan) -> list[tuple[int, ...]]:
        """What the training questions are answered under a plan. Asked once: a plan that is confirmed is often linearised at next."""
        key = frozenset(plan.items())
        if key not in self._answered:
            self._answered[key] = self.answers(self.problem.train, plan)
        return self._answered[key]

    def _confirmed(self, point: Point, answers: Sequence[Sequence[int]]) -> Point:
        fixed = [is_fixed(self.problem.spec, decode(self.problem.batcher.loaded, answer)) for answer in answers]
        margin = point.margin if all(fixed) else min(point.margin, -0.01)
        return replace(point, prompt_turned=fixed[0], turned=sum(fixed), margin=margin, confirmed=True)

    def follow(self, plan: Plan) -> Point:
        """Look anew where each training question is decided, in what is answered under `plan`; the plan measured there."""
        answers = self._answers_of(plan)
        for n, (question, answer) in enumerate(zip(self.problem.train, answers, strict=True)):
            self.decisions[n] = settled(self.problem, question, answer) or decide(self.problem, question, answer, plan)
        return self._confirmed(self.with_controls(self.questions([plan])[0]), answers)

    def question_gradients(self, plan: Plan) -> RowGradients:
        """K = PAIRS + 1 objectives per question: its wanted tokens over their nearest others, and the least margin of the answer before."""

        def objectives(n: int, logits_PV: Tensor) -> Tensor:
            decision = self.decisions[n]
            turn = decision.turn
            near = nearest_pairs(logits_PV[turn:], decision.chosen[turn:], PAIRS)
            before = _least(margins(logits_PV[:turn], decision.chosen[:turn])) if turn else near.sum() * 0 + 10.0
            return torch.cat([near, before[None]])

        return self.problem.batcher.gradients([d.row for d in self.decisions], [d.picks for d in self.decisions], objectives, plan)

    def control_gradients(self, plan: Plan, probes: int) -> RowGradients:
        """K = PAIRS + probes objectives per control: its tokens over the nearest others, random-sign sums of (margin change / margin)."""
        problem = self.problem

        def objectives(n: int, logits_PV: Tensor) -> Tensor:
            margin_P = margins(logits_PV, problem.controls[n].answer_ids)
            scaled_P = margin_P / (margin_P.detach().abs() + _FLOOR)
            signs = torch.randint(0, 2, (probes, len(margin_P)), generator=self._signs).to(margin_P) * 2 - 1
            return torch.cat([nearest_pairs(logits_PV, problem.controls[n].answer_ids, PAIRS), signs @ scaled_P])

        picks = [c.answer_picks(problem.head) for c in problem.controls]
        return problem.batcher.gradients([c.answered for c in problem.controls], picks, objectives, plan)


def nearest_pairs(logits_PV: Tensor, chosen: Sequence[int], count: int) -> Tensor:
    """Logit of a chosen token less another's, of the `count` pairs where that is least, shape (count,)."""
    chosen_P1 = torch.tensor(list(chosen), device=logits_PV.device)[:, None]
    others_PV = logits_PV.scatter(1, chosen_P1, float("-inf"))
    near_PK = logits_PV.gather(1, chosen_P1) - torch.topk(others_PV, count, dim=1).values
    return torch.topk(near_PK.flatten(), count, largest=False).values


def _lack(margin_P: Tensor, turn: int) -> Tensor:
    """What a question's wanted tokens lack to the goal, and the answer before them to being taken at all."""
    before = torch.relu(-margin_P[:turn].amin()) if turn else 0.0
    return torch.relu(GOAL - margin_P[turn:].amin()) + before


def _least(margin_P: Tensor) -> Tensor:
    """A smooth minimum, so that every token near the least one counts."""
    return -_SOFT * torch.logsumexp(-margin_P / _SOFT, 0)
