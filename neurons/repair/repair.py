"""The whole repair: check, search, verify on what was held out, compare with chance and with simple baselines, tell it as it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from neurons.core.errors import Cancelled
from neurons.core.progress import Progress, no_progress
from neurons.core.types import Steer
from neurons.models.loaded import LoadedModel
from neurons.repair.baselines import TOP_WITHOUT_SEARCH, Baseline, mean_difference, random_sets, top_by_attribution
from neurons.repair.evaluate import SHARE_OF_CONTROLS, SHARE_OF_QUESTIONS, Evaluator
from neurons.repair.problem import prepare
from neurons.repair.result import HOLDS, RepairResult, pareto_front
from neurons.repair.search import SearchState, search
from neurons.repair.spec import RepairSpec
from neurons.repair.state import load_state, save_state, state_path
from neurons.repair.steers import plan_to_steers, steers_to_plan
from neurons.repair.verify import Verdict, Verifier

BUDGET = 4000
"""Forward passes of the search: about 3 minutes for the default model on 2 cores."""

OnBest = Callable[[SearchState], None]


@dataclass
class _Spent:
    """What ended early."""

    why: str = ""


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
    evaluator = Evaluator(problem, seed=spec.seed)
    spent = _Spent()

    def on_state(current: SearchState) -> None:
        if keep:
            save_state(path, current)
        if on_best is not None:
            on_best(current)

    verdict: Verdict | None = None
    drawn: tuple[Baseline, ...] = ()
    baselines: tuple[Baseline, ...] = ()
    passes_before = state.passes
    try:
        search(evaluator, budget=budget, state=state, on_state=on_state, progress=progress)
        if not state.found and passes_before + problem.batcher.meter.passes >= budget:
            spent.why = "budget"
        verifier = Verifier(problem)
        verifier.remember_controls()
        best = state.best
        if best is not None:
            verdict = verifier.full(best.plan, progress=progress)
        if compare:
            # A new evaluator: the search's looks at the answers under its steers.
            drawn, baselines = _compare(Evaluator(problem, seed=spec.seed), verifier, state, progress)
    except (Cancelled, KeyboardInterrupt):  # Ctrl-C at the command
        spent.why = "cancelled"
    best = state.best
    found = verdict is not None and _is_fix(verdict)
    return RepairResult(
        spec=spec,
        model=loaded.ref,
        found=found,
        message=_message(found, verdict, state, spent.why),
        steers=() if best is None else plan_to_steers(best.plan, problem.scope),
        neurons=0 if best is None else best.neurons,
        unsteered=problem.train[0].answer,
        verdict=verdict,
        random=drawn,
        baselines=baselines,
        pareto=pareto_front(state.points, best, problem.scope),
        forward_passes=passes_before + problem.batcher.meter.passes,
        seconds=before + time.perf_counter() - started,
        stopped=spent.why,
    )


def check_steers(loaded: LoadedModel, spec: RepairSpec, steers: tuple[Steer, ...], *, progress: Progress = no_progress) -> Verdict:
    """What some steers (another point of the Pareto picture, or one's own) do to a repair's questions and controls."""
    problem = prepare(loaded, spec, progress=progress)
    verifier = Verifier(problem)
    verifier.remember_controls()
    return verifier.full(steers_to_plan(steers), progress=progress)


def _compare(
    evaluator: Evaluator, verifier: Verifier, state: SearchState, progress: Progress
) -> tuple[tuple[Baseline, ...], tuple[Baseline, ...]]:
    best = state.best
    if best is None:
        return (), (mean_difference(evaluator, verifier, progress=progress),)
    drawn = random_sets(verifier, best.plan, progress=progress)
    progress(0, 1, "trying the top of the attribution without a search")
    tops = top_by_attribution(evaluator, verifier, (best.neurons, TOP_WITHOUT_SEARCH))
    return drawn, (*tops, mean_difference(evaluator, verifier, progress=progress))


def _is_fix(verdict: Verdict) -> bool:
    """By unbatched generation: the prompt, enough of the training questions, enough of the controls."""
    return verdict.prompt_fixed and verdict.train.share >= SHARE_OF_QUESTIONS and verdict.controls.share >= SHARE_OF_CONTROLS


def _message(found: bool, verdict: Verdict | None, state: SearchState, why: str) -> str:
    best = state.best
    if verdict is None or best is None:
        end = {"cancelled": "stopped before", "budget": "the budget ended before"}.get(why, "the search ended before")
        usable = "" if best is None else f"; the best so far uses {best.neurons} neurons and can be used, unchecked"
        return f"No fix found: {end} a steer was checked{usable}."
    held, controls = verdict.heldout, verdict.controls
    counts = (
        f"{held.count} of {held.total} held-out questions (never seen by the search) and "
        f"{controls.count} of {controls.total} controls unchanged"
    )
    if not found:
        return f"No fix found. The best steer, of {best.neurons} neurons, gives {counts}."
    carried = "" if held.share >= HOLDS else " It does not carry over well: the held-out questions say so."
    return f"Fixed with {best.neurons} neuron{'s' if best.neurons != 1 else ''}: {counts}.{carried}"
