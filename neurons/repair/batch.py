"""Many prompts and many candidate steers through one forward pass.

Every row of a batch may carry its own edits, so that several steers are tried at once; the tokens that all prompts begin with
(the chat template's head) run once and stay in a cache. Rows are padded on the right: causal attention never looks there, so no mask
is needed and every row has the numbers of a pass of its own up to rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from neurons.models.loaded import LoadedModel
from neurons.models.sites import Part
from neurons.runs.hooks import Replace, hooked

Neuron = tuple[int, int]
"""(layer, index)."""

TOKENS_A_BATCH = 1024
"""Padded tokens of one forward pass, at most; small enough to stay in a laptop's cache, large enough to fill the cores."""


@dataclass(frozen=True)
class Action:
    """What is done to one neuron: activation = activation * mul + add. Covers scale (mul, 0), set (0, add) and add (1, add)."""

    mul: float = 1.0
    add: float = 0.0


Plan = Mapping[Neuron, Action]
"""A steer as the search sees it. Empty: the model as it is."""

Tokens = Literal["question", "answer"]
"""Which tokens a plan acts on: from the question's start to the answer's end, or the answer's alone."""


@dataclass(frozen=True)
class Row:
    """Token ids after the shared prefix. The first `asked` belong to the prompt, the rest to the answer."""

    ids: tuple[int, ...]
    asked: int
    begin: int = 0
    """How many of them come before the question: a plan leaves those alone."""


@dataclass
class Meter:
    """Counts forward passes: one row through the model once is one pass, a backward pass (measured 1.3) counts two."""

    passes: int = 0


@dataclass(frozen=True, eq=False)
class RowGradients:
    """Gradients of each row's own objective."""

    value_RK: Tensor
    mul_RKLI: Tensor
    """d objective / d mul of every neuron, the plan in force: the sum over tokens of activation (unedited) * gradient."""
    add_RKLI: Tensor
    """d objective / d add: the sum over tokens of the gradient."""
    peak_LI: Tensor
    """The largest absolute activation (unedited) in any row."""


