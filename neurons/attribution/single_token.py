"""Running single tokens again, each without one neuron, from that neuron's layer up: many in one pass.

Each row of the batch is one (neuron, token): the token's residual stream is taken from the first run below the neuron's layer, so
a row joins the batch at that layer. It attends to the first run's keys and values of the tokens before it.

    at the last token   its logits follow, exactly
    at earlier tokens   its new keys k' and values v' follow; each later token's attention answers to them in closed form:

        P' = P e^(q k' - q k) / Z,   Z = 1 - P + P e^(q k' - q k),   out' = (out - P v) / Z + P' v'

Row 0 is a token with nothing removed: where it does not come out as in the first run, the model cannot be run this way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from neurons.attribution.ablation import CANNOT
from neurons.attribution.unembedding import Unembedding
from neurons.models.layers import answering, decoder_layers
from neurons.models.loaded import LoadedModel
from neurons.models.sites import Part
from neurons.runs.attention_tap import AttentionCall, per_head
from neurons.runs.graph_run import GraphRun
from neurons.runs.hooks import Replace, run_forward

TOLERANCE = 1e-3
"""Largest difference of row 0 from the first run, relative to its largest logit."""
MAX_EXPONENT = 60.0
TINY = 1e-5


@dataclass(frozen=True, order=True)
class Entry:
    """One neuron at one token."""

    layer: int
    token: int
    index: int


@dataclass(frozen=True, eq=False)
class SingleTokens:
    """What came of the entries' own tokens."""

    entries: tuple[Entry, ...]
    """Sorted; entry e is row e + 1 of every tensor, row 0 being the unchanged token."""
    logits_RC: Tensor
    """Logits in the chosen columns of row 0 and of the rows at the last token, in order."""
    fresh: dict[int, tuple[Tensor, Tensor]]
    """A layer's new keys and values, each (rows that have joined, G, D)."""


def run_single_tokens(loaded: LoadedModel, run: GraphRun, entries: Sequence[Entry], unembedding: Unembedding) -> SingleTokens | None:
    """Run every entry's own token with its neuron at 0. None where this model cannot be run this way."""
    ordered = tuple(sorted(entries))
    last = len(run.ids) - 1
    rows = (Entry(ordered[0].layer, last, -1), *ordered)
    cache = _OneTokenCache(run.keys)
    try:
        logits_RC = _run(loaded, run, rows, unembedding, cache)
    except CANNOT:
        return None
    expected_K = unembedding.expected_K
    if not torch.allclose(logits_RC[0, : len(expected_K)], expected_K, rtol=0, atol=TOLERANCE * max(1.0, float(expected_K.abs().max()))):
        return None
    return SingleTokens(ordered, logits_RC, cache.fresh)


def attention_answers(
    calls: Sequence[AttentionCall], grad_LHTD: Tensor, tokens_B: Tensor, active_LB: Tensor, key_LBGD: Tensor, value_LBGD: Tensor
) -> Tensor:
    """sum of grad(out) . (out' - out) over layers, heads and all tokens after each row's own (`tokens_B`), shape (B,).

    `calls` are the first run's attention in L layers of the same shape, `grad_LHTD` the gradient of their outputs, the keys and
    values are each row's new ones; a row counts in the layers where it is active.
    """
    _layers, heads, count, _channels = grad_LHTD.shape
    patterns = [call.log_pattern() for call in calls]
    old_LBHT = torch.stack([scores[:, :, tokens_B] for scores, _log in patterns]).permute(0, 3, 1, 2).float()
    pattern_LBHT = torch.stack([log[:, :, tokens_B] for _scores, log in patterns]).permute(0, 3, 1, 2).float().exp()
    query_LHTD, out_LHTD = (
        torch.stack([x.detach()[0] for x in xs]).float() for xs in ([c.query_BHTD for c in calls], [c.out_BHTD for c in calls])
    )
    value_LHTD = per_head(torch.stack([call.value_BGTD.detach()[0] for call in calls]), heads).float()
    later_BT = torch.arange(count, device=tokens_B.device) > tokens_B[:, None]
    counted_LB1T = (later_BT & active_LB[:, :, None])[:, :, None]
    key_LBHD, fresh_LBHD = (per_head(x[..., None, :], heads)[..., 0, :].float() for x in (key_LBGD, value_LBGD))
    new_LBHT = torch.einsum("lhtd,lbhd->lbht", query_LHTD, key_LBHD) * calls[0].scale
    ratio_LBHT = torch.where(counted_LB1T, new_LBHT - old_LBHT, 0.0).clamp(max=MAX_EXPONENT).exp()
    rest_LBHT = 1 / (1 - pattern_LBHT + pattern_LBHT * ratio_LBHT).clamp(min=TINY)
    grad_new_LBHT = torch.einsum("lhtd,lbhd->lbht", grad_LHTD, fresh_LBHD)
    grad_old_LBHT = torch.einsum("lhtd,lhbd->lbht", grad_LHTD, value_LHTD[:, :, tokens_B])
    grad_out_L1HT = (grad_LHTD * out_LHTD).sum(-1)[:, None]
    kept_LBHT = (grad_out_L1HT - pattern_LBHT * grad_old_LBHT) * rest_LBHT
    change_LBHT = pattern_LBHT * ratio_LBHT * rest_LBHT * grad_new_LBHT + kept_LBHT - grad_out_L1HT
    return torch.where(counted_LB1T, change_LBHT, 0.0).sum((0, 2, 3))


