"""The search: linearise, solve for few neurons, measure, repeat; then drop neurons one by one while the fix holds.

Each round costs one forward and backward pass over the training questions and the controls (how do all margins move with every neuron's
multiplier), a small convex problem (`linear`), and a batch of measurements. Sequential convex programming with a trust region: a neuron may
go in one round only as far as it changes no question by more than a few logits and no control's margin by more than the margin itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from neurons.repair.batch import Action, Neuron, Plan, RowGradients
from neurons.repair.evaluate import GOAL, SAFE, Evaluator, Point
from neurons.repair.linear import LinearModel, Matrix, Weights, path
from neurons.types import Progress, no_progress

_POOL = 400  # neurons in the convex problem
_SIZES = (1, 2, 3, 4, 6, 9, 14, 20)
_HALVED = (4, 9)
_STEP_LOGITS = 1.5  # no neuron may move a question by more in one round
_PROBES = 2
_FEW = 10
_LONGEST = 1.5
_SHORTEST = 0.06  # the radius at which a search that finds nothing better ends
_ROUNDS = 24
_MEASURED = 4  # plans a round whose controls are measured
_AFTER_FIX = 2  # rounds spent on a smaller or safer fix once there is one


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
        measured = [p for p in self.points if p.unchanged is not None and p.plan]
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
            slopes = Slopes(dict(state.at), evaluator.question_gradients(state.at), evaluator.control_gradients(state.at, _PROBES))
        improved = _round(evaluator, state, slopes)
        state.rounds += 1
        state.passes, state.seconds = spent_before + meter.passes, seconds_before + time.perf_counter() - started
        if on_state is not None:
            on_state(state)
        best = state.best
        if best is not None and best.holds:
            since_fix += 1
            if (best.safe and best.neurons <= _FEW) or since_fix > _AFTER_FIX or not improved:
                break
    if state.found and not state.pruned:
        progress(min(spent_before + meter.passes, budget), budget, "dropping neurons that are not needed")
        prune(evaluator, state)
        state.pruned = True
        state.passes, state.seconds = spent_before + meter.passes, seconds_before + time.perf_counter() - started
        if on_state is not None:
            on_state(state)
    return state


@dataclass(frozen=True, eq=False)
class Slopes:
    """How the margins move around a plan: what a round's passes are spent on."""

    at: Plan
    questions: RowGradients
    controls: RowGradients

    def promised_lack(self, plan: Plan) -> float:
        """What a plan's `Point.lack` would be, were the margins linear."""
        stay = Action()
        margin_Q = self.questions.value_RK[:, 0].clone()
        for layer, index in {*plan, *self.at}:
            change = plan.get((layer, index), stay).mul - self.at.get((layer, index), stay).mul
            margin_Q += change * self.questions.mul_RKLI[:, 0, layer, index]
        return float(torch.relu(GOAL - margin_Q).mean())


def _round(evaluator: Evaluator, state: SearchState, slopes: Slopes) -> bool:
    """One round; True when the best point got better."""
    before = state.best
    here = min((p for p in state.points if p.plan == state.at and p.unchanged is not None), key=lambda p: p.merit, default=None)
    points = evaluator.questions(_candidates(evaluator, slopes, state.radius))
    lack = here.lack if here is not None else evaluator.questions([state.at])[0].lack
    turned = [p for p in points if p.turns]
    nearest, fewest = sorted(points, key=lambda p: p.lack)[: _MEASURED - 1], sorted(turned, key=lambda p: p.neurons)[:1]
    promising = {id(point) for point in (*nearest, *fewest)}
    measured = [evaluator.with_controls(p) for p in points if id(p) in promising]
    chosen = max(measured, key=Point.rank)
    if chosen.turns:
        measured = [p for p in measured if p is not chosen] + [evaluator.confirm(chosen)]
    state.points += [p for p in points if id(p) not in promising] + measured
    following = min(measured, key=lambda p: p.merit)
    moved = here is None or following.merit < here.merit
    if moved:
        delivered = (lack - following.lack) / max(1e-6, lack - slopes.promised_lack(following.plan))
        state.radius = min(_LONGEST, state.radius * (0.7 if delivered < 0.3 else 1.3 if delivered > 0.6 else 1.0))
        state.at = following.plan
    else:
        state.radius *= 0.5
    best = state.best
    return best is not None and (before is None or best.rank() > before.rank())


