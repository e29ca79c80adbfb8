"""The vocabulary probe: every token alone after the start token, and which tokens each neuron side answers to most."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache

from neurons.core.progress import Progress, no_progress
from neurons.models.loaded import LoadedModel
from neurons.runs.hooks import run_forward

_BATCH = 512


def start_id(loaded: LoadedModel) -> int:
    """The token put before the probed one: the tokenizer's start token, else an end token, else 0."""
    bos = loaded.tokenizer.bos_token_id
    return int(bos) if isinstance(bos, int) else min(loaded.eos_ids, default=0)


def probe_vocabulary(
    loaded: LoadedModel, *, keep: int = 8, banned: NDArray[np.bool_] | None = None, progress: Progress = no_progress
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The `keep` tokens with the strongest activation of every neuron side: ids (2, L, I, K) and activations, sign kept.

    `banned` (V,) marks ids that are left out (control tokens, padding rows).
    """
    allowed = np.arange(loaded.ref.n_vocab) if banned is None else np.flatnonzero(~banned[: loaded.ref.n_vocab])
    keep = min(keep, len(allowed))
    values = torch.full((2, loaded.n_layers, loaded.n_neurons, keep), -torch.inf)
    ids = torch.full((2, loaded.n_layers, loaded.n_neurons, keep), -1, dtype=torch.int32)
    before = _start_cache(loaded)
    for at in range(0, len(allowed), _BATCH):
        chunk = torch.from_numpy(allowed[at : at + _BATCH])
        cache = copy.deepcopy(before)
        if cache is not None:
            cache.batch_repeat_interleave(len(chunk))

        def record(layer: int, acts_BTI: Tensor, chunk: Tensor = chunk) -> None:
            width = acts_BTI.shape[-1]
            if not width:  # a hybrid's layer without an MLP
                return
            acts_IB = acts_BTI.float().reshape(len(chunk), -1, width)[:, -1].T.cpu()
            for side, sign in ((0, 1.0), (1, -1.0)):
                both = torch.cat([values[side, layer, :width], acts_IB * sign], dim=1)
                tokens = torch.cat([ids[side, layer, :width], chunk.to(torch.int32).expand(width, -1)], dim=1)
                top = both.topk(keep, dim=1)
                values[side, layer, :width] = top.values
                ids[side, layer, :width] = tokens.gather(1, top.indices)

        ids_BT = chunk[:, None] if cache is not None else torch.stack([torch.full_like(chunk, start_id(loaded)), chunk], dim=1)
        run_forward(loaded, ids_BT, record=record, cache=cache, start=2 - ids_BT.shape[1], logits_to_keep=1)
        progress(min(at + _BATCH, len(allowed)), len(allowed), "tokens probed alone")
    signed = torch.where(ids >= 0, values, 0.0) * torch.tensor([1.0, -1.0])[:, None, None, None]
    return ids.numpy(), signed.numpy()


def _start_cache(loaded: LoadedModel) -> DynamicCache | None:
    """The start token's keys and values, computed once; None for a model that is not to be run with a cache, or whose state of the text
    (a hybrid's) cannot be repeated for many tokens.
    """
    if not loaded.running.uses_cache(2):
        return None
    cache = DynamicCache(config=loaded.model.config)
    run_forward(loaded, torch.tensor([[start_id(loaded)]]), cache=cache, logits_to_keep=1)
    return cache if all(hasattr(layer, "batch_repeat_interleave") for layer in cache.layers) else None
