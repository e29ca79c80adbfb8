"""The schema of steer files says what the reader does, and every steer that ships fits it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from neurons.core.errors import NeuronscopeError
from neurons.core.steers import Fade, Steer, TokenScope
from neurons.core.types import NeuronSide
from neurons.runs.steering import dump_steers, parse_steers, steer_schema
from tests.support.tiny_models import tiny_model

ROOT = Path(__file__).resolve().parents[2]
PLAIN: dict[str, Any] = {"neurons": ["17:803-"]}


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    Draft202012Validator.check_schema(steer_schema())
    return Draft202012Validator(steer_schema())


def shipped() -> list[Any]:
    """Every steer in the tours and the blocks of the docs."""
    found: list[Any] = []

    def look(value: Any) -> None:
        if isinstance(value, dict):
            found.extend(inner for key, inner in value.items() if key == "steer" and isinstance(inner, dict))
            for inner in value.values():
                look(inner)
        elif isinstance(value, list):
            for inner in value:
                look(inner)

    look(json.loads((ROOT / "neurons" / "tours" / "data" / "tours.json").read_text(encoding="utf-8")))
    for page in (ROOT / "docs").glob("*.md"):
        blocks = re.findall(r"^```json\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
        found += [json.loads(block) for block in blocks if '"steers"' in block]
    return found


def test_every_shipped_steer_fits(schema: Draft202012Validator) -> None:
    found = shipped()
    assert len(found) >= 6
    for steer in found:
        schema.validate(steer)
        assert parse_steers(steer)


def test_what_is_written_fits(schema: Draft202012Validator) -> None:
    steers = [
        Steer((NeuronSide(1, 2, "-"), NeuronSide(0, 3)), "set", 0.5, TokenScope.parse("from question"), "one", values=(1.0, 2.0)),
        Steer((NeuronSide(1, 2),), "add", 1.0, TokenScope.parse("3:9,answer"), fade=Fade(4, 0.25), values=(1.0,)),
    ]
    written = json.loads(json.dumps(dump_steers(steers, tiny_model("llama").ref)))
    schema.validate(written)
    assert parse_steers(written) == tuple(steers)


@pytest.mark.parametrize(
    "steer",
    [
        PLAIN,
        [PLAIN, {"neurons": [[17, 803], [17, 803, "-"], [1, 2, -1]], "polarity": "neg"}],
        {"steers": [PLAIN], "author": "somebody"},
        {"neurons": ["0:e2/35", "L3.n5", {"layer": 1, "index": 2, "polarity": "+"}], "tokens": [[0, 4]], "mode": "cap"},
        {"neurons": [], "mode": "add", "fade": {"after": 3, "to": 0}, "values": []},
    ],
)
def test_both_read_it(steer: Any, schema: Draft202012Validator) -> None:
    assert schema.is_valid(steer)
    parse_steers(steer)


@pytest.mark.parametrize(
    "steer",
    [
        {},
        7,
        [3],
        {"neurons": "17:803"},
        {"neurons": ["seventeen"]},
        {"neurons": [[17]]},
        {"neurons": [[17, -1]]},
        {"neurons": [{"layer": 1}]},
        {"neurons": [[1, 2, "up"]]},
        {**PLAIN, "mode": "push"},
        {**PLAIN, "strength": 1001},
        {**PLAIN, "strength": "much"},
        {**PLAIN, "tokens": []},
        {**PLAIN, "tokens": 3},
        {**PLAIN, "values": ["one"]},
        {**PLAIN, "polarity": "up"},
        {**PLAIN, "nuerons": []},
        {**PLAIN, "mode": "add", "fade": {"after": -1, "to": 0.5}},
        {**PLAIN, "mode": "add", "fade": {"after": 1, "to": 2}},
        {"format": "recipe", "steers": [PLAIN]},
        {"version": 2, "steers": [PLAIN]},
    ],
)
def test_both_refuse_it(steer: Any, schema: Draft202012Validator) -> None:
    assert not schema.is_valid(steer)
    with pytest.raises(NeuronscopeError):
        parse_steers(steer)
