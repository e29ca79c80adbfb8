"""What really happens to the metric when neurons are ablated: the check on every attribution.

    effect = metric - metric with the neuron set to 0 (or to its corpus mean)

It has attribution's sign and unit: promoting neurons > 0, since without them the metric falls.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from neurons.attribution.ablation import Ablator, Case, Place, prepare
from neurons.attribution.metrics import check_target, metric_value
from neurons.core.errors import InvalidInput
from neurons.core.progress import Progress, Repeatable, no_progress
from neurons.core.steers import Steer
from neurons.core.types import AttributionRow, NeuronSide, TargetSpec
from neurons.models.loaded import LoadedModel
from neurons.runs.hooks import watched
from neurons.runs.steering import compile_edits

Ablation = Literal["zero", "mean"]
Scope = Literal["token", "all"]


@dataclass(frozen=True, eq=False)
class EffectOptions:
    """How effects are measured."""

    ablation: Ablation = "zero"
    """What an ablated neuron is set to: 0, or its mean over a corpus."""
    means_LI: NDArray[np.float32] | None = None
    """Each neuron's mean, which "mean" needs."""
    scope: Scope = "token"
    """Where a row's neuron is ablated: at the row's own token, or at all tokens."""
    steers: Sequence[Steer] = ()
    """The steers of the run. They stay on: an ablated neuron is at its ablated value whatever a steer says."""
    prompt_tokens: int | None = None
    """How many of the ids are the prompt's, for the steers; None: all."""
    batch: int | None = None
    """Rows per pass; None: as many as fit."""


@dataclass(frozen=True)
class Effect:
    """The measured effect of ablating one neuron."""

    layer: int
    index: int
    token: int | None
    """Where it was ablated; None: at all tokens."""
    activation: float
    """Its value at that token in the run itself; over all tokens: the value of largest size."""
    effect: float
    """Metric minus metric with the neuron ablated, in the metric's unit."""


@dataclass(frozen=True)
class Effects:
    """The measured effects of several neurons (one each) or sets of neurons (one per set) on one token."""

    target: TargetSpec
    metric_value: float
    """The metric without ablation."""
    rows: tuple[Effect, ...]
    """In the order asked for."""
    fast: bool
    """Whether passes started at the neuron's own layer and token, the rest cached (False: whole passes)."""
    seconds: float


@dataclass(frozen=True)
class Agreement:
    """How well estimates match measurements."""

    n: int
    spearman: float
    """Rank correlation, -1 to 1; NaN with fewer than three rows or no variation."""
    pearson: float
    """Linear correlation, likewise."""


def measure_effects(
    loaded: LoadedModel,
    ids: Sequence[int],
    target: TargetSpec,
    rows: Sequence[AttributionRow | Effect | Place | NeuronSide],
    options: EffectOptions = EffectOptions(),
    *,
    progress: Progress = no_progress,
) -> Effects:
    """Ablate each row's neuron alone, where `options` say, and read the metric.

    Raises `InvalidInput` for a target, neuron or token that is not there.
    `progress` is called at every layer of every pass and may raise `Cancelled`.
    """
    cases = [(_place(row, options.scope),) for row in rows]
    start = time.perf_counter()
    target = check_target(loaded, ids, target)
    told = Repeatable(progress, len(cases), "measuring effects")
    with watched(loaded, told.again):
        ablator = _ablator(loaded, ids, target, cases, options)
        baseline = float(metric_value(ablator.baseline.logits_V[None], target)[0])
        after_N = ablated_metrics(ablator, [target], cases, batch=options.batch, progress=told)[:, 0]
    measured = tuple(
        Effect(place.layer, place.index, place.token, _activation(ablator, place), float(baseline - after))
        for (place,), after in zip(cases, after_N, strict=True)
    )
    return Effects(target, baseline, measured, ablator.fast, time.perf_counter() - start)


def measure_sets(
    loaded: LoadedModel,
    ids: Sequence[int],
    target: TargetSpec,
    sets: Sequence[Sequence[AttributionRow | Effect | Place | NeuronSide]],
    options: EffectOptions = EffectOptions(),
    *,
    progress: Progress = no_progress,
) -> NDArray[np.float64]:
    """The effect of each set, its neurons ablated together, shape (N,). An empty set has effect 0. Otherwise as `measure_effects`."""
    cases = [tuple(sorted({_place(row, options.scope) for row in group}, key=_order)) for group in sets]
    target = check_target(loaded, ids, target)
    filled = [case for case in cases if case]
    told = Repeatable(progress, len(filled), "measuring effects")
    effects_N = np.zeros(len(cases))
    with watched(loaded, told.again):
        ablator = _ablator(loaded, ids, target, filled, options)
        baseline = float(metric_value(ablator.baseline.logits_V[None], target)[0])
        effects_N[[bool(case) for case in cases]] = (
            baseline - ablated_metrics(ablator, [target], filled, batch=options.batch, progress=told)[:, 0]
        )
    return effects_N


