"""Prompts for the chat part of the corpus: templates times topics, drawn deterministically. Knows nothing of models."""

from __future__ import annotations

import json
import random
from functools import cache
from importlib import resources
from typing import Any

from neurons.core.types import Message


@cache
def _texts() -> dict[str, Any]:
    """The package's chat_prompts.json: templates by category, slots, system messages, follow-up questions."""
    path = resources.files("neurons.atlas").joinpath("data/chat_prompts.json")
    texts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return texts


def draw_prompts(count: int, *, seed: int = 0) -> list[tuple[str, tuple[Message, ...], str | None]]:
    """`count` prompts, the same for the same seed: (category, messages, follow-up question or None).

    One in eight has a system message of its own, one in six a follow-up for a second turn. Categories take turns.
    """
    texts = _texts()
    rng = random.Random(seed)
    categories = sorted(texts["templates"])
    seen: set[str] = set()
    prompts: list[tuple[str, tuple[Message, ...], str | None]] = []
    while len(prompts) < count:
        category = categories[len(prompts) % len(categories)]
        for _attempt in range(50):
            text = _fill(rng.choice(texts["templates"][category]), rng)
            if text not in seen:
                break
        seen.add(text)
        system = (Message("system", rng.choice(texts["systems"])),) if rng.random() < 0.125 else ()
        follow_up = _fill(rng.choice(texts["follow_ups"]), rng) if rng.random() < 1 / 6 else None
        prompts.append((category, (*system, Message("user", text)), follow_up))
    return prompts


def _fill(template: str, rng: random.Random) -> str:
    values = {slot: rng.choice(choices) for slot, choices in _texts()["slots"].items()}
    for slot in ("thing", "city", "character", "food", "animal"):
        values[slot + "2"] = rng.choice([choice for choice in _texts()["slots"][slot] if choice != values[slot]])
    values.update(n1=str(rng.randint(11, 99)), n2=str(rng.randint(100, 999)), n3=str(rng.randint(3, 20)))
    return template.format_map(values)
