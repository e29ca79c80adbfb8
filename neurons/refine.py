"""Gradient attributions whose strongest entries are re-estimated, each by running the neuron's own token without it.

A gradient is wrong where the model bends, and it bends most at the neuron's own token: the norms after a large write, the MLPs
that read it, the softmax over the vocabulary. So the strongest entries are run again: one token each, its own, from the
neuron's layer up, with the neuron at 0; all in one batch.

    at the last token   its logits follow: the estimate is the measured effect
    at earlier tokens   the token's new keys k' and values v' follow; how each later token's attention answers to them is computed
                        in closed form, and from there on the gradient is taken as it is:

        P' = P e^(q k' - q k) / Z,   Z = 1 - P + P e^(q k' - q k),   out' = (out - P v) / Z + P' v'
        latent - latent' = - sum over later layers, heads, tokens of  grad(out) . (out' - out)

The number of entries is set by what they cost: together about as much as one forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from neurons.attention_tap import AttentionCall, AttentionTap, per_head
from neurons.effect_batch import CANNOT, decoder_layers, frozen_output, plan
from neurons.hooks import Edit, Replace, run_forward
from neurons.metrics import effect_from_latent, from_latent, latent_value, metric_value
from neurons.models.loaded import LoadedModel
from neurons.types import TargetSpec

BUDGET = 1.0
"""Arithmetic spent on re-estimating, as a multiple of one forward pass over the text."""
LEAST, MOST = 32, 512
"""Fewest and most entries re-estimated, whatever the length."""
BATCH = 64
TOLERANCE = 1e-3
"""Largest difference between a re-run token and the first run, relative to the largest number there."""
MAX_EXPONENT = 60.0
TINY = 1e-5


@dataclass(frozen=True, eq=False)
class Refined:
    """Activations and attributions a layer, each (T, I) float32; `count` entries were re-estimated."""

    value: float
    acts: list[Tensor]
    attrs: list[Tensor]
    count: int


@dataclass(frozen=True, eq=False)
class FirstRun:
    """The run with gradients that everything starts from."""

    loaded: LoadedModel
    ids: tuple[int, ...]
    target: TargetSpec
    edits: tuple[Edit, ...]
    latent: float
    outputs: list[Any]
    """A layer's output as the model returned it."""
    keys: list[tuple[Tensor, Tensor]]
    """A layer's keys and values, (1, G, T, D)."""
    calls: list[AttentionCall]
    """One a layer, or none where the model's attention cannot be seen."""
    out_grads: list[Tensor | None]
    """d latent / d attention output of each call, (H, T, D); None where it has none (layer 0)."""


@dataclass(frozen=True, order=True)
class Entry:
    """One neuron at one token."""

    layer: int
    token: int
    index: int


def refined(loaded: LoadedModel, ids: Sequence[int], target: TargetSpec, edits: Sequence[Edit], *, budget: float = BUDGET) -> Refined:
    """Attribute by the gradient of the latent, then re-estimate the strongest entries within `budget`.

    Where a check shows that the model cannot be run one token at a time from the middle, entries keep their gradient estimate.
    """
    with loaded.lock:
        run, value, acts, attrs = _first_run(loaded, ids, target, edits)
        chosen = _choose(run, attrs, budget)
        last = len(ids) - 1
        estimates = _at_last_token(run, [e for e in chosen if e.token == last])
        if run.calls:
            estimates |= _at_earlier_tokens(run, [e for e in chosen if e.token < last])
    for entry, number in estimates.items():
        attrs[entry.layer][entry.token, entry.index] = number
    return Refined(value, acts, attrs, len(estimates))


def _first_run(
    loaded: LoadedModel, ids: Sequence[int], target: TargetSpec, edits: Sequence[Edit]
) -> tuple[FirstRun, float, list[Tensor], list[Tensor]]:
    acts: list[Tensor] = []
    outputs: list[Any] = []
    cache: Any = DynamicCache()

    def record(_layer: int, acts_BTI: Tensor) -> None:
        acts.append(acts_BTI if acts_BTI.requires_grad else acts_BTI.requires_grad_())

    with ExitStack() as stack:
        for layer in decoder_layers(loaded):
            stack.callback(layer.register_forward_hook(lambda _module, _args, output: outputs.append(output)).remove)
        tap = stack.enter_context(AttentionTap(keep=True))
        output = run_forward(loaded, torch.tensor([list(ids)]), edits=edits, record=record, cache=cache, logits_to_keep=1, grad=True)
    assert output.logits is not None
    latent = latent_value(output.logits[:, -1], target)[0]
    calls = tap.calls if len(tap.calls) == loaded.n_layers and len(cache.layers) == loaded.n_layers else []
    wanted = [call.out_BHTD for call in calls if call.out_BHTD.requires_grad]
    grads = torch.autograd.grad(latent, [*acts, *wanted], materialize_grads=True)
    out_grads = iter(grads[len(acts) :])
    run = FirstRun(
        loaded,
        tuple(ids),
        target,
        tuple(edits),
        float(latent.detach()),
        outputs,
        [(layer.keys.detach(), layer.values.detach()) for layer in cache.layers],
        calls,
        [next(out_grads)[0].float() if call.out_BHTD.requires_grad else None for call in calls],
    )
    plain = [act.detach()[0].float() for act in acts]
    attrs = [effect_from_latent(run.latent, a * g[0].float(), target) for a, g in zip(plain, grads[: len(acts)], strict=True)]
    return run, float(metric_value(output.logits[:, -1].detach(), target)[0]), plain, attrs


