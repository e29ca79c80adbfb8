"""A backward pass that can be stopped: through a long text it takes twice as long as the pass before it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from neurons.models.loaded import LoadedModel
from neurons.runs.hooks import watching


def gradients(loaded: LoadedModel, value: Tensor, inputs: Sequence[Tensor], *, keep: bool = False) -> tuple[Tensor, ...]:
    """d value / d each of `inputs`, in their shapes; zeros where it does not depend on one. `keep` leaves the graph for another pass.

    Holds the model's lock. Inside `hooks.watched`, its `progress` is called as the pass comes by each input; what it raises ends the pass.
    """
    progress = watching()
    with loaded.lock, ExitStack() as stack:
        if progress is not None:
            total = len(inputs)
            for number, tensor in enumerate(inputs):
                if tensor.requires_grad:
                    hooked: Any = tensor  # torch says nothing of what its register_hook gives
                    stack.callback(hooked.register_hook(lambda _grad, done=total - 1 - number: progress(done, total, "going back")).remove)
        return torch.autograd.grad(value, inputs, retain_graph=keep, materialize_grads=True)
