"""A search on disk, so that a stopped one goes on: <home>/repairs/<key>.json, the key being the repair and the model."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import BaseModel, ValidationError

from neurons.core.home import subfolder
from neurons.core.json_text import json_text
from neurons.core.types import ModelRef
from neurons.repair.batch import Action, Plan
from neurons.repair.evaluate import Point
from neurons.repair.search import SearchState
from neurons.repair.spec import RepairSpec, spec_to_json
from neurons.storage.files import write_json


def state_path(spec: RepairSpec, ref: ModelRef) -> Path:
    """Where a repair's search is kept. The same repair with the same model finds it again."""
    text = json_text([spec_to_json(spec), ref.weights_hash, ref.dtype], sort_keys=True, ascii_only=True)
    return subfolder("repairs") / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"


_PlanRows = list[tuple[int, int, float, float]]
"""(layer, index, mul, add) of each action."""


class _SavedPoint(BaseModel):
    """A point as it is kept; see `Point`."""

    plan: _PlanRows
    prompt_turned: bool
    turned: int
    questions: int
    margin: float
    lack: float
    unchanged: int | None
    controls: int
    confirmed: bool
    control_margin: float | None

    @classmethod
    def of(cls, point: Point) -> _SavedPoint:
        return cls(plan=_rows(point.plan), **{name: getattr(point, name) for name in cls.model_fields if name != "plan"})

    def to_point(self) -> Point:
        return Point(_plan(self.plan), **self.model_dump(exclude={"plan"}))


class _SavedState(BaseModel):
    """A search as it is kept; see `SearchState`."""

    points: list[_SavedPoint]
    at: _PlanRows
    radius: float
    rounds: int
    passes: int
    seconds: float
    shrunk: bool


def save_state(path: Path, state: SearchState) -> None:
    """Write the state, whole or not at all. Raises `StoreError`."""
    kept = _SavedState(
        points=[_SavedPoint.of(point) for point in state.points],
        at=_rows(state.at),
        radius=state.radius,
        rounds=state.rounds,
        passes=state.passes,
        seconds=state.seconds,
        shrunk=state.shrunk,
    )
    write_json(path, kept.model_dump())


def load_state(path: Path) -> SearchState | None:
    """The state kept there, or None where there is none that can be read: then the search begins anew."""
    try:
        kept = _SavedState.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
    points = [point.to_point() for point in kept.points]
    return SearchState(points, _plan(kept.at), kept.radius, kept.rounds, kept.passes, kept.seconds, kept.shrunk)


def _rows(plan: Plan) -> _PlanRows:
    return [(layer, index, action.mul, action.add) for (layer, index), action in plan.items()]


def _plan(rows: _PlanRows) -> Plan:
    return {(layer, index): Action(mul, add) for layer, index, mul, add in rows}
