"""Many prompts, each under steers of its own, through one forward pass: for measuring many answers, close to `generate` but not bit-equal.

Rows are padded on the left for answering and on the right for scoring, with positions of their own, so that every row has the numbers
of a run of its own up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from neurons.core.progress import Progress, no_progress
from neurons.core.steers import Mode, Steer
from neurons.models.loaded import LoadedModel
from neurons.models.sites import Part
from neurons.runs.hooks import Replace, changed, hooked
from neurons.runs.steering import compile_edits

BATCH_TOKENS = 4096
"""Padded tokens of one batch, the answers included."""


@dataclass(frozen=True)
class SteeredPrompt:
    """One row: a prompt and what is done to the neurons while it is answered."""

    ids: tuple[int, ...]
    steers: tuple[Steer, ...] = ()
    """Resolved and placed in this prompt (`steering.resolve` with `prompt`)."""


def answers(
    loaded: LoadedModel, rows: Sequence[SteeredPrompt], *, new_tokens: int, progress: Progress = no_progress
) -> list[tuple[int, ...]]:
    """Each row's greedy answer, with its end token. `progress` counts rows, and may cancel at every token.

    Raises `UnsupportedModel` where the check found that the model cannot be run in padded batches.
    """
    out: list[tuple[int, ...]] = [()] * len(rows)
    done = 0
    for chunk in _chunks([len(row.ids) + new_tokens for row in rows]):
        found = _answered(loaded, [rows[n] for n in chunk], new_tokens, partial(progress, done, len(rows), "answering"))
        for n, ids in zip(chunk, found, strict=True):
            out[n] = ids
        done += len(chunk)
    progress(done, len(rows), "answering")
    return out


def _answered(loaded: LoadedModel, rows: Sequence[SteeredPrompt], new_tokens: int, check: Callable[[], None]) -> list[tuple[int, ...]]:
    width = max(len(row.ids) for row in rows)
    loaded.check_batches("answering many prompts at once", width + new_tokens)
    mask_BT, ids_BT = torch.zeros(2, len(rows), width, dtype=torch.long, device=loaded.device)
    for b, row in enumerate(rows):
        ids_BT[b, width - len(row.ids) :] = torch.tensor(row.ids)
        mask_BT[b, width - len(row.ids) :] = 1
    position_BT = (mask_BT.cumsum(1) - 1).clamp(min=0)
    before_B = torch.tensor([width - len(row.ids) for row in rows])
    edits = BatchEdits(loaded, rows)
    taken: list[list[int]] = [[] for _ in rows]
    running = [True] * len(rows)
    cache: Any = DynamicCache(config=loaded.model.config)
    for step in range(new_tokens):
        check()
        tokens = ids_BT.shape[1]
        start_B = -before_B if step == 0 else width + step - 1 - before_B
        with hooked(loaded, replace=edits.at(start_B, tokens)), torch.no_grad():
            output = loaded.model(
                input_ids=ids_BT, attention_mask=mask_BT, position_ids=position_BT, past_key_values=cache, use_cache=True, logits_to_keep=1
            )
        next_B = output.logits[:, -1].float().argmax(-1)
        for b, token in enumerate(next_B.tolist()):
            if running[b]:
                taken[b].append(token)
            running[b] = running[b] and token not in loaded.eos_ids
        if not any(running):
            break
        ids_BT, position_BT = next_B[:, None], position_BT[:, -1:] + 1
        mask_BT = torch.cat([mask_BT, mask_BT.new_ones(len(rows), 1)], dim=1)
    return [tuple(ids) for ids in taken]


def logprobs(
    loaded: LoadedModel,
    rows: Sequence[SteeredPrompt],
    answered: Sequence[Sequence[int]],
    *,
    progress: Progress = no_progress,
) -> list[float]:
    """The mean natural log-probability of each answer's tokens under its row's steers; 0 for an empty answer."""
    return [float(logp_T.mean()) if len(logp_T) else 0.0 for logp_T in token_logprobs(loaded, rows, answered, progress=progress)]


def token_logprobs(
    loaded: LoadedModel,
    rows: Sequence[SteeredPrompt],
    answered: Sequence[Sequence[int]],
    *,
    progress: Progress = no_progress,
) -> list[Tensor]:
    """The natural log-probability of each token of each answer under its row's steers, float32."""
    out = [torch.zeros(0)] * len(rows)
    texts = [(*row.ids, *answer) for row, answer in zip(rows, answered, strict=True)]
    done = 0
    for chunk in _chunks([len(text) for text in texts]):
        width = max(len(texts[n]) for n in chunk)
        loaded.check_batches("scoring many answers at once", width)
        ids_BT = torch.zeros(len(chunk), width, dtype=torch.long, device=loaded.device)
        for b, n in enumerate(chunk):
            ids_BT[b, : len(texts[n])] = torch.tensor(texts[n])
        edits = BatchEdits(loaded, [rows[n] for n in chunk])
        keep = width - min(len(rows[n].ids) for n in chunk) + 1
        with hooked(loaded, replace=edits.at(torch.zeros(len(chunk), dtype=torch.long), width)), torch.no_grad():
            logits_BTV = loaded.model(input_ids=ids_BT, use_cache=False, logits_to_keep=keep).logits
        first = width - logits_BTV.shape[1]
        for b, n in enumerate(chunk):
            start, stop = len(rows[n].ids), len(texts[n])
            if stop > start:
                logp_TV = logits_BTV[b, start - 1 - first : stop - 1 - first].float().log_softmax(-1)
                out[n] = logp_TV.gather(1, ids_BT[b, start:stop, None])[:, 0].cpu()
        done += len(chunk)
        progress(done, len(rows), "scoring answers")
    return out


