"""What asking for a concept changes in a model's own answers: what a concept steer is learned from.

Open requests are answered with the concept asked for. Every token of such an answer weighs by how much the asking made it likelier: the
words about the concept weigh much, what any answer to the request says weighs next to nothing. The answers are the model's own, so a steer
that makes them likely does not take it out of its ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neurons.core.errors import InvalidInput
from neurons.core.progress import Progress, no_progress
from neurons.core.repetition import repetition
from neurons.core.types import Message
from neurons.models.chat import EncodedPrompt, encode_prompt
from neurons.models.loaded import LoadedModel
from neurons.runs.batched import SteeredPrompt, answers, token_logprobs

REQUESTS = (
    "Tell me a story.",
    "Write a poem.",
    "Give me three tips.",
    "Describe a picture.",
    "What makes people happy?",
    "Write a diary entry.",
    "Tell me about your home.",
    "Explain how something works.",
)
FORMS = ("{request} It should be about {name}.", "Topic: {name}. {request}")
TOKENS = 40
"""Tokens of an answer."""
MOST_ANSWERS = 10
"""Of all answers those with the largest gains are learned from."""
MOST_GAIN = 4.0
"""A token that asking makes likelier by more nats than this counts as this."""
LEAST_TOKENS = 4
REPEATED = 0.2
"""Answers in which more of the three-token runs than this were there before teach looping; they are left out while others are left."""


@dataclass(frozen=True)
class AskedAnswer:
    """An answer with the concept asked for, beside the request that does not ask for it."""

    prompt: EncodedPrompt
    """The request alone."""
    ids: tuple[int, ...]
    gain: tuple[float, ...]
    """Of each token: how many nats likelier the asking makes it, 0 to `MOST_GAIN`."""


def asked_answers(
    loaded: LoadedModel, name: str, *, requests: Sequence[str] = REQUESTS, tokens: int = TOKENS, progress: Progress = no_progress
) -> tuple[AskedAnswer, ...]:
    """The answers that asking for `name` changes most, at most `MOST_ANSWERS`. Raises `InvalidInput` where every one is nearly empty."""
    bare = [encode_prompt(loaded, [Message("user", request)]) for _form in FORMS for request in requests]
    asking = [
        SteeredPrompt(encode_prompt(loaded, [Message("user", form.format(request=request, name=name))]).ids)
        for form in FORMS
        for request in requests
    ]
    given = answers(loaded, asking, new_tokens=tokens, progress=progress)
    long = [n for n, ids in enumerate(given) if len(ids) >= LEAST_TOKENS]
    if not long:
        raise InvalidInput(f"the model says nothing when it is asked about {name[:60]!r}; there is nothing to learn from", field="concept")
    kept = [n for n in long if repetition(given[n]) < REPEATED] or long
    ids = [given[n] for n in kept]
    with_it = token_logprobs(loaded, [asking[n] for n in kept], ids, progress=progress)
    without = token_logprobs(loaded, [SteeredPrompt(bare[n].ids) for n in kept], ids, progress=progress)
    gains = [(one - other).clamp(0, MOST_GAIN) for one, other in zip(with_it, without, strict=True)]
    best = sorted(range(len(kept)), key=lambda place: -float(gains[place].sum()))[:MOST_ANSWERS]
    return tuple(AskedAnswer(bare[kept[place]], ids[place], tuple(gains[place].tolist())) for place in best)
