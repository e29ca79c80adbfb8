"""What stands around a neuron side's strongest places: peak tokens, words of the surroundings, next tokens, and what it promotes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurons.atlas.corpus import Corpus
from neurons.atlas.records import ExemplarArrays, TokenArrays
from neurons.core.json_text import json_text
from neurons.descriptions.word_classes import WORD_CLASSES, is_word, key

BEFORE, AFTER = 24, 8
"""Tokens of an exemplar's surroundings whose words count for its theme."""
PROMOTED_Z = 3.5
"""A promoted token must stand this many standard deviations out of the vocabulary."""
ALIKE = 0.15
"""Promoted tokens are named when their mean cosine is at least this; that of random tokens exceeds 0.07 once in a hundred times."""
_CLOSED = frozenset(
    word for name, words in WORD_CLASSES.items() if name not in ("kinship", "colour", "month", "nationality") for word in words
)
_THEME_WORDS, _THEME_LEAST = 5, 4
_IDS = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Places:
    """The exemplars of one layer's sides (positive sides first): flat positions into the corpus's tokens, (N, K), -1 where there is
    none.
    """

    position_NK: _IDS
    token_NK: _IDS
    next_NK: _IDS
    """The token after the peak; -1 at the end of a window."""


@dataclass(frozen=True, eq=False)
class Words:
    """What the vocabulary's ids say: `keys[id]` as quoted, `content_V` the number of its content word or -1, `share_W` how common each
    is.
    """

    keys: tuple[str, ...]
    content_V: _IDS
    words: tuple[str, ...]
    share_W: NDArray[np.float64]
    """Share of surroundings (of `BEFORE + AFTER` tokens) that hold the word, by chance."""


def places(corpus: Corpus, exemplars: ExemplarArrays) -> Places:
    """Look exemplars up in the corpus."""
    sequence = np.concatenate(list(exemplars.sequence_2IK)).astype(np.int64)
    position = np.concatenate(list(exemplars.position_2IK)).astype(np.int64)
    there = sequence >= 0
    flat = np.where(there, corpus.offset_S1[np.maximum(sequence, 0)] + position, -1)
    end = corpus.offset_S1[np.maximum(sequence, 0) + 1]
    tokens = corpus.tokens
    token = np.where(there, tokens[np.maximum(flat, 0)].astype(np.int64), -1)
    has_next = there & (flat + 1 < end)
    following = np.where(has_next, tokens[np.minimum(flat + 1, len(tokens) - 1)].astype(np.int64), -1)
    return Places(flat, token, following)


def vocabulary_words(pieces: Sequence[str], counts_V: NDArray[np.int64]) -> Words:
    """Content words among the tokens: whole words (with a leading space or a capital) of WordNet, three letters or more, not function
    words.
    """
    keys = tuple(key(piece) for piece in pieces)
    numbers: dict[str, int] = {}
    content_V = np.full(len(pieces), -1, dtype=np.int64)
    totals: Counter[int] = Counter()
    for token, (piece, name) in enumerate(zip(pieces, keys, strict=True)):
        whole = piece[:1].isspace() or piece[:1].isupper()
        if whole and len(name) > 2 and name.isalpha() and name not in _CLOSED and is_word(name):
            content_V[token] = numbers.setdefault(name, len(numbers))
            totals[content_V[token]] += int(counts_V[token]) if token < len(counts_V) else 0
    rate_W = np.array([totals[n] for n in range(len(numbers))], dtype=np.float64) / max(1, int(counts_V.sum()))
    return Words(keys, content_V, tuple(numbers), 1 - np.exp(-rate_W * (BEFORE + AFTER)))


def peak_tokens(found: Places, words: Words, *, most: int = 3) -> list[str]:
    """For each side, its commonest peak tokens as `"than" 14, "over" 5 of 24`."""
    texts = []
    for row in found.token_NK:
        names = [words.keys[token] for token in row if token >= 0]
        counted = Counter(json_text(name) if name.strip() else "line break" if name == "\n" else "white space" for name in names)
        shown = sorted(counted.items(), key=lambda item: -item[1])[:most]
        texts.append(", ".join(f"{name} {count}" for name, count in shown) + (f" of {len(names)}" if names else ""))
    return texts


