"""Whether the neurons found are the MLPs': each row belongs to its token, and together they write all that the MLP writes.

    MLP(x) = sum over neurons of activation x output row + bias

Each MLP is run again on its own input with its neurons at 0: what it still writes beside its biases stands outside the neurons.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from neurons.checking.loop import FAILS, failure, some_ids
from neurons.core.percent import percent
from neurons.core.progress import Progress
from neurons.models.findings import Finding
from neurons.models.layers import decoder_layers
from neurons.models.loaded import LoadedModel
from neurons.models.sites import DOWN_NAMES, Part
from neurons.runs.hooks import run_forward

TOKENS = 16
OUTSIDE = 0.01
"""Share of what the MLPs write that may stand outside the neurons before the check speaks of it."""
TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2, "float16": 1e-2}
"""Largest error of a sum of rows, as a share of the largest value."""


@dataclass(frozen=True, eq=False)
class _Call:
    """What one module of a layer got and gave in one pass."""

    layer: int
    name: str
    block: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    written: Tensor


def check_tokens(loaded: LoadedModel, progress: Progress) -> Finding:
    """Whether every row of the activations belongs to its token: a change of the last tokens changes their rows and no earlier one."""
    progress(0, None, "checking the model: activations belong to their tokens")
    ids, changed = list(some_ids(loaded, TOKENS)), TOKENS // 2
    other = ids[:changed] + list(some_ids(loaded, TOKENS + 1, seed=3)[1:])[: TOKENS - changed]
    try:
        first, second = _activations(loaded, ids), _activations(loaded, other)
    except FAILS as error:
        return Finding("tokens", "refused", f"its activations cannot be read ({failure(error)})")
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
    limit = TOLERANCE[loaded.ref.dtype]
    worst, where, inside = 0.0, 0, 0.0
    outside: dict[str, float] = {}
    try:
        with loaded.lock, torch.no_grad():
            for call in _calls(loaded):
                mine, rest = _split(loaded, call)
                inside += float(mine.norm())
                if float(rest.norm()) > limit * float(call.written.float().norm()):
                    outside[call.name] = outside.get(call.name, 0.0) + float(rest.norm())
                error = _sum_error(loaded, call, mine)
                if error > worst:
                    worst, where = error, call.layer
    except FAILS as error:
        said = f"its MLPs cannot be run by themselves, so it is not known whether neurons are missing ({failure(error)})"
        return Finding("neurons", "note", said)
    if worst > limit:
        said = f"layer {where}: activations times output rows are not what the MLP writes (off by {percent(worst)} of the largest value)"
        return Finding("neurons", "refused", said, worst)
    total = inside + sum(outside.values())
    share = sum(outside.values()) / total if total else 0.0
    if share > OUTSIDE:
        names = ", ".join(f"{name} ({percent(size / total)})" for name, size in outside.items())
        said = f"{percent(share)} of what the MLPs write is not written by the neurons shown: {names}; attributions leave it out"
        return Finding("neurons", "note", said, share)
    return Finding("neurons", "right", f"its {sum(site.width for site in loaded.sites):,} neurons write all of the MLPs' output", share)


def _calls(loaded: LoadedModel) -> list[_Call]:
    """What every module with neurons, or that looks as if it had some, does in one pass over a short text."""
    calls: dict[tuple[int, str], _Call] = {}

    def keeper(layer: int, name: str, block: nn.Module) -> Any:
        def keep(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            args, kwargs, passed = _without_residual(block, args, kwargs)
            # A copy: some layers add to an MLP's output in place.
            written = _tensor(output).detach().clone() if passed is None else _tensor(output).detach() - passed
            calls[layer, name] = _Call(layer, name, block, args, kwargs, written)

        return keep

    with ExitStack() as stack:
        for site, layer in zip(loaded.sites, decoder_layers(loaded), strict=True):
            for name, block in _blocks(loaded, site.layer, layer):
                stack.callback(block.register_forward_hook(keeper(site.layer, name, block), with_kwargs=True).remove)
        run_forward(loaded, torch.tensor([list(some_ids(loaded, TOKENS))]), logits_to_keep=1)
    return list(calls.values())


def _without_residual(
    block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any], Tensor | None]:
    """The call with its residual at 0, and that residual: MLPs such as Bloom's and MPT's add the residual stream themselves."""
    bound = signature(block.forward).bind(*args, **kwargs)
    passed = bound.arguments.get("residual")
    if not isinstance(passed, Tensor):
        return args, kwargs, None
    bound.arguments["residual"] = torch.zeros_like(passed)
    return bound.args, bound.kwargs, passed.detach()


def _activations(loaded: LoadedModel, ids: Sequence[int]) -> list[Tensor]:
    acts: list[Tensor] = []
    with torch.no_grad():
        run_forward(
            loaded, torch.tensor([list(ids)]), record=lambda _layer, acts_BTI: acts.append(acts_BTI.float().cpu()), logits_to_keep=1
        )
    return acts


def _parts(loaded: LoadedModel, layer: int) -> tuple[Part, ...]:
    return loaded.sites[layer].parts


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


def _split(loaded: LoadedModel, call: _Call) -> tuple[Tensor, Tensor]:
    """What the neurons write of a block's output, and what is written besides them and the biases."""
    mine = (call.written - _without_neurons(loaded, call)).float()
    with ExitStack() as stack:
        for part in _parts(loaded, call.layer):
            for bias in (getattr(part.module, "bias", None), getattr(part.mlp, "down_proj_bias", None)):
                if isinstance(bias, nn.Parameter):
                    stack.callback(bias.data.copy_, bias.data.clone())
                    bias.data.zero_()
        return mine, _without_neurons(loaded, call).float()


