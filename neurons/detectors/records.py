"""What detectors hand out: plain records, NumPy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurons.core.types import NeuronSide

LEVELS = ("token", "phrase", "text")
PIECE_TOKENS = (1, 10, 48)
"""Tokens of a piece of the corpus at each level."""
RATES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005, 0.0002, 0.0001)
"""Shares of the corpus's pieces at which a concept's scores are kept."""


LANGUAGES = "Languages"
"""The field of the lexicon that holds them."""


@dataclass(frozen=True)
class Rates:
    """How sure one concept's detector is, on sentences it was not fitted on."""

    found: bool
    """Better than chance, with the false discovery rate over all concepts held."""
    auroc: float
    """Chance that a held-out sentence about it scores above one about something else."""
    auroc_near: float
    """The same against its held-out near misses; NaN without any."""
    auroc_shuffled: float
    """With the labels shuffled before everything was fitted."""
    q: float
    """The false discovery rate at which it counts as found."""


@dataclass(frozen=True, eq=False)
class DetectorArrays:
    """Every detector of one model. C concepts, K neurons a detector, Q rates."""

    neuron_CK: NDArray[np.int32]
    """layer * n_neurons + index; -1 where a detector has fewer."""
    weight_CK: NDArray[np.float32]
    """A unit of raw activation in units of score."""
    bias_C: NDArray[np.float32]
    """Score 0 is the mean over sentences about other things, 1 their spread."""
    auroc_C: NDArray[np.float32]
    auroc_near_C: NDArray[np.float32]
    auroc_shuffled_C: NDArray[np.float32]
    q_C: NDArray[np.float32]
    found_C: NDArray[np.bool_]
    mean_LI: NDArray[np.float16]
    """Mean activation over the lexicon's sentences."""
    tail_3CQ: NDArray[np.float32]
    """The score that a share RATES[q] of the corpus's pieces exceeds, by level."""
    side_concept_2LI: NDArray[np.int16]
    """The concept that a neuron's side is most for, -1 for none; axis 0: positive, negative."""
    side_t_2LI: NDArray[np.float16]
    """How surely: t of its mean activation on the concept's sentences against all others."""
    side_topic_2LI: NDArray[np.int16]
    """The same among the concepts that are no language, over their sentences alone: what a side is for in a text in no foreign script."""
    side_topic_t_2LI: NDArray[np.float16]


@dataclass(frozen=True)
class ConceptLabel:
    """A concept's place in the lexicon, as the detectors were fitted to it."""

    key: str
    name: str
    field: str
    definition: str

    @property
    def language(self) -> bool:
        """Whether it says in which language a text is."""
        return self.field == LANGUAGES and self.name.endswith(" text")


@dataclass(frozen=True)
class ActiveConcept:
    """A concept that is active over some tokens."""

    number: int
    """Its place among the detectors."""
    key: str
    name: str
    field: str
    strength: float
    """Its score over the tokens: 0 is what other sentences have on average, 1 their spread."""
    rarity: float
    """Pieces of the corpus as long as this, of which one is as strong: 'once in so many'."""
    level: str
    """What was compared: token, phrase or text."""
    tokens: tuple[tuple[int, float], ...]
    """(position, rarity as a single token) of the tokens that show it most, strongest first."""
    neurons: tuple[tuple[NeuronSide, float], ...]
    """(side, share of what raises the score) over the tokens, strongest first."""


def labels_to_json(labels: tuple[ConceptLabel, ...]) -> list[list[str]]:
    """The labels as a file of detectors keeps them: key, name, field and definition of each."""
    return [[label.key, label.name, label.field, label.definition] for label in labels]


def labels_from_json(value: Any) -> tuple[ConceptLabel, ...]:
    """What `labels_to_json` wrote."""
    return tuple(ConceptLabel(*map(str, row)) for row in value)
