"""What counts as a good answer: contains a text, matches a regular expression, equals a text, or holds a token.

Texts are found as words of their own, whatever the case: "9.1" is not in "9.11", "mice" is not in "micelle".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

from neurons.core.errors import InvalidInput

Kind = Literal["contains", "regex", "equals", "token"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_MAX_TEXT = 2000


@dataclass(frozen=True)
class Criterion:
    """A test of an answer's text."""

    text: str
    kind: Kind = "contains"
    """contains: the text as a word of its own; regex: searched as given; equals: the whole answer, spaces and final full stop aside;
    token: the token's exact text, anywhere."""

    def check(self, field: str = "wanted") -> Criterion:
        """Return self, or raise `InvalidInput` (naming `field`) for an empty text or a regular expression that does not parse."""
        if self.kind not in KINDS:
            raise InvalidInput(f"{field}: kind {self.kind!r} is unknown; use one of {', '.join(KINDS)}", field=field)
        if not self.text.strip():
            raise InvalidInput(f"{field} is empty; write the text to look for in the answer", field=field)
        if len(self.text) > _MAX_TEXT:
            raise InvalidInput(f"{field} has {len(self.text)} characters; use at most {_MAX_TEXT}", field=field)
        if self.kind == "regex":
            try:
                pattern = re.compile(self.text)
            except (re.error, RecursionError, OverflowError) as error:
                raise InvalidInput(f"{field}: {self.text!r} is not a regular expression: {error}", field=field) from error
            if pattern.search("") is not None:
                raise InvalidInput(f"{field}: {self.text!r} matches the empty answer; make it ask for something", field=field)
        return self

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        if self.kind == "regex":
            return re.compile(self.text)
        if self.kind == "token":
            return re.compile(re.escape(self.text.strip() or self.text))
        text = " ".join(self.text.split())
        words = r"\s+".join(re.escape(word) for word in text.split(" "))
        before = r"(?<!\w)(?<!\d[.,])" if text[:1].isalnum() else ""
        after = r"(?!\w)(?![.,]\d)" if text[-1:].isdigit() else r"(?!\w)" if text[-1:].isalnum() else ""
        return re.compile(before + words + after, re.IGNORECASE)

    def find(self, answer: str) -> int | None:
        """Where in `answer` (characters) the criterion is first met, or None."""
        if self.kind == "equals":
            return 0 if _plain(answer) == _plain(self.text) else None
        match = self._pattern.search(answer)
        return None if match is None else match.start()

    def met(self, answer: str) -> bool:
        return self.find(answer) is not None

    def __str__(self) -> str:
        return f"/{self.text}/" if self.kind == "regex" else self.text


def parse_criterion(value: Any, field: str = "wanted") -> Criterion:
    """Read "text", {"regex": "..."}, {"token": "..."}, {"equals": "..."} or {"contains": "..."}, checked."""
    if isinstance(value, str):
        return Criterion(value).check(field)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Criterion(str(value)).check(field)
    if isinstance(value, dict) and len(value) == 1:
        kind, text = next(iter(value.items()))
        if kind in KINDS and isinstance(text, str):
            return Criterion(text, kind).check(field)
    raise InvalidInput(f'{field} is {value!r}; write a text, or {{"regex": "..."}}, {{"token": "..."}} or {{"equals": "..."}}', field=field)


def fixed(answer: str, wanted: Criterion, unwanted: Criterion | None = None) -> bool:
    """Whether `answer` has the wanted, and not the unwanted before it."""
    at = wanted.find(answer)
    if at is None:
        return False
    wrong = None if unwanted is None else unwanted.find(answer)
    return wrong is None or wrong >= at


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".!")
