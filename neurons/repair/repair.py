"""The whole repair: check, search, verify on what was held out, compare with chance and with simple baselines, tell it as it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from neurons.core.errors import Cancelled
from neurons.core.progress import Progress, no_progress
from neurons.models.loaded import LoadedModel
from neurons.repair.baselines import TOP_WITHOUT_SEARCH, Baseline, attribution_plans, mean_difference, random_sets, top_by_attribution
from neurons.repair.batch import Plan
from neurons.repair.evaluate import SHARE_OF_CONTROLS, SHARE_OF_QUESTIONS, Evaluator, Point
from neurons.repair.problem import Problem, prepare
from neurons.repair.result import HOLDS, RepairResult, pareto_front
from neurons.repair.search import SearchState, search
from neurons.repair.spec import RepairSpec
from neurons.repair.state import load_state, save_state, state_path
from neurons.repair.steers import plan_to_steers
from neurons.repair.verify import Verdict, Verifier

BUDGET = 4000
"""Forward passes of the search: about 3 minutes for the default model on 2 cores."""

STRONGEST = 2
"""This many neurons by attribution alone stand beside every fix."""
_STARTS = (1, STRONGEST, 3, 5, 8)

OnBest = Callable[[SearchState], None]


def repair(
    loaded: LoadedModel,
    spec: RepairSpec,
    *,
    budget: int = BUDGET,
    compare: bool = True,
    resume: bool = True,
    keep: bool = True,
    on_best: OnBest | None = None,
    progress: Progress = no_progress,
) -> RepairResult:
    """Find the smallest steer that gives the wanted answer, and measure what it is worth.

    The search begins at the strongest neurons by attribution; where these alone are the better fix, they are the result, and what the
    search found stands among the baselines. The held-out questions have no part in that choice.

    `budget` bounds the search in forward passes (one prompt through the model once), twice that with making a fix smaller; checking and
    comparing come on top. `compare` False leaves out random sets and baselines. With `resume` a search that was stopped goes on, `keep`
    writes it after each round. `on_best` sees the state after each round. When `progress` raises `Cancelled` or Ctrl-C is pressed, the best
    so far is verified no more but returned.
    Raises `InvalidInput` before anything is searched when the repair makes no sense (see `spec.check_spec`, `problem.prepare`).
    """
    started = time.perf_counter()
    problem = prepare(loaded, spec, progress=progress)
    path = state_path(spec, loaded.ref)
    state = (load_state(path) if resume else None) or SearchState()
    before = state.seconds
    passes_before = state.passes

    def on_state(current: SearchState) -> None:
        if keep:
            save_state(path, current)
        if on_best is not None:
            on_best(current)

    work = _Work(problem, state)
    try:
        work.search(budget, on_state, progress)
        work.verify(compare=compare, progress=progress)
    except (Cancelled, KeyboardInterrupt):  # Ctrl-C at the command
        work.stopped = "cancelled"
    return work.result(passes_before + problem.batcher.meter.passes, before + time.perf_counter() - started)


class _Work:
    """A repair as it goes: where it is stopped, what there is by then is its result."""

    def __init__(self, problem: Problem, state: SearchState) -> None:
        self._problem, self._state = problem, state
        self._starts: tuple[Plan, ...] = ()
        self._chosen: _Checked | None = None
        self._random: tuple[Baseline, ...] = ()
        self._baselines: tuple[Baseline, ...] = ()
        self.stopped = ""
        """What ended it early: "budget", "cancelled" or "" for nothing."""

    def search(self, budget: int, on_state: OnBest, progress: Progress) -> None:
        """Look for the smallest change, from the strongest neurons by attribution on."""
        problem, passes_before = self._problem, self._state.passes
        evaluator = Evaluator(problem, seed=problem.spec.seed)
        sizes = [n for n in _STARTS if n <= problem.spec.max_neurons]
        self._starts = tuple(attribution_plans(evaluator, sizes).values())
        search(evaluator, budget=budget, state=self._state, starts=self._starts, on_state=on_state, progress=progress)
        if not self._state.found and passes_before + problem.batcher.meter.passes >= budget:
            self.stopped = "budget"

    def verify(self, *, compare: bool, progress: Progress) -> None:
        """Check what was found in full, choose, and set it beside chance and simple fixes."""
        verifier = Verifier(self._problem)
        verifier.remember_controls()
        contenders = _contenders(self._state, self._starts)
        checked = [_Checked(point, verifier.full(point.plan, progress=progress)) for point in contenders]
        self._chosen = max(checked, key=_Checked.rank, default=None)
        self._baselines = tuple(_found_by_search(one) for one in checked[:1] if one is not self._chosen)
        if compare:
            # A new evaluator: the search's looks at the answers under its steers.
            evaluator = Evaluator(self._problem, seed=self._problem.spec.seed)
            best = None if self._chosen is None else self._chosen.point
            self._random, simple = _compare(evaluator, verifier, best, progress)
            self._baselines = (*self._baselines, *simple)

    def result(self, passes: int, seconds: float) -> RepairResult:
        """What there is of it, told as it is."""
        problem, state = self._problem, self._state
        best = state.best if self._chosen is None else self._chosen.point
        verdict = None if self._chosen is None else self._chosen.verdict
        found = verdict is not None and _is_fix(verdict)
        simple = best is not None and best.plan in self._starts
        return RepairResult(
            spec=problem.spec,
            model=problem.batcher.loaded.ref,
            found=found,
            message=_message(found, verdict, best, self.stopped, simple=simple) + _better(verdict, self._baselines),
            steers=() if best is None else plan_to_steers(best.plan, problem.scope),
            neurons=0 if best is None else best.neurons,
            unsteered=problem.train[0].answer,
            verdict=verdict,
            random=self._random,
            baselines=self._baselines,
            pareto=pareto_front(state.points, best, problem.scope),
            forward_passes=passes,
            seconds=seconds,
            stopped=self.stopped,
        )


@dataclass(frozen=True)
class _Checked:
    """A steer of the search, and what it does by unbatched generation."""

    point: Point
    verdict: Verdict

    def rank(self) -> tuple[float, ...]:
        """Higher is better: a fix, more questions, more controls, fewer neurons, less change. Blind to what was held out."""
        verdict = self.verdict
        return (float(_is_fix(verdict)), verdict.train.count, verdict.controls.count, -self.point.neurons, -verdict.kl)


def _contenders(state: SearchState, simple: Sequence[Plan]) -> list[Point]:
    """The search's best, and the best of the simple plans that it began with, where that is a fix too."""
    best = state.best
    if best is None:
        return []
    fixes = [p for p in state.points if p.usable and p.holds and p.plan in simple and p.plan != best.plan]
    return [best, *sorted(fixes, key=lambda p: (-p.turned, -(p.unchanged or 0), p.neurons))[:1]]


