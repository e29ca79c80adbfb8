"""What differs between two runs: words, token probabilities, distributions, activations. All as data; pages draw it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from neurons.core.errors import InvalidInput
from neurons.core.progress import Progress, no_progress
from traces.schema import TraceRecord
from traces.store import TraceStore
from traces.tensors import ACTIVATIONS, KL_FROM_BASELINE, KL_TO_BASELINE

_WORDS = re.compile(r"\s+|[぀-ヿ㐀-鿿가-힯]|\w+|[^\w\s]")
_EXACT_DIFF = 4000

Decode = Callable[[int], str]


@dataclass(frozen=True)
class DiffOp:
    """One step from text a to text b. Joining every `a` gives a, joining every `b` gives b."""

    tag: Literal["equal", "replace", "delete", "insert"]
    a: str
    b: str


@dataclass(frozen=True)
class Candidate:
    """One token the model could have said."""

    id: int
    text: str
    """"" when no tokenizer was at hand."""
    prob: float


@dataclass(frozen=True)
class Divergence:
    """The first position at which the two runs have different tokens. Both saw the same tokens before it."""

    position: int
    """Counted from 0 over prompt + answer."""
    a_id: int | None
    """None where a had ended."""
    b_id: int | None
    a_text: str
    b_text: str
    a_top: tuple[Candidate, ...]
    """What a's model had there, most probable first."""
    b_top: tuple[Candidate, ...]
    kl: float | None
    """KL(a, b) in nats there."""
    kl_exact: bool = False
    """Over the whole vocabulary, as the pair recorded it; else a lower bound, see `kl_lower_bound`."""


@dataclass(frozen=True)
class TokenPair:
    """One position of a beside one of b, aligned by their token ids."""

    a_position: int | None
    b_position: int | None
    a_text: str
    b_text: str
    same: bool
    a_prob: float | None
    """Probability a's model gave a's token; None at position 0 and where nothing was recorded."""
    b_prob: float | None
    kl: float | None
    """KL(a, b) in nats of the distributions this position was taken from; None where the texts before it differ."""
    kl_exact: bool = False
    """As in `Divergence`."""


@dataclass(frozen=True)
class NeuronDifference:
    """How differently one neuron fired over the tokens that both runs share."""

    layer: int
    index: int
    mean_abs: float
    max_abs: float
    token: int
    """The position of the largest difference."""
    a_activation: float
    """There."""
    b_activation: float


@dataclass(frozen=True)
class TraceComparison:
    """The whole comparison of two traces."""

    a_id: str
    b_id: str
    same_model: bool
    """Same weights. With other weights of the same shape the activations are compared all the same."""
    same_prompt: bool
    """The same prompt ids."""
    same_messages: bool
    """The same turns, whatever each model's template and tokens made of them."""
    same_ids: bool
    """The same prompt and answer ids."""
    words: tuple[DiffOp, ...]
    """From a's answer to b's, word by word."""
    changed_words: float
    """Share of the words of both answers that are not in common, 0 to 1."""
    divergence: Divergence | None
    tokens: tuple[TokenPair, ...]
    shared_tokens: int
    """How many leading positions have the same ids: those whose activations are compared."""
    neurons: tuple[NeuronDifference, ...]
    neurons_missing: str
    """Why there are no neurons to compare, "" when there are."""
    a_first: tuple[Candidate, ...] = ()
    """What a's model had at the first token of its answer, most probable first: comparable where prompts or models differ."""
    b_first: tuple[Candidate, ...] = ()

    @property
    def exact_kl(self) -> dict[int, float]:
        """KL(a, b) over the whole vocabulary by position, where the pair recorded it."""
        known = {p.a_position: p.kl for p in self.tokens if p.kl_exact and p.a_position is not None and p.kl is not None}
        if self.divergence is not None and self.divergence.kl_exact and self.divergence.kl is not None:
            known[self.divergence.position] = self.divergence.kl
        return known


def word_diff(a: str, b: str) -> tuple[DiffOp, ...]:
    """The word-level difference of two texts. Chinese, Japanese and Korean are compared by character."""
    words_a, words_b = _WORDS.findall(a), _WORDS.findall(b)
    matcher = SequenceMatcher(None, words_a, words_b, autojunk=max(len(words_a), len(words_b)) > _EXACT_DIFF)
    return tuple(DiffOp(tag, "".join(words_a[i:j]), "".join(words_b[m:n])) for tag, i, j, m, n in matcher.get_opcodes())


def changed_share(words: Sequence[DiffOp]) -> float:
    """Share of the words of both texts that are not in common (white space not counted)."""

    def count(text: str) -> int:
        return sum(1 for word in _WORDS.findall(text) if not word.isspace())

    total = sum(count(op.a) + count(op.b) for op in words)
    return sum(count(op.a) + count(op.b) for op in words if op.tag != "equal") / total if total else 0.0


