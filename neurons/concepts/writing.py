"""Does a neuron side write for or against what was searched for? From the words that its line says it makes likelier or less likely."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

NEAR = 0.45
"""Mean cosine with the query, in the sentence embedder, from which the words of a line are about it."""
_QUOTED = re.compile(r'"([^"]+)"|\'([^\']+)\'')
_LINE = re.compile(r"(?P<words>.*?) (?P<how>more|less) likely|(?P<kind>promotes|suppresses) (?P<listed>[^;]*)")
Encode = Callable[[list[str]], NDArray[np.float32]]


def words_of(line: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(words made likelier, words made less likely) of a line such as 'makes "a", "b" less likely' or 'promotes "a"; suppresses "b"'."""
    more: list[str] = []
    less: list[str] = []
    for found in _LINE.finditer(line):
        words = [a or b for a, b in _QUOTED.findall(found["words"] or found["listed"] or "")]
        (more if found["how"] == "more" or found["kind"] == "promotes" else less).extend(words)
    return tuple(more), tuple(less)


def leanings(lines: Sequence[str], query_E: NDArray[np.float32], encode: Encode) -> list[int]:
    """For each line 1 where it makes words about the query likelier, -1 where less likely, 0 where it says nothing of it.

    `query_E` is a unit vector. Each word is embedded once.
    """
    read = [words_of(line) for line in lines]
    every = list(dict.fromkeys(word for pair in read for side in pair for word in side if word.isalpha() and len(word) > 2))
    if not every:
        return [0] * len(lines)
    near = dict(zip(every, (encode(every) @ query_E).tolist(), strict=True))

    def about(words: tuple[str, ...]) -> bool:
        return bool(words) and float(np.mean([near.get(word, 0.0) for word in words])) >= NEAR

    return [-1 if about(less) else 1 if about(more) else 0 for more, less in read]