def ablated_metrics(
    ablator: Ablator, targets: Sequence[TargetSpec], cases: Sequence[Case], *, batch: int | None = None, progress: Progress = no_progress
) -> NDArray[np.float64]:
    """Each target's metric (M of them, all at the same token) under each case (N), shape (N, M)."""
    values_NM = np.zeros((len(cases), len(targets)))
    done = 0
    progress(0, len(cases), "measuring effects")
    for numbers, logits_BV in ablator.batches(cases, batch=batch):
        for column, target in enumerate(targets):
            values_NM[numbers, column] = metric_value(logits_BV, target).double().cpu().numpy()
        done += len(numbers)
        progress(done, len(cases), "measuring effects")
    return values_NM


def agreement(estimates: Sequence[float] | NDArray[np.float64], effects: Sequence[float] | NDArray[np.float64]) -> Agreement:
    """Rank and linear correlation of estimates with measured effects."""
    x_N, y_N = np.asarray(estimates, dtype=float), np.asarray(effects, dtype=float)
    if len(x_N) < 3 or np.ptp(x_N) == 0 or np.ptp(y_N) == 0:
        return Agreement(len(x_N), float("nan"), float("nan"))
    return Agreement(len(x_N), float(stats.spearmanr(x_N, y_N).statistic), float(stats.pearsonr(x_N, y_N).statistic))


def _ablator(
    loaded: LoadedModel,
    ids: Sequence[int],
    target: TargetSpec,
    cases: Sequence[Case],
    options: EffectOptions,
) -> Ablator:
    for case in cases:
        for place in case:
            _check_place(loaded, place, target.token)
    edits = compile_edits(loaded, options.steers, len(ids) if options.prompt_tokens is None else options.prompt_tokens)
    return prepare(loaded, ids[: target.token], edits, _value_of(loaded, options.ablation, options.means_LI), probe=cases)


def _value_of(loaded: LoadedModel, ablation: Ablation, means_LI: NDArray[np.float32] | None) -> Callable[[Place], float]:
    if ablation == "zero":
        return lambda _place: 0.0
    if ablation != "mean":
        raise InvalidInput(f"ablation {ablation!r} is unknown; use zero or mean", field="ablation")
    if means_LI is None:
        raise InvalidInput("mean ablation needs the neurons' means; build an atlas of this model first, or use zero", field="ablation")
    if means_LI.shape != (loaded.n_layers, loaded.n_neurons):
        raise InvalidInput(
            f"the means have shape {means_LI.shape}; this model needs {(loaded.n_layers, loaded.n_neurons)}", field="ablation"
        )
    return lambda place: float(means_LI[place.layer, place.index])


def _place(row: AttributionRow | Effect | Place | NeuronSide, scope: Scope) -> Place:
    if scope not in ("token", "all"):
        raise InvalidInput(f"scope {scope!r} is unknown; use token or all", field="scope")
    if scope == "all":
        return Place(row.layer, row.index)
    if isinstance(row, NeuronSide):
        raise InvalidInput(f"neuron {row} has no token; give rows with tokens, or use scope all", field="scope")
    return Place(row.layer, row.index, row.token)


def _order(place: Place) -> tuple[int, int, int]:
    return place.layer, place.index, -1 if place.token is None else place.token


def _check_place(loaded: LoadedModel, place: Place, tokens: int) -> None:
    if not 0 <= place.layer < loaded.n_layers or not 0 <= place.index < loaded.sites[place.layer].width:
        raise InvalidInput(
            f"neuron {place.layer}:{place.index} is not in {loaded.ref.name}, which has {loaded.n_layers} layers", field="neurons"
        )
    if place.token is not None and not 0 <= place.token < tokens:
        raise InvalidInput(
            f"token {place.token} does not come before the explained token {tokens}; choose 0 to {tokens - 1}", field="tokens"
        )


def _activation(ablator: Ablator, place: Place) -> float:
    acts_T = ablator.baseline.acts[place.layer][:, place.index]
    return float(acts_T[acts_T.abs().argmax()] if place.token is None else acts_T[place.token])
