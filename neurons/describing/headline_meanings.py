"""What single words and stretches of text are about, by the names of the lexicon's concepts: sentence embeddings of words alone.

A word means a concept where its embedding is near the mean of the concept's name and typical words; a stretch is about a concept where
its content words, the rare ones most, lean to it far more than other stretches do. Nothing of the model that is described is asked.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neurons.concepts.space import Encode
from neurons.describing.headline_traits import FUNCTION_WORDS, Meanings
from neurons.describing.headline_units import Units
from neurons.detectors.lexicon import Lexicon

NEAR = 0.42
"""Cosine, over the mean of all words, from which a word means a concept."""
MOST = 3
BLOCK = 32
STANDS_OUT = 0.01
"""The share of stretches that are about a concept."""
LEAST_SEEN = 3
"""Rarer words are left without a meaning: they are mostly names and pieces, and embedding them is most of the work."""
_FORM = ("Speech acts", "Styles", "Grammar and form")
"""Fields about how something is said: no single word means them."""


def meanings_of(units: Units, lexicon: Lexicon, encode: Encode) -> Meanings:
    """The meanings of a corpus's words and stretches. Embeds each of its words and the lexicon's."""
    concepts = [concept for concept in lexicon.concepts if concept.field not in _FORM]
    seen = np.bincount(units.text_U, minlength=len(units.texts))
    chosen = [n for n, text in enumerate(units.texts) if seen[n] >= LEAST_SEEN and _embeds(text)]
    if not concepts or not chosen:
        return Meanings({}, BLOCK, ())
    word_WD = encode([units.texts[n] for n in chosen])
    mean_D = word_WD.mean(axis=0)
    concept_CD = _unit(_concepts(concepts, encode) - mean_D)
    word_WD = _unit(word_WD - mean_D)
    near_WC = word_WD @ concept_CD.T
    names = [concept.name for concept in concepts]
    best = np.argsort(-near_WC, axis=1)[:, :MOST]
    of_word = {
        units.texts[n]: found for row, n in enumerate(chosen) if (found := tuple(names[c] for c in best[row] if near_WC[row, c] >= NEAR))
    }
    return Meanings(of_word, BLOCK, _topics(units, seen, chosen, word_WD, concept_CD, names))


def _embeds(text: str) -> bool:
    return len(text) > 2 and text.isalpha() and text not in FUNCTION_WORDS


def _concepts(concepts: Sequence[object], encode: Encode) -> NDArray[np.float32]:
    """(C, D): the mean of each concept's typical words, and its name."""
    texts = [[concept.name, *concept.entry.words] for concept in concepts]  # type: ignore[attr-defined]
    flat = encode([text for row in texts for text in row])
    out = np.empty((len(texts), flat.shape[1]), dtype=np.float32)
    at = 0
    for row, names in enumerate(texts):
        out[row] = flat[at : at + len(names)].mean(axis=0) + 0.5 * flat[at]
        at += len(names)
    return _unit(out)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6), dtype=np.float32)


def _topics(
    units: Units,
    seen: NDArray[np.int64],
    chosen: Sequence[int],
    word_WD: NDArray[np.float32],
    concept_CD: NDArray[np.float32],
    names: Sequence[str],
) -> tuple[tuple[str, ...], ...]:
    """The concepts of each stretch of `BLOCK` tokens, surest first."""
    row = np.full(len(units.texts), -1)
    row[list(chosen)] = np.arange(len(chosen))
    word_U = row[units.text_U]
    weight_W = np.log(len(units.text_U) / np.maximum(seen[list(chosen)], 1)).astype(np.float32)
    blocks = -(-len(units.unit_T) // BLOCK)
    sum_BD = np.zeros((blocks, word_WD.shape[1]), dtype=np.float32)
    known = np.flatnonzero(word_U >= 0)
    block_K = units.first_U[known] // BLOCK
    bounds = np.searchsorted(block_K, np.arange(blocks + 1))
    weighted_WD = word_WD * weight_W[:, None]
    for block in range(blocks):
        inside = word_U[known[bounds[block] : bounds[block + 1]]]
        if len(inside):
            sum_BD[block] = weighted_WD[np.unique(inside)].sum(axis=0)
    sum_BD = _unit(sum_BD)
    # what spills over a stretch's edge: its neighbours count a little
    about_BC = _unit(sum_BD - sum_BD.mean(axis=0)) @ concept_CD.T
    limit_C = np.quantile(about_BC, 1 - STANDS_OUT, axis=0)
    over_BC = about_BC - limit_C
    best = np.argsort(-over_BC, axis=1)[:, :4]
    return tuple(tuple(names[c] for c in best[block] if over_BC[block, c] > 0) for block in range(blocks))
