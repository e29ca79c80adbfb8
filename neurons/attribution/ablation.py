"""Many ablations of one text, in batches: each batch starts at its first touched layer and token, the rest comes from the baseline.

An ablation at (layer, token) changes nothing below that layer, nor at earlier tokens. So the baseline run keeps every layer's
output and every layer's keys and values; a batch runs only the tokens from its first ablated one, its lower layers replaced
by what they gave in the baseline. Whether a model allows this is found out by comparing with the plain way, not by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from neurons.models.layers import answering, decoder_layers, whole_cache
from neurons.models.loaded import LoadedModel
from neurons.models.sites import Part
from neurons.runs.hooks import Edit, Replace, run_forward
from neurons.runs.layer_outputs import hidden_of, kept_outputs

FIXED_COST = 24
"""What starting a layer costs, counted in tokens run through it: what batches are planned by."""
MAX_TOKENS = 4096
"""Most tokens (rows x tokens per row) in one batch, for memory's sake."""
TOLERANCE = 1e-4
"""Largest difference between the shortened and the plain way, relative to the largest logit."""
CANNOT = (RuntimeError, TypeError, ValueError, IndexError, AttributeError, KeyError)
"""What a model raises that cannot be entered midway."""


@dataclass(frozen=True, order=True)
class Place:
    """Where one neuron is ablated: at one token, or at all of them (None)."""

    layer: int
    index: int
    token: int | None = None


Case = tuple[Place, ...]
"""What one measurement ablates together."""


@dataclass(frozen=True, eq=False)
class Baseline:
    """The unablated run: what the shortened passes start from."""

    ids: tuple[int, ...]
    logits_V: Tensor
    outputs: list[Any]
    """A layer's output as the model returned it (a tensor, or a tuple that begins with one), batch of 1."""
    cache: Any
    """Keys and values of all layers and tokens, batch of 1; None where the model keeps none."""
    acts: list[Tensor]
    """A layer's activations (T, I), steers included."""


