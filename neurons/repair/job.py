"""A repair as a background job: the best so far is a row that every round rewrites, the result becomes an experiment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from neurons.core.boundary import checked
from neurons.core.errors import Cancelled, InvalidInput
from neurons.core.progress import Progress
from neurons.models.loaded import LoadedModel
from neurons.repair.experiments import experiments, save_repair
from neurons.repair.repair import BUDGET, repair
from neurons.repair.search import SearchState
from neurons.repair.spec import RepairSpec, SpecJson, spec_to_json
from neurons.repair.steers import plan_to_steers
from neurons.runs.steering import steer_to_json
from neurons.storage.job_parameters import JobParameters
from neurons.storage.jobs import JobContext

JOB_KIND = "repair"
LoadFor = Callable[[JobParameters, Progress], LoadedModel]
"""Gives the model a job belongs to, or raises."""


class RepairParameters(JobParameters):
    """What a job of kind `JOB_KIND` is started with."""

    spec: SpecJson
    name: str
    """The name under which the result is kept."""
    budget: int = BUDGET
    """Forward passes, at most."""
    compare: bool = True
    """Also try random neurons and simple baselines."""


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
        params = context.parameters(RepairParameters)
        spec = params.spec.to_spec()
        loaded = load(params, context.progress)

        def on_best(state: SearchState) -> None:
            context.add_row(Best.of(state).model_dump(mode="json"))

        result = repair(loaded, spec, budget=params.budget, compare=params.compare, on_best=on_best, progress=context.progress)
        if result.stopped == "cancelled":
            raise Cancelled("stopped")
        save_repair(params.name, result)
        return asdict(Repaired(params.name, result.found, result.message))

    return work


class Best(BaseModel):
    """The best so far, a row of the job: its figures on the questions that the search may look at, and its steers."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    row: Literal["best"] = "best"
    round: int
    passes: int
    """Forward passes until then."""
    neurons: int = 0
    """0 while there is none."""
    turned: int = 0
    questions: int = 0
    unchanged: int | None = None
    controls: int = 0
    holds: bool = False
    steers: tuple[dict[str, Any], ...] = ()
    """As steer files have them."""

    @classmethod
    def of(cls, state: SearchState) -> Best:
        """Of a search as it stands."""
        best = state.best
        if best is None:
            return cls(round=state.rounds, passes=state.passes)
        return cls(
            round=state.rounds,
            passes=state.passes,
            neurons=best.neurons,
            turned=best.turned,
            questions=best.questions,
            unchanged=best.unchanged,
            controls=best.controls,
            holds=best.holds,
            steers=tuple(steer_to_json(s) for s in plan_to_steers(best.plan, state.scope)),
        )


def best_of(rows: Sequence[Mapping[str, Any]]) -> Best | None:
    """The best so far of a job's rows; None before the first round and where there is none. Raises `InvalidInput` for a damaged row."""
    found = next((checked(Best, dict(row), what="the best so far") for row in rows if row.get("row") == "best"), None)
    return found if found is not None and found.neurons else None
