"""A repair as a background job: the best so far is a row that every round rewrites, the result becomes an experiment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from neurons.core.errors import Cancelled, InvalidInput
from neurons.core.progress import Progress
from neurons.models.loaded import LoadedModel
from neurons.repair.experiments import experiments, save_repair
from neurons.repair.repair import BUDGET, repair
from neurons.repair.search import SearchState
from neurons.repair.spec import RepairSpec, parse_spec, spec_to_json
from neurons.repair.steers import plan_to_steers
from neurons.runs.steering import steer_to_json
from neurons.storage.jobs import JobContext

JOB_KIND = "repair"
LoadFor = Callable[[Mapping[str, Any], Progress], LoadedModel]
"""Gives the model a job belongs to, or raises."""


@dataclass(frozen=True)
class Repaired:
    """What a repair came to."""

    experiment: str
    """The name under which its result is kept."""
    found: bool
    message: str


def job_params(spec: RepairSpec, *, model: str, name: str, budget: int = BUDGET, compare: bool = True) -> dict[str, Any]:
    """What a job of kind `JOB_KIND` is started with. Raises `InvalidInput` for a name that is taken."""
    if not name.strip():
        raise InvalidInput("give the repair a name; its result is kept under it", field="name")
    if name in experiments():
        raise InvalidInput(f"there is an experiment {name!r} already; choose another name", field="name")
    return {"spec": spec_to_json(spec), "model": model, "name": name.strip(), "budget": budget, "compare": compare}


def job_worker(load: LoadFor) -> Callable[[JobContext], Mapping[str, Any]]:
    """How such jobs are done. A stopped one goes on from its last round."""

    def work(context: JobContext) -> Mapping[str, Any]:
        params = context.params
        spec = parse_spec(params["spec"])
        loaded = load(params, context.progress)

        def on_best(state: SearchState) -> None:
            context.add_row({"row": "best", **best_row(state)})

        result = repair(
            loaded, spec, budget=int(params["budget"]), compare=bool(params["compare"]), on_best=on_best, progress=context.progress
        )
        if result.stopped == "cancelled":
            raise Cancelled("stopped")
        save_repair(str(params["name"]), result)
        return asdict(Repaired(str(params["name"]), result.found, result.message))

    return work


def best_row(state: SearchState) -> dict[str, Any]:
    """The best so far as plain JSON values: its figures on the questions the search may look at, and its steers."""
    best = state.best
    if best is None:
        return {"round": state.rounds, "passes": state.passes, "neurons": 0}
    return {
        "round": state.rounds,
        "passes": state.passes,
        "neurons": best.neurons,
        "turned": best.turned,
        "questions": best.questions,
        "unchanged": best.unchanged,
        "controls": best.controls,
        "holds": best.holds,
        "steers": [steer_to_json(s) for s in plan_to_steers(best.plan, state.scope)],
    }
