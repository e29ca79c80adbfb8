"""What people say of neurons: written, voted, locked, noted, taken back, and never overwritten."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from neurons.core.errors import InvalidInput, StoreError
from neurons.core.types import NeuronSide
from neurons.descriptions.edits import Edits

SIDE = NeuronSide(17, 803, "-")


def test_edits_are_on_disk_at_once_and_seen_by_other_sessions(home: Path) -> None:
    mine, other = Edits("model"), Edits("model")
    mine.describe(SIDE, "  talks of\n rivers ")
    mine.vote(SIDE, 1)
    other.note(NeuronSide(0, 1), "odd")  # must not lose what the first session wrote
    read = Edits("model")
    assert read.get(SIDE).description == "talks of rivers"
    assert read.get(SIDE).vote == 1
    assert read.get(NeuronSide(0, 1)).note == "odd"
    assert read.sides() == (NeuronSide(0, 1), SIDE)
    assert Edits("another model").get(SIDE).description is None


def test_history_and_undo(home: Path) -> None:
    edits = Edits("model")
    edits.describe(SIDE, "first")
    edits.describe(SIDE, "second")
    edits.describe(SIDE, "second")  # no change, no entry
    history = edits.get(SIDE).history
    assert [(change.before, change.after) for change in history] == [(None, "first"), ("first", "second")]
    assert edits.undo(SIDE).description == "first"
    assert edits.undo(SIDE).description is None
    assert len(Edits("model")) == 0
    with pytest.raises(InvalidInput, match="nothing was changed"):
        edits.undo(SIDE)


def test_a_locked_description_stays(home: Path) -> None:
    edits = Edits("model")
    edits.lock(SIDE, True, shown="as it is shown")
    with pytest.raises(InvalidInput, match="locked"):
        edits.describe(SIDE, "other")
    assert Edits("model").get(SIDE).description == "as it is shown"
    edits.lock(SIDE, False)
    edits.describe(SIDE, None)
    assert edits.get(SIDE).description is None


@pytest.mark.parametrize("text", ["", "   ", "x" * 2001])
def test_bad_texts_are_refused(home: Path, text: str) -> None:
    with pytest.raises(InvalidInput):
        Edits("model").describe(SIDE, text)


def test_votes_are_up_down_or_none(home: Path) -> None:
    with pytest.raises(InvalidInput):
        Edits("model").vote(SIDE, 2)


def test_the_users_text_wins_and_loses_the_templates_score(home: Path) -> None:
    table = pd.DataFrame(
        {
            "layer": [17, 17],
            "index": [803, 803],
            "polarity": ["+", "-"],
            "description": ["a", "b"],
            "source": ["template", "template"],
            "score": [0.5, 0.4],
            "null": [0.1, 0.0],
        }
    )
    edits = Edits("model")
    assert edits.applied(table) is table
    edits.describe(SIDE, "mine")
    edits.describe(NeuronSide(3, 3), "not in this table")
    shown = edits.applied(table)
    assert shown["description"].tolist() == ["a", "mine"]
    assert shown["source"].tolist() == ["template", "hand"]
    assert shown["score"].isna().tolist() == [False, True]
    assert table["description"].tolist() == ["a", "b"]


def test_a_damaged_file_is_named(home: Path) -> None:
    edits = Edits("model")
    edits.vote(SIDE, -1)
    path = next((home / "descriptions").glob("*.json"))
    path.write_text(path.read_text().replace("-1", '"x"'))
    with pytest.raises((StoreError, InvalidInput)):
        Edits("model")
