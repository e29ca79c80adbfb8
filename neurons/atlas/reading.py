"""Reading exemplars with the activation of every token: recomputed from the stored corpus tokens by one forward pass per window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurons.atlas.corpus import Corpus
from neurons.atlas.records import Exemplar
from neurons.atlas.store import Atlas
from neurons.core.errors import InvalidInput
from neurons.core.progress import Progress, no_progress
from neurons.core.types import NeuronSide
from neurons.models.loaded import LoadedModel
from neurons.runs.hooks import run_forward


@dataclass(frozen=True, eq=False)
class Passage:
    """A stretch of the corpus with one neuron's activation at every token."""

    value: float
    """The activation at the token it is shown for."""
    sequence: int
    position: int
    start: int
    """The position in the window of `ids[0]`."""
    ids: tuple[int, ...]
    acts_T: NDArray[np.float32]
    document: str
    source: str
    domain: str
    level: float | None = None
    """With `range_passages`: the share of sampled tokens with a lower activation."""

    @property
    def peak(self) -> int:
        """The index in `ids` of the token it is shown for."""
        return self.position - self.start


def range_passages(
    loaded: LoadedModel,
    atlas: Atlas,
    neuron: NeuronSide,
    *,
    count: int = 9,
    windows: int = 12,
    seed: int = 0,
    context: tuple[int, int] = (24, 8),
    progress: Progress = no_progress,
) -> tuple[Passage, ...]:
    """Passages over the whole range of a neuron's activations: `count` levels evenly spaced between the lowest and the highest activation
    met in `windows` uniformly drawn windows, strongest first. What a neuron does most of the time, not only at its best.
    """
    corpus = atlas.corpus
    drawn = np.random.default_rng(seed).choice(corpus.n_describe, size=min(windows, corpus.n_describe), replace=False)
    acts, at = [], []
    for done, window in enumerate(drawn):
        progress(done, len(drawn), "windows read")
        row = neuron_acts(loaded, corpus, [int(window)], neuron)[0]
        first = int(corpus.start_S[window])
        acts.append(row)
        at += [(len(acts) - 1, int(window), position) for position in range(first, len(row))]
    value_N = np.array([acts[n][position] for n, _, position in at])
    order = np.argsort(value_N)
    wanted = np.linspace(value_N[order[0]], value_N[order[-1]], count)
    nearest = {int(np.argmin(np.abs(value_N - value))) for value in wanted}
    found = []
    for number in sorted(nearest, key=lambda n: -value_N[n]):
        n, window, position = at[number]
        start = max(0, position - context[0])
        ids = corpus.sequence(window)[start : position + context[1] + 1]
        one = Exemplar(
            0, float(value_N[number]), window, position, _name(corpus, window), *_source(corpus, window), start, tuple(map(int, ids))
        )
        found.append(_passage(acts[n], one, level=float((value_N < value_N[number]).mean())))
    return tuple(found)


def neuron_acts(
    loaded: LoadedModel, corpus: Corpus, windows: Sequence[int], neuron: NeuronSide, *, stop: int | None = None
) -> list[NDArray[np.float32]]:
    """One neuron's activation at every token of the windows (up to `stop`). Raises `InvalidInput` when the model has no such neuron."""
    loaded.check_neuron(neuron)
    if corpus.n_vocab != loaded.ref.n_vocab:
        raise InvalidInput("this atlas was collected for another vocabulary; build one for this model", field="atlas")
    found: list[NDArray[np.float32]] = []

    def record(layer: int, acts_BTI: Tensor) -> None:
        if layer == neuron.layer:
            found.append(acts_BTI[0, :, neuron.index].float().cpu().numpy().copy())

    for window in windows:
        run_forward(loaded, torch.from_numpy(corpus.sequence(window)[:stop])[None], record=record, logits_to_keep=1)
    return found


def _passage(acts_T: NDArray[np.float32], one: Exemplar, *, level: float | None = None) -> Passage:
    stop = one.start + len(one.ids)
    return Passage(
        one.value,
        one.sequence,
        one.position,
        one.start,
        one.ids,
        acts_T[one.start : stop],
        one.document,
        one.source,
        one.domain,
        level=level,
    )


def _name(corpus: Corpus, window: int) -> str:
    return corpus.names_D[int(corpus.document_S[window])]


def _source(corpus: Corpus, window: int) -> tuple[str, str]:
    source = corpus.source_of(window)
    return source.name, source.domain
