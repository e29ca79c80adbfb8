"""The search: linearise, solve for few neurons, measure, repeat; then the same within the fix, for fewer neurons.

Each round takes the answers as they now are, costs forward and backward passes over the training questions and the controls (how do all
near margins move with what is done to each neuron), a linear programme (`candidates`, `linear`), and a batch of measurements. Sequential
linear programming with a trust region: a neuron may go in one round only as far as it changes no question by more than a few logits and no
control's margin by more than the margin itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from neurons.core.progress import Progress, no_progress
from neurons.core.types import NeuronSide
from neurons.repair.batch import Plan
from neurons.repair.candidates import candidates
from neurons.repair.evaluate import NEURON, Evaluator, Point
from neurons.repair.slopes import Slopes, slopes_at

_LACK = 0.2  # logits; a fix that lacks no more is not bettered
_LONGEST = 1.5
_SIZES = (1, 2, 4, 6, 9, 14, 20)
_PARTS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of a fix's neurons
_MORE = (0, 2, 4)  # neurons that a smaller set may take in
_TRIED = 6  # plans a round that are measured on the questions
_BETTER = 0.1  # of a fix's cost: less is no progress
_SHORTEST = 0.06  # the radius at which a search that finds nothing better ends
_ROUNDS = 24
_MEASURED = 4  # of them on the controls too
_AFTER_FIX = 1  # rounds in a row that do not better a fix before it is taken as it is


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
    shrunk: bool = False
    scope: str = "all"
    """The token scope of its plans as steers."""

    @property
    def best(self) -> Point | None:
        """The best so far, usable at any time."""
        # a plan may have been measured again, where the answers are decided then
        latest = {frozenset(p.plan.items()): p for p in self.points if p.usable}
        return max(latest.values(), key=Point.rank, default=None)

    @property
    def found(self) -> bool:
        best = self.best
        return best is not None and best.holds


def search(
    evaluator: Evaluator,
    *,
    budget: int,
    state: SearchState | None = None,
    starts: Sequence[Plan] = (),
    on_state: Callable[[SearchState], None] | None = None,
    progress: Progress = no_progress,
) -> SearchState:
    """Look for the smallest steer that turns every training question and leaves the controls alone.

    A new search measures `starts`, simple plans, first, and begins at the best of them where that is better than nothing.

    Stops when it is found, when nothing improves, or at `budget` forward passes; making a fix smaller may take as many again. `on_state` is
    called after each round with what a resumed search needs; a `Cancelled` raised by `progress` leaves the state as of the last round.
    """
    state = SearchState() if state is None else state
    state.scope = evaluator.problem.scope
    meter = evaluator.problem.batcher.meter
    spent_before, started, seconds_before = state.passes, time.perf_counter(), state.seconds

    def tick(message: str) -> None:
        progress(min(spent_before + meter.passes, budget), budget, message)

    def keep() -> None:
        state.passes, state.seconds = spent_before + meter.passes, seconds_before + time.perf_counter() - started
        if on_state is not None:
            on_state(state)

    if starts and not state.points:
        tick("measuring the strongest neurons by attribution")
        _start(evaluator, state, starts)
    since_fix = 0
    slopes: Slopes | None = None
    while state.rounds < _ROUNDS and state.radius > _SHORTEST and spent_before + meter.passes < budget:
        tick(_message(state))
        if slopes is None or slopes.at != state.at:  # a round that did not move needs no new passes, only a shorter step
            slopes = slopes_at(evaluator, dict(state.at), slopes)
            state.points.append(slopes.here)
        improved = _round(evaluator, state, slopes)
        state.rounds += 1
        keep()
        best = state.best
        if best is not None and best.holds:
            since_fix = 0 if improved else since_fix + 1
            if best.lack < _LACK or since_fix == _AFTER_FIX:
                break
    while state.found and not state.shrunk and spent_before + meter.passes < 2 * budget:
        tick("looking for a fix of fewer neurons")
        slopes, smaller = _shrink(evaluator, state, slopes)
        state.shrunk = not smaller
        keep()
    return state


def _start(evaluator: Evaluator, state: SearchState, starts: Sequence[Plan]) -> None:
    """Measure the plans that a search may begin at, and begin at the best."""
    nothing, *points = (evaluator.with_controls(point) for point in evaluator.questions([{}, *starts]))
    measured = [evaluator.confirm(point) if point.turns else point for point in points]
    state.points += measured
    best = min(measured, key=lambda point: point.merit)
    if best.merit < nothing.merit:
        state.at = best.plan


def _round(evaluator: Evaluator, state: SearchState, slopes: Slopes) -> bool:
    """One round; True when a fix was found or got clearly better."""
    before, here, spec = state.best, slopes.here, evaluator.problem.spec
    sizes = sorted({size for size in _SIZES if size < spec.max_neurons} | {spec.max_neurons})
    plans = candidates(slopes, state.radius, sizes, within=spec.within)
    points = _measured(evaluator, state, slopes, plans)
    following = min(points, key=lambda p: p.merit)
    if following.merit < here.merit:
        delivered = (here.lack - following.lack) / max(1e-6, here.lack - slopes.promised_lack(following.plan))
        state.radius = min(_LONGEST, state.radius * (0.7 if delivered < 0.3 else 1.3 if delivered > 0.6 else 1.0))
        state.at = following.plan
    else:
        state.radius *= 0.4
    best = state.best
    if best is None or not best.holds:
        return False
    return before is None or not before.holds or best.cost < before.cost - _BETTER


def _measured(evaluator: Evaluator, state: SearchState, slopes: Slopes, plans: Sequence[Plan], price: float = 0.0) -> list[Point]:
    """The plans that promise most, a neuron costing `price`: on the questions, fewer on the controls, the best of them really answered."""
    points = evaluator.questions(sorted(plans, key=lambda plan: slopes.promised_merit(plan) + price * len(plan))[:_TRIED])
    turned = [p for p in points if p.turns]
    nearest = sorted(points, key=lambda p: p.lack + price * p.neurons)[: _MEASURED - 1]
    promising = {id(point) for point in (*nearest, *sorted(turned, key=lambda p: p.neurons)[:1])}
    measured = sorted((evaluator.with_controls(p) for p in points if id(p) in promising), key=Point.rank, reverse=True)
    for n, point in enumerate(measured):
        if point.turns:
            measured[n] = evaluator.confirm(point)
            if measured[n].turns:
                break
    state.points += [p for p in points if id(p) not in promising] + measured
    return measured


def _shrink(evaluator: Evaluator, state: SearchState, slopes: Slopes | None) -> tuple[Slopes | None, bool]:
    """Take fewer of a fix's neurons and let the others make up for it. True when the fix is better for it (see `Point.cost`).

    A smaller set that just fails is linearised in its turn, where its own answers are decided, and may take in a few others.
    """
    best = state.best
    if best is None or best.neurons == 1:
        return slopes, False
    slopes = slopes_at(evaluator, dict(best.plan), slopes)
    here = slopes.here
    state.points.append(here)
    inside = tuple(NeuronSide(layer, index) for layer, index in best.plan)
    sizes = sorted({max(1, round(part * best.neurons)) for part in _PARTS})
    points = _measured(evaluator, state, slopes, candidates(slopes, 1.0, sizes, within=inside), price=NEURON)
    if not _bettered(here, points):
        start = min((p for p in points if p.neurons < best.neurons - 1), key=lambda p: p.cost, default=here)
        if start.cost >= here.cost:
            return slopes, False
        slopes = slopes_at(evaluator, dict(start.plan), slopes)
        state.points.append(slopes.here)
        sizes = sorted({min(start.neurons + more, best.neurons - 1) for more in _MORE})
        plans = candidates(slopes, 1.0, sizes, within=evaluator.problem.spec.within)
        points = _measured(evaluator, state, slopes, plans, price=NEURON)
    return slopes, _bettered(here, points)


def _bettered(here: Point, points: Sequence[Point]) -> bool:
    return any(p.holds and p.cost < here.cost - _BETTER for p in points)


def _message(state: SearchState) -> str:
    best = state.best
    if best is None:
        return "searching: nothing turned yet"
    return (
        f"searching: {best.turned} of {best.questions} questions turned by {best.neurons} neurons, "
        f"{best.unchanged} of {best.controls} controls unchanged"
    )
