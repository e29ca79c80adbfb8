"""Near questions: found by their kind, of other subjects, and among the controls only where they are answered right."""

from __future__ import annotations

from dataclasses import replace

import pytest

from neurons.models.loaded import LoadedModel
from neurons.repair import problem as problems
from neurons.repair.neighbours import Neighbour, neighbours
from neurons.repair.problem import prepare
from neurons.repair.repair import _message
from neurons.repair.spec import parse_spec
from neurons.repair.verify import Verifier
from neurons.statistics.criteria import Criterion
from tests.support.repairs import PLAN, wish


def test_the_same_is_asked_of_something_else() -> None:
    found = neighbours(("What is the capital of Turkey?", "Name Turkey's capital."))
    assert len(found) == 24
    assert all(one.prompt.startswith("What is the capital of ") for one in found)
    assert not any("Turkey" in one.prompt for one in found)
    assert neighbours(("What is the capital of Turkey?",)) == found[:24]
    assert neighbours(("What is the capital of Turkey?",), seed=1) != found
    assert neighbours(("Why is the sky blue?",)) == ()


def test_near_questions_that_are_answered_right_are_controls_and_counted_apart(tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = wish(tiny)
    plain = prepare(tiny, spec)
    said = plain.controls[0].answer
    assert said.strip()
    right, wrong = Neighbour("Hello there", Criterion(".", "regex")), Neighbour("one two", Criterion("certainly not this"))
    monkeypatch.setattr(problems, "neighbours", lambda asked, seed: (right, wrong))
    assert prepare(tiny, spec).near == 0  # a person's own controls are what they say
    monkeypatch.setattr(problems, "why_not_fixed", lambda answer, expected: "" if expected is right.expected else "no")
    found = prepare(tiny, replace(spec, controls_proposed=True))
    assert [one.prompt for one in found.controls][-1] == "Hello there"
    assert (len(found.controls), found.near) == (len(plain.controls) - 1, 1)  # "one two" was a control, and is asked as a near one, wrongly
    verifier = Verifier(found)
    verifier.remember_controls()
    verdict = verifier.full(PLAN)
    assert (verdict.near.total, verdict.near.count) == (1, int(verdict.answers[-1].good))
    assert parse_spec({"prompt": "q?", "wanted": "a"}).controls_proposed
    assert "ask the same of something else" in _message(False, verdict, _point(), "", simple=False)


def _point() -> object:
    from neurons.repair.evaluate import Point

    return Point(PLAN, True, 1, 1, 0.1, 0.0)