@dataclass(eq=False)
class Batcher:
    """Runs rows of token ids that all begin with `prefix`. Plans act on `tokens`, never on the prefix."""

    loaded: LoadedModel
    prefix: tuple[int, ...]
    tokens: Tokens = "question"
    meter: Meter = field(default_factory=Meter)
    _cache: Any = None

    def logits(self, rows: Sequence[Row], picks: Sequence[Sequence[int]], plans: Sequence[Plan] = ()) -> list[Tensor]:
        """Logits (float32) of each row at its own `picks` (positions counted from 0 over prefix + row), shape (len(picks[r]), V).

        `plans` holds one plan for all rows, or one per row, or nothing.
        """
        out: list[Tensor | None] = [None] * len(rows)
        for chunk in _chunks(rows):
            with torch.no_grad():
                parts = self._forward([rows[i] for i in chunk], [picks[i] for i in chunk], [_plan(plans, i) for i in chunk])
            for i, part in zip(chunk, parts, strict=True):
                out[i] = part
            self.meter.passes += len(chunk)
        return [part for part in out if part is not None]

    def gradients(
        self, rows: Sequence[Row], picks: Sequence[Sequence[int]], objectives: Callable[[int, Tensor], Tensor], plan: Plan
    ) -> RowGradients:
        """Gradients of `objectives(row number, logits_PV)`, shape (K,), with respect to every neuron's mul and add, `plan` in force."""
        loaded = self.loaded
        values: list[Tensor] = [torch.zeros(0)] * len(rows)
        mul: Tensor | None = None
        peak_LI = torch.zeros(loaded.n_layers, loaded.n_neurons)
        for chunk in _chunks(rows):
            mul_BLI, add_BLI = (torch.zeros(len(chunk), loaded.n_layers, loaded.n_neurons) for _ in range(2))

            def keep(part: Part, raw_BTI: Tensor, grad_BTI: Tensor, mul_BLI: Tensor = mul_BLI, add_BLI: Tensor = add_BLI) -> None:
                mul_BLI[:, part.layer, part.start : part.stop] = (raw_BTI * grad_BTI).sum(1).float().cpu()
                add_BLI[:, part.layer, part.start : part.stop] = grad_BTI.sum(1).float().cpu()
                seen_I = torch.where(grad_BTI != 0, raw_BTI.abs(), 0.0).amax((0, 1)).float().cpu()
                peak_I = peak_LI[part.layer, part.start : part.stop]
                torch.maximum(peak_I, seen_I, out=peak_I)

            with torch.enable_grad():
                parts = self._forward([rows[i] for i in chunk], [picks[i] for i in chunk], [plan], keep)
                value_BK = torch.stack([objectives(i, part) for i, part in zip(chunk, parts, strict=True)])
                for k in range(value_BK.shape[1]):
                    value_BK[:, k].sum().backward(retain_graph=k + 1 < value_BK.shape[1])  # type: ignore[no-untyped-call]
                    if mul is None:
                        mul, add = (torch.zeros(len(rows), value_BK.shape[1], loaded.n_layers, loaded.n_neurons) for _ in range(2))
                    mul[torch.tensor(chunk), k], add[torch.tensor(chunk), k] = mul_BLI, add_BLI
                    self.meter.passes += 2 * len(chunk)
            for i, value in zip(chunk, value_BK.detach().float().cpu(), strict=True):
                values[i] = value
            self.meter.passes += len(chunk)
        assert mul is not None
        return RowGradients(torch.stack(values), mul, add, peak_LI)

    def generate(self, rows: Sequence[Row], new_tokens: int, plans: Sequence[Plan] = ()) -> list[tuple[int, ...]]:
        """Greedy answers of many prompts at once, with the end token. Left-padded: close to `neurons.generate`, not bit-equal to it."""
        out: list[tuple[int, ...]] = [()] * len(rows)
        for chunk in _chunks(rows, extra=new_tokens):
            answers = self._generate([rows[i] for i in chunk], new_tokens, [_plan(plans, i) for i in chunk])
            for i, answer in zip(chunk, answers, strict=True):
                out[i] = answer
            self.meter.passes += len(chunk)
        return out

    def _generate(self, rows: Sequence[Row], new_tokens: int, plans: Sequence[Plan]) -> list[tuple[int, ...]]:
        loaded, device, head = self.loaded, self.loaded.device, len(self.prefix)
        width = max(len(row.ids) for row in rows)
        loaded.check_batches("a repair", head + width + new_tokens)
        ids_BT = torch.zeros(len(rows), width, dtype=torch.long)
        mask_BT = torch.zeros(len(rows), head + width, dtype=torch.long)
        mask_BT[:, :head] = 1
        for b, row in enumerate(rows):
            ids_BT[b, width - len(row.ids) :] = torch.tensor(row.ids)
            mask_BT[b, head + width - len(row.ids) :] = 1
        position_BT = (mask_BT.cumsum(1) - 1).clamp(min=0)[:, head:]
        answers: list[list[int]] = [[] for _ in rows]
        running = [True] * len(rows)
        with torch.no_grad():
            cache = self._prefix_cache(len(rows))
            ids, mask, positions = ids_BT.to(device), mask_BT.to(device), position_BT.to(device)
            begin_B1 = torch.tensor([width - len(row.ids) + row.begin if row.begin else 0 for row in rows])[:, None]
            for step in range(new_tokens):
                act_BT = torch.full(ids.shape, self.tokens == "question" or step > 0, device=device)
                if step == 0:
                    act_BT &= (torch.arange(width)[None] >= begin_B1).to(device)
                with hooked(loaded, replace=_replacer(plans, loaded, act_BT)):
                    output = loaded.model(
                        input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1
                    )
                next_B = output.logits[:, -1].float().argmax(-1)
                for b, token in enumerate(next_B.tolist()):
                    if running[b]:
                        answers[b].append(token)
                    running[b] = running[b] and token not in loaded.eos_ids
                if not any(running):
                    break
                ids, positions = next_B[:, None], positions[:, -1:] + 1
                mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
        return [tuple(answer) for answer in answers]

    def _forward(
        self,
        rows: Sequence[Row],
        picks: Sequence[Sequence[int]],
        plans: Sequence[Plan],
        keep: Callable[[Part, Tensor, Tensor], None] | None = None,
    ) -> list[Tensor]:
        loaded, head = self.loaded, len(self.prefix)
        width = max(len(row.ids) for row in rows)
        loaded.check_batches("a repair", head + width)
        ids_BT = torch.zeros(len(rows), width, dtype=torch.long)
        for b, row in enumerate(rows):
            ids_BT[b, : len(row.ids)] = torch.tensor(row.ids)
        row_S = torch.tensor([b for b, at in enumerate(picks) for _ in at], device=loaded.device)
        token_S = torch.tensor([t - head for at in picks for t in at], device=loaded.device)
        begin_B1 = torch.tensor([row.asked if self.tokens == "answer" else row.begin for row in rows], device=loaded.device)[:, None]
        place_1T = torch.arange(width, device=loaded.device)[None]
        act_BT = place_1T >= begin_B1
        cache = self._prefix_cache(len(rows))
        with loaded.lock, hooked(loaded, replace=_replacer(plans, loaded, act_BT, keep)), _gathered(loaded, row_S, token_S):
            output = loaded.model(input_ids=ids_BT.to(loaded.device), past_key_values=cache, use_cache=cache is not None)
        return list(output.logits[0].float().split([len(at) for at in picks]))

    def _prefix_cache(self, rows: int) -> Any:
        """A fresh cache of the prefix for a batch of `rows`, or None without a prefix."""
        if not self.prefix:
            return DynamicCache(config=self.loaded.model.config)
        if self._cache is None:
            with torch.no_grad(), self.loaded.lock:
                ids = torch.tensor([self.prefix], device=self.loaded.device)
                self._cache = self.loaded.model(input_ids=ids, use_cache=True, logits_to_keep=1).past_key_values
                self.meter.passes += 1
        cache = copy.deepcopy(self._cache)
        cache.batch_repeat_interleave(rows)
        return cache


