"""Which strength shows a concept while the text still reads: strengths against scores of answers to three open prompts, kept.

And whether it shows at all at that strength, so that a card can say so before it is run.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from pydantic import BaseModel, Field

from neurons.concepts.answer_scores import AnswerScore, ConceptJudge, Following, fluency, own_texts
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
from neurons.detectors.lexicon import Lexicon, LexiconConcept, load_lexicon
from neurons.models.chat import decode, encode_prompt
from neurons.models.loaded import LoadedModel
from neurons.runs.batched import SteeredPrompt, answers, logprobs
from neurons.runs.steering import placed
from neurons.storage.files import write_json

PROMPTS = (
    "Write a short story about a day in a small town.",
    "Give me some advice for a good weekend.",
    "Describe a place that you would like to visit.",
)
STRENGTHS = (0.7, 0.8, 0.9, 1.0, 1.1, 1.3)
AS_LEARNED = 1.0
"""The strength of a push unless another is asked for. The best of three prompts, concept by concept, does worse on others (docs/log.md)."""
TOKENS = 60


@dataclass(frozen=True)
class StrengthPoint:
    """What one strength does, on the mean over the prompts (the ratio: geometric mean)."""

    strength: float
    concept: float
    shown: float
    """The middle concept score of the answers: from `answer_scores.VISIBLE` on the concept shows."""
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
    def best(self) -> StrengthPoint:
        return best_point(self.points)

    @property
    def chosen(self) -> float:
        return self.best.strength


def best_point(points: Sequence[StrengthPoint]) -> StrengthPoint:
    """The point with the best total, the weaker one where two are equal."""
    return max(points, key=lambda point: (round(point.total, 6), -point.strength))


class _Kept(BaseModel):
    """What is kept of a search."""

    tried: str
    """A mark of the prompts, tokens and of what judged the answers."""
    points: tuple[StrengthPoint, ...] = Field(min_length=1)
    """Weakest first."""


def find_strength(
    loaded: LoadedModel,
    concept: LexiconConcept,
    *,
    lexicon: Lexicon | None = None,
    strengths: Sequence[float] = STRENGTHS,
    tokens: int = TOKENS,
    progress: Progress = no_progress,
) -> StrengthCurve:
    """Answer three open prompts at every strength and score the answers. What was tried before is kept and not answered again.

    Raises `InvalidInput` for no strengths or some that are not above 0, and where the model says nothing about the concept.
    """
    values = sorted(dict.fromkeys(map(float, strengths)))
    if not values or not all(math.isfinite(value) and value > 0 for value in values):
        raise InvalidInput("give one or more strengths above 0", field="strengths")
    push_LI = learned_push(loaded, concept, progress=progress)
    steer = strengthen(loaded, push_LI, strength=values[0], name=f"Strengthen {concept.name}"[:120])
    tried, path = _mark([own_texts(concept), PROMPTS, tokens]), _curve_file(loaded.ref, steer)
    with FileLock(f"{path}.lock"):
        kept = _kept(path)
        known = {point.strength: point for point in kept.points} if kept is not None and kept.tried == tried else {}
        if missing := [value for value in values if value not in known]:
            judge = ConceptJudge.of(concept, lexicon or load_lexicon())
            scored = score_answers(loaded, [replace(steer, strength=value) for value in missing], judge, tokens=tokens, progress=progress)
            known |= {value: _point(value, scores, texts[0]) for value, (scores, texts) in zip(missing, scored, strict=True)}
            write_json(path, _Kept(tried=tried, points=tuple(known[value] for value in sorted(known))).model_dump())
    points = tuple(known[value] for value in values)
    return StrengthCurve(concept.name, points, replace(steer, strength=best_point(points).strength))


def known_best(ref: ModelRef, steer: Steer) -> StrengthPoint | None:
    """The best point of a push, whatever strength and name it has now, where `find_strength` tried it before on this machine."""
    kept = _kept(_curve_file(ref, steer))
    return best_point(kept.points) if kept is not None else None


def _curve_file(ref: ModelRef, steer: Steer) -> Path:
    push = _mark([list(map(str, steer.neurons)), steer.values])
    return subfolder("steering") / f"strengths-{ref.weights_hash[:32]}-{ref.dtype}-{push}.json"


def _mark(said: Any) -> str:
    return hashlib.sha256(json_text(said).encode()).hexdigest()[:16]


def _kept(path: Path) -> _Kept | None:
    """A kept search; None where there is none, or one that was cut off or is not ours: it is searched again."""
    try:
        return _Kept.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        path.unlink(missing_ok=True)
        return None


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
        float(np.median([score.concept for score in scores])),
        mean(lambda score: score.fluency),
        mean(lambda score: score.following),
        mean(lambda score: score.total),
        math.exp(mean(lambda score: math.log(score.ratio))),
        mean(lambda score: score.repetition),
        answer,
    )