def _candidates(evaluator: Evaluator, slopes: Slopes, radius: float) -> list[Plan]:
    """Plans of growing size from a linearisation, and half steps towards the larger ones."""
    problem = evaluator.problem
    at, asked, guarded = slopes.at, slopes.questions, slopes.controls
    width = problem.batcher.loaded.n_neurons
    slope_QN = asked.mul_RKLI[:, 0].flatten(1).numpy()
    probe_PN = guarded.mul_RKLI[:, 1:].flatten(0, 1).flatten(1).numpy()
    reach_N = 1 / (np.maximum(np.abs(slope_QN).max(0) / _STEP_LOGITS, np.abs(probe_PN).max(0)) + 1e-6)
    reach_N = radius * np.minimum(reach_N, Weights.radius)
    gain_N = np.abs(slope_QN.mean(0)) * reach_N * _allowed(problem.spec.within, problem.batcher.loaded.n_layers, width)
    inside = [layer * width + index for layer, index in at]
    strongest = np.argpartition(-gain_N, min(_POOL, len(gain_N) - 1))[:_POOL]
    pool = np.unique(np.concatenate([strongest[gain_N[strongest] > 0], np.array(inside, dtype=np.int64)]))
    names: list[Neuron] = [(int(n) // width, int(n) % width) for n in pool]

    def columns(rows: torch.Tensor) -> Matrix:
        return np.asarray(rows.flatten(1)[:, torch.from_numpy(pool)].double().numpy())

    model = LinearModel(
        margin_Q=asked.value_RK[:, 0].double().numpy(),
        slope_QN=columns(asked.mul_RKLI[:, 0]),
        control_C=torch.cat([guarded.value_RK[:, 0], asked.value_RK[:, 1]]).double().numpy(),
        control_slope_CN=np.concatenate([columns(guarded.mul_RKLI[:, 0]), columns(asked.mul_RKLI[:, 1])]),
        probe_PN=columns(guarded.mul_RKLI[:, 1:].flatten(0, 1)),
        at_N=np.array([at[name].mul - 1 if name in at else 0.0 for name in names]),
        range_N=reach_N[pool].astype(np.float64),
    )
    sizes = tuple(size for size in _SIZES if size <= problem.spec.max_neurons)
    plans: list[Plan] = []
    solutions = path(model, Weights(goal=GOAL), sizes)
    halves = [(x_N + model.at_N) / 2 for size, x_N in solutions.items() if size in _HALVED]
    for x_N in [*solutions.values(), *halves]:
        plan = {names[n]: Action(round(8 * (1 + float(x_N[n]))) / 8) for n in np.flatnonzero(np.abs(x_N) >= 0.0625)}
        if plan and plan not in plans and len(plan) <= problem.spec.max_neurons:
            plans.append(plan)
    return sorted(plans, key=len) or [dict(at)]


def _allowed(within: Sequence[object], layers: int, width: int) -> Matrix:
    """1 for the neurons that may be used, 0 for the others."""
    allowed_N = np.ones(layers * width) if not within else np.zeros(layers * width)
    for side in within:
        allowed_N[side.layer * width + side.index] = 1.0  # type: ignore[attr-defined]
    return allowed_N


def prune(evaluator: Evaluator, state: SearchState) -> None:
    """Drop the neuron that is missed least, as long as the steer is as good without it: questions, margin, controls.

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
        least = min(best.margin, SAFE)
        good = [(p, gone) for p, gone in zip(points, spare, strict=True) if p.turned >= best.turned and p.margin >= least]
        spare = [gone for _, gone in good]
        smaller = None
        for point, gone in sorted(good, key=lambda pair: pair[0].lack)[:2]:
            measured = evaluator.with_controls(point)
            spare.remove(gone)
            if measured.holds and measured.rank() > chain[-1].rank():
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
