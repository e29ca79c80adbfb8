"""What a collection will do, fixed before it starts: blocks of windows, which tokens get a mean, which tokens are kept for histograms.

Every shard works from the same plan, so partials add up to exactly what one process would have found.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from neurons.atlas.corpus import SKIP, Corpus
from neurons.core.errors import InvalidInput
from neurons.core.json_text import json_text
from neurons.core.types import ModelRef

GROUP = 16
"""Tokens in a group: maxima are taken a group at a time, and only groups above a threshold are looked into."""


@dataclass(frozen=True)
class CollectSettings:
    """How much is kept. The defaults fit the embedded model in 3 GB."""

    extremes: int = 128
    """Largest values kept on each side of each neuron: the j-th largest of N tokens is the quantile 1 - j/N."""
    exemplars: int = 24
    per_document: int = 2
    """At most this many exemplars of a neuron side come from one document."""
    tokens: int = 4096
    """Token ids whose mean activation is kept, the most frequent ones."""
    previous: int = 1536
    """Token ids whose mean activation at the token after them is kept, the most frequent ones."""
    occurrences: int = 256
    """A token's mean is taken over its first occurrences, at most this many (the windows are shuffled, so they are a fair sample)."""
    body: int = 2048
    """Uniformly drawn tokens whose activations are all kept, for histograms and quantiles of the body."""
    block: int = 64
    """Windows a block: the unit of work and of checkpoints."""
    batch: int = 16
    """Windows a forward pass."""

    def fitting(self, ref: ModelRef, table_bytes: int) -> CollectSettings:
        """The same with token tables that fit in `table_bytes` for a model of this size."""
        row = ref.n_layers * ref.n_neurons * 4
        rows = max(2, table_bytes // row)
        if rows >= self.tokens + self.previous:
            return self
        return CollectSettings(**{**asdict(self), "tokens": max(1, rows * 2 // 3), "previous": max(1, rows // 3)})


@dataclass(frozen=True, eq=False)
class Plan:
    """See the module. Arrays indexed by R run over all positions of the corpus's describing windows, end to end."""

    settings: CollectSettings
    corpus: Corpus
    model: ModelRef
    token_ids_U: NDArray[np.int32]
    previous_ids_U: NDArray[np.int32]
    token_row_R: NDArray[np.int16]
    """The token table's row that this position adds to, or -1."""
    previous_row_R: NDArray[np.int16]
    body_row_R: NDArray[np.int16]
    """The row of the body sample that this position fills, or -1."""
    fingerprint: str = field(default="")

    @property
    def n_blocks(self) -> int:
        return -(-self.corpus.n_describe // self.settings.block)

    def block_batches(self, block: int) -> Iterator[NDArray[np.int64]]:
        """The windows of a block in batches, windows of like length together."""
        first = block * self.settings.block
        windows = np.arange(first, min(first + self.settings.block, self.corpus.n_describe))
        order = windows[np.argsort(self.corpus.length_S[windows], kind="stable")]
        for at in range(0, len(order), self.settings.batch):
            yield np.sort(order[at : at + self.settings.batch])

    def block_tokens(self, block: int) -> int:
        """Counted tokens of a block."""
        first = block * self.settings.block
        return int(self.corpus.counted_S[first : min(first + self.settings.block, self.corpus.n_describe)].sum())


def make_plan(corpus: Corpus, model: ModelRef, settings: CollectSettings) -> Plan:
    """Raises `InvalidInput` when the corpus is of another vocabulary or too short for the extremes asked."""
    if corpus.n_vocab != model.n_vocab:
        raise InvalidInput(
            f"the corpus was cut for {corpus.n_vocab} token ids, the model has {model.n_vocab}; build it for this model", field="corpus"
        )
    if corpus.counted_tokens < settings.extremes:
        raise InvalidInput(
            f"the corpus has {corpus.counted_tokens} counted tokens, fewer than the {settings.extremes} extremes asked; give more text",
            field="corpus",
        )
    stop = int(corpus.offset_S1[corpus.n_describe])
    tokens_R = corpus.tokens[:stop].astype(np.int64)
    previous_R = np.concatenate([[0], tokens_R[:-1]]).astype(np.int64)
    counted_R = _counted_positions(corpus, stop)
    token_ids_U, token_row_R = _rows(tokens_R, counted_R, corpus.n_vocab, settings.tokens, settings.occurrences)
    previous_ids_U, previous_row_R = _rows(previous_R, counted_R, corpus.n_vocab, settings.previous, settings.occurrences)
    body_row_R = np.full(stop, -1, dtype=np.int16)
    counted = np.flatnonzero(counted_R)
    chosen = np.sort(np.random.default_rng(0).choice(counted, size=min(settings.body, len(counted)), replace=False))
    body_row_R[chosen] = np.arange(len(chosen))
    given = json_text([corpus.fingerprint, model.weights_hash, model.dtype, asdict(settings)], sort_keys=True, ascii_only=True)
    fingerprint = hashlib.sha256(given.encode()).hexdigest()
    return Plan(settings, corpus, model, token_ids_U, previous_ids_U, token_row_R, previous_row_R, body_row_R, fingerprint)


def _counted_positions(corpus: Corpus, stop: int) -> NDArray[np.bool_]:
    position_R = np.arange(stop) - np.repeat(corpus.offset_S1[: corpus.n_describe], corpus.length_S[: corpus.n_describe])
    return position_R >= np.repeat(np.maximum(corpus.start_S[: corpus.n_describe], SKIP), corpus.length_S[: corpus.n_describe])


def _rows(
    ids_R: NDArray[np.int64], counted_R: NDArray[np.bool_], n_vocab: int, rows: int, occurrences: int
) -> tuple[NDArray[np.int32], NDArray[np.int16]]:
    """The ids that get a row (the most frequent, ties to the lower id), and for each position its row or -1."""
    count_V = np.bincount(ids_R[counted_R], minlength=n_vocab)
    order = np.lexsort((np.arange(n_vocab), -count_V))[: min(rows, 32_000)]
    ids_U = order[count_V[order] > 0].astype(np.int32)
    row_V = np.full(n_vocab, -1, dtype=np.int16)
    row_V[ids_U] = np.arange(len(ids_U))
    row_R = np.where(counted_R, row_V[ids_R], np.int16(-1))
    used = np.flatnonzero(row_R >= 0)
    by_row = used[np.argsort(row_R[used], kind="stable")]
    sizes = np.bincount(row_R[used], minlength=len(ids_U))
    nth = np.arange(len(by_row)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    row_R[by_row[nth >= occurrences]] = -1
    return ids_U, row_R.astype(np.int16)
