"""Regular expressions that people write: run by the `regex` package, which gives up in time where `re` would try for ever."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import regex

from neurons.core.errors import InvalidInput

SECONDS = 1.0
"""How long one search in one text may take."""
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
