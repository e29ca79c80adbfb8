"""From words to steers: a concept of the lexicon, a saved concept or a search becomes what is done to neurons.

A concept of the lexicon has sentences, and is steered from them (`concept_steers`). A saved concept or a search is a set of neurons, its
size fitted to the model, held at a share of their extremes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from neurons.concepts import concept_steers
from neurons.concepts.answer_scores import VISIBLE
from neurons.concepts.learned import learned_push
from neurons.concepts.search import Filters, SearchIndex, open_search
from neurons.concepts.sets import SavedConcepts
from neurons.concepts.strength import AS_LEARNED, find_strength
from neurons.core.errors import InvalidInput
from neurons.core.progress import Progress, no_progress
from neurons.core.steers import MAX_STRENGTH, Steer, TokenScope
from neurons.core.types import ModelRef
from neurons.detectors.lexicon import Lexicon, LexiconConcept, load_lexicon
from neurons.models.loaded import LoadedModel

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
    """"lexicon", "saved concept" or "search"."""
    wanted: int
    """How many neurons were asked for."""
    shown: float | None = None
    """How much of the concept it shows in answers to open prompts, 0 to 2 (`StrengthPoint.shown`); None where it was not tried."""

    def line(self) -> str:
        """One sentence: what will be done."""
        neurons, strength = f"{self.steer.size} neurons ({self.origin})", self.steer.strength
        done = f"{neurons} set to {strength:g} x their own extreme"
        if self.steer.mode == "add":
            done = f"{neurons} pushed the way asking about it pushes them, strength {strength:g}"
            if self.shown is not None and self.shown < VISIBLE:
                done += f"; tried on three open prompts it hardly shows ({self.shown:.1f} of 2)"
        elif self.steer.mode == "cap":
            done = f"{neurons} go no further its way than in neutral texts"
        return f"{self.action} {self.text!r}: {done}"


def default_size(action: Action, ref: ModelRef) -> int:
    """50 strengthened or 500 suppressed neurons of Llama-3.1-8B, as the same share of this model's, but never fewer than 5 and 20."""
    share = ref.n_layers * ref.n_neurons / REFERENCE_NEURONS
    return max(LEAST_SIZES[action], round(REFERENCE_SIZES[action] * share))


def split_strength(given: str, action: Action) -> tuple[str, float | None]:
    """Read "TEXT" or "TEXT=0.75"; None where no strength is given.

    Raises `InvalidInput` for an empty text or a strength that is no number in range.
    """
    text, sign, number = given.rpartition("=")
    if not sign:
        text, number = given, ""
    strength: float | None = None
    if number.strip():
        try:
            strength = float(number)
        except ValueError:
            text = given  # the sign belongs to the text
    if not text.strip():
        raise InvalidInput(f"--{action} needs a text or the name of a saved concept, such as --{action} 'court and law'", field=action)
    if strength is not None and not abs(strength) <= MAX_STRENGTH:
        raise InvalidInput(f"strength {strength} is out of range; use a number from 0 to about 2", field=action)
    return text.strip(), strength


def find_concept(text: str, lexicon: Lexicon) -> LexiconConcept | None:
    """The concept of that key or name, else the only one that has it among its words; case does not matter."""
    wanted = " ".join(text.split()).casefold()
    named = [concept for concept in lexicon.concepts if wanted in (concept.key, concept.name.casefold())]
    words = [concept for concept in lexicon.concepts if wanted in (word.casefold() for word in concept.entry.words)]
    return named[0] if named else words[0] if len(words) == 1 else None


def lexicon_steer(
    loaded: LoadedModel, concept: LexiconConcept, action: Action, *, strength: float | None = None, progress: Progress = no_progress
) -> ConceptSteer:
    """A concept of the lexicon suppressed, or strengthened: as it was learned unless a strength is given."""
    name, seen = f"{action.capitalize()} {concept.name}"[:120], None
    if action == "suppress":
        steer = concept_steers.suppress(concept_steers.direction(loaded, concept.entry.train, progress=progress), name=name)
    elif strength is None:
        curve = find_strength(loaded, concept, strengths=(AS_LEARNED,), progress=progress)
        steer, seen = curve.steer, curve.best.shown
    else:
        steer = concept_steers.strengthen(loaded, learned_push(loaded, concept, progress=progress), strength=strength, name=name)
    return ConceptSteer(action, concept.name, steer, "lexicon", steer.size, seen)


def steer_by_words(
    loaded: LoadedModel,
    text: str,
    action: Action,
    *,
    strength: float | None = None,
    index: SearchIndex | None = None,
    progress: Progress = no_progress,
) -> ConceptSteer:
    """The steer for a saved concept of that name, else for a concept of the lexicon, else for a search.

    Suppressing with a strength means neurons held at a share of their extremes, so it asks the saved concepts and the search alone.
    Raises `InvalidInput` when nothing is found, `NotFound` where a search is needed and there is no atlas.
    """
    known = None if text in SavedConcepts() or (action == "suppress" and strength is not None) else find_concept(text, load_lexicon())
    if known is None:
        return concept_steer(loaded.ref, text, action, strength=strength, index=index)
    return lexicon_steer(loaded, known, action, strength=strength, progress=progress)


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
        # what reads the word and makes it less likely would strengthen the opposite
        sides, origin = tuple(hit.side for hit in found if action != "strengthen" or hit.leaning >= 0), "search"
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