def themes(corpus: Corpus, found: Places, words: Words) -> list[str]:
    """For each side, up to five content words that stand near its strongest places far more often than by chance; "" where there are
    none.
    """
    if not words.words:
        return [""] * len(found.position_NK)
    steps = np.array([step for step in range(-BEFORE, AFTER + 1) if step])
    sides, kept = found.position_NK.shape
    around = found.position_NK[:, :, None] + steps
    inside = (found.position_NK[:, :, None] >= 0) & (around >= 0) & (around < len(corpus.tokens))
    word = np.where(inside, words.content_V[corpus.tokens[np.clip(around, 0, len(corpus.tokens) - 1)].astype(np.int64)], -1)
    side, place, _ = np.nonzero(word >= 0)
    number = word[word >= 0]
    size = len(words.words)
    once = np.unique((side * kept + place) * size + number)
    pair, counts = np.unique((once // size // kept) * size + once % size, return_counts=True)
    chance = words.share_W[pair % size] * kept
    strength = counts * np.log(counts / np.maximum(chance, 1e-3))
    good = (counts >= _THEME_LEAST) & (counts > 3 * chance)
    texts: list[list[str]] = [[] for _ in range(sides)]
    for at in np.lexsort((pair, -strength)):
        if good[at] and len(chosen := texts[pair[at] // size]) < _THEME_WORDS:
            chosen.append(words.words[pair[at] % size])
    return [", ".join(chosen) for chosen in texts]


class Likeness:
    """How alike tokens are to the model itself: the mean cosine between their centred input embeddings."""

    def __init__(self, embedding_VD: Tensor) -> None:
        self._rows = embedding_VD.detach()
        self._mean_D = self._rows.float().mean(dim=0)

    def __call__(self, token_ids: Sequence[int]) -> float:
        """0 for unrelated tokens, 1 for the same token again; 0 for fewer than two."""
        count = len(token_ids)
        if count < 2:
            return 0.0
        rows = self._rows[torch.tensor(list(token_ids), device=self._rows.device)].float() - self._mean_D
        rows = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
        return float(((rows.sum(dim=0) ** 2).sum() - count) / (count * count - count))


def readable(token_ids: Sequence[int], scores: Sequence[float], words: Words, alike: Likeness | None, *, most: int = 5) -> tuple[str, ...]:
    """The readable ones of promoted (or suppressed) tokens; none at all unless half of those that stand out are words, numbers or signs,
    and these are alike: a list without a common thread is junk, not a meaning.
    """
    standing = [int(token) for token, score in zip(token_ids, scores, strict=True) if token >= 0 and abs(score) >= PROMOTED_Z]
    names = {words.keys[token]: token for token in reversed(standing)}
    good = {name: token for name, token in names.items() if _shown(name)}
    if len(good) < 2 or 2 * len(good) < len(names) or (alike is not None and alike(sorted(good.values())) < ALIKE):
        return ()
    order = [name for name in dict.fromkeys(words.keys[token] for token in standing) if name in good]
    return tuple(order[:most])


def _shown(name: str) -> bool:
    return bool(name.strip()) and (is_word(name) or (not any(c.isalpha() for c in name) and name.isascii() and len(name) < 4))


def second_lines(
    found: Places, promoted: TokenArrays, suppressed: TokenArrays, words: Words, alike: Likeness | None = None
) -> tuple[list[str], NDArray[np.float64]]:
    """(a line per side on what it promotes and suppresses, the share of its strongest places that a promoted token follows)."""
    lines, said = [], []
    up_ids, up = (np.concatenate(list(a)) for a in (promoted.ids_2IK, promoted.values_2IK))
    down_ids, down = (np.concatenate(list(a)) for a in (suppressed.ids_2IK, suppressed.values_2IK))
    for row in range(len(up_ids)):
        more, less = readable(up_ids[row], up[row], words, alike), readable(down_ids[row], down[row], words, alike)
        following = [words.keys[token] for token in found.next_NK[row] if token >= 0]
        names = {words.keys[token] for token in up_ids[row] if token >= 0}
        share = sum(name in names for name in following) / max(1, len(following))
        said.append(share)
        parts = [f"promotes {_quoted(more)}" if more else "", f"suppresses {_quoted(less)}" if less else ""]
        if more and share >= 0.25:
            parts.append(f"one of the promoted follows in {round(share * len(following))} of {len(following)} strongest places")
        lines.append("; ".join(part for part in parts if part))
    return lines, np.array(said)


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(json_text(name) for name in names)
