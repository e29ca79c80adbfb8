"""A steer from examples: what neurons do more, on the mean, in texts about something than in others, is added to their activation.

A mean-difference steering vector, written in neurons instead of the residual stream: one sees what is pushed and can take parts of it away.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from neurons.concepts.contrast import MAX_TOKENS, both_kinds
from neurons.core.errors import InvalidInput
from neurons.core.progress import Progress, no_progress
from neurons.core.steers import Steer, TokenScope
from neurons.core.types import NeuronSide
from neurons.models.chat import encode_text
from neurons.models.loaded import LoadedModel
from neurons.runs.hooks import run_forward

NEURONS = 100
"""Neurons of a steer from examples unless told otherwise."""
SKIPPED = 2
"""First positions left out: attention sinks with extreme activations."""
MARGIN = 0.2
"""Share of the layers at each end that is left out: token spelling below, the next token above."""


def steer_from_examples(
    loaded: LoadedModel,
    examples: Sequence[str],
    counter_examples: Sequence[str] = (),
    *,
    neurons: int = NEURONS,
    strength: float = 1.0,
    tokens: TokenScope | None = None,
    name: str = "",
    progress: Progress = no_progress,
) -> Steer:
    """The `neurons` neurons whose mean activation differs most, weighted by what they write into the residual stream, as one steer.

    Mode `add`: strength x the difference of the means (in activation units) is added at `tokens` (default: the answer's).
    Strength 1 moves the means as far as the examples do; the default model takes about 4 of it before its text breaks. Without
    counter-examples the built-in neutral sentences serve. Raises `InvalidInput` for fewer than 2 examples, an empty text, or no neurons.
    """
    examples, counter, _ = both_kinds(examples, counter_examples)
    if not 1 <= neurons <= loaded.n_layers * loaded.n_neurons:
        raise InvalidInput(f"choose 1 to {loaded.n_layers * loaded.n_neurons:,} neurons", field="neurons")
    means_2LI = [
        _mean(loaded, texts, start, len(examples) + len(counter), progress) for texts, start in ((examples, 0), (counter, len(examples)))
    ]
    difference_LI = means_2LI[0] - means_2LI[1]
    weight_LI = np.zeros_like(difference_LI)
    edge = int(MARGIN * loaded.n_layers)
    for site in loaded.sites[edge : loaded.n_layers - edge]:
        weight_LI[site.layer, : site.width] = site.output_norms.cpu().numpy()
    order = np.argsort(-np.abs(difference_LI) * weight_LI, axis=None, kind="stable")[:neurons]
    places = [divmod(int(place), loaded.n_neurons) for place in order]
    values = tuple(float(difference_LI[place]) for place in places)
    sides = tuple(NeuronSide(layer, index, "+" if value >= 0 else "-") for (layer, index), value in zip(places, values, strict=True))
    return Steer(sides, "add", strength, tokens or TokenScope("answer"), name, values=values).check()


def _mean(loaded: LoadedModel, texts: Sequence[str], done: int, total: int, progress: Progress) -> NDArray[np.float32]:
    """Mean activation of each neuron over the texts' tokens after the first few, (L, I)."""
    sums_LI = np.zeros((loaded.n_layers, loaded.n_neurons), dtype=np.float64)
    count = 0
    for number, text in enumerate(texts):
        ids = encode_text(loaded, text)[:MAX_TOKENS]
        first = min(SKIPPED, len(ids) - 1)
        if not ids:
            raise InvalidInput(f"text {number + 1} is empty; type a sentence on each line", field="texts")

        def add(layer: int, acts_BTI: torch.Tensor, first: int = first) -> None:
            acts_TI = acts_BTI[0, first:].float()
            sums_LI[layer, : acts_TI.shape[1]] += acts_TI.sum(0, dtype=torch.float64).cpu().numpy()

        run_forward(loaded, torch.tensor([ids]), record=add, logits_to_keep=1)
        count += len(ids) - first
        progress(done + number + 1, total, "texts run")
    return (sums_LI / count).astype(np.float32)
