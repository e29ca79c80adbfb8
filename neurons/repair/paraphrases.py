"""Paraphrases from templates: other wordings of a question that need no language model."""

from __future__ import annotations

import re

_FRAMES = (
    "Please answer: {}",
    "I have a question. {}",
    "For a quiz: {}",
    "{} Answer briefly.",
    "Can you help me? {}",
    "My friend asks: {}",
    "Answer in one sentence. {}",
    "Quick question: {}",
    "{} Please tell me.",
    "I would like to know this. {}",
)
_REWORDINGS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        r"what is (?P<x>(?:the|a|an) .+?)\??",
        ("Tell me {x}.", "Name {x}.", "Give me {x}.", "Do you know what {x} is?", "What's {x}?", "{X} is what?"),
    ),
    (r"who (?P<x>\w+ .+?)\??", ("Tell me who {x}.", "Do you know who {x}?", "Which person {x}?", "Name the person who {x}.")),
    (r"which (?P<x>\w+ .+?)\??", ("Tell me which {x}.", "Do you know which {x}?", "What {x}?", "Say which {x}.")),
    (r"(?P<x>is|are|can|does|do) (?P<y>.+?)\??", ("Tell me: {x} {y}?", "Say, {x} {y}?", "Do you know: {x} {y}?")),
)


def template_paraphrases(prompt: str, count: int = 10) -> tuple[str, ...]:
    """Up to `count` other wordings of `prompt`: rewordings of common question forms first, then frames around the whole question."""
    text = " ".join(prompt.split())
    found: list[str] = []
    for pattern, forms in _REWORDINGS:
        match = re.fullmatch(pattern, text, re.IGNORECASE)
        if match is not None:
            parts = match.groupdict()
            x = parts["x"]
            found += [form.format(x=x, X=x[:1].upper() + x[1:], y=parts.get("y", "")) for form in forms]
            break
    found += [frame.format(text) for frame in _FRAMES]
    unique = [form for form in dict.fromkeys(found) if form.casefold() != text.casefold()]
    return tuple(unique[:count])
