"""Short texts that a regular expression matches, so that the search knows which token the wanted answer begins with."""

from __future__ import annotations

import re
from itertools import product
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

_MOST = 8


def examples(pattern: str) -> tuple[str, ...]:
    """Up to eight texts matched by `pattern`, one for each branch of its alternations; empty when none is found."""
    try:
        texts = _expand(parser.parse(pattern))
    except (NotImplementedError, re.error, RecursionError):
        return ()
    found = (text.strip() for text in texts)
    return tuple(dict.fromkeys(text for text in found if text and re.search(pattern, text)))[:_MOST]


def _expand(items: Any) -> list[str]:
    parts = [_one(op, arg) for op, arg in items]
    return ["".join(choice) for choice, _ in zip(product(*parts), range(_MOST * 4), strict=False)]


def _one(op: Any, arg: Any) -> list[str]:
    """Texts for one element of a parsed pattern."""
    if op is codes.LITERAL:
        return [chr(arg)]
    if op is codes.AT or op in (codes.ASSERT, codes.ASSERT_NOT):
        return [""]
    if op is codes.ANY or op is codes.NOT_LITERAL:
        return ["a" if arg != ord("a") else "b"]
    if op is codes.IN:
        return [_member(arg)]
    if op is codes.BRANCH:
        return [text for branch in arg[1] for text in _expand(branch)][:_MOST]
    if op is codes.SUBPATTERN:
        return _expand(arg[-1])
    if op in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
        least, _, inner = arg
        return [text * least for text in _expand(inner)]
    if op is codes.ATOMIC_GROUP:
        return _expand(arg)
    raise NotImplementedError(str(op))


def _member(items: Any) -> str:
    """A character of a class such as [a-z] or \\d."""
    for op, arg in items:
        if op is codes.LITERAL:
            return chr(arg)
        if op is codes.RANGE:
            return chr(arg[0])
        if op is codes.CATEGORY:
            for character in "1a _-":
                if re.match(_CATEGORIES.get(arg, "(?!)"), character):
                    return character
    raise NotImplementedError("character class")


_CATEGORIES = {
    codes.CATEGORY_DIGIT: r"\d",
    codes.CATEGORY_WORD: r"\w",
    codes.CATEGORY_SPACE: r"\s",
    codes.CATEGORY_NOT_DIGIT: r"\D",
    codes.CATEGORY_NOT_WORD: r"\W",
    codes.CATEGORY_NOT_SPACE: r"\S",
}
