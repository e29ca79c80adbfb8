"""From words to steers: a saved concept or a search becomes a set of neurons to strengthen or suppress, its size fitted to the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from neurons.concepts.search import Filters, SearchIndex, open_search
from neurons.concepts.sets import SavedConcepts
from neurons.core.errors import InvalidInput
from neurons.core.types import MAX_STRENGTH, ModelRef, Steer, TokenScope

Action = Literal["strengthen", "suppress"]
REFERENCE_NEURONS = 458_752
"""The model for which the published sizes were chosen: Llama-3.1-8B, 32 layers x 14,336."""
REFERENCE_SIZES: dict[Action, int] = {"strengthen": 50, "suppress": 500}
LEAST_SIZES: dict[Action, int] = {"strengthen": 5, "suppress": 20}
STRENGTHS: dict[Action, float] = {"strengthen": 0.75, "suppress": 0.0}


@dataclass(frozen=True)
class ConceptSteer:
    """A steer made from words, with what a reader must be shown."""

    action: Action
    text: str
    steer: Steer
    origin: str
    """"saved concept" or "search"."""
    wanted: int
    """How many neurons were asked for."""

    def line(self) -> str:
        """One sentence: what will be done."""
        done = f"{self.steer.size} neurons ({self.origin}) set to {self.steer.strength:g} x their own extreme"
        return f"{self.action} {self.text!r}: {done}"


def default_size(action: Action, ref: ModelRef) -> int:
    """50 strengthened or 500 suppressed neurons of Llama-3.1-8B, as the same share of this model's, but never fewer than 5 and 20."""
    share = ref.n_layers * ref.n_neurons / REFERENCE_NEURONS
    return max(LEAST_SIZES[action], round(REFERENCE_SIZES[action] * share))


def split_strength(given: str, action: Action) -> tuple[str, float]:
    """Read "TEXT" or "TEXT=0.75". Raises `InvalidInput` for an empty text or a strength that is no number in range."""
    text, sign, number = given.rpartition("=")
    if not sign:
        text, number = given, ""
    strength = STRENGTHS[action]
    if number.strip():
        try:
            strength = float(number)
        except ValueError:
            text, strength = given, STRENGTHS[action]  # the sign belongs to the text
    if not text.strip():
        raise InvalidInput(f"--{action} needs a text or the name of a saved concept, such as --{action} 'court and law'", field=action)
    if not abs(strength) <= MAX_STRENGTH:
        raise InvalidInput(f"strength {strength} is out of range; use a number from 0 to about 2", field=action)
    return text.strip(), strength


def concept_steer(
    ref: ModelRef,
    text: str,
    action: Action,
    *,
    strength: float | None = None,
    size: int | None = None,
    tokens: TokenScope | None = None,
    index: SearchIndex | None = None,
) -> ConceptSteer:
    """The steer for a saved concept of that name, else for a search. Raises `InvalidInput` when nothing is found, `NotFound` without an
    atlas.
    """
    wanted = size if size is not None else default_size(action, ref)
    if wanted < 1:
        raise InvalidInput(f"{wanted} neurons were asked for; use 1 or more", field="neurons")
    saved = SavedConcepts()
    if text in saved:
        concept = saved.load(text)
        if concept.weights_hash and concept.weights_hash != ref.weights_hash:
            raise InvalidInput(f"the concept {text!r} belongs to {concept.model}, not to {ref.name}; search for it instead", field=action)
        sides, origin = concept.sides[:size], "saved concept"
    else:
        found = (index or open_search(ref)).search(text, top=wanted, filters=Filters())
        sides, origin = tuple(hit.side for hit in found), "search"
    if not sides:
        raise InvalidInput(f"no neuron was found for {text!r}; try other words", field=action)
    steer = Steer(
        sides,
        mode="set",
        strength=STRENGTHS[action] if strength is None else strength,
        tokens=tokens or TokenScope(),
        name=f"{action} {text}",
    )
    return ConceptSteer(action, text, steer.check(), origin, wanted)
