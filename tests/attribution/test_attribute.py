"""Attribution: the gradient against finite differences on every architecture, targets, steers, top rows, time."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from neurons.attribution.ablation import batch_replace
from neurons.attribution.attribute import Attribution, attribute, top_rows
from neurons.attribution.metrics import METRICS, check_target
from neurons.core.errors import Cancelled, InvalidInput
from neurons.core.steers import Steer, TokenScope
from neurons.core.types import NeuronSide, TargetSpec
from neurons.models.loaded import LoadedModel
from neurons.models.sites import Part
from neurons.runs.hooks import run_forward
from neurons.runs.steering import compile_edits
from tests.support.tiny_models import ARCHITECTURES, tiny_model

IDS = tuple(int(i) for i in np.random.default_rng(7).integers(0, 255, 14))
TARGET = 11


def scaled_metric(
    loaded: LoadedModel, target: TargetSpec, place: tuple[int, int, int], factor: float, steers: tuple[Steer, ...] = ()
) -> float:
    """The metric with one activation multiplied by `factor`, in double precision."""
    layer, token, index = place
    edits = compile_edits(loaded, steers, 6)

    def replace(at: Part, acts: torch.Tensor) -> torch.Tensor:
        edited = batch_replace(loaded, [()], edits, lambda _place: 0.0, 0)(at, acts)
        acts = (acts if edited is None else edited).clone()
        if at.layer == layer and at.start <= index < at.stop:
            acts[0, token, index - at.start] *= factor
        return acts

    logits = run_forward(loaded, torch.tensor([IDS[: target.token]]), replace=replace).logits
    return float(metric_value_double(logits[:, -1], target))


def metric_value_double(logits_BV: torch.Tensor, target: TargetSpec) -> torch.Tensor:
    logits_V = logits_BV[0].double()
    chosen = logits_V[target.token_id]
    if target.metric == "logit":
        return chosen
    if target.metric == "contrast":
        return chosen - logits_V[target.against_id]
    if target.metric == "logodds":
        return torch.logit(torch.softmax(logits_V, -1)[target.token_id])
    return torch.log_softmax(logits_V, -1)[target.token_id] if target.metric == "logprob" else torch.softmax(logits_V, -1)[target.token_id]


def check_against_differences(loaded: LoadedModel, result: Attribution, steers: tuple[Steer, ...] = (), entries: int = 6) -> None:
    """Central differences of the metric along an activation's own scale equal activation x gradient."""
    loaded.model.double()
    rng = np.random.default_rng(0)
    top = [(r.layer, r.token, r.index) for r in top_rows(result, entries).rows]
    shape = (loaded.n_layers, TARGET, loaded.n_neurons)
    some = [tuple(int(v) for v in np.unravel_index(f, shape)) for f in rng.choice(np.prod(shape), entries, replace=False)]
    biggest = float(np.abs(result.attr_LTI).max())
    for place in [*top, *some]:
        step = 4e-3  # norms compute in single precision whatever the model: a smaller step drowns in rounding
        difference = scaled_metric(loaded, result.target, place, 1 + step, steers) - scaled_metric(
            loaded, result.target, place, 1 - step, steers
        )
        assert result.attr_LTI[place] == pytest.approx(difference / (2 * step), rel=5e-3, abs=1e-3 * biggest)


@pytest.mark.parametrize("arch", list(ARCHITECTURES))
def test_gradient_times_activation_is_the_derivative_along_the_activation(arch: str) -> None:
    loaded = tiny_model(arch)
    for metric in ("logprob", "contrast"):
        result = attribute(loaded, IDS, TargetSpec(TARGET, metric, against_id=9), method="grad")
        assert result.attr_LTI.shape == result.acts_LTI.shape == (3, TARGET, loaded.n_neurons)
        assert np.abs(result.attr_LTI).max() > 0
        if metric == "logprob":
            kept = result
    check_against_differences(loaded, kept)


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric(metric: str) -> None:
    loaded = tiny_model("llama")
    result = attribute(loaded, IDS, TargetSpec(TARGET, metric, against_id=9), method="grad")
    assert result.target.token_id == IDS[TARGET]
    logits = run_forward(loaded, torch.tensor([IDS])).logits[:, TARGET - 1]
    assert result.metric_value == pytest.approx(float(metric_value_double(logits, result.target)), rel=1e-4)
    check_against_differences(loaded, result)


def test_steered_neurons_are_attributed_at_their_steered_value() -> None:
    loaded = tiny_model("llama")
    steers = (
        Steer((NeuronSide(1, 5),), "set", 2.0, TokenScope("prompt"), values=(1.5,)),
        Steer((NeuronSide(0, 3), NeuronSide(2, 7)), "scale", -1.5),
    )
    result = attribute(loaded, IDS, TargetSpec(TARGET, "logprob"), steers=steers, prompt_tokens=6, method="grad")
    plain = attribute(loaded, IDS, TargetSpec(TARGET, "logprob"), method="grad")
    assert (result.acts_LTI[1, :6, 5] == 3.0).all()
    assert (result.acts_LTI[1, 6:, 5] != 3.0).all()
    assert (result.acts_LTI[0, :, 3] == -1.5 * plain.acts_LTI[0, :, 3]).all()
    assert result.metric_value != plain.metric_value
    check_against_differences(loaded, result, steers)


