"""What a collection has seen so far, and how one layer's activations of one batch enter it.

All sums are exact whatever the order: activations are rounded to a per-neuron grid and added as whole numbers (in float32 below 2^24,
in int64 for the means), top values and exemplars are merged by a total order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import embedding_bag

from neurons.atlas.corpus import SKIP
from neurons.atlas.extremes import Exemplars, merge_values
from neurons.atlas.plan import GROUP, Plan

_SUM_SCALE = float(1 << 16)
_CLAMP = float(1 << 15)
SIDES = (1.0, -1.0)


@dataclass(frozen=True, eq=False)
class Batch:
    """A batch of windows, padded at the right to SKIP + a multiple of GROUP, and where each of its positions goes."""

    ids_BT: Tensor
    sequence_B: NDArray[np.int64]
    counted_N: Tensor
    """bool, (B*T,): the positions that count."""
    weight_N: Tensor
    """The same as float32."""
    partial_N2: Tensor
    """(window, group) of the groups of which only a part counts."""
    empty_BG: Tensor
    selected_N: Tensor
    """The positions that add to a token table."""
    token_bag: tuple[Tensor, Tensor, Tensor]
    """Indices into `selected_N` sorted by row, offsets, rows."""
    previous_bag: tuple[Tensor, Tensor, Tensor]
    body_at: Tensor
    body_rows: NDArray[np.int64]

    @classmethod
    def of(cls, plan: Plan, windows: NDArray[np.int64], *, pad: int, device: torch.device) -> Batch:
        """Lay out the `windows` of the plan's corpus."""
        corpus = plan.corpus
        longest = int(corpus.length_S[windows].max())
        width = SKIP + -(-max(longest - SKIP, 1) // GROUP) * GROUP
        ids = np.full((len(windows), width), pad, dtype=np.int64)
        counted = np.zeros((len(windows), width), dtype=bool)
        rows = np.full((3, len(windows), width), -1, dtype=np.int64)
        for n, window in enumerate(windows):
            begin, end = int(corpus.offset_S1[window]), int(corpus.offset_S1[window + 1])
            ids[n, : end - begin] = corpus.tokens[begin:end]
            counted[n, max(SKIP, int(corpus.start_S[window])) : end - begin] = True
            for row, source in zip(rows, (plan.token_row_R, plan.previous_row_R, plan.body_row_R), strict=True):
                row[n, : end - begin] = source[begin:end]
        token_N, previous_N, body_N = rows.reshape(3, -1)
        selected = np.flatnonzero((token_N >= 0) | (previous_N >= 0))
        grouped = counted[:, SKIP:].reshape(len(windows), -1, GROUP)
        body_at = np.flatnonzero(body_N >= 0)
        return cls(
            ids_BT=torch.from_numpy(ids),
            sequence_B=windows,
            counted_N=torch.from_numpy(counted.reshape(-1)).to(device),
            weight_N=torch.from_numpy(counted.reshape(-1).astype(np.float32)).to(device),
            partial_N2=torch.from_numpy(np.argwhere(grouped.any(2) & ~grouped.all(2))).to(device),
            empty_BG=torch.from_numpy(~grouped.any(2)).to(device),
            selected_N=torch.from_numpy(selected).to(device),
            token_bag=_bag(token_N[selected], device),
            previous_bag=_bag(previous_N[selected], device),
            body_at=torch.from_numpy(body_at).to(device),
            body_rows=body_N[body_at],
        )


def _bag(row_N: NDArray[np.int64], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    used = np.flatnonzero(row_N >= 0)
    order = used[np.argsort(row_N[used], kind="stable")]
    rows, offsets = np.unique(row_N[order], return_index=True)
    return tuple(torch.from_numpy(np.ascontiguousarray(a)).to(device) for a in (order, offsets, rows))  # type: ignore[return-value]


class LayerState:
    """One layer's accumulators. Torch tensors live on the model's device, merged extremes in numpy."""

    def __init__(self, plan: Plan, width: int, exponent_I: NDArray[np.int16], device: torch.device) -> None:
        settings = plan.settings
        self.plan, self.width, self.device = plan, width, device
        self.scale_I = torch.from_numpy(np.exp2(exponent_I.astype(np.float32))).to(device)
        self.sum_I: NDArray[np.int64] = np.zeros(width, dtype=np.int64)
        self.token_UI = torch.zeros(len(plan.token_ids_U), width, device=device)
        self.previous_UI = torch.zeros(len(plan.previous_ids_U), width, device=device)
        self.values = [np.full((width, settings.extremes), -np.inf, dtype=np.float32) for _ in SIDES]
        self.exemplars = [Exemplars(width, settings.exemplars, settings.per_document) for _ in SIDES]
        self._value_events: list[list[tuple[Any, ...]]] = [[], []]
        self._exemplar_events: list[list[tuple[Any, ...]]] = [[], []]
        self._pending = [[0, 0], [0, 0]]
        self._floor = [torch.empty(0)] * 2
        self._exemplar_floor = [torch.empty(0)] * 2
        self._warm = [False, False]
        self.refresh()

    def add(self, batch: Batch, acts_BTI: Tensor, body_out: NDArray[np.float16]) -> None:
        """Take in one batch's activations of this layer. `body_out` (rows, I) receives the rows of the body sample."""
        n_windows, n_tokens = batch.ids_BT.shape
        width = acts_BTI.shape[-1]
        if not width:  # a hybrid's layer without an MLP
            return
        acts_BTI = acts_BTI.detach().float().reshape(n_windows, n_tokens, width)  # a mixture of experts flattens its batch
        acts_NI = acts_BTI.reshape(-1, width)
        exact_I = (torch.mv(acts_NI.T, batch.weight_N).double() * _SUM_SCALE).round()
        self.sum_I += exact_I.to(torch.int64).cpu().numpy()
        self._add_tokens(batch, acts_NI)
        if len(batch.body_rows):
            body_out[batch.body_rows] = acts_NI[batch.body_at].to(torch.float16).cpu().numpy()
        n_groups = (n_tokens - SKIP) // GROUP
        grouped = acts_BTI[:, SKIP:].view(n_windows, n_groups, GROUP, width)
        mask_BGS = batch.counted_N.view(n_windows, n_tokens)[:, SKIP:].reshape(n_windows, n_groups, GROUP)
        for side, sign in enumerate(SIDES):
            top_BGI = grouped.amax(2) if sign > 0 else -grouped.amin(2)
            if len(batch.partial_N2):
                at_b, at_g = batch.partial_N2.unbind(1)
                some = (grouped[at_b, at_g] * sign).masked_fill(~mask_BGS[at_b, at_g][:, :, None], -torch.inf)
                top_BGI[at_b, at_g] = some.amax(1)
            top_BGI.masked_fill_(batch.empty_BG[:, :, None], -torch.inf)
            self._find_values(side, sign, top_BGI, acts_NI, batch.counted_N, n_tokens)
            self._find_exemplars(side, sign, top_BGI, acts_NI, batch, n_tokens)

    def merge_pending(self) -> None:
        """Bring everything found so far into the sorted state."""
        for side in (0, 1):
            self._merge_values(side)
            self._merge_exemplars(side)

    def _add_tokens(self, batch: Batch, acts_NI: Tensor) -> None:
        if not len(batch.selected_N):
            return
        whole_NI = (acts_NI.index_select(0, batch.selected_N) * self.scale_I).round_().clamp_(-_CLAMP, _CLAMP)
        for table_UI, (order, offsets, rows) in ((self.token_UI, batch.token_bag), (self.previous_UI, batch.previous_bag)):
            if len(rows):
                table_UI.index_add_(0, rows, embedding_bag(order, whole_NI, offsets, mode="sum"))

    def _find_values(self, side: int, sign: float, top_BGI: Tensor, acts_NI: Tensor, counted_N: Tensor, n_tokens: int) -> None:
        if not self._warm[side]:
            masked = (acts_NI[counted_N] * sign).T.contiguous()
            values = masked.topk(min(self.plan.settings.extremes, masked.shape[1]), dim=1).values.cpu().numpy()
            index = np.repeat(np.arange(self.width), values.shape[1])
            self._push(self._value_events, 0, side, (index, values.reshape(-1)))
            self._merge_values(side)
            return
        b, g, i = (top_BGI > self._floor[side]).nonzero(as_tuple=True)
        rows = (b * n_tokens + SKIP + g * GROUP)[:, None] + torch.arange(GROUP, device=self.device)
        values_HS = acts_NI.reshape(-1)[rows * self.width + i[:, None]] * sign
        hit = (values_HS > self._floor[side][i][:, None]) & counted_N[rows]
        h, s = hit.nonzero(as_tuple=True)
        self._push(self._value_events, 0, side, (i[h].cpu().numpy(), values_HS[h, s].cpu().numpy()))
        if self._pending[0][side] > 64 * self.width:
            self._merge_values(side)

    def _find_exemplars(self, side: int, sign: float, top_BGI: Tensor, acts_NI: Tensor, batch: Batch, n_tokens: int) -> None:
        peak_BI = top_BGI.amax(1)
        b, i = ((peak_BI >= self._exemplar_floor[side]) & torch.isfinite(peak_BI)).nonzero(as_tuple=True)
        g = top_BGI[b, :, i].argmax(1)
        rows = (b * n_tokens + SKIP + g * GROUP)[:, None] + torch.arange(GROUP, device=self.device)
        values_HS = (acts_NI.reshape(-1)[rows * self.width + i[:, None]] * sign).masked_fill(~batch.counted_N[rows], -torch.inf)
        value, s = values_HS.max(1)
        position = (SKIP + g * GROUP + s).to(torch.int32).cpu().numpy()
        sequence = batch.sequence_B[b.cpu().numpy()].astype(np.int32)
        self._push(self._exemplar_events, 1, side, (i.cpu().numpy(), value.cpu().numpy(), sequence, position))
        if self._pending[1][side] > 16 * self.width:
            self._merge_exemplars(side)

    def _push(self, events: list[list[tuple[Any, ...]]], kind: int, side: int, event: tuple[Any, ...]) -> None:
        if len(event[0]):
            events[side].append(event)
            self._pending[kind][side] += len(event[0])

    def _merge_values(self, side: int) -> None:
        if events := self._value_events[side]:
            index, value = (np.concatenate(parts) for parts in zip(*events, strict=True))
            self.values[side] = merge_values(self.values[side], index, value)
        self._value_events[side], self._pending[0][side] = [], 0
        self._refresh(side)

    def _merge_exemplars(self, side: int) -> None:
        if events := self._exemplar_events[side]:
            index, value, sequence, position = (np.concatenate(parts) for parts in zip(*events, strict=True))
            self.exemplars[side].merge(index, value, sequence, position, self.plan.corpus.document_S)
        self._exemplar_events[side], self._pending[1][side] = [], 0
        self._refresh(side)

    def refresh(self) -> None:
        """Look up again which values a newcomer must exceed: after the merged state was changed from outside."""
        self._refresh(0)
        self._refresh(1)

    def _refresh(self, side: int) -> None:
        self._floor[side] = torch.from_numpy(self.values[side][:, -1].copy()).to(self.device)
        self._exemplar_floor[side] = torch.from_numpy(self.exemplars[side].value_IK[:, -1].copy()).to(self.device)
        self._warm[side] = bool(np.isfinite(self.values[side]).all())
