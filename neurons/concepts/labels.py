"""Name a group by what its members share and the other sides lack."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neurons.core.errors import InvalidInput
from neurons.detectors.evaluate import auroc
from neurons.detectors.store import Detectors

TELLS = 0.8
"""A name must tell members from the other sides with this AUROC, or it is not used."""
_TRIED = 5
_WORD = re.compile(r"[^\W\d_][\w'-]+")
_PEAK = re.compile(r'("(?:[^"\\]|\\.)*"|line break|white space) (\d+)')
_SKIPPED = frozenset(
    [
        "a", "an", "and", "are", "as", "at", "before", "after", "between", "by", "for", "from", "in", "into", "is", "it", "its", "mostly",
        "most", "of", "on", "or", "other", "than", "that", "the", "their", "this", "to", "unclear", "up", "with", "without", "word",
        "words", "token", "tokens", "text", "texts", "end", "ends", "start", "starts", "makes", "likely", "less", "more",
    ]
)  # fmt: skip


def words(theme: str, headline: str = "") -> tuple[str, ...]:
    """The words of one neuron's theme and headline that could name a group."""
    found = [word.strip() for word in theme.split(",")] + _WORD.findall(headline.lower())
    return tuple(dict.fromkeys(word for word in found if len(word) > 1 and word not in _SKIPPED and word[0].isalpha()))


def name_of(
    member_N: NDArray[np.bool_],
    *,
    concept_N: NDArray[np.int64],
    t_N: NDArray[np.float64],
    words_N: Sequence[Sequence[str]],
    peaks_N: Sequence[str],
    detectors: Detectors | None,
) -> str:
    """The name of the sides marked in `member_N`, told from all others: a concept or field, else a word, else "unnamed, around 'token'".

    `concept_N` is each side's strongest concept (-1 for none) and `t_N` how surely; `peaks_N` lists its commonest peak tokens.
    """
    if member_N.all():
        return _unnamed([peaks_N[n] for n in np.flatnonzero(member_N).tolist()])
    if detectors is not None and (named := _lexical(member_N, concept_N, t_N, detectors)):
        return named
    counts: Counter[str] = Counter(word for n in np.flatnonzero(member_N).tolist() for word in words_N[n])
    for word, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_TRIED]:
        has_N = np.array([word in one for one in words_N], dtype=np.float32)
        if count > 1 and _tells(has_N, member_N):
            return word
    return _unnamed([peaks_N[n] for n in np.flatnonzero(member_N).tolist()])


def _lexical(member_N: NDArray[np.bool_], concept_N: NDArray[np.int64], t_N: NDArray[np.float64], detectors: Detectors) -> str:
    """A concept's or a field's name, or ""."""
    known = [int(c) for c in concept_N[member_N] if c >= 0 and detectors.found[c]]
    for concept, count in Counter(known).most_common(_TRIED):
        if count > 1 and _tells(np.where(concept_N == concept, t_N, 0), member_N):
            return detectors.names[concept]
    field_N = np.array([detectors.fields[c] if c >= 0 else "" for c in concept_N])
    for name, count in Counter(detectors.fields[c] for c in known).most_common(_TRIED):
        if count > 1 and _tells(np.where(field_N == name, t_N, 0), member_N):
            return name
    return ""


def _tells(value_N: NDArray[np.floating], member_N: NDArray[np.bool_]) -> bool:
    value_N = value_N.astype(np.float32)
    return auroc(value_N[member_N], value_N[~member_N])[0] >= TELLS


def _unnamed(peaks: Sequence[str]) -> str:
    """By the commonest of the members' peak tokens: each member has one vote, shared out by how often it peaks there."""
    votes: dict[str, float] = defaultdict(float)
    for text in peaks:
        found = [(token, int(times)) for quoted, times in _PEAK.findall(text) if (token := _read(quoted))]
        for token, times in found:
            votes[token] += times / sum(count for _, count in found)
    if not votes:
        return "unnamed"
    return f"unnamed, around '{min(votes, key=lambda token: (-round(votes[token], 6), token))}'"


def _read(quoted: str) -> str:
    try:
        return str(json.loads(quoted)).strip()
    except ValueError:
        return quoted.strip('"').strip()


def check_same_shape(detectors: Detectors, shape: tuple[int, int]) -> None:
    """Raises `InvalidInput` for detectors of a model of another shape, (layers, neurons)."""
    if (detectors.ref.n_layers, detectors.ref.n_neurons) != shape:
        raise InvalidInput(f"these concepts are of {detectors.ref.name}, a model of another shape", field="detectors")
