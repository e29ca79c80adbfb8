"""How often each detector fires on ordinary text: its scores over a corpus, for single tokens, phrases and texts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurons.atlas.corpus import Corpus
from neurons.atlas.own_corpus import SHIPPED_TEXTS, build_own_corpus
from neurons.atlas.store import open_atlas
from neurons.core.progress import Progress, no_progress
from neurons.detectors.records import PIECE_TOKENS, RATES
from neurons.models.loaded import LoadedModel
from neurons.runs.hooks import hooked

LEXICON_DOMAIN = "example sentences"
"""Corpus sources of this domain are left out: the detectors were fitted on them."""
_SURE = 5
"""Pieces above a threshold for it to be read off; rarer ones are extrapolated."""
_TAIL = 25


@dataclass(frozen=True, eq=False)
class Calibration:
    """Thresholds and what they rest on."""

    tail_3CQ: NDArray[np.float32]
    tokens: int


def calibration_corpus(loaded: LoadedModel, *, tokens: int, progress: Progress = no_progress) -> Corpus:
    """The corpus of the model's own atlas, else the shipped texts cut for this model."""
    atlas = open_atlas(loaded.ref)
    if atlas is not None and atlas.has_figures and not atlas.info.near:
        return atlas.corpus
    return build_own_corpus(loaded, (SHIPPED_TEXTS,), tokens=tokens, held_out=0, progress=progress).corpus


def calibrate(
    loaded: LoadedModel,
    corpus: Corpus,
    neuron_CK: NDArray[np.int32],
    weight_CK: NDArray[np.float32],
    bias_C: NDArray[np.float32],
    *,
    tokens: int,
    progress: Progress = no_progress,
) -> Calibration:
    """Scores over about `tokens` counted tokens of the corpus, control tokens left out. May be cancelled through `progress`."""
    scorer = Scorer(loaded, neuron_CK, weight_CK, bias_C)
    control = _control_tokens(loaded)
    parts: list[list[NDArray[np.float32]]] = [[] for _ in PIECE_TOKENS]
    seen = 0
    for window in range(corpus.n_sequences):
        if corpus.source_of(window).domain == LEXICON_DOMAIN:
            continue
        ids_T = corpus.sequence(window)
        counted_T = (np.arange(len(ids_T)) >= corpus.start_S[window]) & ~np.isin(ids_T, control)
        score_TC = scorer.scores(ids_T)[counted_T]
        for part, size in zip(parts, PIECE_TOKENS, strict=True):
            pieces = len(score_TC) // size
            part.append(score_TC[: pieces * size].reshape(pieces, size, score_TC.shape[1]).mean(1, dtype=np.float32))
        seen += len(score_TC)
        progress(min(seen, tokens), tokens, "corpus tokens read")
        if seen >= tokens:
            break
    return Calibration(np.stack([tails(np.concatenate(part)) for part in parts]), seen)


class Scorer:
    """Scores every token of a sequence as the model runs it; no activation is kept."""

    def __init__(
        self, loaded: LoadedModel, neuron_CK: NDArray[np.int32], weight_CK: NDArray[np.float32], bias_C: NDArray[np.float32]
    ) -> None:
        self._loaded = loaded
        self._bias_C = bias_C
        self._index: list[Tensor] = []
        self._weight_UC: list[Tensor] = []
        row, column = np.nonzero(neuron_CK >= 0)
        layer_K, index_K = np.divmod(neuron_CK[row, column], loaded.n_neurons)
        for layer in range(loaded.n_layers):
            mine = layer_K == layer
            used, place = np.unique(index_K[mine], return_inverse=True)
            weight_UC = torch.zeros(len(used), len(neuron_CK))
            weight_UC[place, row[mine]] = torch.from_numpy(weight_CK[row, column][mine])
            self._index.append(torch.from_numpy(used.astype(np.int64)).to(loaded.device))
            self._weight_UC.append(weight_UC.to(loaded.device))

    def scores(self, ids_T: NDArray[np.int64]) -> NDArray[np.float32]:
        """(T, C)."""
        total: list[Tensor] = []

        def add(layer: int, acts_BTI: Tensor) -> None:
            part = acts_BTI[0][:, self._index[layer]].float() @ self._weight_UC[layer]
            total.append(part if not total else total.pop().add_(part))

        with hooked(self._loaded, record=add), torch.no_grad():
            self._loaded.model.base_model(input_ids=torch.from_numpy(ids_T)[None].to(self._loaded.device), use_cache=False)
        return np.asarray(total[0].cpu().numpy() + self._bias_C, dtype=np.float32)


def tails(score_NC: NDArray[np.float32]) -> NDArray[np.float32]:
    """(C, Q): the score that a share RATES[q] of the rows exceeds. Where fewer than 5 rows would, an exponential tail goes on."""
    ordered = np.sort(score_NC, axis=0)[::-1]
    n = len(ordered)
    out = np.empty((score_NC.shape[1], len(RATES)), dtype=np.float32)
    top = min(_TAIL, n)
    mean_excess_C = np.maximum((ordered[:top] - ordered[top - 1]).mean(0), 1e-6)
    for q, rate in enumerate(RATES):
        rank = rate * n
        if rank >= _SURE:
            out[:, q] = ordered[min(int(rank), n - 1)]
        else:
            out[:, q] = ordered[top - 1] + mean_excess_C * np.log(top / rank)
    return np.maximum.accumulate(out, axis=1)


def _control_tokens(loaded: LoadedModel) -> NDArray[np.int64]:
    added = getattr(loaded.tokenizer, "added_tokens_decoder", {})
    special = {number for number, token in added.items() if getattr(token, "special", False)}
    return np.asarray(sorted(special | set(loaded.tokenizer.all_special_ids)), dtype=np.int64)
