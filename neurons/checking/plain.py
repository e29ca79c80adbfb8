"""The oracle of the check: one pass of plain transformers, without a cache, without our hooks and our way with experts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from neurons.models.experts import POINT
from neurons.models.loaded import LoadedModel

_OURS, _THEIRS = "neuronscope", "eager"


def plain_logprobs(loaded: LoadedModel, ids: Sequence[int]) -> Tensor:
    """Log-probabilities (T, V) of the token after each of `ids`, float32 on the CPU."""
    with loaded.lock, _untouched(loaded), torch.no_grad():
        output: Any = loaded.model(input_ids=torch.tensor([list(ids)], device=loaded.device), use_cache=False)
    logits_TV: Tensor = output.logits[0]
    return logits_TV.float().log_softmax(-1).cpu()


@contextmanager
def _untouched(loaded: LoadedModel) -> Iterator[None]:
    """Experts run by transformers' own code while the block lasts."""
    holders: list[Any] = [module for module in loaded.model.modules() if hasattr(module, POINT)]
    configs = [h.config for h in holders if getattr(getattr(h, "config", None), "_experts_implementation", None) == _OURS]
    forwards = [(holder, holder.__dict__.pop("forward")) for holder in holders if "forward" in holder.__dict__]
    for config in configs:
        config._experts_implementation = _THEIRS
    try:
        yield
    finally:
        for config in configs:
            config._experts_implementation = _OURS
        for holder, forward in forwards:
            holder.forward = forward
