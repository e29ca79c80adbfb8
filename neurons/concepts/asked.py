"""What asking for a concept changes in a model's own answers: what a concept steer is learned from.

Open requests are answered with the concept asked for. How the model would go on after every token of such an answer, with the asking and
without it, is known for the whole vocabulary. The answers are the model's own, so a steer that leads to the same does not take it out of
its ways.
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
from neurons.runs.batched import SteeredPrompt, answers

REQUESTS = (
    "Tell me a story.",
    "Write a poem.",
    "Give me three tips.",
    "Describe a picture.",
    "What makes people happy?",
    "Write a diary entry.",
    "Tell me about your home.",
    "Explain how something works.",
    "Tell me a joke.",
    "What is important in life?",
    "Write a short email.",
    "Give me an example of a good plan.",
    "Write a dialogue between two people.",
    "What would you do with a free day?",
    "Summarize a book that you like.",
    "Explain a hard idea to a child.",
    "Write a short review.",
    "What did you learn this week?",
    "Describe a person you know.",
    "Give a piece of advice.",
    "Write a news report.",
    "Tell me something surprising.",
    "How should I begin my day?",
    "Write a short scene for a play.",
)
FORMS = ("{request} It should be about {name}.", "Topic: {name}. {request}")
"""How it is asked for, in turn."""
TOKENS = 24
"""Tokens of an answer."""
LEAST_TOKENS = 4
REPEATED = 0.2
"""Answers in which more of the three-token runs than this were there before teach looping; they are left out while others are left."""


@dataclass(frozen=True)
class AskedAnswer:
    """An answer with the concept asked for, and the request that does not ask for it."""

    prompt: EncodedPrompt
    """The request alone."""
    asking: EncodedPrompt
    """The request that asks for the concept."""
    ids: tuple[int, ...]


def asked_answers(
    loaded: LoadedModel, name: str, *, requests: Sequence[str] = REQUESTS, tokens: int = TOKENS, progress: Progress = no_progress
) -> tuple[AskedAnswer, ...]:
    """The answers to the requests with `name` asked for. Raises `InvalidInput` where every one is nearly empty."""
    bare = [encode_prompt(loaded, [Message("user", request)]) for request in requests]
    texts = [FORMS[n % len(FORMS)].format(request=request, name=name) for n, request in enumerate(requests)]
    asking = [encode_prompt(loaded, [Message("user", text)]) for text in texts]
    given = answers(loaded, [SteeredPrompt(one.ids) for one in asking], new_tokens=tokens, progress=progress)
    long = [n for n, ids in enumerate(given) if len(ids) >= LEAST_TOKENS]
    if not long:
        raise InvalidInput(f"the model says nothing when it is asked about {name[:60]!r}; there is nothing to learn from", field="concept")
    kept = [n for n in long if repetition(given[n]) < REPEATED] or long
    return tuple(AskedAnswer(bare[n], asking[n], given[n]) for n in kept)
