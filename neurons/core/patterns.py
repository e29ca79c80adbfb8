"""Regular expressions that people write: run by the `regex` package, which gives up in time where `re` would try for ever."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import regex

from neurons.core.errors import InvalidInput

SECONDS = 1.0
"""How long one search in one text may take."""
MOST_PARTS = 20_000
"""Parts of an expression with its counted repeats written out, as the package does: each takes a quarter of a kilobyte."""
_COUNT = re.compile(r"\{\s*(\d+)\s*(?:,\s*\d*\s*)?\}")
_CLASS = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_DIGITS = 9
_SAMPLE = "The capital of a country, 9.11 and 9.9, (it says) is Ankara. " * 2
"""An everyday text that a usable expression is through with at once."""


@dataclass(frozen=True)
class OutsidePattern:
    """A regular expression from outside. While it searches, other threads go on."""

    text: str
    field: str = "wanted"
    """What an error names."""

    def check(self) -> OutsidePattern:
        """Return self, or raise `InvalidInput`: no expression, one that matches nothing at all, or one that takes for ever."""
        if self.search("") is not None:
            raise InvalidInput(f"{self.field}: {self.text!r} matches the empty answer; make it ask for something", field=self.field)
        self.search(_SAMPLE)
        return self

    @cached_property
    def _compiled(self) -> Any:
        if unrolled(self.text) > MOST_PARTS:
            raise InvalidInput(
                f"{self.field}: {self.text[:80]!r} repeats its parts more than {MOST_PARTS:,} times; ask for fewer repeats",
                field=self.field,
            )
        try:
            return regex.compile(self.text)
        except (regex.error, RecursionError, OverflowError, ValueError, MemoryError) as error:
            raise InvalidInput(f"{self.field}: {self.text!r} is not a regular expression: {error}", field=self.field) from error

    def search(self, text: str) -> tuple[int, int] | None:
        """The characters [start, end) that match first, or None. Raises `InvalidInput` when that is not known within a second."""
        return next(iter(self._matches(text, most=1)), None)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """All matches, in order. Raises `InvalidInput` as `search` does."""
        return self._matches(text, most=None)

    def _matches(self, text: str, *, most: int | None) -> list[tuple[int, int]]:
        try:
            found = self._compiled.finditer(text, timeout=SECONDS, concurrent=True)
            return [match.span() for match in islice(found, most)]
        except (TimeoutError, MemoryError) as error:
            raise InvalidInput(
                f"{self.field}: {self.text!r} takes longer than {SECONDS:g} second on one text; write it without repeats inside repeats",
                field=self.field,
            ) from error


def unrolled(pattern: str) -> int:
    """How many parts an expression has once its counted repeats are written out; repeats that need not happen are not."""
    groups, last, at = [0], 0, 0
    while at < len(pattern):
        count, group = _COUNT.match(pattern, at), _CLASS.match(pattern, at)
        if count is not None:
            times = max(1, int(count[1])) if len(count[1]) <= _DIGITS else MOST_PARTS
            groups[-1] += last * (times - 1)
            last, at = last * times, count.end()
            continue
        if pattern[at] == "(":
            groups.append(0)
        elif pattern[at] == ")" and len(groups) > 1:
            last = groups.pop()
            groups[-1] += last
        else:
            last = 1
            groups[-1] += 1
        at = group.end() if group is not None else at + (2 if pattern[at] == "\\" else 1)
    return sum(groups)