def _choose(run: FirstRun, attrs: Sequence[Tensor], budget: float) -> list[Entry]:
    """The strongest entries, as many as the budget pays for."""
    layers, tokens = len(attrs), len(run.ids)
    if len(run.keys) != layers or any(keys.shape[-2] != tokens for keys, _values in run.keys):
        return []
    sizes = torch.cat([attr.abs().flatten() for attr in attrs])
    top = torch.topk(sizes, min(MOST, sizes.numel())).indices.cpu().numpy()
    starts = np.cumsum([0, *(attr.numel() for attr in attrs)])
    chosen: list[Entry] = []
    body, head = _arithmetic(run.loaded)
    left = budget * (tokens * body + head)
    for flat in top.tolist():
        layer = int(np.searchsorted(starts, flat, side="right")) - 1
        token, index = divmod(flat - int(starts[layer]), attrs[layer].shape[1])
        if token < tokens - 1 and (not run.calls or layer == layers - 1):
            continue
        left -= body * (layers - layer) / layers + (head if token == tokens - 1 else 0)
        if left < 0 and len(chosen) >= LEAST:
            break
        chosen.append(Entry(layer, token, index))
    return sorted(chosen)


def _arithmetic(loaded: LoadedModel) -> tuple[float, float]:
    """Multiplications a token in the layers, and in the unembedding."""
    body = sum(weights.numel() for weights in decoder_layers(loaded).parameters())
    return float(body), float(loaded.ref.n_vocab * loaded.model.config.get_text_config().hidden_size)


def _at_last_token(run: FirstRun, entries: Sequence[Entry]) -> dict[Entry, float]:
    """The measured effect of each entry at the last token."""
    estimates: dict[Entry, float] = {}
    for batch in _batches(run, entries):
        try:
            logits_BV, fresh = _run_own_tokens(run, batch, logits=True)
        except CANNOT:
            return {}
        if not _as_before(run, batch, fresh):
            return {}
        latent_B = latent_value(logits_BV, run.target)
        present = torch.full_like(latent_B, run.latent)
        effect_B = from_latent(present, run.target) - from_latent(latent_B, run.target)
        estimates |= dict(zip(batch, effect_B.tolist(), strict=True))
    return estimates


def _at_earlier_tokens(run: FirstRun, entries: Sequence[Entry]) -> dict[Entry, float]:
    """Each entry's own token exactly, its later tokens' attention in closed form, the gradient from there on."""
    estimates: dict[Entry, float] = {}
    for batch in _batches(run, entries):
        try:
            _logits, fresh = _run_own_tokens(run, batch, logits=False)
        except CANNOT:
            return {}
        if not _as_before(run, batch, fresh):
            return {}
        change_B = torch.zeros(len(batch), device=run.loaded.device)
        for layer in range(batch[0].layer + 1, run.loaded.n_layers):
            if (grad_HTD := run.out_grads[layer]) is not None:
                change_B -= _attention_answer(run.calls[layer], grad_HTD, batch, layer, *fresh[layer])
        effect_B = effect_from_latent(run.latent, change_B, run.target)
        estimates |= dict(zip(batch, effect_B.tolist(), strict=True))
    return estimates


def _attention_answer(
    call: AttentionCall, grad_HTD: Tensor, batch: Sequence[Entry], layer: int, key_BGD: Tensor, value_BGD: Tensor
) -> Tensor:
    """sum of grad(out) . (out' - out) over one layer's heads and the tokens after each entry's own, shape (B,)."""
    heads, tokens, _channels = grad_HTD.shape
    device = grad_HTD.device
    at_B = torch.tensor([entry.token for entry in batch], device=device)
    above_B = torch.tensor([entry.layer < layer for entry in batch], device=device)
    later_B1T = ((torch.arange(tokens, device=device) > at_B[:, None]) & above_B[:, None])[:, None]
    scores_HTT, log_pattern_HTT = call.log_pattern()
    old_BHT = scores_HTT[:, :, at_B].permute(2, 0, 1).float()
    pattern_BHT = log_pattern_HTT[:, :, at_B].permute(2, 0, 1).float().exp()
    key_BHD = per_head(key_BGD[:, :, None], heads)[:, :, 0].float()
    new_BHT = torch.einsum("htd,bhd->bht", call.query_BHTD[0].detach().float(), key_BHD) * call.scale
    ratio_BHT = torch.where(later_B1T, new_BHT - old_BHT, torch.zeros_like(old_BHT)).clamp(max=MAX_EXPONENT).exp()
    rest_BHT = 1 / (1 - pattern_BHT + pattern_BHT * ratio_BHT).clamp(min=TINY)
    value_HTD = per_head(call.value_BGTD[0].detach(), heads).float()
    grad_new_BHT = torch.einsum("htd,bhd->bht", grad_HTD, per_head(value_BGD[:, :, None], heads)[:, :, 0].float())
    grad_old_BHT = torch.einsum("htd,bhd->bht", grad_HTD, value_HTD[:, at_B].permute(1, 0, 2))
    grad_out_HT = (grad_HTD * call.out_BHTD[0].detach().float()).sum(-1)
    change_BHT = pattern_BHT * ratio_BHT * rest_BHT * grad_new_BHT + (grad_out_HT - pattern_BHT * grad_old_BHT) * rest_BHT - grad_out_HT
    return torch.where(later_B1T, change_BHT, torch.zeros_like(change_BHT)).sum((1, 2))


