"""Whether the neurons found are the MLPs': each row belongs to its token, and together they write all that the MLP writes.

    MLP(x) = sum over neurons of activation x output row + bias

Each MLP is run again on its own input with its neurons at 0: what it still writes beside its biases stands outside the neurons.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from neurons.checking.loop import FAILS, some_ids
from neurons.core.progress import Progress
from neurons.models.findings import Finding
from neurons.models.layers import decoder_layers
from neurons.models.loaded import LoadedModel
from neurons.models.sites import DOWN_NAMES
from neurons.runs.hooks import run_forward

TOKENS = 16
OUTSIDE = 0.01
"""Share of what the MLPs write that may stand outside the neurons before the check speaks of it."""
TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2, "float16": 1e-2}
"""Largest error of a sum of rows, as a share of the largest value."""


@dataclass(eq=False)
class _Layer:
    """What one layer's MLPs did in one pass."""

    number: int
    names: list[str] = field(default_factory=list)
    blocks: list[nn.Module] = field(default_factory=list)
    calls: list[tuple[tuple[Any, ...], dict[str, Any], Tensor]] = field(default_factory=list)


def check_tokens(loaded: LoadedModel, progress: Progress) -> Finding:
    """Whether every row of the activations belongs to its token: a change of the last tokens changes their rows and no earlier one."""
    progress(0, None, "checking the model: activations belong to their tokens")
    ids, changed = list(some_ids(loaded, TOKENS)), TOKENS // 2
    other = ids[:changed] + list(some_ids(loaded, TOKENS + 1, seed=3)[1:])[: TOKENS - changed]
    try:
        first, second = _activations(loaded, ids), _activations(loaded, other)
    except FAILS as error:
        return Finding("tokens", "refused", f"its activations cannot be read ({type(error).__name__}: {str(error)[:160]})")
    for layer, (one, two) in enumerate(zip(first, second, strict=True)):
        if one.shape[:2] != (1, len(ids)):
            said = f"layer {layer} gives {list(one.shape[:-1])} rows of activations for {len(ids)} tokens, so they cannot be told apart"
            return Finding("tokens", "refused", said)
        if not one.shape[2]:
            continue
        limit = TOLERANCE[loaded.ref.dtype] * float(one.abs().max())
        moved_T = (one - two)[0].abs().amax(-1)
        if float(moved_T[:changed].max()) > limit:
            return Finding(
                "tokens", "refused", f"layer {layer}: a token's activations change with the tokens after it", float(moved_T.max())
            )
        alike = (one[0, changed:] - one[0, changed : changed + 1]).abs().amax()
        if float(alike) == 0 and float(one.abs().max()) > 0:
            return Finding("tokens", "refused", f"layer {layer}: all tokens have the same activations")
    return Finding("tokens", "right", f"each of {len(ids)} rows of every layer belongs to its token")


def check_writes(loaded: LoadedModel, progress: Progress) -> Finding:
    """Whether the sum of the neurons' writes is what the MLPs write; else which share stands outside, and where."""
    progress(0, None, "checking the model: its neurons write all of its MLPs' output")
    layers = [_Layer(site.layer) for site in loaded.sites]
    with loaded.lock, torch.no_grad(), ExitStack() as stack:
        for layer, module in zip(layers, decoder_layers(loaded), strict=True):
            for name, block in _blocks(loaded, layer.number, module):
                layer.names.append(name)
                layer.blocks.append(block)
                stack.callback(block.register_forward_hook(_keeper(layer), with_kwargs=True).remove)
        try:
            run_forward(loaded, torch.tensor([list(some_ids(loaded, TOKENS))]), logits_to_keep=1)
        except FAILS as error:
            return Finding("neurons", "refused", f"its MLPs cannot be watched ({type(error).__name__}: {str(error)[:160]})")
        stack.close()
        worst, where, inside, outside = 0.0, "", 0.0, {}
        for layer in layers:
            for name, block, (args, kwargs, written) in zip(layer.names, layer.blocks, layer.calls, strict=False):
                mine, rest = _split(loaded, layer.number, block, args, kwargs, written)
                inside += float(mine.norm())
                if float(rest.norm()) > TOLERANCE[loaded.ref.dtype] * float(written.norm()):
                    outside[name] = outside.get(name, 0.0) + float(rest.norm())
                error = _sum_error(loaded, layer.number, block, args, kwargs, mine)
                if error is not None and error > worst:
                    worst, where = error, f"layer {layer.number}"
    if worst > TOLERANCE[loaded.ref.dtype]:
        said = f"{where}: the neurons' activations times their rows are not what the MLP writes (off by {worst:.0%} of the largest value)"
        return Finding("neurons", "refused", said, worst)
    share = sum(outside.values()) / (inside + sum(outside.values())) if outside else 0.0
    if share > OUTSIDE:
        names = ", ".join(f"{name} ({size / (inside + sum(outside.values())):.0%})" for name, size in outside.items())
        said = f"{share:.0%} of what the MLPs write is not written by the neurons shown: {names}; attributions leave it out"
        return Finding("neurons", "note", said, share)
    total = sum(site.width for site in loaded.sites)
    return Finding("neurons", "right", f"its {total:,} neurons write all of the MLPs' output", share)


