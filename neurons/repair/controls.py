"""The built-in everyday prompts that a fix should leave alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

_COMMON = 2  # a word of more of the prompts than this says how is asked, not what


@cache
def builtin_controls() -> tuple[str, ...]:
    """Sixty-odd short everyday prompts, one per line in data/controls.txt."""
    text = (files("neurons.repair") / "data" / "controls.txt").read_text(encoding="utf-8")
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def propose_controls(asked: Sequence[str], count: int = 20) -> tuple[str, ...]:
    """The first `count` built-in prompts that ask nothing of what `asked` (the questions that are to change) asks."""
    prompts = builtin_controls()
    common = {word for word, times in Counter(word for prompt in prompts for word in words_of(prompt)).items() if times > _COMMON}
    changing = [words_of(text) for text in asked]
    free = (prompt for prompt in prompts if not any(words_of(prompt) - common <= words for words in changing))
    return tuple(free)[:count]


def words_of(text: str) -> frozenset[str]:
    """The words of a text, whatever their case."""
    return frozenset(re.findall(r"\w+", text.casefold()))