def _batches(run: FirstRun, entries: Sequence[Entry]) -> list[list[Entry]]:
    """Cut the entries, highest layers first, into the batches of least cost; each sorted by layer."""
    ordered = sorted(entries, reverse=True)
    cuts = plan([(entry.layer, 0) for entry in ordered], run.loaded.n_layers, 1, BATCH)
    return [sorted(ordered[k] for k in cut) for cut in cuts]


class _OneTokenCache(DynamicCache):
    """The first run's keys and values for every row, to which each row adds its own token's; only those are kept."""

    def __init__(self, first: Sequence[tuple[Tensor, Tensor]], rows: int) -> None:
        super().__init__()
        self.first = first
        self.rows = rows
        self.fresh: dict[int, tuple[Tensor, Tensor]] = {}

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_args: Any, **_kwargs: Any) -> tuple[Tensor, Tensor]:
        self.fresh[layer_idx] = (key_states[:, :, 0], value_states[:, :, 0])
        keys, values = (first.expand(self.rows, -1, -1, -1) for first in self.first[layer_idx])
        return torch.cat([keys, key_states], dim=2), torch.cat([values, value_states], dim=2)

    def get_seq_length(self, _layer_idx: int = 0) -> int:
        return int(self.first[0][0].shape[2])

    def get_mask_sizes(self, query_length: int, _layer_idx: int = 0) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0


def _run_own_tokens(run: FirstRun, batch: Sequence[Entry], *, logits: bool) -> tuple[Tensor, dict[int, tuple[Tensor, Tensor]]]:
    """Each entry's own token with its neuron at 0, from the lowest layer on: logits (B, V) if wanted, keys and values (B, G, D)."""
    loaded, rows = run.loaded, len(batch)
    at_B1 = torch.tensor([[entry.token] for entry in batch], device=loaded.device)
    own_B1 = torch.tensor(run.ids, device=loaded.device)[at_B1]
    seen_B1T = torch.arange(len(run.ids), device=loaded.device) < at_B1
    mask_B1T = torch.cat([seen_B1T, torch.ones_like(seen_B1T[:, :1])], dim=1)[:, None, None]
    mask = torch.zeros(mask_B1T.shape, dtype=loaded.dtype, device=loaded.device).masked_fill(~mask_B1T, torch.finfo(loaded.dtype).min)
    cache = _OneTokenCache(run.keys, rows)
    keep: Any = 1 if logits else torch.zeros(0, dtype=torch.long, device=loaded.device)
    with ExitStack() as stack:
        for layer, output in zip(decoder_layers(loaded)[: batch[0].layer], run.outputs, strict=False):
            stack.enter_context(frozen_output(layer, output, at_B1))
        result = run_forward(
            loaded, own_B1, replace=_without(run, batch), cache=cache, logits_to_keep=keep, position_ids=at_B1, attention_mask=mask
        )
    assert result.logits is not None
    return (result.logits[:, -1] if logits else result.logits), cache.fresh


def _without(run: FirstRun, batch: Sequence[Entry]) -> Replace:
    """Steers at each row's own position, then the row's neuron at 0."""

    def replace(layer: int, acts: Tensor) -> Tensor | None:
        rows = [row for row, entry in enumerate(batch) if entry.layer == layer]
        edits = [edit for edit in run.edits if edit.layer == layer]
        if not rows and not edits:
            return None
        acts_BI = acts.reshape(len(batch), -1).clone()
        for edit in edits:
            for row, entry in enumerate(batch):
                acts_BI[row] = edit.apply(acts_BI[None, None, row], entry.token)[0, 0]
        acts_BI[rows, [batch[row].index for row in rows]] = 0.0
        return acts_BI.reshape(acts.shape)

    return replace


def _as_before(run: FirstRun, batch: Sequence[Entry], fresh: dict[int, tuple[Tensor, Tensor]]) -> bool:
    """Whether the re-run is right: a row's keys at its neuron's own layer come before the ablation, so they must be the first run's."""
    for row, entry in enumerate(batch):
        before = run.keys[entry.layer][0][0, :, entry.token]
        if not torch.allclose(fresh[entry.layer][0][row], before, rtol=0, atol=TOLERANCE * float(before.abs().max() + 1e-6)):
            return False
    return True
