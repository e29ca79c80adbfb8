"""The layers of a decoder as its code runs them: finding them, what they keep, and letting one answer with what it gave before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from neurons.models.loaded import LoadedModel


def decoder_layers(loaded: LoadedModel) -> nn.ModuleList:
    """The list of the model's layers, that `NeuronSite.path` goes through."""
    layers = loaded.model.get_submodule(loaded.sites[0].path.rpartition(".")[0])
    assert isinstance(layers, nn.ModuleList)
    return layers


def whole_cache(loaded: LoadedModel) -> DynamicCache | None:
    """An empty cache that will hold every layer's keys and values of all tokens; None where layers keep another state than those."""
    kinds = {type(layer) for layer in DynamicCache(config=loaded.model.config).layers}
    return DynamicCache() if kinds <= {DynamicLayer, DynamicSlidingWindowLayer} else None


@contextmanager
def answering(layer: nn.Module, like: Any, hidden_BTD: Tensor) -> Iterator[None]:
    """The layer returns `hidden_BTD`, in the form of its output `like` (a tensor, or a tuple that begins with one).

    The caller holds the model's lock: every pass meets it.
    """
    given = (hidden_BTD, *like[1:]) if isinstance(like, tuple | list) else hidden_BTD
    layer.forward = lambda *_args, **_kwargs: given
    try:
        yield
    finally:
        del layer.forward