def _sum_error(loaded: LoadedModel, call: _Call, mine: Tensor) -> float:
    """How far activations times rows are from what the neurons write, as a share of its largest value; 0 where others weigh them."""
    parts = [part for part in _parts(loaded, call.layer) if _holds(call.block, part.module)]
    if len(parts) != 1 or parts[0].experts is not None or _scaled(call.block, parts[0].module):
        return 0.0
    seen: list[Tensor] = []
    handle = parts[0].module.register_forward_pre_hook(lambda _module, given: seen.append(given[0].detach()))
    call.block(*call.args, **call.kwargs)
    handle.remove()
    total = seen[0].reshape(-1, seen[0].shape[-1]).float() @ parts[0].output_rows().float()
    if mine.numel() != total.numel():
        return 0.0
    got = mine.reshape(total.shape)
    factor = float((total * got).sum() / (total * total).sum().clamp_min(1e-12))  # some MLPs multiply what they write by a constant
    return float((factor * total - got).abs().max() / got.abs().max().clamp_min(1e-9))


def _scaled(block: nn.Module, point: nn.Module) -> bool:
    """Whether something follows the down projection inside its block (a gate, a norm), so that its rows are not the block's output."""
    names = [name for name, module in block.named_modules() if module is point]
    return bool(names) and "." in names[0]


def _without_neurons(loaded: LoadedModel, call: _Call) -> Tensor:
    """The block's output on the same input with its neurons' activations at 0."""
    with ExitStack() as stack:
        for part in _parts(loaded, call.layer):
            if _holds(call.block, part.module):
                hook = part.module.register_forward_pre_hook(lambda _module, given: (torch.zeros_like(given[0]), *given[1:]))
                stack.callback(hook.remove)
        return _tensor(call.block(*call.args, **call.kwargs))


def _holds(block: nn.Module, module: nn.Module) -> bool:
    return any(inner is module for inner in block.modules())


def _tensor(output: Any) -> Tensor:
    found: Tensor = output[0] if isinstance(output, tuple | list) else output
    return found
