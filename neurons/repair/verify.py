"""The final check of a steer: the real, unbatched `generate` on every question, held out or not, and every control; KL on controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from statsmodels.stats.proportion import proportion_confint
from torch import Tensor

from neurons.core.progress import Progress, no_progress
from neurons.core.steers import Steer
from neurons.core.types import Sampling
from neurons.models.chat import decode
from neurons.repair.batch import Plan
from neurons.repair.problem import Problem, Question
from neurons.repair.spec import is_fixed, why_not
from neurons.repair.steers import plan_to_steers
from neurons.runs.generation import generate
from neurons.runs.hooks import run_forward
from neurons.runs.kl import kl_divergence
from neurons.runs.steering import compile_edits, placed


@dataclass(frozen=True)
class Share:
    """A count with its 95% interval (Wilson)."""

    count: int
    total: int
    low: float
    high: float

    @classmethod
    def of(cls, count: int, total: int) -> Share:
        low, high = proportion_confint(count, total, alpha=0.05, method="wilson") if total else (0.0, 1.0)
        return cls(count, total, float(low), float(high))

    @property
    def share(self) -> float:
        return self.count / self.total if self.total else 0.0


@dataclass(frozen=True)
class Answer:
    """One prompt with and without the steer."""

    prompt: str
    unsteered: str
    steered: str
    good: bool
    """A question: fixed. A control: unchanged."""
    was_good: bool = False
    """A question that was answered right already without the steer."""
    why: str = ""
    """Why a question's steered answer does not count as fixed."""


@dataclass(frozen=True)
class Verdict:
    """What a steer does, measured."""

    train: Share
    """Questions the search looked at, the prompt first."""
    heldout: Share
    """Questions it never looked at."""
    controls: Share
    kl: float
    """Mean over the controls' answer tokens of KL(unsteered || steered) of the next token, in nats."""
    prompt_fixed: bool
    near: Share = Share(0, 0, 0.0, 1.0)
    """Of the controls, those that ask the same as the prompt of something else; 0 of 0 where none is known."""
    answers: tuple[Answer, ...] = ()
    """Training questions, held-out questions, controls, in this order; empty where only counts were asked for."""


class Verifier:
    """Measures steers on one problem, the held-out questions included. What the search never gets to see."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._plain: dict[int, Tensor] = {}

    def full(self, plan: Plan, *, progress: Progress = no_progress) -> Verdict:
        """Check a plan by unbatched greedy generation, as a user would run it."""
        return self.of_steers(plan_to_steers(plan, self.problem.scope), progress=progress)

    def of_steers(self, steers: Sequence[Steer], *, progress: Progress = no_progress) -> Verdict:
        """Check steers likewise, each at the tokens that it names itself. Those that need values have them (`resolve`)."""
        problem = self.problem
        loaded = problem.batcher.loaded
        questions = [*problem.train, *problem.heldout]
        total = len(questions) + len(problem.controls)
        answers = []
        for n, question in enumerate(questions):
            progress(n, total, "checking the fix on every question and control")
            steered = decode(loaded, self._generate(question, problem.spec.max_new_tokens, steers))
            why = why_not(problem.spec, steered)
            answers.append(Answer(question.prompt, question.answer, steered, not why, is_fixed(problem.spec, question.answer), why))
        for n, control in enumerate(problem.controls):
            progress(len(questions) + n, total, "checking the fix on every question and control")
            ids, before = self._generate(control, problem.spec.control_tokens, steers), control.answer_ids
            if ids != before:  # the batched unsteered answer may differ from the unbatched one by rounding: compare like with like
                before = self._generate(control, problem.spec.control_tokens, ())
            answers.append(Answer(control.prompt, decode(loaded, before), decode(loaded, ids), ids == before))
        return self._verdict([a.good for a in answers], self._kl(steers), tuple(answers))

    def quick(self, plan: Plan) -> Verdict:
        """The same counts from batched generation, the controls forced: for baselines. Residual edits in force count too."""
        problem = self.problem
        questions = [*problem.train, *problem.heldout]
        ids = problem.batcher.generate([q.row for q in questions], problem.spec.max_new_tokens, [plan])
        unchanged_C, kl = self.controls([plan])
        return self._verdict([is_fixed(problem.spec, decode(problem.batcher.loaded, answer)) for answer in ids] + unchanged_C, kl, ())

    def controls(self, plans: Sequence[Plan]) -> tuple[list[bool], float]:
        """(whether each control's every answer token stays the likeliest, mean KL in nats), the unsteered answers forced."""
        problem = self.problem
        unchanged, kls = [], []
        for n, control in enumerate(problem.controls):
            steered_TV = problem.batcher.logits([control.answered], [control.answer_picks(problem.head)], plans)[0].log_softmax(-1)
            kls.append(kl_divergence(self._plain.get(n, steered_TV), steered_TV))
            unchanged.append(steered_TV.argmax(-1).tolist() == list(control.answer_ids))
        return unchanged, _mean(kls)

    def _kl(self, steers: Sequence[Steer]) -> float:
        """Mean KL on the controls' answers, forced, in nats per token: as `controls` has it, the steers acting where they say."""
        problem, loaded = self.problem, self.problem.batcher.loaded
        kls = []
        for n, control in enumerate(problem.controls):
            ids, picks = (*problem.batcher.prefix, *control.answered.ids), control.answer_picks(problem.head)
            if not picks:
                continue
            asked = problem.head + len(control.ids)
            edits = compile_edits(loaded, placed(steers, (problem.head + control.begin, asked)), asked)
            problem.batcher.meter.passes += 1
            output = run_forward(loaded, torch.tensor([ids]), edits=edits, logits_to_keep=len(ids) - picks[0])
            assert output.logits is not None
            steered_TV = output.logits[0, [at - picks[0] for at in picks]].float().cpu().log_softmax(-1)
            kls.append(kl_divergence(self._plain.get(n, steered_TV).float().cpu(), steered_TV))
        return _mean(kls)

    def remember_controls(self) -> None:
        """Keep the unsteered next-token distributions of the controls' answers: what KL is measured against."""
        problem = self.problem
        for n, control in enumerate(problem.controls):
            self._plain[n] = problem.batcher.logits([control.answered], [control.answer_picks(problem.head)])[0].log_softmax(-1)

    def _verdict(self, good: Sequence[bool], kl: float, answers: tuple[Answer, ...]) -> Verdict:
        train, asked = len(self.problem.train), len(self.problem.train) + len(self.problem.heldout)
        return Verdict(
            Share.of(sum(good[:train]), train),
            Share.of(sum(good[train:asked]), asked - train),
            Share.of(sum(good[asked:]), len(good) - asked),
            kl,
            good[0],
            Share.of(sum(good[len(good) - self.problem.near :]), self.problem.near) if self.problem.near else Verdict.near,
            answers,
        )

    def _generate(self, question: Question, new_tokens: int, steers: Sequence[Steer]) -> tuple[int, ...]:
        batcher = self.problem.batcher
        sampling = Sampling(max_new_tokens=new_tokens)
        batcher.meter.passes += 1
        ids = (*batcher.prefix, *question.ids)
        here = placed(steers, (self.problem.head + question.begin, len(ids)))
        return generate(batcher.loaded, ids, sampling=sampling, steers=here, record=False).answer_ids


def _mean(kls: Sequence[Tensor]) -> float:
    """Over all tokens of all answers; 0 where there are none."""
    tokens = sum(map(len, kls))
    return float(torch.cat([*kls]).mean()) if tokens else 0.0
