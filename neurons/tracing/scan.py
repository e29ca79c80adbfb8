"""Where one neuron fires: over a text of one's own, and over the traces that were saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurons.core.errors import Cancelled, NeuronscopeError
from neurons.core.progress import Progress, no_progress
from neurons.core.types import ModelRef, NeuronSide
from neurons.models.chat import check_length
from neurons.models.loaded import LoadedModel
from neurons.runs.hooks import run_forward
from traces.store import TraceStore
from traces.tensors import ACTIVATIONS


@dataclass(frozen=True)
class Fired:
    """One trace in which a neuron side fired."""

    trace_id: str
    title: str
    value: float
    """The strongest activation on that side, after the first token; its sign kept."""
    token: int
    """Where: the position over prompt + answer."""
    created: str


@dataclass(frozen=True)
class TraceScan:
    """What a look through the saved traces found."""

    fired: tuple[Fired, ...]
    """Strongest first; traces in which the side never fired are left out."""
    read: int
    """Traces of this model whose activations are still stored."""
    evicted: int
    """Traces of this model without activations: removed for the disk budget, or never recorded."""
    other_models: int
    unreadable: int


def text_acts(loaded: LoadedModel, ids: Sequence[int], neuron: NeuronSide) -> NDArray[np.float32]:
    """One neuron's activation at every token of `ids`, shape (T,). Raises `InvalidInput` for a neuron the model does not have."""
    loaded.check_neuron(neuron)
    check_length(loaded, len(ids))
    kept: list[NDArray[np.float32]] = []

    def record(layer: int, acts_BTI: Tensor) -> None:
        if layer == neuron.layer:
            kept.append(acts_BTI[0, :, neuron.index].float().cpu().numpy().copy())

    run_forward(loaded, torch.tensor([list(ids)]), record=record, logits_to_keep=1)
    return kept[0]


def scan_traces(store: TraceStore, ref: ModelRef, neuron: NeuronSide, *, most: int = 500, progress: Progress = no_progress) -> TraceScan:
    """Look through the newest `most` traces for those in which a neuron side fired most. Reads one neuron of each, runs no model."""
    rows = store.list("", limit=most)
    own = [row for row in rows if row.weights_hash == ref.weights_hash]
    stored = [row for row in own if row.activations == "stored"]
    found, unreadable = [], 0
    sign = 1.0 if neuron.polarity == "+" else -1.0
    for done, row in enumerate(stored):
        progress(done, len(stored), "traces read")
        try:
            acts_T = np.asarray(store.read(row.id, ACTIVATIONS, layer=neuron.layer, neuron=neuron.index), dtype=np.float32).ravel()
        except Cancelled:
            raise
        except NeuronscopeError:
            unreadable += 1
            continue
        if len(acts_T) > 1:
            at = 1 + int(np.argmax(sign * acts_T[1:]))  # the first token is a sink
            if sign * acts_T[at] > 0:
                found.append(Fired(row.id, row.title, float(acts_T[at]), at, row.created))
    found.sort(key=lambda one: (-abs(one.value), one.trace_id))
    return TraceScan(tuple(found), len(stored) - unreadable, len(own) - len(stored), len(rows) - len(own), unreadable)