def _found_by_search(checked: _Checked) -> Baseline:
    return Baseline("found by the search", "more neurons or more change for as much", checked.point.neurons, checked.verdict)


def _compare(
    evaluator: Evaluator, verifier: Verifier, best: Point | None, progress: Progress
) -> tuple[tuple[Baseline, ...], tuple[Baseline, ...]]:
    if best is None:
        return (), (mean_difference(evaluator, verifier, progress=progress),)
    drawn = random_sets(verifier, best.plan, progress=progress)
    progress(0, 1, "trying the top of the attribution without a search")
    tops = top_by_attribution(evaluator, verifier, (STRONGEST, best.neurons, TOP_WITHOUT_SEARCH))
    return drawn, (*tops, mean_difference(evaluator, verifier, progress=progress))


def _is_fix(verdict: Verdict) -> bool:
    """By unbatched generation: the prompt, enough of the training questions, enough of the controls."""
    return verdict.prompt_fixed and verdict.train.share >= SHARE_OF_QUESTIONS and verdict.controls.share >= SHARE_OF_CONTROLS


def _better(verdict: Verdict | None, baselines: Sequence[Baseline]) -> str:
    """Which of the baselines are fixes too and do more on the questions and controls, held-out ones included: said, not chosen."""
    if verdict is None:
        return ""

    def worth(v: Verdict) -> tuple[float, ...]:
        return (v.heldout.count, v.controls.count, v.train.count)

    better = [b for b in baselines if _is_fix(b.verdict) and worth(b.verdict) > worth(verdict)]
    best = max(better, key=lambda b: worth(b.verdict), default=None)
    if best is None:
        return ""
    held, controls = best.verdict.heldout, best.verdict.controls
    return f" Better still: {best.name}, {held.count} of {held.total} held-out questions and {controls.count} of {controls.total} controls."


def _message(found: bool, verdict: Verdict | None, best: Point | None, why: str, *, simple: bool) -> str:
    if verdict is None or best is None:
        end = {"cancelled": "stopped before", "budget": "the budget ended before"}.get(why, "the search ended before")
        usable = "" if best is None else f"; the best so far uses {best.neurons} neurons and can be used, unchecked"
        return f"No fix found: {end} a steer was checked{usable}."
    held, controls = verdict.heldout, verdict.controls
    counts = (
        f"{held.count} of {held.total} held-out questions (never seen by the search) and "
        f"{controls.count} of {controls.total} controls unchanged"
    )
    if verdict.near.total:
        counts += f" ({verdict.near.count} of the {verdict.near.total} that ask the same of something else)"
    if not found:
        return f"No fix found. The best steer, of {best.neurons} neurons, gives {counts}."
    carried = "" if held.share >= HOLDS else " It does not carry over well: the held-out questions say so."
    count = f"{best.neurons} neuron{'s' if best.neurons != 1 else ''}"
    how = ", the strongest by attribution, switched off" if simple else ""
    return f"Fixed with {count}{how}: {counts}.{carried}"