def kl_lower_bound(a_ids_K: NDArray[Any], a_probs_K: NDArray[Any], b_ids_K: NDArray[Any], b_probs_K: NDArray[Any]) -> float | None:
    """The least KL(a, b) in nats that two distributions with these likeliest tokens can have. None where there are no tokens.

    Tokens in both lists count as they are. One that is only in a's list is in b at most as likely as the last of b's list; the most
    favourable split of what b leaves over is taken. Tokens only in b's list go to the rest: merging outcomes can only lower a divergence.
    """
    a = {int(i): float(p) for i, p in zip(a_ids_K, a_probs_K, strict=True) if i >= 0}
    b = {int(i): float(p) for i, p in zip(b_ids_K, b_probs_K, strict=True) if i >= 0}
    if not a or not b:
        return None
    shared = a.keys() & b.keys()
    pairs = [(a[i], b[i]) for i in sorted(shared)]
    alone = sorted((a[i] for i in a.keys() - shared), reverse=True)
    left_a, left_b = (max(0.0, 1 - sum(column)) for column in zip(*pairs, strict=True)) if pairs else (1.0, 1.0)
    most = min(b.values())
    for p in alone:  # in proportion, the likeliest first: those that would get more than is possible get what is
        q = min(most, left_b * p / left_a) if left_a > 0 else 0.0
        pairs.append((p, q))
        left_a, left_b = max(0.0, left_a - p), max(0.0, left_b - q)
    pairs.append((left_a, left_b))
    return max(0.0, sum(p * math.log(p / max(q, 1e-12)) for p, q in pairs if p > 0))


def compare_traces(
    store: TraceStore,
    a_id: str,
    b_id: str,
    *,
    top: int = 50,
    decode: Decode | None = None,
    decode_b: Decode | None = None,
    progress: Progress = no_progress,
) -> TraceComparison:
    """Compare trace b with trace a. `top` neurons that differ most are kept.

    `decode` names candidate tokens of a's model, `decode_b` those of b's; where both are of one model, `decode` does for both.
    """
    if top < 0:
        raise InvalidInput(f"top is {top}; use 0 or more", field="top")
    a, b = store.load(a_id), store.load(b_id)
    shared = _common_prefix(a.token_ids, b.token_ids)
    facts_a, facts_b = _Facts(store, a), _Facts(store, b)
    words = word_diff(a.answer, b.answer)
    if a.model.weights_hash == b.model.weights_hash:
        decode = decode_b = decode or decode_b
    neurons, missing = _neurons(store, a, b, shared=shared, top=top, progress=progress)
    return TraceComparison(
        a_id=a.id,
        b_id=b.id,
        same_model=a.model.weights_hash == b.model.weights_hash,
        same_prompt=a.prompt_ids == b.prompt_ids,
        same_messages=[(turn.role, turn.content) for turn in a.messages] == [(turn.role, turn.content) for turn in b.messages],
        same_ids=a.prompt_ids == b.prompt_ids and a.answer_ids == b.answer_ids,
        words=words,
        changed_words=changed_share(words),
        divergence=_divergence(a, b, facts_a, facts_b, shared=shared, decode=(decode, decode_b)),
        tokens=_pairs(a, b, facts_a, facts_b, shared=shared),
        shared_tokens=shared,
        neurons=neurons,
        neurons_missing=missing,
        a_first=facts_a.candidates(len(a.prompt_ids), decode),
        b_first=facts_b.candidates(len(b.prompt_ids), decode_b),
    )


class _Facts:
    """The small arrays of one trace, where it has them."""

    def __init__(self, store: TraceStore, record: TraceRecord) -> None:
        dataset = store.arrays(record.id)
        wanted = ("topk_ids", "topk_probs", "logprob", KL_FROM_BASELINE, KL_TO_BASELINE)
        self.record = record
        self.values = {name: np.asarray(dataset[name].values) for name in wanted if name in dataset}

    def prob(self, position: int | None) -> float | None:
        logprob_T = self.values.get("logprob")
        return math.exp(float(logprob_T[position])) if position and logprob_T is not None else None

    def top(self, position: int) -> tuple[NDArray[Any], NDArray[Any]] | None:
        ids, probs = self.values.get("topk_ids"), self.values.get("topk_probs")
        if ids is None or probs is None or not 0 < position < len(ids):
            return None
        return ids[position], probs[position]

    def candidates(self, position: int, decode: Decode | None) -> tuple[Candidate, ...]:
        top = self.top(position)
        if top is None:
            return ()
        return tuple(Candidate(int(i), decode(int(i)) if decode else "", float(p)) for i, p in zip(*top, strict=True) if i >= 0)


