"""Long work on a model lets others in between its passes, touches none of theirs, can be stopped, and says beforehand what it takes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from neurons.attribution import refine
from neurons.attribution.attribute import METHODS, attribute
from neurons.attribution.effect import EffectOptions, measure_effects, measure_sets
from neurons.attribution.forecast import Forecast, forecast, forecast_effects, forecast_lens, forecast_walk, note_pace
from neurons.attribution.paths import upstream, walk
from neurons.core.errors import Cancelled, InvalidInput
from neurons.core.progress import Progress, no_progress
from neurons.core.types import AttributionRow, TargetSpec
from neurons.models.loaded import LoadedModel
from neurons.runs.hooks import run_forward
from neurons.runs.lens import logit_lens

IDS = list(range(40, 140))
TARGET = TargetSpec(99)
ROWS = [AttributionRow(layer, index, token, "+", 0.0, 0.0) for layer in (0, 1, 2) for index in (3, 9) for token in (5, 60)]
Work = Callable[[LoadedModel, Progress], Any]


def _by(method: str) -> Work:
    return lambda loaded, progress: attribute(loaded, IDS, TARGET, method=method, progress=progress).attr_LTI


WORKS: dict[str, Work] = {
    **{method: _by(method) for method in METHODS},
    "effects": lambda loaded, progress: [
        row.effect for row in measure_effects(loaded, IDS, TARGET, ROWS, EffectOptions(batch=3), progress=progress).rows
    ],
    "sets": lambda loaded, progress: measure_sets(loaded, IDS, TARGET, [ROWS[:3], ROWS[3:]], EffectOptions(batch=1), progress=progress),
    "paths": lambda loaded, progress: [edge.drive for edge in walk(loaded, IDS, TARGET, progress=progress).edges],
    "upstream": lambda loaded, progress: [row.attribution for row in upstream(loaded, IDS, 2, 3, 60, progress=progress).rows],
    "lens": lambda loaded, progress: logit_lens(loaded, IDS, list(range(1, 99)), progress=progress).target_prob_RN,
}


@dataclass
class Other:
    """Another session: it has a pass of its own at every turn that it gets."""

    loaded: LoadedModel
    served: int = 0
    wrong: int = 0

    def serve(self, until: threading.Event) -> None:
        ids = torch.tensor([IDS[:20]])
        expected = run_forward(self.loaded, ids).logits
        while not until.is_set():
            with self.loaded.lock:
                while not self.loaded.lock.waiting and not until.wait(0.001):  # the work waits in the middle of what it does
                    pass
                self.wrong += not torch.equal(run_forward(self.loaded, ids).logits, expected)  # type: ignore[arg-type]
                self.served += 1


@pytest.mark.parametrize("name", WORKS)
def test_others_are_served_in_between_and_see_nothing_of_it(tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(refine, "MAX_KEYS", 1000)  # ten entries a piece
    tiny.cached.clear()
    alone = WORKS[name](tiny, no_progress)
    other, ended = Other(tiny), threading.Event()
    thread = threading.Thread(target=other.serve, args=(ended,))
    thread.start()
    while not tiny.lock._owner:
        ended.wait(0.001)
    try:
        found = WORKS[name](tiny, no_progress)
    finally:
        ended.set()
        thread.join(60)
    assert np.array_equal(found, alone)
    assert not other.wrong, "another session's pass met what this work put on the model"
    assert other.served >= 3, "the other had its turn only when all was over"


class StopAt:
    """A `Progress` that asks to stop at one call; `calls` counts them."""

    def __init__(self, at: int) -> None:
        self.at, self.calls = at, 0

    def __call__(self, done: int, total: int | None, message: str) -> None:
        self.calls += 1
        if self.calls >= self.at:
            raise Cancelled("stopped")


@pytest.mark.parametrize("name", WORKS)
def test_it_stops_at_any_layer_of_any_pass(tiny: LoadedModel, name: str) -> None:
    """Passes back are passes, too. Nothing stays on the model."""
    tiny.cached.clear()
    whole = StopAt(10**9)
    alone = WORKS[name](tiny, whole)
    assert whole.calls > tiny.n_layers
    for at in sorted({1, tiny.n_layers, tiny.n_layers + 2, whole.calls // 2, whole.calls}):
        stop = StopAt(at)
        with pytest.raises(Cancelled):
            WORKS[name](tiny, stop)
        assert stop.calls == at
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in tiny.model.modules())
    assert tiny.lock.waiting == 0
    assert np.array_equal(WORKS[name](tiny, no_progress), alone)


def test_the_forecast_grows_with_the_text_and_learns(tiny: LoadedModel) -> None:
    short, long = forecast(tiny, 100), forecast(tiny, 400)
    assert 0 < short.seconds < long.seconds
    assert 0 < short.bytes < long.bytes
    note_pace(tiny, 100, 50 * short.seconds)
    assert forecast(tiny, 100).seconds == pytest.approx(50 * short.seconds, rel=0.01)
    with pytest.raises(InvalidInput, match=r"needs about 5\.0 GB, and 2\.0 GB are free"):
        Forecast(1.0, 5_000_000_000, 2_000_000_000).check(7)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_forecast(tiny: LoadedModel, method: str) -> None:
    assert forecast(tiny, 100, "direct").seconds <= forecast(tiny, 100, method).seconds <= forecast(tiny, 100, "ig").seconds


def test_effects_walks_and_the_lens_have_forecasts_that_grow_with_what_is_asked(tiny: LoadedModel) -> None:
    late, early = forecast_effects(tiny, 100, [(2, 90)] * 5), forecast_effects(tiny, 100, [(0, 0)] * 5)
    assert forecast_effects(tiny, 100, []).seconds < late.seconds < early.seconds
    assert forecast_walk(tiny, 100, 4).seconds < forecast_walk(tiny, 100, 24).seconds
    assert forecast_lens(tiny, 100, 1).seconds < forecast_lens(tiny, 100, 90).seconds
    with pytest.raises(InvalidInput, match="measuring effects on token 7 needs"):
        Forecast(1.0, 5_000_000_000, 2_000_000_000).check(7, doing="measuring effects on")
