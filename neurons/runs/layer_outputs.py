"""What the decoder layers give in a pass, kept: what an attribution, an ablation, the lens and a steering vector start from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor

from neurons.models.layers import decoder_layers
from neurons.models.loaded import LoadedModel


@contextmanager
def kept_outputs(loaded: LoadedModel) -> Iterator[list[Any]]:
    """Each layer's output as the model returns it (a tensor, or a tuple or list that begins with one), pass after pass.

    Holds the model's lock.
    """
    outputs: list[Any] = []
    with loaded.lock, ExitStack() as stack:
        for layer in decoder_layers(loaded):
            stack.callback(layer.register_forward_hook(lambda _module, _args, output: outputs.append(output)).remove)
        yield outputs


def hidden_of(output: Any) -> Tensor:
    """The residual stream in a layer's output, (B, T, D)."""
    hidden: Tensor = output[0] if isinstance(output, tuple | list) else output
    return hidden