def _plan(plans: Sequence[Plan], row: int) -> Plan:
    return {} if not plans else plans[0] if len(plans) == 1 else plans[row]


def _chunks(rows: Sequence[Row], extra: int = 0) -> Iterator[list[int]]:
    """Row numbers in batches of like length, each of at most TOKENS_A_BATCH padded tokens (or one row)."""
    chunk: list[int] = []
    for i in sorted(range(len(rows)), key=lambda i: len(rows[i].ids)):
        if chunk and (len(chunk) + 1) * (len(rows[i].ids) + extra) > TOKENS_A_BATCH:
            yield chunk
            chunk = []
        chunk.append(i)
    if chunk:
        yield chunk


def _replacer(
    plans: Sequence[Plan], loaded: LoadedModel, act_BT: Tensor, keep: Callable[[Part, Tensor, Tensor], None] | None = None
) -> Replace:
    """The `replace` of `hooked` that applies each row's plan where `act_BT`.

    With `keep`, it also hands over the activations (0 elsewhere) and their gradients.
    """
    by_part: dict[tuple[int, int], tuple[Tensor, Tensor, Tensor]] = {}
    neurons = sorted({neuron for plan in plans for neuron in plan})
    everywhere = bool(act_BT.all())
    for layer in sorted({layer for layer, _ in neurons}):
        for part in loaded.sites[layer].parts:
            index = [i for at, i in neurons if at == layer and part.start <= i < part.stop]
            actions = [[plan.get((layer, i), Action()) for i in index] for plan in plans]
            mul = torch.tensor([[a.mul for a in row] for row in actions], device=loaded.device, dtype=loaded.dtype)
            add = torch.tensor([[a.add for a in row] for row in actions], device=loaded.device, dtype=loaded.dtype)
            at_K = torch.tensor(index, device=loaded.device, dtype=torch.long) - part.start
            if index:
                by_part[layer, part.number] = (at_K, mul[:, None], add[:, None])

    def replace(part: Part, acts_BTI: Tensor) -> Tensor | None:
        raw_BTI, planned = acts_BTI, by_part.get((part.layer, part.number))
        if keep is not None and not raw_BTI.requires_grad:
            raw_BTI = raw_BTI.detach().requires_grad_()
        edited = raw_BTI.clone() if keep is not None or planned is not None else raw_BTI
        if planned is not None:
            index_K, mul_B1K, add_B1K = planned
            old = raw_BTI[..., index_K]
            new = old * mul_B1K + add_B1K
            edited[..., index_K] = new if everywhere else torch.where(act_BT[..., None], new, old)
        if keep is not None:
            raw = raw_BTI.detach()
            edited.register_hook(lambda grad: keep(part, raw, grad if everywhere else grad * act_BT[..., None]))  # type: ignore[no-untyped-call]
        return None if edited is raw_BTI else edited

    return replace


@contextmanager
def _gathered(loaded: LoadedModel, row_S: Tensor, token_S: Tensor) -> Iterator[None]:
    """Hand only the chosen (row, token) pairs to the unembedding: the model's logits become (1, S, V). The caller holds the lock."""

    def hook(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (args[0][row_S, token_S][None], *args[1:])

    head: Any = loaded.model.get_output_embeddings()  # type: ignore[no-untyped-call]
    handle = head.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()
