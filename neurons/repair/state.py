"""A search on disk, so that a stopped one goes on: <home>/repairs/<key>.json, the key being the repair and the model."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from neurons.core.home import subfolder
from neurons.core.types import ModelRef
from neurons.repair.batch import Action, Plan
from neurons.repair.evaluate import Point
from neurons.repair.search import SearchState
from neurons.repair.spec import RepairSpec, spec_to_json
from neurons.storage.files import write_json


def state_path(spec: RepairSpec, ref: ModelRef) -> Path:
    """Where a repair's search is kept. The same repair with the same model finds it again."""
    text = json.dumps([spec_to_json(spec), ref.weights_hash, ref.dtype], sort_keys=True)
    return subfolder("repairs") / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"


def save_state(path: Path, state: SearchState) -> None:
    """Write the state, whole or not at all. Raises `StoreError`."""
    fields = {name: getattr(state, name) for name in ("radius", "rounds", "passes", "seconds", "shrunk")}
    write_json(path, {**fields, "at": _plan_json(state.at), "points": [_point_json(p) for p in state.points]})


def load_state(path: Path) -> SearchState | None:
    """The state kept there, or None where there is none that can be read: then the search begins anew."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        data = json.loads(path.read_bytes())
        points = [_point(item) for item in data["points"]]
        return SearchState(
            points,
            _plan(data["at"]),
            float(data["radius"]),
            int(data["rounds"]),
            int(data["passes"]),
            float(data["seconds"]),
            bool(data["shrunk"]),
        )
    return None


def _plan_json(plan: Plan) -> list[list[float]]:
    return [[layer, index, action.mul, action.add] for (layer, index), action in plan.items()]


def _plan(data: Any) -> Plan:
    return {(int(layer), int(index)): Action(float(mul), float(add)) for layer, index, mul, add in data}


_POINT = ("prompt_turned", "turned", "questions", "margin", "lack", "unchanged", "controls", "confirmed", "control_margin")


def _point_json(point: Point) -> dict[str, Any]:
    return {"plan": _plan_json(point.plan), **{name: getattr(point, name) for name in _POINT}}


def _point(data: Any) -> Point:
    return Point(_plan(data["plan"]), **{name: data[name] for name in _POINT})
