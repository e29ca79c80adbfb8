"""Answers against what is expected: per row, and counted."""

from __future__ import annotations

import pandas as pd

from neurons.core.types import Message
from neurons.prompts.sets import PromptRow, PromptSet
from neurons.prompts.values import Expected
from neurons.statistics.outcomes import judged, outcome, tally


def prompts(*expected: str | None) -> PromptSet:
    rows = tuple(
        PromptRow(n, (Message("user", f"q{n}"),), expected=None if text is None else Expected((text,), "contains"))
        for n, text in enumerate(expected, 1)
    )
    return PromptSet(rows)


def test_every_row_says_what_became_of_it() -> None:
    answers = [("Istanbul", "Ankara"), ("Ottawa", "Toronto"), ("Paris.", "Paris"), ("no", "no"), ("x", "y")]
    frame = pd.DataFrame([{"row": n, "answer": a, "steered_answer": b} for n, (a, b) in enumerate(answers, 1)])
    found = judged(frame, prompts("Ankara.", "Ottawa", "Paris", "yes", None))
    assert found["outcome"].tolist() == ["fixed", "broken", "right", "wrong", None]
    assert found["right"].tolist() == [False, True, True, False, None]
    counted = tally(found)
    assert counted is not None
    assert counted.after is not None
    assert (counted.before.count, counted.after.count, counted.before.total) == (2, 2, 4)
    assert "1 fixed, 1 broken" in counted.sentence
    assert "may be chance" in counted.sentence
    assert "2 of 4 (" in counted.sentence


def test_without_a_steer_the_right_ones_are_counted_and_without_expected_answers_nothing() -> None:
    frame = pd.DataFrame([{"row": 1, "answer": "Ankara"}, {"row": 2, "answer": "Rome"}])
    counted = tally(judged(frame, prompts("Ankara", "Madrid")))
    assert counted is not None
    assert counted.sentence.startswith("1 of 2 (")
    assert judged(frame, prompts(None, None)) is frame
    assert tally(frame) is None
    assert [outcome(a, b) for a in (False, True) for b in (False, True)] == ["wrong", "fixed", "broken", "right"]