def _common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _kl(facts_a: _Facts, facts_b: _Facts, position: int) -> tuple[float | None, bool]:
    """(KL(a, b), whether it is over the whole vocabulary): what the pair recorded, else a bound."""
    for steered, other, name in ((facts_b, facts_a, KL_FROM_BASELINE), (facts_a, facts_b, KL_TO_BASELINE)):
        kl_T = steered.values.get(name)
        if kl_T is not None and steered.record.baseline_id == other.record.id and position < len(kl_T) and kl_T[position] >= 0:
            return float(kl_T[position]), True
    top_a, top_b = facts_a.top(position), facts_b.top(position)
    return (kl_lower_bound(*top_a, *top_b) if top_a is not None and top_b is not None else None), False


def _divergence(
    a: TraceRecord, b: TraceRecord, facts_a: _Facts, facts_b: _Facts, *, shared: int, decode: tuple[Decode | None, Decode | None]
) -> Divergence | None:
    ids_a, ids_b = a.token_ids, b.token_ids
    if ids_a == ids_b:
        return None
    kl, exact = _kl(facts_a, facts_b, shared)
    return Divergence(
        position=shared,
        a_id=ids_a[shared] if shared < len(ids_a) else None,
        b_id=ids_b[shared] if shared < len(ids_b) else None,
        a_text=a.pieces[shared] if shared < len(ids_a) else "",
        b_text=b.pieces[shared] if shared < len(ids_b) else "",
        a_top=facts_a.candidates(shared, decode[0]),
        b_top=facts_b.candidates(shared, decode[1]),
        kl=kl,
        kl_exact=exact,
    )


def _pairs(a: TraceRecord, b: TraceRecord, facts_a: _Facts, facts_b: _Facts, *, shared: int) -> tuple[TokenPair, ...]:
    """The shared start position by position, then the rest aligned by token ids."""
    rest_a, rest_b = a.token_ids[shared:], b.token_ids[shared:]
    matcher = SequenceMatcher(None, rest_a, rest_b, autojunk=max(len(rest_a), len(rest_b)) > _EXACT_DIFF)
    steps: list[tuple[int | None, int | None, bool]] = [(n, n, True) for n in range(shared)]
    for tag, i, j, m, n in matcher.get_opcodes():
        for offset in range(max(j - i, n - m)):
            in_a, in_b = i + offset < j, m + offset < n
            steps.append((shared + i + offset if in_a else None, shared + m + offset if in_b else None, tag == "equal"))
    return tuple(_pair(a, b, facts_a, facts_b, step, shared) for step in steps)


def _pair(
    a: TraceRecord, b: TraceRecord, facts_a: _Facts, facts_b: _Facts, step: tuple[int | None, int | None, bool], shared: int
) -> TokenPair:
    pa, pb, same = step
    kl, exact = _kl(facts_a, facts_b, pa) if pa is not None and pa == pb and pa <= shared else (None, False)
    return TokenPair(
        a_position=pa,
        b_position=pb,
        a_text=a.pieces[pa] if pa is not None else "",
        b_text=b.pieces[pb] if pb is not None else "",
        same=same,
        a_prob=facts_a.prob(pa),
        b_prob=facts_b.prob(pb),
        kl=kl,
        kl_exact=exact,
    )


def _neurons(
    store: TraceStore, a: TraceRecord, b: TraceRecord, *, shared: int, top: int, progress: Progress
) -> tuple[tuple[NeuronDifference, ...], str]:
    """The neurons with the largest mean absolute difference over positions [0, shared), layer by layer."""
    if shared == 0:
        return (), "the two runs share no leading token"
    if (a.model.n_layers, a.model.n_neurons) != (b.model.n_layers, b.model.n_neurons):
        return (), "the two models have different shapes"
    data_a, data_b = store.arrays(a.id), store.arrays(b.id)
    for record, data in ((a, data_a), (b, data_b)):
        if ACTIVATIONS not in data:
            evicted = store.activation_state(record.id) == "evicted"
            why = "removed to save disk space: recompute them" if evicted else "not recorded"
            return (), f"the activations of {record.id} were {why}"
    rows: list[NeuronDifference] = []
    for layer in range(a.model.n_layers):
        progress(layer, a.model.n_layers, "comparing activations")
        a_TI = np.asarray(data_a[ACTIVATIONS][layer, :shared].values).astype(np.float32)
        b_TI = np.asarray(data_b[ACTIVATIONS][layer, :shared].values).astype(np.float32)
        gap_TI = np.abs(a_TI - b_TI)
        mean_I = gap_TI.mean(0)
        best = np.argsort(-mean_I, kind="stable")[:top]
        for index in best[mean_I[best] > 0]:
            token = int(gap_TI[:, index].argmax())
            values = (float(mean_I[index]), float(gap_TI[token, index]), token, float(a_TI[token, index]), float(b_TI[token, index]))
            rows.append(NeuronDifference(layer, int(index), *values))
    if any(store.activation_state(record.id) != "stored" for record in (a, b)):
        return (), "the activations were removed while they were compared: recompute them"
    rows.sort(key=lambda row: (-row.mean_abs, row.layer, row.index))
    return tuple(rows[:top]), "" if rows else f"every activation is the same at the {shared} tokens that both begin with"
