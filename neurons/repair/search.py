"""The search: linearise, solve for few neurons, measure, repeat; then drop neurons one by one while the fix holds.

Each round takes the answers as they now are, costs forward and backward passes over the training questions and the controls (how do all
near margins move with what is done to each neuron), a linear programme (`candidates`, `linear`), and a batch of measurements. Sequential
linear programming with a trust region: a neuron may go in one round only as far as it changes no question by more than a few logits and no
control's margin by more than the margin itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from neurons.repair.batch import Plan
from neurons.repair.candidates import candidates
from neurons.repair.evaluate import Evaluator, Point
from neurons.repair.slopes import Slopes, slopes_at
from neurons.types import Progress, no_progress

_FEW = 10
_LACK = 0.2  # logits; a fix of few neurons that lacks no more is not bettered
_LONGEST = 1.5
_SHORTEST = 0.06  # the radius at which a search that finds nothing better ends
_ROUNDS = 24
_MEASURED = 4  # plans a round whose controls are measured
_AFTER_FIX = 2  # rounds in a row that do not better a fix before it is taken as it is


@dataclass
class SearchState:
    """Where a search stands. Survives a stop: a later search goes on from it."""

    points: list[Point] = field(default_factory=list)
    """Everything measured, in order."""
    at: Plan = field(default_factory=dict)
    """The plan to linearise at next."""
    radius: float = 1.0
    """Factor on how far a round may go: smaller after rounds that the linearisation promised too much for."""
    rounds: int = 0
    passes: int = 0
    """Forward passes spent before this run."""
    seconds: float = 0.0
    pruned: bool = False
    scope: str = "all"
    """The token scope of its plans as steers."""

    @property
    def best(self) -> Point | None:
        """The best so far, usable at any time."""
        measured = [p for p in self.points if p.unchanged is not None and p.plan and (p.confirmed or not p.turns)]
        return max(measured, key=Point.rank, default=None)

    @property
    def found(self) -> bool:
        best = self.best
        return best is not None and best.holds


def search(
    evaluator: Evaluator,
    *,
    budget: int,
    state: SearchState | None = None,
    on_state: Callable[[SearchState], None] | None = None,
    progress: Progress = no_progress,
) -> SearchState:
    """Look for the smallest steer that turns every training question and leaves the controls alone.

    Stops when it is found, when nothing improves, or at `budget` forward passes. `on_state` is called after each round with what a resumed
    search needs; a `Cancelled` raised by `progress` leaves the state as of the last round.
    """
    state = SearchState() if state is None else state
    state.scope = evaluator.problem.scope
    meter = evaluator.problem.batcher.meter
    spent_before, started, seconds_before = state.passes, time.perf_counter(), state.seconds
    since_fix = 0
    slopes: Slopes | None = None
    while state.rounds < _ROUNDS and state.radius > _SHORTEST and spent_before + meter.passes < budget:
        progress(min(spent_before + meter.passes, budget), budget, _message(state))
        if slopes is None or slopes.at != state.at:  # a round that did not move needs no new passes, only a shorter step
            slopes = slopes_at(evaluator, dict(state.at), slopes)
            state.points.append(slopes.here)
        improved = _round(evaluator, state, slopes)
        state.rounds += 1
        state.passes, state.seconds = spent_before + meter.passes, seconds_before + time.perf_counter() - started
        if on_state is not None:
            on_state(state)
        best = state.best
        if best is not None and best.holds:
            since_fix = 0 if improved else since_fix + 1
            if (best.lack < _LACK and best.neurons <= _FEW) or since_fix == _AFTER_FIX:
                break
    if state.found and not state.pruned:
        progress(min(spent_before + meter.passes, budget), budget, "dropping neurons that are not needed")
        prune(evaluator, state)
        state.pruned = True
        state.passes, state.seconds = spent_before + meter.passes, seconds_before + time.perf_counter() - started
        if on_state is not None:
            on_state(state)
    return state


def _round(evaluator: Evaluator, state: SearchState, slopes: Slopes) -> bool:
    """One round; True when the best point got better."""
    before, here, spec = state.best, slopes.here, evaluator.problem.spec
    points = evaluator.questions(candidates(slopes, (state.radius, state.radius / 3), most=spec.max_neurons, within=spec.within))
    turned = [p for p in points if p.turns]
    nearest, fewest = sorted(points, key=lambda p: p.lack)[: _MEASURED - 1], sorted(turned, key=lambda p: p.neurons)[:1]
    promising = {id(point) for point in (*nearest, *fewest)}
    measured = [evaluator.with_controls(p) for p in points if id(p) in promising]
    measured = [evaluator.confirm(p) if p.turns else p for p in measured]
    state.points += [p for p in points if id(p) not in promising] + measured
    following = min(measured, key=lambda p: p.merit)
    if following.merit < here.merit:
        delivered = (here.lack - following.lack) / max(1e-6, here.lack - slopes.promised_lack(following.plan))
        state.radius = min(_LONGEST, state.radius * (0.7 if delivered < 0.3 else 1.3 if delivered > 0.6 else 1.0))
        state.at = following.plan
    else:
        state.radius *= 0.4
    best = state.best
    return best is not None and (before is None or best.rank() > before.rank())


def prune(evaluator: Evaluator, state: SearchState) -> None:
    """Drop the neuron that is missed least, as long as the steer is better without it (see `Point.cost`).

    A neuron that could not be spared from a larger set is not tried again in a smaller one.
    """
    best = state.best
    if best is None:
        return
    spare = list(best.plan)
    chain = [best]
    while spare and chain[-1].neurons > 1:
        plan = chain[-1].plan
        points = evaluator.questions([{n: a for n, a in plan.items() if n != gone} for gone in spare])
        good = [(p, gone) for p, gone in zip(points, spare, strict=True) if p.turned >= best.turned]
        spare = [gone for _, gone in good]
        smaller = None
        for point, gone in sorted(good, key=lambda pair: pair[0].lack)[:2]:
            measured = evaluator.with_controls(point)
            spare.remove(gone)
            if measured.promises and measured.rank() > chain[-1].rank():
                smaller = measured
                break
        if smaller is None:
            break
        chain.append(smaller)
    for point in reversed(chain[1:]):  # the smallest that is really answered right
        confirmed = evaluator.confirm(point)
        state.points.append(confirmed)
        if confirmed.holds and confirmed.turned >= best.turned:
            return


def _message(state: SearchState) -> str:
    best = state.best
    if best is None:
        return "searching: nothing turned yet"
    return (
        f"searching: {best.turned} of {best.questions} questions turned by {best.neurons} neurons, "
        f"{best.unchanged} of {best.controls} controls unchanged"
    )
