"""Which strength shows a concept while the text still reads: strengths against scores, for one concept or once for a whole model.

And whether one concept shows at all at that strength, so that a card can say so before it is run.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from filelock import FileLock

from neurons.concepts.answer_scores import AnswerScore, ConceptJudge, Following, fluency
from neurons.concepts.concept_steers import strengthen
from neurons.concepts.embed import embedder
from neurons.concepts.learned import learned_push
from neurons.core.errors import InvalidInput
from neurons.core.home import subfolder
from neurons.core.json_text import json_text
from neurons.core.progress import Progress, no_progress
from neurons.core.repetition import repetition
from neurons.core.steers import Steer
from neurons.core.types import Message, ModelRef
from neurons.detectors.lexicon import SHIPPED, Lexicon, LexiconConcept, load_lexicon
from neurons.models.chat import decode, encode_prompt
from neurons.models.loaded import LoadedModel
from neurons.runs.batched import SteeredPrompt, answers, logprobs
from neurons.runs.steering import placed, steer_to_json
from neurons.storage.files import write_json

PROMPTS = (
    "Write a short story about a day in a small town.",
    "Give me some advice for a good weekend.",
    "Describe a place that you would like to visit.",
)
STRENGTHS = (0.7, 0.8, 0.9, 1.0, 1.1, 1.3)
TOKENS = 60
CONCEPTS = 4
"""Concepts of the lexicon that a model's usual strength is found with."""
KNOWN: dict[tuple[str, int, int, int], float] = {("LlamaForCausalLM", 30, 1536, 49152): 1.0}
"""(architecture, layers, neurons, vocabulary) -> strength. The default model's was chosen by hand from trials of 6 concepts x 4 prompts
(docs/log.md), not by the search."""


@dataclass(frozen=True)
class StrengthPoint:
    """What one strength does, on the mean over the prompts (the ratio: geometric mean)."""

    strength: float
    concept: float
    fluency: float
    following: float
    total: float
    ratio: float
    repetition: float
    answer: str
    """To the first prompt."""


@dataclass(frozen=True)
class StrengthCurve:
    """Strengths and what they do, weakest first."""

    name: str
    points: tuple[StrengthPoint, ...]
    steer: Steer
    """At the chosen strength."""

    @property
    def chosen(self) -> float:
        """The strength with the best total, the weaker one where two are equal."""
        return best_strength(self.points)


def best_strength(points: Sequence[StrengthPoint]) -> float:
    """Of points in order of strength."""
    return max(points, key=lambda point: (round(point.total, 6), -point.strength)).strength


def find_strength(
    loaded: LoadedModel,
    concept: LexiconConcept,
    *,
    lexicon: Lexicon | None = None,
    strengths: Sequence[float] = STRENGTHS,
    tokens: int = TOKENS,
    progress: Progress = no_progress,
) -> StrengthCurve:
    """Answer three open prompts at every strength and score the answers. Raises `InvalidInput` for no strengths or some below 0."""
    values = sorted(dict.fromkeys(map(float, strengths)))
    if not values or not all(math.isfinite(value) and value > 0 for value in values):
        raise InvalidInput("give one or more strengths above 0", field="strengths")
    push_LI = learned_push(loaded, concept, progress=progress)
    steer = strengthen(loaded, push_LI, strength=values[0], name=f"Strengthen {concept.name}"[:120])
    judge = ConceptJudge.of(concept, lexicon or load_lexicon())
    scored = score_answers(loaded, [replace(steer, strength=value) for value in values], judge, tokens=tokens, progress=progress)
    points = tuple(_point(value, scores, texts[0]) for value, (scores, texts) in zip(values, scored, strict=True))
    return StrengthCurve(concept.name, points, replace(steer, strength=best_strength(points)))


def shown(
    loaded: LoadedModel, concept: LexiconConcept, steer: Steer, *, lexicon: Lexicon | None = None, progress: Progress = no_progress
) -> float:
    """How much of a concept its steer shows: the middle concept score, 0 to 2, of its answers to three open prompts. Tried once, kept."""
    said = json_text([steer_to_json(steer), concept.entry.held, PROMPTS, TOKENS])
    path = subfolder("steering") / f"shown-{loaded.ref.weights_hash[:32]}-{hashlib.sha256(said.encode()).hexdigest()[:16]}.json"
    with FileLock(f"{path}.lock"):
        kept = _kept_number(path, "shown")
        if kept is None:
            ((scores, _texts),) = score_answers(loaded, [steer], ConceptJudge.of(concept, lexicon or load_lexicon()), progress=progress)
            kept = float(np.median([score.concept for score in scores]))
            write_json(path, {"shown": kept, "concept": concept.name, "strength": steer.strength})
    return kept


