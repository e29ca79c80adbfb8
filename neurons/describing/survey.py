"""How each neuron side's activation varies with each visible feature, over part of an atlas's describing windows.

What a description is fitted on are moments: with features x and a side's activation y (its own polarity's part, never negative), means and
covariances of x, x with y, and y, apart for two sets of documents: `fit` chooses the parts of a description, `check` decides how
many parts it takes and whether it says anything at all. Held-out windows are not touched here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from neurons.atlas.corpus import Corpus
from neurons.core.errors import InvalidInput
from neurons.descriptions.features import Part, View, choose_vocabulary, feature_matrix, view
from neurons.models.loaded import LoadedModel

TOKENS = 131_072
"""Tokens surveyed unless told otherwise."""
CHUNK = 64
"""Tokens of a chunk: the unit of meaning for concept search, and the window of the secondary score."""
MAX_PARTS = 2400
LEAST_DOCUMENTS = 5
"""A part that stands in fewer documents says more of them than of a neuron."""
_LEAST_FREQUENT = {
    ("at", "word"): 8,
    ("after", "word"): 30,
    ("before", "word"): 30,
    ("at", "class"): 30,
    ("after", "class"): 60,
    ("before", "class"): 60,
    ("in", "domain"): 100,
}


@dataclass(frozen=True, eq=False)
class Windows:
    """Token windows with their visible features, ready to be read by model and describer alike."""

    ids: tuple[NDArray[np.int64], ...]
    start: tuple[int, ...]
    """First counted position of each window."""
    domains: tuple[str, ...]
    documents: tuple[int, ...]
    views: tuple[View, ...]

    @property
    def tokens(self) -> int:
        """Counted tokens."""
        return sum(len(ids) - start for ids, start in zip(self.ids, self.start, strict=True))

    def chunk_T(self) -> NDArray[np.int64]:
        """Which chunk each counted token stands in: `CHUNK` counted tokens of one window each, the last one of a window may be shorter."""
        numbers, chunks = [], 0
        for ids, start in zip(self.ids, self.start, strict=True):
            numbers.append(chunks + np.arange(len(ids) - start) // CHUNK)
            chunks = int(numbers[-1][-1]) + 1
        return np.concatenate(numbers)

    def features(self, vocabulary: dict[Part, int], rows: Sequence[int]) -> sparse.csr_matrix:
        """Features of the counted tokens of some windows, shape (T, F)."""
        blocks = [feature_matrix([self.views[n]], vocabulary, domains=[self.domains[n]], first=self.start[n]) for n in rows]
        return sparse.csr_matrix(sparse.vstack(blocks)) if blocks else sparse.csr_matrix((0, len(vocabulary)), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over T tokens, as means. The features are shared by all layers."""

    tokens: int
    mean_F: NDArray[np.float64]
    cov_FF: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class LayerMoments:
    """One layer's part, sides stacked: column i is neuron i's positive side, column I + i its negative side."""

    mean_N: NDArray[np.float64]
    var_N: NDArray[np.float64]
    cov_NF: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Survey:
    """What the describer reads."""

    vocabulary: tuple[Part, ...]
    fit: Moments
    check: Moments
    fit_TF: sparse.csr_matrix
    check_TF: sparse.csr_matrix
    check_T: NDArray[np.bool_]
    """Which rows of the recording belong to the check documents; the others are fitted on."""

    def layer(self, acts_TN: NDArray[np.float32]) -> tuple[LayerMoments, LayerMoments]:
        """(fit, check) moments of one layer's sides; `acts_TN` as `Recording.sides` gives them."""
        return _layer_moments(self.fit, self.fit_TF, acts_TN[~self.check_T]), _layer_moments(
            self.check, self.check_TF, acts_TN[self.check_T]
        )


def piece_table(loaded: LoadedModel) -> list[str]:
    """Each vocabulary id's own text, with its leading space."""
    tokenizer = loaded.tokenizer
    return [str(text) for text in tokenizer.batch_decode([[i] for i in range(len(tokenizer))], clean_up_tokenization_spaces=False)]


