"""Which neurons, at which earlier tokens, caused a token: an estimate for every neuron from few passes.

    attr[l, s, n] estimates effect[l, s, n] = metric - metric with neuron n of layer l set to 0 at token s

in the metric's unit; positive promotes, negative suppresses. `neurons.attribution.methods` has the methods ("grad" is activation
x gradient, as published), `neurons.attribution.effect` measures what they estimate.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurons.attribution.methods import IG_GAP, METHODS, estimate
from neurons.attribution.metrics import check_target
from neurons.attribution.top_k import largest
from neurons.core.errors import InvalidInput
from neurons.core.percent import percent
from neurons.core.progress import Progress, no_progress
from neurons.core.steers import Steer
from neurons.core.types import AttributionRow, TargetSpec
from neurons.models.loaded import LoadedModel
from neurons.runs.graph_run import shared_run
from neurons.runs.hooks import watched
from neurons.runs.steering import compile_edits

__all__ = ["DEFAULT", "METHODS", "Attribution", "TopRows", "attribute", "top_rows"]

DEFAULT = "refined"
"""The method that agrees best with measured effects (docs/attribution.md has the figures); "grad" is the published estimate."""


@dataclass(frozen=True, eq=False)
class Attribution:
    """The estimated causes of one token."""

    target: TargetSpec
    """What is explained, its token id filled in."""
    method: str
    metric_value: float
    """The metric in the run itself, in the metric's unit (a probability, nats, or logits)."""
    attr_LTI: NDArray[np.float32]
    """Signed attribution of each neuron at each of the tokens 0 to `target.token` - 1, in the metric's unit. Not normalised."""
    acts_LTI: NDArray[np.float32]
    """The activations it belongs to, steers included."""
    seconds: float
    refined: int = 0
    """How many entries were re-estimated one by one (method "refined")."""
    gradients: Callable[[], NDArray[np.float32]] | None = None
    """Computes `grad_LTI`, which few ask for."""
    stands_in: str = ""
    """A sentence where another method stands in for `method` on this model, naming it; else ""."""
    gap: float | None = None
    """Convergence gap of integrated gradients: the part of the metric's change along the path that its sum misses; else None."""
    steps: int = 0
    """Steps that integrated gradients took."""

    @property
    def convergence(self) -> str:
        """How far integrated gradients converged, in a sentence; "" of other methods."""
        if self.gap is None:
            return ""
        if self.gap <= IG_GAP:
            return f"converged: in {self.steps} steps the sum misses {percent(self.gap)} of the metric's change"
        return f"not converged: after {self.steps} steps the sum still misses {percent(self.gap)} of the metric's change"

    @cached_property
    def grad_LTI(self) -> NDArray[np.float32] | None:
        """activation x d metric / d activation, the published definition, of the methods "grad" and "refined"; else None."""
        return None if self.gradients is None else self.gradients()


@dataclass(frozen=True)
class TopRows:
    """The largest entries of an attribution."""

    rows: tuple[AttributionRow, ...]
    """Strongest first, whatever the sign."""
    share: float
    """Part of the absolute mass (of the entries asked about) that the rows hold, 0 to 1."""
    mass: float
    """Sum of the absolute attributions over the entries asked about."""


