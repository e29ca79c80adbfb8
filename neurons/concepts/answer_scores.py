"""How much an answer is about a concept, how well it reads, whether it still does what was asked: numbers without a judge model.

As AxBench has it, each is 0 to 2 and the total is their harmonic mean, 0 where any of them is.

concept: a logistic regression on MiniLM embeddings tells sentences about the concept, which no steer was made from, from sentences about
other concepts. 0: no more than the strongest 2% of the others; 2: as much as the middle one of its own, each judged without itself. Of an
answer's sentences the clearest counts.
fluency: 2 where the unsteered model finds the answer at most 1.25 times as perplexing as its own, falling with the logarithm to 0 at 4
times; times 1 where at most a tenth of the answer's three-token runs were there before, falling to 0 at half.
following: how much closer the answer is to its question (cosine of MiniLM embeddings) than the unsteered answers to other questions are, as
a share of what the unsteered answer reaches.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neurons.concepts.embed import embedder
from neurons.detectors.lexicon import Lexicon, LexiconConcept

MOST = 2.0
EASY, HARD = 1.25, 4.0
"""Perplexity ratios of full and of no fluency."""
FRESH, LOOPING = 0.1, 0.5
"""Shares of repeated three-token runs of full and of no fluency."""
VISIBLE = 1.0
"""The concept score from which an answer visibly shows a concept: half way to a typical sentence about it."""
_RARE = 0.98
_LEAST_GAP = 0.5
_OTHERS = 400


@dataclass(frozen=True)
class AnswerScore:
    """One answer's scores, each 0 to 2."""

    concept: float
    fluency: float
    following: float
    ratio: float
    """Perplexity of the answer under the unsteered model over that of the unsteered answer."""
    repetition: float
    """Share of its three-token runs that were there before."""

    @property
    def total(self) -> float:
        """The harmonic mean of the three."""
        three = (self.concept, self.fluency, self.following)
        return 0.0 if min(three) <= 0 else 3 / sum(1 / one for one in three)


def fluency(ratio: float, repeated: float) -> float:
    """See the module's words."""
    reads = 1 - math.log(max(ratio, EASY) / EASY) / math.log(HARD / EASY)
    fresh = 1 - (max(repeated, FRESH) - FRESH) / (LOOPING - FRESH)
    return MOST * max(0.0, reads) * max(0.0, fresh)


class Following:
    """Whether answers do what was asked, measured against the unsteered answers to the same questions (at least two)."""

    def __init__(self, questions: Sequence[str], unsteered: Sequence[str]) -> None:
        self._questions_NE = embedder().encode(questions)
        likeness_NN = embedder().encode([text or "." for text in unsteered]) @ self._questions_NE.T
        self._own_N = likeness_NN.diagonal()
        self._others_N = (likeness_NN.sum(0) - self._own_N) / max(1, len(questions) - 1)

    def score(self, question: int, answer_E: NDArray[np.float32]) -> float:
        """0 to 2 for an answer's embedding; `question` is the place of its question."""
        gap = max(float(self._own_N[question] - self._others_N[question]), 0.05)
        reached = float(answer_E @ self._questions_NE[question] - self._others_N[question]) / gap
        return MOST * min(max(reached, 0.0), 1.0)


class ConceptJudge:
    """Tells whether a text is about a concept, from sentences that no steer was made from."""

    def __init__(self, own: Sequence[str], others_ME: NDArray[np.float32]) -> None:
        """`own` are texts about the concept, `others_ME` the embeddings of texts about other things."""
        own_NE = embedder().encode(own)
        self._model = _fitted(own_NE, others_ME)
        alone = [_fitted(np.delete(own_NE, n, 0), others_ME).decision_function(own_NE[n : n + 1])[0] for n in range(len(own))]
        self._low = float(np.quantile(self._model.decision_function(others_ME), _RARE))
        self._high = max(float(np.median(alone)), self._low + _LEAST_GAP)

    @classmethod
    def of(cls, concept: LexiconConcept, lexicon: Lexicon) -> ConceptJudge:
        """From the held-out sentences of the lexicon, the concept's definition and its words."""
        others = [text for other in lexicon.concepts if other.key != concept.key for text in other.entry.held]
        step = max(1, len(others) // _OTHERS)
        return cls(own_texts(concept), embedder().encode(others[::step]))

    def score(self, answer: str) -> float:
        """0 to 2: the answer's clearest sentence."""
        decision_N = self._model.decision_function(embedder().encode(sentences(answer)))
        return MOST * float(np.clip((decision_N.max() - self._low) / (self._high - self._low), 0, 1))


def own_texts(concept: LexiconConcept) -> list[str]:
    """What a judge of the concept is made from, none of which a steer uses."""
    entry = concept.entry
    return [*entry.held, entry.definition, ", ".join(entry.words)]


def sentences(text: str) -> list[str]:
    """The sentences and lines of a text, the whole where it has none."""
    return [piece for raw in re.split(r"(?<=[.!?])\s+|\n+", text) if len(piece := raw.strip()) > 3] or [text or "."]


def _fitted(own_NE: NDArray[np.float32], others_ME: NDArray[np.float32]):  # type: ignore[no-untyped-def]
    from sklearn.linear_model import LogisticRegression

    labels = np.r_[np.ones(len(own_NE)), np.zeros(len(others_ME))]
    return LogisticRegression(C=3.0, class_weight="balanced", max_iter=500).fit(np.concatenate([own_NE, others_ME]), labels)