def read_windows(corpus: Corpus, rows: Sequence[int], pieces: Sequence[str]) -> Windows:
    """The named windows of a corpus with their features. `pieces` is from `piece_table`."""
    ids = tuple(corpus.sequence(n) for n in rows)
    return Windows(
        ids=ids,
        start=tuple(int(corpus.start_S[n]) for n in rows),
        domains=tuple(corpus.source_of(n).domain for n in rows),
        documents=tuple(int(corpus.document_S[n]) for n in rows),
        views=tuple(view([pieces[i] if i < len(pieces) else "" for i in window]) for window in ids),
    )


def describing_rows(corpus: Corpus, tokens: int) -> range:
    """The first describing windows that hold about `tokens` counted tokens (they are shuffled, so they are a fair sample)."""
    reached = np.cumsum(corpus.counted_S[: corpus.n_describe])
    if not len(reached):
        raise InvalidInput("the corpus has no describing windows; build the atlas again with more text", field="corpus")
    return range(min(int(np.searchsorted(reached, tokens)) + 1, len(reached)))


def heldout_rows(corpus: Corpus, tokens: int) -> range:
    """The first held-out windows that hold about `tokens` counted tokens. Raises `InvalidInput` when nothing was held out."""
    reached = np.cumsum(corpus.counted_S[corpus.n_describe :])
    if not len(reached):
        raise InvalidInput(
            "the corpus holds no documents out, so descriptions cannot be scored; build the atlas from more documents", field="corpus"
        )
    return range(corpus.n_describe, corpus.n_describe + min(int(np.searchsorted(reached, tokens)) + 1, len(reached)))


def is_check(document: int) -> bool:
    """Every fourth document checks what the others fit."""
    return document % 4 == 3


def _feature_moments(features_TF: sparse.csr_matrix) -> Moments:
    tokens = features_TF.shape[0]
    mean_F = np.asarray(features_TF.mean(axis=0), dtype=np.float64).ravel()
    second_FF = np.asarray((features_TF.T @ features_TF).todense(), dtype=np.float64) / tokens
    return Moments(tokens, mean_F, (second_FF - np.outer(mean_F, mean_F)).astype(np.float32))


def survey(windows: Windows) -> Survey:
    """Choose the features of these windows and take their moments. Deterministic."""
    rows = range(len(windows.ids))
    fit_rows = [n for n in rows if not is_check(windows.documents[n])]
    check_rows = [n for n in rows if is_check(windows.documents[n])]
    if not fit_rows or not check_rows:
        raise InvalidInput(
            "the corpus has too few documents to describe neurons: at least 4 are needed, and 100 are sensible", field="corpus"
        )
    parts = choose_vocabulary(
        [windows.views[n] for n in fit_rows],
        [windows.documents[n] for n in fit_rows],
        domains=[windows.domains[n] for n in fit_rows],
        least=_LEAST_FREQUENT,
        least_documents=LEAST_DOCUMENTS,
        most=MAX_PARTS,
    )
    index = {part: n for n, part in enumerate(parts)}
    fit_TF, check_TF = windows.features(index, fit_rows), windows.features(index, check_rows)
    check_T = np.repeat([is_check(windows.documents[n]) for n in rows], [len(windows.ids[n]) - windows.start[n] for n in rows])
    return Survey(tuple(parts), _feature_moments(fit_TF), _feature_moments(check_TF), fit_TF, check_TF, check_T)


def _layer_moments(features: Moments, features_TF: sparse.csr_matrix, acts_TN: NDArray[np.float32]) -> LayerMoments:
    mean_N = acts_TN.mean(axis=0, dtype=np.float64)
    var_N = np.einsum("tn,tn->n", acts_TN, acts_TN, dtype=np.float64) / len(acts_TN) - mean_N**2
    cov_FN = (features_TF.T @ acts_TN) / features.tokens - np.outer(features.mean_F, mean_N)
    return LayerMoments(mean_N, np.maximum(var_N, 0), np.ascontiguousarray(cov_FN.T, dtype=np.float32))
