"""What a repair found, as data: printed by the command line, kept as an experiment, drawn by the page and the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from neurons.core.steers import Steer
from neurons.core.types import ModelRef
from neurons.repair.baselines import Baseline
from neurons.repair.evaluate import Point
from neurons.repair.spec import RepairSpec, spec_to_json
from neurons.repair.steers import plan_to_steers
from neurons.repair.verify import Share, Verdict
from neurons.runs.steering import dump_steers, steer_to_json

FORMAT = "neuronscope-repair"
VERSION = 1
HOLDS = 0.8
"""Share of the held-out questions that a fix must turn to be called one that holds."""


@dataclass(frozen=True)
class ParetoPoint:
    """One steer of the trade-off between few neurons, questions fixed and controls unchanged."""

    neurons: int
    turned: int
    questions: int
    unchanged: int
    controls: int
    steers: tuple[Steer, ...]
    chosen: bool = False


@dataclass(frozen=True)
class RepairResult:
    """Everything one repair found out."""

    spec: RepairSpec
    model: ModelRef
    found: bool
    """The prompt is fixed, with 80% of the training questions and 95% of the controls, checked by unbatched generation."""
    message: str
    """One sentence for a reader."""
    steers: tuple[Steer, ...]
    """The best steer, a fix or not. Empty where nothing was better than doing nothing."""
    neurons: int
    unsteered: str
    """The wrong answer."""
    verdict: Verdict | None
    """What the steer does. The search never looked at the held-out questions in it."""
    random: tuple[Baseline, ...]
    baselines: tuple[Baseline, ...]
    pareto: tuple[ParetoPoint, ...]
    forward_passes: int
    seconds: float
    stopped: str = ""
    """Why the search ended early: "budget" or "cancelled"; empty when it ended by itself."""

    @property
    def holds(self) -> bool:
        """Found, and it carries over to the held-out questions."""
        return self.found and self.verdict is not None and self.verdict.heldout.share >= HOLDS


def pareto_front(points: Sequence[Point], best: Point | None, scope: str) -> tuple[ParetoPoint, ...]:
    """The measured points that no other one beats on neurons, questions turned and controls unchanged at once."""
    measured = [p for p in points if p.usable]
    front: dict[tuple[int, int, int], Point] = {}
    for point in measured:
        key = (point.neurons, point.turned, point.unchanged or 0)
        beaten = any(
            q.neurons <= key[0] and q.turned >= key[1] and (q.unchanged or 0) >= key[2] and (q.neurons, q.turned, q.unchanged) != key
            for q in measured
        )
        if not beaten or point is best:
            front[key] = point
    if best is not None:
        front[(best.neurons, best.turned, best.unchanged or 0)] = best
    return tuple(
        ParetoPoint(p.neurons, p.turned, p.questions, p.unchanged or 0, p.controls, plan_to_steers(p.plan, scope), p is best)
        for _, p in sorted(front.items())
    )


def result_to_json(result: RepairResult) -> dict[str, Any]:
    """The result as plain JSON values: what the command prints and an experiment keeps."""
    verdict = result.verdict
    return {
        "format": FORMAT,
        "version": VERSION,
        "found": result.found,
        "holds": result.holds,
        "message": result.message,
        "steer": dump_steers(result.steers, result.model),
        "neurons": result.neurons,
        "unsteered": result.unsteered,
        "prompt_fixed": verdict is not None and verdict.prompt_fixed,
        "train": None if verdict is None else _fixed(verdict.train),
        "heldout": None if verdict is None else {**_fixed(verdict.heldout), "seen_by_search": False},
        "controls": None if verdict is None else _unchanged(verdict),
        "random": _random(result.random),
        "baselines": {b.name: _baseline(b) for b in result.baselines},
        "pareto": [{**asdict_point(p)} for p in result.pareto],
        "answers": [] if verdict is None else [asdict(a) for a in verdict.answers],
        "forward_passes": result.forward_passes,
        "seconds": round(result.seconds, 2),
        "stopped": result.stopped,
        "spec": spec_to_json(result.spec),
    }


def asdict_point(point: ParetoPoint) -> dict[str, Any]:
    """A Pareto point as plain JSON values."""
    return {
        "neurons": point.neurons,
        "turned": point.turned,
        "questions": point.questions,
        "unchanged": point.unchanged,
        "controls": point.controls,
        "chosen": point.chosen,
        "steers": [steer_to_json(s) for s in point.steers],
    }


def _fixed(share: Share) -> dict[str, Any]:
    return {"fixed": share.count, "total": share.total, "interval": [round(share.low, 4), round(share.high, 4)]}


def _unchanged(verdict: Verdict) -> dict[str, Any]:
    share = verdict.controls
    interval = [round(share.low, 4), round(share.high, 4)]
    near = {"unchanged": verdict.near.count, "total": verdict.near.total}
    return {"unchanged": share.count, "total": share.total, "interval": interval, "kl": round(verdict.kl, 6), "near": near}


def _baseline(baseline: Baseline) -> dict[str, Any]:
    verdict = baseline.verdict
    return {
        "about": baseline.about,
        "neurons": baseline.neurons,
        "prompt_fixed": verdict.prompt_fixed,
        "train": _fixed(verdict.train),
        "heldout": _fixed(verdict.heldout),
        "controls": _unchanged(verdict),
    }


def _random(draws: Sequence[Baseline]) -> dict[str, Any]:
    """The draws together."""
    if not draws:
        return {"draws": 0}
    held = Share.of(sum(d.verdict.heldout.count for d in draws), sum(d.verdict.heldout.total for d in draws))
    controls = Share.of(sum(d.verdict.controls.count for d in draws), sum(d.verdict.controls.total for d in draws))
    return {
        "draws": len(draws),
        "heldout": _fixed(held),
        "controls": {"unchanged": controls.count, "total": controls.total, "kl": round(sum(d.verdict.kl for d in draws) / len(draws), 6)},
        "each": [{"heldout_fixed": d.verdict.heldout.count, "controls_unchanged": d.verdict.controls.count} for d in draws],
    }
