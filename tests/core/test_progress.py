"""How work tells how far it is: a share, a time that is left, and steps within steps."""

from __future__ import annotations

import time

import pytest

from neurons.core.errors import Cancelled
from neurons.core.progress import Pace, Repeatable, Standing


def test_a_standing_knows_its_share() -> None:
    assert Standing(title="a").fraction == 0
    assert Standing(title="a", done=3, total=4).fraction == 0.75
    assert Standing(title="a", done=5, total=4).fraction == 1  # a count that was estimated too low
    assert Standing(title="a", done=5, total=0).fraction == 0


@pytest.mark.parametrize(
    ("state", "active"),
    [("queued", True), ("running", True), ("done", False), ("failed", False), ("cancelled", False), ("interrupted", False)],
)
def test_only_what_waits_or_runs_is_active(state: str, active: bool) -> None:
    assert Standing(title="a", state=state).active is active  # type: ignore[arg-type]


def test_the_time_left_follows_the_pace_of_this_step() -> None:
    pace = Pace()
    assert pace.eta(40, 100) is None  # what was done before the start says nothing of the pace
    begun = time.monotonic()
    time.sleep(0.02)
    left = pace.eta(50, 100)
    passed = time.monotonic() - begun
    assert left is not None
    assert 5 * 0.02 <= left <= 5 * passed * 1.5 + 0.05
    assert pace.eta(100, 100) == 0
    assert pace.eta(2, 100) is None  # a new step began
    assert pace.eta(3, None) is None
    assert pace.eta(3, 100) is None  # and another one


def test_steps_within_repeat_what_was_said_last() -> None:
    said: list[tuple[int, int | None, str]] = []
    outer = Repeatable(lambda *told: said.append(told), 9, "layers")
    outer.again(5, 7, "within")
    outer(3, 9, "layer 3")
    outer.again(6, 7, "within")
    assert said == [(0, 9, "layers"), (3, 9, "layer 3"), (3, 9, "layer 3")]


def test_steps_within_can_be_stopped() -> None:
    def stop(done: int, total: int | None, message: str) -> None:
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        Repeatable(stop, 9, "layers").again(1, 2, "within")