@pytest.mark.parametrize("method", ["grad", "refined", "frozen"])
def test_it_can_be_stopped_in_the_middle(method: str) -> None:
    loaded = tiny_model("llama")
    before = attribute(loaded, IDS, TargetSpec(TARGET), method=method).attr_LTI

    def stop(done: int, total: int | None, _message: str) -> None:
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        attribute(loaded, IDS, TargetSpec(TARGET), method=method, progress=stop)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in loaded.model.modules())
    assert np.array_equal(attribute(loaded, IDS, TargetSpec(TARGET), method=method).attr_LTI, before)


def test_only_the_prefix_is_run_and_nothing_is_left_behind() -> None:
    loaded = tiny_model("gpt2")
    seen: list[int] = []
    handle = loaded.sites[0].module.register_forward_pre_hook(lambda _module, args: seen.append(args[0].shape[1]))
    attribute(loaded, IDS, TargetSpec(TARGET), method="grad")
    assert seen == [TARGET]
    first = attribute(loaded, IDS, TargetSpec(TARGET))
    handle.remove()
    assert max(seen) == TARGET
    again = attribute(loaded, (*IDS[:TARGET], IDS[TARGET], 1, 2, 3), TargetSpec(TARGET))
    assert np.array_equal(first.attr_LTI, again.attr_LTI)
    assert not any(p.requires_grad or p.grad is not None for p in loaded.model.parameters())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in loaded.model.modules())


def test_another_token_than_the_one_that_stands_there() -> None:
    loaded = tiny_model("qwen2")
    other = attribute(loaded, IDS, TargetSpec(TARGET, "logit", token_id=42), method="grad")
    swapped = (*IDS[:TARGET], 42)
    assert np.array_equal(other.attr_LTI, attribute(loaded, swapped, TargetSpec(TARGET, "logit"), method="grad").attr_LTI)
    after_the_end = attribute(loaded, IDS[:TARGET], TargetSpec(TARGET, "logit", token_id=42), method="grad")
    assert np.array_equal(other.attr_LTI, after_the_end.attr_LTI)


@pytest.mark.parametrize(
    ("target", "field", "words"),
    [
        (TargetSpec(0), "token", "token 0 is the first"),
        (TargetSpec(14), "token", "tokens 0 to 13"),
        (TargetSpec(-1), "token", "tokens 0 to 13"),
        (TargetSpec(3, "contrast"), "against", "second token"),
        (TargetSpec(3, "contrast", against_id=IDS[3]), "against", "different"),
        (TargetSpec(3, "contrast", against_id=999), "against", "vocabulary"),
        (TargetSpec(3, "loss"), "metric", "unknown"),  # type: ignore[arg-type]
    ],
)
def test_wrong_targets_are_refused(target: TargetSpec, field: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        check_target(tiny_model("llama"), IDS, target)
    assert caught.value.field == field


def test_unknown_method_is_refused() -> None:
    with pytest.raises(InvalidInput, match="unknown"):
        attribute(tiny_model("llama"), IDS, TargetSpec(3), method="magic")


def test_top_rows_keep_signs_and_report_their_share() -> None:
    result = attribute(tiny_model("llama"), IDS, TargetSpec(TARGET, "logit"), method="grad")
    top = top_rows(result, 10)
    sizes = [abs(row.attribution) for row in top.rows]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == pytest.approx(np.abs(result.attr_LTI).max())
    assert top.share == pytest.approx(sum(sizes) / np.abs(result.attr_LTI).sum(), rel=1e-4)
    for row in top.rows:
        assert row.attribution == pytest.approx(result.attr_LTI[row.layer, row.token, row.index])
        assert row.polarity == ("-" if row.activation < 0 else "+")
    restricted = top_rows(result, 10_000, tokens=[2, 5], layers=[1])
    assert len(restricted.rows) == 2 * result.attr_LTI.shape[2]
    assert {row.token for row in restricted.rows} == {2, 5}
    assert {row.layer for row in restricted.rows} == {1}
    assert restricted.share == pytest.approx(1.0)
    with pytest.raises(InvalidInput, match="token 11 is not part"):
        top_rows(result, 5, tokens=[TARGET])


def test_two_threads_attribute_the_same_model_without_mixing() -> None:
    loaded = tiny_model("llama")
    steer = (Steer((NeuronSide(0, 1),), "scale", -3.0),)
    expected = [attribute(loaded, IDS, TargetSpec(TARGET), steers=s).attr_LTI for s in ((), steer)]
    results: list[list[np.ndarray]] = [[], []]

    def work(number: int) -> None:
        for _ in range(10):
            results[number].append(attribute(loaded, IDS, TargetSpec(TARGET), steers=((), steer)[number]).attr_LTI)

    threads = [threading.Thread(target=work, args=(n,)) for n in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in (0, 1):
        assert all(np.array_equal(got, expected[number]) for got in results[number])


def test_what_is_stored_says_how_it_was_computed() -> None:
    from neurons.tracing.saved_attributions import storable

    loaded = tiny_model()
    found = attribute(loaded, list(range(60, 72)), TargetSpec(11), method="ig")
    extra = storable(found).info.extra
    assert extra["steps"] == found.steps > 0
    assert extra["gap"] == found.gap
    assert extra["convergence"] == found.convergence != ""
    assert "stands_in" not in extra
    told = storable(replace(found, stands_in="grad stands in for refined", gap=None)).info.extra
    assert told["stands_in"] == "grad stands in for refined"
    assert "gap" not in told
