"""Texts to features: each text as the user's message in the model's template, every neuron's activation averaged over its own tokens.

What all prompts begin with (the template, its system turn) is run once and kept in the cache; texts of like length share a batch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache

from neurons.core.types import Message
from neurons.models.chat import encode_prompt
from neurons.models.loaded import LoadedModel
from neurons.runs.hooks import hooked

MAX_TOKENS = 256
"""Tokens of a text that are read."""
BATCH_TOKENS = 1024
"""Tokens per pass, the padding included."""
Prefixes = dict[tuple[int, ...], DynamicCache]
"""What the model keeps of the beginnings that were run."""


@dataclass(frozen=True)
class EncodedText:
    """One text as the model reads it."""

    prefix: tuple[int, ...]
    """The template before it."""
    own: tuple[int, ...]
    """The text's own tokens."""


def encode_texts(loaded: LoadedModel, texts: Sequence[str]) -> list[EncodedText]:
    """The texts as user messages. Raises `InvalidInput` for an empty one."""
    found = []
    for text in texts:
        prompt = encode_prompt(loaded, [Message("user", text)])
        segment = next(s for s in reversed(prompt.segments) if s.role == "user" and not s.template)
        found.append(EncodedText(prompt.ids[: segment.start], prompt.ids[segment.start : min(segment.stop, segment.start + MAX_TOKENS)]))
    return found


def batches(texts: Sequence[EncodedText]) -> Iterator[list[int]]:
    """Rows of texts that share a prefix and are of like length, shortest first, about `BATCH_TOKENS` a batch."""
    order = sorted(range(len(texts)), key=lambda row: (texts[row].prefix, len(texts[row].own), row))
    batch: list[int] = []
    for row in order:
        longest = len(texts[row].own)
        if batch and (texts[row].prefix != texts[batch[0]].prefix or (len(batch) + 1) * longest > BATCH_TOKENS):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def read_batch(loaded: LoadedModel, texts: Sequence[EncodedText], prefixes: Prefixes, use: Callable[[int, Tensor], None]) -> None:
    """One pass over texts that share a prefix. `use` gets (layer, acts_BTI): own tokens from column 0 on, padding at the right."""
    prefix = texts[0].prefix
    width = max(len(text.own) for text in texts)
    ids_BT = torch.tensor([[*text.own, *[0] * (width - len(text.own))] for text in texts], device=loaded.device)
    with loaded.lock, torch.no_grad():
        cache = None
        if prefix:
            if prefix not in prefixes:
                prefixes[prefix] = DynamicCache(config=loaded.model.config)
                _body(loaded, torch.tensor([prefix], device=loaded.device), prefixes[prefix])
            cache = copy.deepcopy(prefixes[prefix])
            cache.batch_repeat_interleave(len(texts))
        # A mixture of experts hands its activations over with the batch laid end to end.
        with hooked(loaded, record=lambda layer, acts_BTI: use(layer, acts_BTI.reshape(len(texts), width, -1))):
            _body(loaded, ids_BT, cache)


def text_means(loaded: LoadedModel, texts: Sequence[EncodedText], prefixes: Prefixes) -> Tensor:
    """Every neuron's mean activation over each text's own tokens, (N, L, I) float32 on the CPU. `prefixes` is filled for the next call."""
    out = torch.zeros(len(texts), loaded.n_layers, loaded.n_neurons)
    for rows in batches(texts):
        lengths_B = torch.tensor([len(texts[row].own) for row in rows], device=loaded.device)

        def keep(layer: int, acts_BTI: Tensor, rows: list[int] = rows, lengths_B: Tensor = lengths_B) -> None:
            inside_BT = torch.arange(acts_BTI.shape[1], device=acts_BTI.device) < lengths_B[:, None]
            means_BI = torch.einsum("bti,bt->bi", acts_BTI.float(), inside_BT.float()) / lengths_B[:, None]
            out[rows, layer, : acts_BTI.shape[2]] = means_BI.cpu()

        read_batch(loaded, [texts[row] for row in rows], prefixes, keep)
    return out


def _body(loaded: LoadedModel, ids_BT: Tensor, cache: DynamicCache | None) -> None:
    loaded.model.base_model(input_ids=ids_BT, past_key_values=cache, use_cache=cache is not None)