def _activations(loaded: LoadedModel, ids: Sequence[int]) -> list[Tensor]:
    acts: list[Tensor] = []
    with torch.no_grad():
        run_forward(
            loaded, torch.tensor([list(ids)]), record=lambda _layer, acts_BTI: acts.append(acts_BTI.float().cpu()), logits_to_keep=1
        )
    return acts


def _parts(loaded: LoadedModel, layer: int) -> tuple[Any, ...]:
    site: Any = loaded.sites[layer]
    return tuple(getattr(site, "parts", (site,)))


def _blocks(loaded: LoadedModel, number: int, layer: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The layer's own modules that hold neurons, and those that look like MLPs and hold none: (name, module)."""
    points = {id(part.module) for part in _parts(loaded, number)}
    for name, child in layer.named_children():
        inner = {id(module) for module in child.modules()}
        if inner & points or (
            "attn" not in name
            and "attention" not in name
            and any(
                leaf.rpartition(".")[2] in DOWN_NAMES and not any(word in leaf for word in ("attn", "attention", "mixer", "conv"))
                for leaf, _module in child.named_modules()
            )
        ):
            yield name, child


def _keeper(layer: _Layer) -> Any:
    def keep(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        layer.calls.append((args, kwargs, _tensor(output).detach().clone()))

    return keep


def _split(
    loaded: LoadedModel, layer: int, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], written: Tensor
) -> tuple[Tensor, Tensor]:
    """What the neurons write of a block's output, and what is written besides them and the biases."""
    mine = (written - _without_neurons(loaded, layer, block, args, kwargs)).float()
    with ExitStack() as stack:
        for part in _parts(loaded, layer):
            for bias in (getattr(part.module, "bias", None), getattr(part.mlp, "down_proj_bias", None)):
                if isinstance(bias, nn.Parameter):
                    stack.callback(bias.data.copy_, bias.data.clone())
                    bias.data.zero_()
        return mine, _without_neurons(loaded, layer, block, args, kwargs).float()


def _sum_error(
    loaded: LoadedModel, layer: int, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], mine: Tensor
) -> float | None:
    """How far activations times rows are from the block's own output, as a share of its largest value; None for weighted experts."""
    parts = [part for part in _parts(loaded, layer) if _holds(block, part.module)]
    if not parts or any(part.experts is not None for part in parts) or len(parts) > 1:
        return None
    seen: list[Tensor] = []
    handle = parts[0].module.register_forward_pre_hook(lambda _module, given: seen.append(given[0].detach()))
    block(*args, **kwargs)
    handle.remove()
    acts = seen[0].reshape(-1, seen[0].shape[-1]).float()
    total = acts @ parts[0].output_rows().float()
    got = mine.reshape(total.shape) if mine.numel() == total.numel() else None
    if got is None or _scaled(block, parts[0].module):
        return None
    factor = float((total * got).sum() / (total * total).sum().clamp_min(1e-12))  # some MLPs multiply what they write by a constant
    return float((factor * total - got).abs().max() / got.abs().max().clamp_min(1e-9))


def _scaled(block: nn.Module, point: nn.Module) -> bool:
    """Whether something follows the down projection inside its block (a gate, a norm), so that its rows are not the block's output."""
    names = [name for name, module in block.named_modules() if module is point]
    return bool(names) and "." in names[0]


def _without_neurons(loaded: LoadedModel, layer: int, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """The block's output on the same input with its neurons' activations at 0."""
    with ExitStack() as stack:
        for part in _parts(loaded, layer):
            if _holds(block, part.module):
                hook = part.module.register_forward_pre_hook(lambda _module, given: (torch.zeros_like(given[0]), *given[1:]))
                stack.callback(hook.remove)
        return _tensor(block(*args, **kwargs))


def _holds(block: nn.Module, module: nn.Module) -> bool:
    return any(inner is module for inner in block.modules())


def _tensor(output: Any) -> Tensor:
    found: Tensor = output[0] if isinstance(output, tuple | list) else output
    return found