def _run(loaded: LoadedModel, run: GraphRun, rows: Sequence[Entry], unembedding: Unembedding, cache: _OneTokenCache) -> Tensor:
    last = len(run.ids) - 1
    at_B1 = torch.tensor([[row.token] for row in rows], device=loaded.device)
    ids_B1 = torch.tensor(run.ids, device=loaded.device)[at_B1]
    seen_BT = torch.arange(len(run.ids), device=loaded.device) < at_B1
    own_B1 = torch.ones_like(at_B1, dtype=torch.bool)
    blocked_BT = ~torch.cat([seen_BT, own_B1], dim=1)[:, None, None]
    mask = torch.zeros(blocked_BT.shape, dtype=loaded.dtype, device=loaded.device).masked_fill(blocked_BT, torch.finfo(loaded.dtype).min)
    with ExitStack() as stack:
        for number, layer in enumerate(decoder_layers(loaded)):
            joined = sum(row.layer <= number for row in rows)
            stack.enter_context(_joining(layer, run.outputs[number], at_B1, joined))
        stack.enter_context(_reading(unembedding, [n for n, row in enumerate(rows) if row.token == last]))
        result = run_forward(
            loaded, ids_B1, replace=_without(run, rows), cache=cache, logits_to_keep=1, position_ids=at_B1, attention_mask=mask
        )
    assert result.logits is not None
    return result.logits[:, -1].float()


@contextmanager
def _joining(layer: nn.Module, output: Any, at_B1: Tensor, joined: int) -> Iterator[None]:
    """The layer computes the first `joined` rows; the others get its output of the first run at their positions."""
    hidden: Tensor = output[0] if isinstance(output, tuple | list) else output
    first_BTD = hidden.detach()[0, at_B1]
    rows = len(at_B1)
    if not joined:
        with answering(layer, output, first_BTD):
            yield
        return
    compute = layer.forward

    def cut(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value[:joined] if value.dim() and value.shape[0] == rows else value
        if isinstance(value, tuple | list):
            return type(value)(cut(item) for item in value)
        return {name: cut(item) for name, item in value.items()} if isinstance(value, dict) else value

    def forward(*args: Any, **kwargs: Any) -> Any:
        result = compute(*cut(args), **cut(kwargs))
        several = isinstance(result, tuple | list)
        whole = torch.cat([result[0] if several else result, first_BTD[joined:]])
        return (whole, *result[1:]) if several else whole

    layer.forward = forward
    try:
        yield
    finally:
        del layer.forward


@contextmanager
def _reading(unembedding: Unembedding, rows: Sequence[int]) -> Iterator[None]:
    """The unembedding gives only these rows, in the unembedding's columns."""
    unembedding.module.forward = lambda hidden_BTD: unembedding(hidden_BTD[rows])
    try:
        yield
    finally:
        del unembedding.module.forward


def _without(run: GraphRun, rows: Sequence[Entry]) -> Replace:
    """Steers at each row's own position, then the row's neuron at 0."""

    def replace(part: Part, acts_B1I: Tensor) -> Tensor | None:
        edits = [edit for given in run.edits if given.layer == part.layer and (edit := given.within(part)) is not None]
        mine = [(number, row.index - part.start) for number, row in enumerate(rows) if row.layer == part.layer]
        places = [(number, index) for number, index in mine if 0 <= index < part.width and rows[number].index >= 0]
        if not places and not edits:
            return None
        acts_BI = acts_B1I[:, 0].clone()
        for edit in edits:
            for number in range(len(acts_BI)):
                acts_BI[number] = edit.apply(acts_BI[None, None, number], rows[number].token)[0, 0]
        acts_BI[[number for number, _index in places], [index for _number, index in places]] = 0.0
        return acts_BI[:, None]

    return replace


class _OneTokenCache(DynamicCache):
    """The first run's keys and values for every row, to which each row adds its own token's; only those are kept."""

    def __init__(self, first: Sequence[tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.first = first
        self.fresh: dict[int, tuple[Tensor, Tensor]] = {}

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_args: Any, **_kwargs: Any) -> tuple[Tensor, Tensor]:
        self.fresh[layer_idx] = (key_states[:, :, 0], value_states[:, :, 0])
        keys, values = (first.expand(len(key_states), -1, -1, -1) for first in self.first[layer_idx])
        return torch.cat([keys, key_states], dim=2), torch.cat([values, value_states], dim=2)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return int(self.first[layer_idx][0].shape[2])

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        return self.get_seq_length(layer_idx) + query_length, 0
