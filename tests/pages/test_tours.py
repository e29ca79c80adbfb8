"""The Tours page: every step drawn from measured facts, none from a number in the prose."""

from __future__ import annotations

import re

import pytest

from neurons.tours.tours import TOURS, fact
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
