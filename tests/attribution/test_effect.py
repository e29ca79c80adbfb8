"""Measured effects: the shortened passes equal whole passes, on every architecture; sets, means, steers, fallback, cancelling."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from neurons.attribution.ablation import Place, plan, prepare
from neurons.attribution.attribute import attribute, top_rows
from neurons.attribution.effect import EffectOptions, agreement, measure_effects, measure_sets
from neurons.attribution.metrics import metric_value
from neurons.core.errors import Cancelled, InvalidInput
from neurons.core.steers import Steer, TokenScope
from neurons.core.types import NeuronSide, TargetSpec
from neurons.models.layers import decoder_layers
from neurons.models.loaded import LoadedModel
from neurons.models.sites import Part
from neurons.runs.hooks import run_forward
from neurons.runs.steering import compile_edits
from tests.support.tiny_models import ARCHITECTURES, EXPERTS, tiny_model

IDS = tuple(int(i) for i in np.random.default_rng(3).integers(0, 255, 18))
TARGET = TargetSpec(15, "logprob")
STEERS = (
    Steer((NeuronSide(1, 5), NeuronSide(1, 9)), "set", 2.0, TokenScope("prompt"), values=(1.5, -1.0)),
    Steer((NeuronSide(0, 3),), "scale", -2),
)


def some_places(loaded: LoadedModel, n: int = 24) -> list[Place]:
    """Strong neurons and some at random, at many layers and tokens."""
    rows = top_rows(attribute(loaded, IDS, TARGET, method="grad"), n).rows
    rng = np.random.default_rng(1)
    random = [Place(int(rng.integers(3)), int(rng.integers(loaded.n_neurons)), int(rng.integers(15))) for _ in range(n)]
    return [*(Place(row.layer, row.index, row.token) for row in rows), *random, Place(0, 0, 0), Place(2, 1, 14)]


def by_hand(loaded: LoadedModel, places: list[Place], value: float = 0.0, steers: tuple[Steer, ...] = ()) -> float:
    """The metric with `places` at `value`, by one whole pass of its own, steers applied first."""
    edits = compile_edits(loaded, steers, 10)

    def replace(part: Part, acts: torch.Tensor) -> torch.Tensor:
        acts = acts.clone()
        for edit in (own for edit in edits if edit.layer == part.layer and (own := edit.within(part)) is not None):
            acts = edit.apply(acts, 0)
        for place in (place for place in places if place.layer == part.layer and part.start <= place.index < part.stop):
            acts[0, slice(None) if place.token is None else place.token, place.index - part.start] = value
        return acts

    logits = run_forward(loaded, torch.tensor([IDS[:15]]), replace=replace).logits
    return float(metric_value(logits[:, -1], TargetSpec(15, "logprob", IDS[15]))[0])


@pytest.mark.parametrize("arch", list(ARCHITECTURES))
def test_passes_from_the_middle_equal_whole_passes(arch: str) -> None:
    loaded = tiny_model(arch)
    places = some_places(loaded)
    result = measure_effects(loaded, IDS, TARGET, places)
    assert result.fast
    baseline = by_hand(loaded, [])
    assert result.metric_value == pytest.approx(baseline, abs=1e-5)
    expected = [baseline - by_hand(loaded, [place]) for place in places]
    assert [row.effect for row in result.rows] == pytest.approx(expected, abs=1e-4)
    assert np.abs(expected).max() > 0.01
    assert [(row.layer, row.index, row.token) for row in result.rows] == [(p.layer, p.index, p.token) for p in places]


@pytest.mark.parametrize("arch", ["llama", "gpt_neox", EXPERTS[0]])
def test_steers_stay_on_and_yield_to_the_ablation(arch: str) -> None:
    loaded = tiny_model(arch)
    places = [Place(1, 5, 3), Place(1, 5, 12), Place(2, 4, 14), Place(0, 3, 14)]
    result = measure_effects(loaded, IDS, TARGET, places, EffectOptions(steers=STEERS, prompt_tokens=10))
    baseline = by_hand(loaded, [], steers=STEERS)
    assert baseline != pytest.approx(by_hand(loaded, []), abs=1e-4)
    assert [row.effect for row in result.rows] == pytest.approx([baseline - by_hand(loaded, [p], steers=STEERS) for p in places], abs=1e-4)
    assert result.rows[0].activation == 3.0


@pytest.mark.parametrize("arch", ["llama", "falcon"])
def test_all_tokens_sets_and_means(arch: str) -> None:
    loaded = tiny_model(arch)
    baseline = by_hand(loaded, [])
    everywhere = measure_effects(loaded, IDS, TARGET, [NeuronSide(1, 5), NeuronSide(2, 7)], EffectOptions(scope="all"))
    assert [row.effect for row in everywhere.rows] == pytest.approx(
        [baseline - by_hand(loaded, [Place(*n)]) for n in ((1, 5), (2, 7))], abs=1e-4
    )
    assert [row.token for row in everywhere.rows] == [None, None]
    one, two = [Place(0, 1, 4), Place(2, 8, 14), Place(1, 1, 9)], [Place(1, 3)]
    sets = measure_sets(loaded, IDS, TARGET, [one, [], one + one])
    assert sets == pytest.approx([baseline - by_hand(loaded, one), 0.0, baseline - by_hand(loaded, one)], abs=1e-4)
    assert measure_sets(loaded, IDS, TARGET, [two], EffectOptions(scope="all"))[0] == pytest.approx(
        baseline - by_hand(loaded, two), abs=1e-4
    )
    means = np.full((3, loaded.n_neurons), 0.7, dtype=np.float32)
    mean = measure_effects(loaded, IDS, TARGET, [Place(1, 2, 14)], EffectOptions(ablation="mean", means_LI=means))
    assert mean.rows[0].effect == pytest.approx(baseline - by_hand(loaded, [Place(1, 2, 14)], value=0.7), abs=1e-4)


def test_batches_of_any_size_give_the_same() -> None:
    loaded = tiny_model("gemma2")
    places = some_places(loaded, 10)
    whole = [row.effect for row in measure_effects(loaded, IDS, TARGET, places).rows]
    for batch in (1, 3):
        assert [row.effect for row in measure_effects(loaded, IDS, TARGET, places, EffectOptions(batch=batch)).rows] == pytest.approx(
            whole, abs=1e-4
        )


def test_a_model_that_cannot_be_entered_midway_is_measured_by_whole_passes() -> None:
    loaded = tiny_model("llama")
    layers = decoder_layers(loaded)
    passed: list[torch.Tensor] = []
    first, last = layers[0], layers[2]

    def keep(_module: Any, _args: Any, output: torch.Tensor) -> None:
        passed[:] = [output * 0.5]

    def add(_module: Any, _args: Any, output: torch.Tensor) -> torch.Tensor:
        return output + passed.pop()  # what the first layer left, every time

    handles = [first.mlp.register_forward_hook(keep), last.register_forward_hook(add)]
    places = some_places(loaded, 6)
    result = measure_effects(loaded, IDS, TARGET, places)
    assert not result.fast
    baseline = by_hand(loaded, [])
    assert [row.effect for row in result.rows] == pytest.approx([baseline - by_hand(loaded, [p]) for p in places], abs=1e-4)
    for handle in handles:
        handle.remove()


def test_nothing_is_left_on_the_model() -> None:
    loaded = tiny_model("llama")
    before = by_hand(loaded, [])

    def stop(done: int, total: int | None, message: str) -> None:
        if done:
            raise Cancelled

    with pytest.raises(Cancelled):
        measure_effects(loaded, IDS, TARGET, some_places(loaded), EffectOptions(batch=2), progress=stop)
    assert not any("forward" in vars(module) for module in loaded.model.modules())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in loaded.model.modules())
    assert by_hand(loaded, []) == before


def test_progress_counts_every_row() -> None:
    loaded = tiny_model("llama")
    seen: list[tuple[int, int | None]] = []
    measure_effects(
        loaded,
        IDS,
        TARGET,
        some_places(loaded, 5),
        EffectOptions(batch=4),
        progress=lambda done, total, _message: seen.append((done, total)),
    )
    assert seen[0] == (0, 12)
    assert seen[-1] == (12, 12)


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        ([Place(3, 0, 1)], {}, "not in tiny llama"),
        ([Place(0, 48, 1)], {}, "not in tiny llama"),
        ([Place(0, 0, 15)], {}, "choose 0 to 14"),
        ([NeuronSide(0, 0)], {}, "has no token"),
        ([Place(0, 0, 1)], {"ablation": "mean"}, "needs the neurons' means"),
        ([Place(0, 0, 1)], {"ablation": "mean", "means_LI": np.zeros((1, 2))}, "shape"),
        ([Place(0, 0, 1)], {"ablation": "half"}, "zero or mean"),
        ([Place(0, 0, 1)], {"scope": "some"}, "token or all"),
    ],
)
def test_wrong_questions_are_refused(rows: list[Any], options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        measure_effects(tiny_model("llama"), IDS, TARGET, rows, EffectOptions(**options))


def test_the_plan_covers_every_case_once_and_splits_where_it_pays() -> None:
    starts = [(29, 59)] * 40 + [(2, 59)] * 3 + [(20, 5)] * 4
    runs = plan(starts, 30, 60, 64)
    assert [n for run in runs for n in run] == list(range(47))
    assert len(runs) == 3
    assert plan([], 30, 60, 64) == []
    assert max(len(run) for run in plan([(0, 0)] * 50, 30, 60, 16)) == 16


def test_agreement_of_estimates_with_effects() -> None:
    same = agreement([1, 2, 3, 4], [10, 20, 30, 40])
    assert (same.n, same.spearman, same.pearson) == (4, pytest.approx(1), pytest.approx(1))
    assert agreement([1, 2, 3, 4], [1, 8, 27, -64]).spearman == pytest.approx(0.2 - 0.4)
    assert np.isnan(agreement([1, 2], [1, 2]).spearman)
    assert np.isnan(agreement([1, 1, 1], [1, 2, 3]).spearman)


def test_prepare_without_cases_makes_no_shortcut() -> None:
    assert not prepare(tiny_model("llama"), IDS, (), lambda _place: 0.0).fast
