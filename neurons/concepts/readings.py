"""What neurons do while an answer about something is written, and which of them would make it likelier: where a concept steer begins.

For texts as answers to one open request: each neuron's mean activation, and the derivative of the texts' mean log-probability by a
constant shift of the neuron at every token.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache

from neurons.core.errors import InvalidInput
from neurons.core.home import subfolder
from neurons.core.progress import Progress, no_progress
from neurons.core.types import Message
from neurons.detectors.lexicon import SHIPPED, load_lexicon
from neurons.models.chat import encode_prompt, encode_text
from neurons.models.loaded import LoadedModel
from neurons.runs.hooks import GraphActs, hooked
from neurons.runs.layer_outputs import hidden_of, kept_outputs
from neurons.storage.files import atomic_file, disk_errors

ASK = "Tell me something."
"""What the texts are answers to."""
MAX_TOKENS = 64
"""Tokens of a text that are read."""
NEUTRAL_TEXTS = 64
_ROWS = 16


@dataclass(frozen=True, eq=False)
class Readings:
    """Of some texts as answers. float32."""

    mean_LI: NDArray[np.float32]
    """Mean activation over the texts' tokens."""
    gradient_LI: NDArray[np.float32]
    """d (mean over texts of the mean log-probability of their tokens) / d (a constant shift of the neuron)."""
    residual_L: NDArray[np.float32]
    """Mean length of each layer's output."""


def read_answers(loaded: LoadedModel, texts: Sequence[str], *, progress: Progress = no_progress) -> Readings:
    """One pass forward and one backward over each text. Raises `InvalidInput` for no texts or one of fewer than two tokens."""
    rows = [encode_text(loaded, text, bos=False)[:MAX_TOKENS] for text in texts]
    if not rows or any(len(row) < 2 for row in rows):
        raise InvalidInput("the texts about a concept need two tokens or more each", field="texts")
    loaded.check_batches("reading texts about a concept", MAX_TOKENS + 64)
    prefix = torch.tensor([encode_prompt(loaded, [Message("user", ASK)]).ids], device=loaded.device)
    shape = (loaded.n_layers, loaded.n_neurons)
    sums = {"mean": torch.zeros(shape), "gradient": torch.zeros(shape), "residual": torch.zeros(shape[0])}
    with loaded.lock, torch.no_grad():
        begun = DynamicCache(config=loaded.model.config)
        loaded.model.base_model(input_ids=prefix, past_key_values=begun, use_cache=True)
    order = sorted(range(len(rows)), key=lambda n: len(rows[n]))
    for at in range(0, len(order), _ROWS):
        progress(at, len(rows), "reading texts")
        _add_batch(loaded, [rows[n] for n in order[at : at + _ROWS]], begun, sums)
    tokens = sum(map(len, rows))
    means = {"mean": sums["mean"] / tokens, "gradient": sums["gradient"] / len(rows), "residual": sums["residual"] / tokens}
    progress(len(rows), len(rows), "reading texts")
    return Readings(*(means[name].numpy() for name in ("mean", "gradient", "residual")))


def _add_batch(loaded: LoadedModel, rows: Sequence[tuple[int, ...]], begun: DynamicCache, sums: dict[str, Tensor]) -> None:
    width = max(map(len, rows))
    ids_BT = torch.zeros(len(rows), width, dtype=torch.long, device=loaded.device)
    inside_BT = torch.zeros(len(rows), width, device=loaded.device)
    for b, row in enumerate(rows):
        ids_BT[b, : len(row)] = torch.tensor(row)
        inside_BT[b, : len(row)] = 1
    cache: Any = copy.deepcopy(begun)
    cache.batch_repeat_interleave(len(rows))
    graph = GraphActs(loaded)
    with kept_outputs(loaded) as outputs, hooked(loaded, graph=graph), torch.enable_grad():
        logits_BTV = loaded.model(input_ids=ids_BT, past_key_values=cache, use_cache=True).logits
        logp_BT = logits_BTV[:, :-1].float().log_softmax(-1).gather(2, ids_BT[:, 1:, None])[..., 0]
        told_BT = inside_BT[:, 1:]
        gradients = torch.autograd.grad(((logp_BT * told_BT).sum(1) / told_BT.sum(1)).sum(), graph.tensors())
    for name, layers in (("mean", graph.layers()), ("gradient", graph.layers(gradients))):
        for layer, value_BTI in enumerate(layers):
            total_I = torch.einsum("bti,bt->i", value_BTI.detach().float(), inside_BT)
            sums[name][layer, : len(total_I)] += total_I.cpu()
    for layer, output in enumerate(outputs):
        sums["residual"][layer] += float((hidden_of(output).detach().float().norm(dim=-1) * inside_BT).sum())


def neutral_readings(loaded: LoadedModel, *, progress: Progress = no_progress) -> Readings:
    """Those of sentences about many things, one for each of some concepts of the shipped lexicon. Computed once per model and kept."""
    texts = neutral_texts()
    mark = hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]
    path = subfolder("steering") / f"neutral-{loaded.ref.weights_hash[:32]}-{loaded.ref.dtype}-{mark}.npz"
    with FileLock(f"{path}.lock"):
        if not path.exists():
            found = read_answers(loaded, texts, progress=progress)
            with disk_errors(path), atomic_file(path) as stream:
                np.savez(stream, mean=found.mean_LI, gradient=found.gradient_LI, residual=found.residual_L)
        with np.load(path, allow_pickle=False) as stored:
            return Readings(stored["mean"], stored["gradient"], stored["residual"])


@lru_cache(maxsize=1)
def neutral_texts() -> tuple[str, ...]:
    """Sentences about many things: one of each of `NEUTRAL_TEXTS` concepts, evenly over the shipped lexicon."""
    concepts = load_lexicon((SHIPPED,)).concepts
    step = max(1, len(concepts) // NEUTRAL_TEXTS)
    return tuple(concept.entry.train[n % len(concept.entry.train)] for n, concept in enumerate(concepts[::step]))
