"""A kept repair, read back: the shipped one (of an older version) opens, one that is damaged says where."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from neurons.core.errors import InvalidInput
from neurons.repair.export import report_html_of
from neurons.repair.saved import read_repair
from neurons.tours.tours import facts


@pytest.fixture
def kept() -> dict[str, Any]:
    return copy.deepcopy(facts()["capital"]["repair"])


def test_the_shipped_repair_is_read(kept: dict[str, Any]) -> None:
    repair = read_repair(kept)
    assert repair.found
    assert repair.train is not None
    assert repair.heldout is not None
    assert repair.controls is not None
    assert repair.heldout.words == f"{kept['heldout']['fixed']} of {kept['heldout']['total']}"
    assert repair.controls.kl == kept["controls"]["kl"]
    assert repair.to_spec().prompt == kept["spec"]["prompt"]
    assert len({(side.layer, side.index) for steer in repair.steers for side in steer.neurons}) == repair.neurons
    assert {name: b.neurons for name, b in repair.baselines.items()} == {name: b["neurons"] for name, b in kept["baselines"].items()}
    parts = [repair.part(number) for number in range(repair.train.total + repair.heldout.total + repair.controls.total)]
    assert [parts.count(part) for part in ("searched with", "held out", "control")] == [
        repair.train.total,
        repair.heldout.total,
        repair.controls.total,
    ]


def test_its_report_says_what_was_measured(kept: dict[str, Any]) -> None:
    page = report_html_of(read_repair(kept))
    assert f"{kept['heldout']['fixed']} of {kept['heldout']['total']}" in page
    assert "No fix for a wrong answer" not in page


@pytest.mark.parametrize(
    ("damage", "field"),
    [({"heldout": {"fixed": 1}}, "heldout"), ({"baselines": []}, "baselines"), ({"message": None}, "message"), ({"spec": {}}, "spec")],
)
def test_a_damaged_one_names_what_is_wrong(kept: dict[str, Any], damage: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as error:
        read_repair({**kept, **damage})
    assert error.value.field == field
    assert str(error.value).endswith("run the repair again")


def test_without_a_checked_steer_there_are_no_figures(kept: dict[str, Any]) -> None:
    none = {"train": None, "heldout": None, "controls": None, "answers": [], "random": {"draws": 0}, "baselines": {}, "pareto": []}
    repair = read_repair({**kept, **none})
    assert repair.heldout is None
    assert repair.random.heldout is None
    assert repair.part(0) == "control"
