"""A concept by examples: run texts about it and texts that are not, and find the neuron sides whose activation tells them apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from neurons.core.errors import InvalidInput
from neurons.core.progress import Progress, no_progress
from neurons.core.types import NeuronSide
from neurons.models.chat import encode_text
from neurons.models.loaded import LoadedModel
from neurons.runs.hooks import hooked

NEUTRAL = (
    "They left the house early and came back before dark.",
    "It is not clear which of the two came first.",
    "The lid would not close, so he tried again.",
    "Everyone agreed that the idea was worth a try.",
    "She waited a little longer and then went on.",
    "The first part is short; the second part is longer.",
    "There are several ways to do this, and none is perfect.",
    "He put the things back where he had found them.",
    "Most of what was said that evening has been forgotten.",
    "The new one is lighter and costs about the same.",
    "On the left there is a door, on the right a shelf.",
    "In the end it made no difference at all.",
    "This happened more often than people like to admit.",
    "A few of them stayed until the very end.",
    "Nothing had changed since the last time they were there.",
    "You can use either of them, as long as it fits.",
)
"""Counter-examples where the user gives none."""
MAX_TOKENS = 512
"""Tokens of a text that are run."""


@dataclass(frozen=True)
class Separation:
    """How well one side's activation tells examples from counter-examples."""

    side: NeuronSide
    auroc: float
    """Chance that a random example excites it more than a random counter-example; ties count half."""
    effect: float
    """Difference of the mean log strength over its spread within both groups (shrunk towards the layer's usual spread)."""
    examples: float
    """Mean over the examples of the strongest activation (absolute)."""
    counter: float
    """The same over the counter-examples."""


@dataclass(frozen=True)
class Contrast:
    """Sides by effect, and what chance alone would give."""

    found: tuple[Separation, ...]
    chance_effect: float
    """The best effect of any side when examples and counter-examples are mixed up: what stands below is worth nothing."""
    examples: int
    counter: int
    neutral: bool
    """The built-in neutral sentences served as counter-examples."""


def text_strengths(loaded: LoadedModel, texts: Sequence[str], *, progress: Progress = no_progress) -> NDArray[np.float32]:
    """Each side's strongest activation in each text, shape (texts, 2 L I): all positive sides by layer and index, then the negative ones.

    A start token goes first, also for models that use none (the first position is an attention sink), and is left out.
    Raises `InvalidInput` for an empty text.
    """
    start = encode_text(loaded, "") or tuple(i for i in (loaded.tokenizer.bos_token_id, loaded.tokenizer.eos_token_id) if i is not None)[:1]
    layers, neurons = loaded.n_layers, loaded.n_neurons
    out = np.zeros((len(texts), 2, layers, neurons), dtype=np.float32)
    for row, text in enumerate(texts):
        plain = encode_text(loaded, text, bos=False)[:MAX_TOKENS]
        if not plain:
            raise InvalidInput(f"text {row + 1} is empty; type a sentence on each line", field="texts")
        ids = (*start, *plain)

        def keep(layer: int, acts_BTI: torch.Tensor, row: int = row) -> None:
            acts = acts_BTI[0, len(start) :].float()
            width = acts.shape[1]
            out[row, 0, layer, :width] = acts.amax(dim=0).clamp_min(0).cpu().numpy()
            out[row, 1, layer, :width] = (-acts).amax(dim=0).clamp_min(0).cpu().numpy()

        with hooked(loaded, record=keep), torch.no_grad():
            loaded.model.base_model(input_ids=torch.tensor([ids], device=loaded.device), use_cache=False)
        progress(row + 1, len(texts), "texts run")
    return out.reshape(len(texts), -1)


def auroc(examples_PN: NDArray[np.float32], counter_MN: NDArray[np.float32]) -> NDArray[np.float64]:
    """Area under the ROC curve of each column, ties counted half, shape (N,). By ranks: Mann-Whitney."""
    total = np.zeros(examples_PN.shape[1])
    for row in examples_PN:
        total += (row > counter_MN).sum(axis=0) + 0.5 * (row == counter_MN).sum(axis=0)
    return np.asarray(total / (len(examples_PN) * len(counter_MN)))


def effect_size(log_PN: NDArray[np.float32], log_MN: NDArray[np.float32]) -> NDArray[np.float64]:
    """Difference of means over the pooled spread, the spread shrunk towards the median side's, shape (N,)."""
    difference = log_PN.mean(axis=0, dtype=np.float64) - log_MN.mean(axis=0, dtype=np.float64)
    freedom = max(1, len(log_PN) + len(log_MN) - 2)
    pooled = (log_PN.var(axis=0, dtype=np.float64) * len(log_PN) + log_MN.var(axis=0, dtype=np.float64) * len(log_MN)) / freedom
    alive = pooled > 0
    usual = float(np.median(pooled[alive])) if alive.any() else 1.0
    return np.asarray(difference / np.sqrt((pooled * freedom + usual * 4) / (freedom + 4)))


def both_kinds(examples: Sequence[str], counter_examples: Sequence[str]) -> tuple[list[str], list[str], bool]:
    """The texts that are not empty, and whether the built-in neutral ones serve as counter-examples. `InvalidInput` below 2 examples."""
    kept = [text for text in examples if text.strip()]
    counter = [text for text in counter_examples if text.strip()]
    if len(kept) < 2:
        raise InvalidInput("at least 2 example texts are needed (5 or more work better); one on each line", field="examples")
    return kept, counter or list(NEUTRAL), not counter


def contrast(
    loaded: LoadedModel,
    examples: Sequence[str],
    counter_examples: Sequence[str] = (),
    *,
    top: int = 50,
    progress: Progress = no_progress,
) -> Contrast:
    """The sides that fire more on the examples. Raises `InvalidInput` for fewer than 2 examples or an empty text."""
    examples, counter, neutral = both_kinds(examples, counter_examples)
    strengths = text_strengths(loaded, [*examples, *counter], progress=progress)
    logs = np.log1p(strengths)
    split = len(examples)
    effect = effect_size(logs[:split], logs[split:])
    mixed = np.random.default_rng(0).permutation(len(logs))
    chance = float(effect_size(logs[mixed[:split]], logs[mixed[split:]]).max())
    best = np.argsort(-effect, kind="stable")[:top]
    area = auroc(strengths[:split][:, best], strengths[split:][:, best])
    size = loaded.n_layers * loaded.n_neurons
    found = []
    for row, column in enumerate(best):
        if effect[column] > 0:
            layer, index = divmod(int(column) % size, loaded.n_neurons)
            side = NeuronSide(layer, index, "-" if column >= size else "+")
            means = strengths[:split, column].mean(), strengths[split:, column].mean()
            found.append(
                Separation(side, round(float(area[row]), 4), round(float(effect[column]), 3), *(round(float(m), 4) for m in means))
            )
    return Contrast(tuple(found), round(chance, 3), len(examples), len(counter), neutral)