def _chunks(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Row numbers in batches of like length, each of at most BATCH_TOKENS padded tokens (or one row)."""
    chunk: list[int] = []
    for n in sorted(range(len(lengths)), key=lambda n: (lengths[n], n)):
        if chunk and (len(chunk) + 1) * lengths[n] > BATCH_TOKENS:
            yield chunk
            chunk = []
        chunk.append(n)
    if chunk:
        yield chunk


@dataclass(frozen=True, eq=False)
class _Group:
    """What one mode does to some neurons of one part, each in its own row. E entries."""

    mode: Mode
    row_E: Tensor
    index_E: Tensor
    """Within the part."""
    value_E1: Tensor
    strength_E1: Tensor
    positive_E1: Tensor
    source_E: Tensor
    """Which (row, steer) each entry belongs to."""


class BatchEdits:
    """The steers of every row of a batch, applied in their order."""

    def __init__(self, loaded: LoadedModel, rows: Sequence[SteeredPrompt]) -> None:
        self._device = loaded.device
        self._sources: list[tuple[int, int, Steer]] = []
        """(row, prompt tokens, steer)"""
        gathered: dict[tuple[int, int], dict[tuple[int, Mode], list[tuple[Any, ...]]]] = {}
        for b, row in enumerate(rows):
            for place, steer in enumerate(row.steers):
                for edit in compile_edits(loaded, (steer,), len(row.ids)):
                    for part in loaded.sites[edit.layer].parts:
                        if (own := edit.within(part)) is not None:
                            by_order = gathered.setdefault((part.layer, part.number), {})
                            entry = (b, own.index_K, own.value_K, own.strength, own.positive_K, len(self._sources))
                            by_order.setdefault((place, own.mode), []).append(entry)
                self._sources.append((b, len(row.ids), steer))
        self._groups = {
            part: [self._group(mode, entries) for (_place, mode), entries in sorted(by_order.items())]
            for part, by_order in gathered.items()
        }

    def _group(self, mode: Mode, entries: Sequence[tuple[Any, ...]]) -> _Group:
        def spread(column: int, dtype: torch.dtype) -> Tensor:
            return torch.cat([torch.full((len(entry[1]),), entry[column], dtype=dtype, device=self._device) for entry in entries])

        return _Group(
            mode,
            spread(0, torch.long),
            torch.cat([entry[1] for entry in entries]),
            torch.cat([entry[2] for entry in entries])[:, None],
            spread(3, torch.float32)[:, None],
            torch.cat([entry[4] for entry in entries])[:, None],
            spread(5, torch.long),
        )

    def at(self, start_B: Tensor, tokens: int) -> Replace | None:
        """A `replace` for `hooked`: row b's tokens stand at positions start_B[b], start_B[b] + 1, ..; below 0 is padding."""
        if not self._groups:
            return None
        covered, fading = [], []
        for b, asked, steer in self._sources:
            places = range(int(start_B[b]), int(start_B[b]) + tokens)
            covered.append([place >= 0 and steer.tokens.covers(place, asked) for place in places])
            fading.append([1.0 if steer.fade is None else steer.fade.at(place, asked) for place in places])
        covered_ST = torch.tensor(covered, device=self._device)
        fade_ST = torch.tensor(fading, device=self._device)

        def replace(part: Part, acts_BTI: Tensor) -> Tensor | None:
            groups = self._groups.get((part.layer, part.number))
            if groups is None:
                return None
            edited = acts_BTI.clone()
            for group in groups:
                old = edited[group.row_E, :, group.index_E]
                value = (group.value_E1 * fade_ST[group.source_E]).to(old.dtype)
                new = changed(group.mode, old, value, strength=group.strength_E1.to(old.dtype), positive=group.positive_E1)
                edited[group.row_E, :, group.index_E] = torch.where(covered_ST[group.source_E], new, old)
            return edited

        return replace
