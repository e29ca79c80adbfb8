"""The named concepts of one trace: which are active over the selected tokens, how rare that is, and where. Cached and shared: read only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neurons.core.types import ModelRef, NeuronSide
from neurons.detectors.records import ActiveConcept
from neurons.detectors.store import Detectors, detectors_stamp
from pages.shared import server_wide, trace_context
from pages.shared.detectors import needed
from pages.shared.kept import kept
from pages.trace.deciding import tells

SHOWN = 20
"""Concepts on cards."""
SHARPEST = 1e4
"""A token that shows a concept as rarely as once in so many is drawn in full colour."""
FAINTEST = 30
"""Tokens that are no rarer than this are not tinted."""
ONE_IN = 5
"""At most one of so many tokens is tinted: in a text about a concept two of three tokens show it more than tokens elsewhere do."""


@dataclass(frozen=True, eq=False)
class Found:
    """The active concepts, strongest first, and how each tints the tokens."""

    rows: tuple[ActiveConcept, ...]
    tint_CT: NDArray[np.float32]
    """0 to 1, by how rarely a single token shows the concept as much."""
    left_out: int
    """Concepts of the lexicon that this model has no detector for."""
    corpus_tokens: int
    note: str


def found(ref: ModelRef, trace_id: str, tokens: tuple[int, ...]) -> Found:
    """The concepts active over `tokens` of a trace. Raises `Evicted`, `NotFound`, `InvalidInput`."""
    return _found(server_wide.store().root.as_posix(), trace_id, tokens, detectors_stamp(ref), ref)


@kept("Reading which concepts are active")
def _found(root: str, trace_id: str, tokens: tuple[int, ...], stamp: str, _ref: ModelRef) -> Found:
    detectors = needed(_ref)
    acts_LTI = trace_context.activations_of(trace_id)
    rows = detectors.active(acts_LTI, tokens, SHOWN)
    tint_CT = tints(rows, server_wide.store().load(trace_id).pieces, len(tokens) or acts_LTI.shape[1])
    return Found(rows, tint_CT, int((~detectors.found).sum()), detectors.corpus_tokens, detectors.note_for(_ref))


def tints(rows: tuple[ActiveConcept, ...], pieces: Sequence[str], read: int) -> NDArray[np.float32]:
    """(C, T): 0 where a token shows the concept no more than once in `FAINTEST` tokens, 1 from once in `SHARPEST` on.

    Of the `read` tokens only the fifth that shows it most, and no words of grammar or signs, unless few were read.
    """
    told = [tells(piece) or read <= ONE_IN for piece in pieces]
    tint_CT = np.zeros((len(rows), len(pieces)), dtype=np.float32)
    for number, row in enumerate(rows):
        most = [(position, rarity) for position, rarity in row.tokens if told[position]][: max(1, read // ONE_IN)]
        for position, rarity in most:
            tint_CT[number, position] = np.clip(np.log(max(rarity, 1) / FAINTEST) / np.log(SHARPEST / FAINTEST), 0, 1)
    return tint_CT


def sides_of(detectors: Detectors, number: int) -> tuple[NeuronSide, ...]:
    """The neurons of a concept's detector, largest weight first."""
    return tuple(side for side, _ in detectors.sides(number))