def score_answers(
    loaded: LoadedModel, steers: Sequence[Steer], judge: ConceptJudge, *, tokens: int = TOKENS, progress: Progress = no_progress
) -> list[tuple[list[AnswerScore], list[str]]]:
    """For each steer the scores and texts of its answers to `PROMPTS`."""
    prompts = [encode_prompt(loaded, [Message("user", text)]) for text in PROMPTS]
    bare = [SteeredPrompt(prompt.ids) for prompt in prompts]
    rows = [*bare, *(SteeredPrompt(prompt.ids, placed((steer,), prompt.question)) for steer in steers for prompt in prompts)]
    given = answers(loaded, rows, new_tokens=tokens, progress=progress)
    unsteered = [bare[n % len(prompts)] for n in range(len(rows))]
    logp = logprobs(loaded, unsteered, given, progress=progress)
    texts = [decode(loaded, ids) for ids in given]
    following = Following(PROMPTS, texts[: len(prompts)])
    embedded = embedder().encode([text or "." for text in texts])
    found = []
    for number in range(len(steers)):
        start, scores = (number + 1) * len(prompts), []
        for place in range(len(prompts)):
            row = start + place
            ratio, repeated = math.exp(logp[place] - logp[row]), repetition(given[row])
            about = judge.score(texts[row])
            scores.append(AnswerScore(about, fluency(ratio, repeated), following.score(place, embedded[row]), ratio, repeated))
        found.append((scores, texts[start : start + len(prompts)]))
    return found


def _point(strength: float, scores: Sequence[AnswerScore], answer: str) -> StrengthPoint:
    def mean(value: Callable[[AnswerScore], float]) -> float:
        return float(np.mean([value(score) for score in scores]))

    return StrengthPoint(
        strength,
        mean(lambda score: score.concept),
        mean(lambda score: score.fluency),
        mean(lambda score: score.following),
        mean(lambda score: score.total),
        math.exp(mean(lambda score: math.log(score.ratio))),
        mean(lambda score: score.repetition),
        answer,
    )


def known_strength(ref: ModelRef) -> float | None:
    """The model's usual strength where it was found before, on this machine or for the shipped model."""
    kept = _kept_number(_strength_file(ref), "strength")
    if kept is not None:
        return kept
    return KNOWN.get((ref.architecture, ref.n_layers, ref.n_neurons, ref.n_vocab))


def _kept_number(path: Path, name: str) -> float | None:
    """A number of a kept file; None where there is none."""
    if not path.is_file():
        return None
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))[name])
    except (OSError, ValueError, KeyError, TypeError):
        path.unlink(missing_ok=True)  # cut off or not ours: it is found again
        return None


def _strength_file(ref: ModelRef) -> Path:
    return subfolder("steering") / f"asked-strength-{ref.weights_hash[:32]}.json"


def usual_strength(loaded: LoadedModel, *, progress: Progress = no_progress) -> float:
    """The one strength for every concept of a model, found once: the best mean total over some concepts of the lexicon. Kept on disk."""
    path = _strength_file(loaded.ref)
    with FileLock(f"{path}.lock"):
        known = known_strength(loaded.ref)
        if known is not None:
            return known
        lexicon = load_lexicon((SHIPPED,))
        step = len(lexicon.concepts) // CONCEPTS
        curves = []
        for number, concept in enumerate(lexicon.concepts[step // 2 :: step][:CONCEPTS]):
            progress(number, CONCEPTS, f"finding this model's strength with {concept.name}")
            curves.append(find_strength(loaded, concept, lexicon=lexicon, progress=_within(progress, number)))
        totals = [(float(np.mean([curve.points[n].total for curve in curves])), -value) for n, value in enumerate(STRENGTHS)]
        strength = -max(totals)[1]
        write_json(path, {"strength": strength, "concepts": [curve.name for curve in curves], "totals": [total for total, _ in totals]})
    return strength


def _within(progress: Progress, number: int) -> Progress:
    def inner(done: int, total: int | None, message: str) -> None:
        progress(number, CONCEPTS, message)

    return inner
