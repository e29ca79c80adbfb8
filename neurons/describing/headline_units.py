"""A corpus cut into units as a reader sees them: whole words, whole numbers, single signs, whatever the tokens are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neurons.atlas.corpus import Corpus
from neurons.descriptions.word_classes import key

_IDS = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Units:
    """Units of all windows, end to end. Numbers into `texts` stand for their lower-case text."""

    unit_T: _IDS
    """The unit each token stands in."""
    text_U: _IDS
    texts: tuple[str, ...]
    first_U: _IDS
    """Each unit's first token."""
    length_U: _IDS
    """Its tokens."""
    window_U: _IDS
    capital_U: NDArray[np.bool_]


def cut(corpus: Corpus, pieces: Sequence[str]) -> Units:
    """Cut every window: letters that follow letters without a space are one unit ("Neuron" + "scope"), and so are digits ("19" + "84")."""
    keys = [key(piece) for piece in pieces]
    kind_V = np.array([_joins(piece) for piece in pieces])
    spaced_V = np.array([piece[:1].isspace() for piece in pieces])
    capital_V = np.array([piece.strip()[:1].isupper() for piece in pieces])
    ids_T = np.minimum(corpus.tokens.astype(np.int64), len(pieces) - 1)
    window_T = np.repeat(np.arange(corpus.n_sequences), corpus.length_S)
    kind_T = kind_V[ids_T]
    joined_T = np.zeros(len(ids_T), dtype=bool)
    joined_T[1:] = (kind_T[1:] > 0) & (kind_T[1:] == kind_T[:-1]) & (window_T[1:] == window_T[:-1]) & ~spaced_V[ids_T[1:]]
    first_U = np.flatnonzero(~joined_T)
    length_U = np.diff(np.append(first_U, len(ids_T)))
    numbers: dict[str, int] = {}
    text_U = np.empty(len(first_U), dtype=np.int64)
    tokens = ids_T.tolist()
    for unit, (at, length) in enumerate(zip(first_U.tolist(), length_U.tolist(), strict=True)):
        text = keys[tokens[at]] if length == 1 else "".join(keys[token] for token in tokens[at : at + length])
        text_U[unit] = numbers.setdefault(text, len(numbers))
    first_ids = ids_T[first_U]
    return Units(
        np.cumsum(~joined_T) - 1,
        text_U,
        tuple(numbers),
        first_U,
        length_U,
        window_T[first_U],
        capital_V[first_ids],
    )


def _joins(piece: str) -> int:
    """1 for letters, 2 for digits, 0 for what always stands alone."""
    text = piece.strip()
    return 1 if text.isalpha() else 2 if text.isdigit() else 0
