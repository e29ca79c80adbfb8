"""The Tours page: every step drawn from measured facts, none from a number in the prose."""

from __future__ import annotations

import re

import pytest
from streamlit.testing.v1 import AppTest

from neurons.prompts.sets import load_set
from neurons.statistics.comparison import expected_criterion
from neurons.tours.tours import TOURS, fact
from pages.shared import filled
from tests.support.app_pages import open_page, texts

pytestmark = pytest.mark.usefixtures("app_home")


@pytest.mark.parametrize("tour", [tour.id for tour in TOURS])
def test_every_step_of_a_tour_is_drawn_from_measured_facts(tour: str) -> None:
    steps = next(t.steps for t in TOURS if t.id == tour)
    for number, step in enumerate(steps, 1):
        missing = [show.fact for show in step.shows if fact(tour, show.fact) is None] + [
            a.fact for a in step.actions if fact(tour, a.fact) is None
        ]
        assert not missing, f"{tour}, step {number}: scripts/build_tours.py has not measured {missing}"
        app = open_page("tours", tour=tour, step=str(number))
        assert not app.exception
        assert step.title in [s.value for s in app.subheader]


def test_the_list_of_tours_and_odd_addresses() -> None:
    app = open_page("tours")
    assert not app.exception
    assert all(tour.title in texts(app) for tour in TOURS)
    for odd in ("0", "99", "x"):
        assert not open_page("tours", tour="capital", step=odd).exception
    assert not open_page("tours", tour="nope").exception


def test_tours_hold_no_number_of_their_own() -> None:
    for tour in TOURS:
        for step in tour.steps:
            assert not re.search(r"\d", step.text), f"{tour.id}: {step.title}"


def _press(tour: str, kind: str) -> AppTest:
    """The page after the first button of that kind in a tour."""
    steps = next(t.steps for t in TOURS if t.id == tour)
    at, number = next((at, n) for at, step in enumerate(steps) for n, action in enumerate(step.actions) if action.kind == kind)
    app = open_page("tours", tour=tour, step=str(at + 1))
    app.session_state["repair.kind"], app.session_state["stats.kind"] = "contains", "none"  # as somebody left them
    app.button(key=f"tours.{tour}.{steps[at].title}.{number}").click().run()
    return app


def test_a_repair_is_filled_in_as_it_was_asked() -> None:
    state = _press("numbers", "repair").session_state
    spec = fact("numbers", "repair")["spec"]
    assert (state["repair.kind"], state["repair.wanted"]) == ("regex", spec["wanted"]["regex"])
    assert state["repair.unwanted"] == ""
    assert state["repair.controls.source"] == filled.OWN
    assert len(state["repair.controls"].splitlines()) == len(spec["controls"])


def test_a_comparison_holds_each_answer_against_its_own_right_one() -> None:
    state = _press("siblings", "compare").session_state
    rows = load_set(state["stats.source"]).rows
    assert (state["stats.kind"], state["stats.steer"]) == ("expected", filled.CARDS)
    assert state["steer.cards"]
    for row, given in zip(rows, fact("siblings", "variants")["rows"], strict=True):
        assert row.prompt == given["prompt"]
        assert row.expected is not None
        criterion = expected_criterion(row.expected)
        assert (criterion.met(given["unsteered"]), criterion.met(given["steered"])) == tuple(given["met"])