def attribute(
    loaded: LoadedModel,
    ids: Sequence[int],
    target: TargetSpec,
    *,
    steers: Sequence[Steer] = (),
    prompt_tokens: int | None = None,
    method: str = DEFAULT,
    share: bool = False,
    progress: Progress = no_progress,
) -> Attribution:
    """Attribute the token at `target.token` to every neuron at every earlier token.

    `ids` are prompt + answer; only `ids[:target.token]` are run. `prompt_tokens` says where the answer starts (None: at the
    end), for steers that act on one of the two; a steered neuron is attributed at its steered value. With `share`, for who asks
    about one token of an answer after the other, the whole is run and kept with the model (where `graph_run.shared_run` finds
    that worthwhile): the next target saves a pass.
    Where the model's check found that a method does not run on it, the one that stands in is used (`Attribution.method` says which).
    Raises `InvalidInput` for a target that is not there, `InvalidSteer` for a steer that does not fit the model, and what
    `progress` raises, which is called at every layer.
    """
    target = check_target(loaded, ids, target)
    asked, method = method, loaded.running.method(method)
    start = time.perf_counter()
    prompt_tokens = len(ids) if prompt_tokens is None else prompt_tokens
    edits = compile_edits(loaded, steers, prompt_tokens)
    with watched(loaded, progress):
        sharing = share and method == "refined"
        run = shared_run(loaded, ids, edits, token=target.token, prompt_tokens=prompt_tokens, steers=steers) if sharing else None
        found = estimate(loaded, ids[: target.token], target, edits, method, run)
    attr_LTI, acts_LTI = _stacked(found.attrs, loaded.n_neurons), _stacked(found.acts, loaded.n_neurons)
    stands_in = found.stands_in if method == asked else f"{method} stands in for {asked}, which does not run on this model"
    gradients = _later(method, attr_LTI, found.gradients, loaded.n_neurons)
    return Attribution(
        target,
        method,
        found.value,
        attr_LTI,
        acts_LTI,
        time.perf_counter() - start,
        found.refined,
        gradients,
        stands_in,
        found.gap,
        found.steps,
    )


def _later(
    method: str, attr_LTI: NDArray[np.float32], gradients: Callable[[], list[Tensor]] | None, n_neurons: int
) -> Callable[[], NDArray[np.float32]] | None:
    """How to get `Attribution.grad_LTI`. Keeps neither the model nor its run: attributions are kept longer than models."""
    if method == "grad":
        return lambda: attr_LTI
    return None if gradients is None else lambda: _stacked(gradients(), n_neurons)


def _stacked(layers: Sequence[Tensor], n_neurons: int) -> NDArray[np.float32]:
    """(T, I) tensors of each layer as one (L, T, I) array, narrower layers padded with zeros."""
    out_LTI = np.empty((len(layers), layers[0].shape[0], n_neurons), dtype=np.float32)
    for layer, values_TI in enumerate(layers):
        width = values_TI.shape[1]
        out_LTI[layer, :, :width] = values_TI.cpu().numpy()
        out_LTI[layer, :, width:] = 0
    return out_LTI


def top_rows(attribution: Attribution, k: int, *, tokens: Sequence[int] | None = None, layers: Sequence[int] | None = None) -> TopRows:
    """The `k` entries of largest absolute attribution, among the given source tokens and layers (None: all)."""
    attr_LTI = attribution.attr_LTI
    layer_ids = np.arange(attr_LTI.shape[0]) if layers is None else _checked(layers, attr_LTI.shape[0], "layer")
    token_ids = np.arange(attr_LTI.shape[1]) if tokens is None else _checked(tokens, attr_LTI.shape[1], "token")
    chosen = attr_LTI if layers is None and tokens is None else attr_LTI[np.ix_(layer_ids, token_ids)]
    size_LTI = torch.from_numpy(np.ascontiguousarray(chosen)).abs()
    mass = float(size_LTI.sum(2).sum(dtype=torch.float64))
    values_K, places_K = largest(size_LTI.flatten(), k)
    at_layer, at_token, index = np.unravel_index(places_K.numpy(), chosen.shape)
    at = layer_ids[at_layer], token_ids[at_token], index
    columns = (*at, attribution.acts_LTI[at], attr_LTI[at])
    rows = tuple(
        AttributionRow(layer, index, token, "-" if activation < 0 else "+", activation, value)
        for layer, token, index, activation, value in zip(*(column.tolist() for column in columns), strict=True)
    )
    return TopRows(rows, float(values_K.sum(dtype=torch.float64)) / mass if mass else 0.0, mass)


def _checked(values: Sequence[int], stop: int, name: str) -> NDArray[np.int64]:
    wrong = next((value for value in values if not 0 <= value < stop), None)
    if wrong is not None:
        raise InvalidInput(f"{name} {wrong} is not part of this attribution, which has {name}s 0 to {stop - 1}", field=f"{name}s")
    return np.asarray(sorted(set(values)), dtype=np.int64)
