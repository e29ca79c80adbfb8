"""The layers of a decoder as its code runs them: finding them, and letting one answer with what it gave before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from neurons.models.loaded import LoadedModel


def decoder_layers(loaded: LoadedModel) -> nn.ModuleList:
    """The list of the model's layers, that `NeuronSite.name` goes through."""
    path = loaded.sites[0].name.split(".0.", maxsplit=1)[0]
    layers = loaded.model.get_submodule(path)
    assert isinstance(layers, nn.ModuleList)
    return layers


@contextmanager
def answering(layer: nn.Module, like: Any, hidden_BTD: Tensor) -> Iterator[None]:
    """The layer returns `hidden_BTD`, in the form of its output `like` (a tensor, or a tuple that begins with one)."""
    given = (hidden_BTD, *like[1:]) if isinstance(like, tuple) else hidden_BTD
    layer.forward = lambda *_args, **_kwargs: given
    try:
        yield
    finally:
        del layer.forward