@dataclass(frozen=True, eq=False)
class Ablator:
    """Runs cases on one text. `fast` says whether passes may start midway."""

    loaded: LoadedModel
    baseline: Baseline
    edits: tuple[Edit, ...]
    value_of: Callable[[Place], float]
    """What an ablated activation becomes."""
    fast: bool
    layers: nn.ModuleList = field(repr=False)

    def batches(self, cases: Sequence[Case], *, batch: int | None = None) -> Iterator[tuple[list[int], Tensor]]:
        """Yield (numbers of the cases in a batch, their logits (B, V) at the last token), until all cases have been."""
        tokens = len(self.baseline.ids)
        starts = [(self._first(case) if self.fast else (0, 0)) for case in cases]
        order = sorted(range(len(cases)), key=lambda n: (-starts[n][1], -starts[n][0]))
        limit = max(1, min(batch or 64, MAX_TOKENS // tokens))
        for chosen in plan([starts[n] for n in order], self.loaded.n_layers, tokens, limit):
            numbers = [order[k] for k in chosen]
            layer = min(starts[n][0] for n in numbers)
            token = min(starts[n][1] for n in numbers)
            yield numbers, self.run([cases[n] for n in numbers], layer=layer, token=token)

    def run(self, cases: Sequence[Case], *, layer: int, token: int) -> Tensor:
        """Logits (B, V) at the last token, from a pass over tokens `token`... whose layers below `layer` are the baseline's."""
        count = len(cases)
        ids_BT = torch.tensor([self.baseline.ids[token:]]).expand(count, -1)
        cache = self._prefix_cache(token, count)
        with self.loaded.lock, ExitStack() as stack:  # the lock first: nobody else's pass may meet a frozen layer
            at_BS = torch.arange(token, len(self.baseline.ids)).expand(count, -1)
            for number in range(layer):
                stack.enter_context(frozen_output(self.layers[number], self.baseline.outputs[number], at_BS))
            stack.enter_context(_contiguous_head(self.loaded))
            output = run_forward(self.loaded, ids_BT, replace=self._replace(cases, token), cache=cache, start=token, logits_to_keep=1)
        assert output.logits is not None
        return output.logits[:, -1]

    def _first(self, case: Case) -> tuple[int, int]:
        return min(place.layer for place in case), min(0 if place.token is None else place.token for place in case)

    def _replace(self, cases: Sequence[Case], start: int) -> Replace:
        """Steers first, then the ablations: an ablated neuron is at its ablated value whatever a steer says."""
        return batch_replace(self.loaded, cases, self.edits, self.value_of, start)

    def _prefix_cache(self, token: int, count: int) -> Any:
        if token == 0 or self.baseline.cache is None:
            return None
        cache = DynamicCache()
        for number, layer in enumerate(self.baseline.cache.layers):
            cache.update(layer.keys[:, :, :token].expand(count, -1, -1, -1), layer.values[:, :, :token].expand(count, -1, -1, -1), number)
        return cache


def batch_replace(
    loaded: LoadedModel, cases: Sequence[Case], edits: Sequence[Edit], value_of: Callable[[Place], float], start: int
) -> Replace:
    """A hook that applies the edits to all rows of a batch and ablates each row's own places. Its tokens stand at `start`..."""
    by_layer: dict[int, list[tuple[int, Place]]] = {}
    for row, case in enumerate(cases):
        for place in case:
            by_layer.setdefault(place.layer, []).append((row, place))
    edits_of: dict[int, list[Edit]] = {}
    for edit in edits:
        edits_of.setdefault(edit.layer, []).append(edit)

    def replace(part: Part, acts_BTI: Tensor) -> Tensor | None:
        places = [(row, place) for row, place in by_layer.get(part.layer, []) if part.start <= place.index < part.stop]
        own = [edit for given in edits_of.get(part.layer, []) if (edit := given.within(part)) is not None]
        if not places and not own:
            return None
        acts_BTI = acts_BTI.clone()
        for edit in own:
            acts_BTI = edit.apply(acts_BTI, start)
        for row, place in places:
            at = slice(None) if place.token is None else place.token - start
            acts_BTI[row, at, place.index - part.start] = value_of(place)
        return acts_BTI

    return replace


def prepare(
    loaded: LoadedModel,
    ids: Sequence[int],
    edits: Sequence[Edit],
    value_of: Callable[[Place], float],
    *,
    probe: Sequence[Case] = (),
    fast: bool = True,
) -> Ablator:
    """Run the baseline, and find out with one or two of the `probe` cases whether passes may start midway."""
    baseline = _run_baseline(loaded, ids, edits)
    layers = decoder_layers(loaded)
    plain = Ablator(loaded, baseline, tuple(edits), value_of, False, layers)
    if not fast or not probe or baseline.cache is None:
        return plain
    short = Ablator(loaded, baseline, tuple(edits), value_of, True, layers)
    for case in {max(probe, key=short._first), sorted(probe, key=short._first)[len(probe) // 2]}:
        layer, token = short._first(case)
        expected = plain.run([case], layer=0, token=0)
        try:
            got = short.run([case], layer=layer, token=token)
        except CANNOT:
            return plain
        if not torch.allclose(got, expected, rtol=0, atol=TOLERANCE * max(1.0, float(expected.abs().max()))):
            return plain
    return short


def plan(starts: Sequence[tuple[int, int]], n_layers: int, tokens: int, limit: int) -> list[range]:
    """Cut cases, given by their (first layer, first token) in the order they come, into the runs of cheapest total cost.

    A batch of B cases costs (layers run) * (FIXED_COST + B * tokens run).
    """
    best = [0.0] + [float("inf")] * len(starts)
    cut = [0] * (len(starts) + 1)
    for stop in range(1, len(starts) + 1):
        layer, token = n_layers, tokens
        for start in range(stop - 1, max(-1, stop - 1 - limit), -1):
            layer, token = min(layer, starts[start][0]), min(token, starts[start][1])
            cost = best[start] + (n_layers - layer) * (FIXED_COST + (stop - start) * (tokens - token))
            if cost < best[stop]:
                best[stop], cut[stop] = cost, start
    runs: list[range] = []
    stop = len(starts)
    while stop:
        runs.append(range(cut[stop], stop))
        stop = cut[stop]
    return runs[::-1]


def _run_baseline(loaded: LoadedModel, ids: Sequence[int], edits: Sequence[Edit]) -> Baseline:
    acts: list[Tensor] = []
    cache = whole_cache(loaded)
    with kept_outputs(loaded) as outputs:
        output = run_forward(
            loaded,
            torch.tensor([list(ids)]),
            edits=edits,
            record=lambda _layer, acts_BTI: acts.append(acts_BTI[0].clone()),
            cache=cache,
            logits_to_keep=1,
        )
    assert output.logits is not None
    usable = cache is not None and cache.get_seq_length() == len(ids) and len(cache.layers) == loaded.n_layers
    return Baseline(tuple(ids), output.logits[0, -1], outputs, cache if usable else None, acts)


@contextmanager
def _contiguous_head(loaded: LoadedModel) -> Iterator[None]:
    """The last token's hidden states of a batch are a strided view, for which the matrix product takes a slow path: copy them.

    The caller holds the lock.
    """
    model: Any = loaded.model
    handle = model.get_output_embeddings().register_forward_pre_hook(lambda _module, args: (args[0].contiguous(),))
    try:
        yield
    finally:
        handle.remove()


def frozen_output(layer: nn.Module, output: Any, at_BS: Tensor) -> AbstractContextManager[None]:
    """The layer returns its baseline output (of batch 1) at the positions `at_BS` of each row, without computing anything.

    The caller holds the lock.
    """
    hidden = hidden_of(output)
    return answering(layer, output, hidden.detach()[0, at_BS.to(hidden.device)])
