"""Other ways than the plain derivative to say how the metric depends on an activation: the backward pass's rules are changed.

All keep every forward value as it is and change only what flows back. Modules are found by type, never by model name.

    frozen   attention patterns and norm denominators are constants
    relp     frozen, each nonlinearity z -> f(z) is the line f(z)/z, and a gated product gives each factor half (arXiv 2508.21258)
    direct   only what a neuron writes straight to the unembedding: later attention and MLPs are constants, the final norm frozen
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from neurons.core.errors import ModelError
from neurons.models.layers import decoder_layers
from neurons.models.loaded import LoadedModel
from neurons.models.sites import Part
from neurons.runs.attention_tap import AttentionTap

Rules = Literal["frozen", "relp", "direct"]
ACTIVATION_HOMES = ("transformers.activations", "torch.nn.modules.activation")
TINY = 1e-6


@contextmanager
def backward_rules(loaded: LoadedModel, rules: Rules) -> Iterator[None]:
    """The rules hold for forward passes in the block. Raises `ModelError` where the model's attention could not be frozen.

    With "relp", wrap the activations with `halved` too: that is where the gated product is.
    """
    with ExitStack() as stack:
        for module in loaded.model.modules():
            if "norm" in type(module).__name__.lower() and not any(True for _ in module.children()):
                stack.callback(module.register_forward_hook(_frozen_norm).remove)
        if rules == "direct":
            for module in _readers(loaded):
                stack.callback(module.register_forward_pre_hook(_detach_inputs, with_kwargs=True).remove)
            yield
            return
        if rules == "relp":
            for part in _all_parts(loaded):
                for module in part.mlp.modules():
                    if type(module).__module__ in ACTIVATION_HOMES:
                        stack.callback(module.register_forward_hook(_secant).remove)
        tap = stack.enter_context(AttentionTap(freeze=True))
        yield
        if tap.frozen < loaded.n_layers:
            raise ModelError(
                f"{loaded.ref.architecture} computes attention in a way that cannot be frozen; choose another attribution method"
            )


def halved(loaded: LoadedModel) -> Callable[[Part, Tensor], Tensor | None]:
    """For `run_forward(replace=...)`: half the gradient goes back through each gated product."""
    gated = {(part.layer, part.number): part.is_gated for part in _all_parts(loaded)}

    def replace(part: Part, acts_BTI: Tensor) -> Tensor | None:
        if not gated[part.layer, part.number] or not acts_BTI.requires_grad:
            return None
        return acts_BTI.detach() + 0.5 * (acts_BTI - acts_BTI.detach())

    return replace


def _all_parts(loaded: LoadedModel) -> Iterator[Part]:
    return (part for site in loaded.sites for part in site.parts)


def _readers(loaded: LoadedModel) -> Iterator[nn.Module]:
    """Everything that reads the residual stream for attention or MLP: all projections but those that neurons write through."""
    writers = {id(part.module) for part in _all_parts(loaded)}
    for layer in decoder_layers(loaded):
        for module in layer.modules():
            if isinstance(module, nn.Linear | Conv1D) and id(module) not in writers:
                yield module
    for part in _all_parts(loaded):
        if part.experts is not None:
            yield part.mlp


def _detach_inputs(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    def cut(value: Any) -> Any:
        return value.detach() if isinstance(value, Tensor) else value

    return tuple(cut(value) for value in args), {name: cut(value) for name, value in kwargs.items()}


def _frozen_norm(module: nn.Module, args: tuple[Any, ...], out: Tensor) -> Tensor:
    """y = scale * (x - mean) + bias with the scale a constant: LayerNorm subtracts the mean, RMSNorm does not."""
    x: Tensor = args[0]
    if not x.requires_grad:
        return out
    centred = x - x.mean(-1, keepdim=True) if "layernorm" in type(module).__name__.lower() else x
    bias = getattr(module, "bias", None)
    return _line(out, centred, out if bias is None else out - bias)


def _secant(_module: nn.Module, args: tuple[Any, ...], out: Tensor) -> Tensor:
    """f(z) = (f(z) / z) * z with the ratio a constant."""
    x: Tensor = args[0]
    return _line(out, x, out) if x.requires_grad else out


def _line(out: Tensor, x: Tensor, proportional: Tensor) -> Tensor:
    """`out`'s values with the gradient of (proportional / x) * x, the ratio a constant (0 where x is)."""
    ratio = torch.where(x.abs() > TINY, proportional / x, torch.zeros_like(x)).detach()
    return out.detach() + ratio * (x - x.detach())
