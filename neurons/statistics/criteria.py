"""What counts as a good answer: contains a text, matches a regular expression, equals a text, or holds a token.

Texts are found as words of their own, whatever the case, the Unicode form and the width: "9.1" is not in "9.11",
5 not in -5 or 5/6, "mice" not in "micelle".
Where words are written without spaces between them (Chinese, Japanese, Thai...) a text is found anywhere; Korean particles may follow it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import regex

from neurons.core.errors import InvalidInput
from neurons.core.patterns import OutsidePattern
from neurons.statistics.folding import fold, folded

Kind = Literal["contains", "regex", "equals", "token"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_MAX_TEXT = 2000
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}ー々〆"
"""Scripts without spaces between words."""
_SPACED = rf"[\w--[{_UNSPACED}_]]"
"""A letter or digit of a script that parts words by spaces. An underscore joins two such, and else is Markdown: `_Paris_`."""
_FREE = regex.compile(rf"(?V1)[{_UNSPACED}]")
_HANGUL = regex.compile(r"\p{Hangul}")
_NO_OTHER_NUMBER = r"(?<!\d/)(?<!(?:^|[\s=(:$*])-)"
"""Before digits: neither a fraction's stroke nor a minus sign."""
_SIGNED = re.compile(r"[-+.]\.?[0-9]")
"""A number that begins with its sign or its point: -4 is not in 3-4, .5 not in 2.5."""
_THOUSANDS = re.compile(r"([-+$]?)([1-9][0-9]{0,2}(?:,[0-9]{3})+|[1-9][0-9]{3,})(%?|\.[0-9]+)")
_YES, _NO = r"yes|(?<!not )true", r"no|false|not true"
_TRAILING = ".!。！．।॥۔։።។။"
"""Full stops and exclamation marks, those of Indic, Urdu, Armenian, Ethiopic, Khmer and Burmese writing too."""


@dataclass(frozen=True)
class Criterion:
    """A test of an answer's text."""

    text: str
    kind: Kind = "contains"
    """contains: the text as a word of its own; regex: searched as given; equals: the whole answer, spaces and final full stop aside;
    token: the token's exact text, anywhere."""
    others: tuple[str, ...] = ()
    """Further texts, any of which will do as well."""

    @property
    def texts(self) -> tuple[str, ...]:
        return (self.text, *self.others)

    def check(self, field: str = "wanted") -> Criterion:
        """Return self, or raise `InvalidInput` (naming `field`) for an empty text or a regular expression that does not parse."""
        if self.kind not in KINDS:
            raise InvalidInput(f"{field}: kind {self.kind!r} is unknown; use one of {', '.join(KINDS)}", field=field)
        for text in self.texts:
            self._check_text(text, field)
        return self

    def _check_text(self, text: str, field: str) -> None:
        if not text.strip():
            raise InvalidInput(f"{field} is empty; write the text to look for in the answer", field=field)
        if len(text) > _MAX_TEXT:
            raise InvalidInput(f"{field} has {len(text)} characters; use at most {_MAX_TEXT}", field=field)
        if self.kind == "regex":
            OutsidePattern(text, field).check()

    @cached_property
    def _outside(self) -> tuple[OutsidePattern, ...]:
        return tuple(OutsidePattern(text, "criterion") for text in self.texts)

    @cached_property
    def _patterns(self) -> tuple[Any, ...]:
        if self.kind == "token":
            return tuple(re.compile(re.escape(text.strip() or text)) for text in self.texts)
        return tuple(_words(fold(" ".join(text.split()))) for text in self.texts)

    def span(self, answer: str) -> tuple[int, int] | None:
        """The characters of `answer` that first meet the criterion, [start, end), or None."""
        if self.kind == "regex":  # the first alone costs less, and a second is all it has
            found = [span for pattern in self._outside if (span := pattern.search(answer)) is not None]
            return min(found, default=None)
        return next(iter(self.spans(answer)), None)

    def spans(self, answer: str) -> list[tuple[int, int]]:
        """Every place of `answer` that meets the criterion, in order."""
        if self.kind == "equals":
            return [(0, len(answer))] if _plain(answer) in {_plain(text) for text in self.texts} else []
        found: list[tuple[int, int] | None]
        if self.kind == "regex":
            found = [span for pattern in self._outside for span in pattern.spans(answer)]
        elif self.kind == "contains":
            text = folded(answer)
            found = [text.span(*match.span()) for pattern in self._patterns for match in pattern.finditer(text.text, overlapped=True)]
        else:
            found = [match.span() for pattern in self._patterns for match in pattern.finditer(answer)]
        return sorted({span for span in found if span is not None})

    def find(self, answer: str) -> int | None:
        """Where in `answer` (characters) the criterion is first met, or None."""
        span = self.span(answer)
        return None if span is None else span[0]

    def met(self, answer: str) -> bool:
        return self.span(answer) is not None

    def __str__(self) -> str:
        return " or ".join(f"/{text}/" if self.kind == "regex" else text for text in self.texts)

    def to_json(self) -> dict[str, Any]:
        """What `parse_criterion` reads."""
        return {self.kind: list(self.texts) if self.others else self.text}


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
        if kind in KINDS and isinstance(text, list) and text and all(isinstance(one, str) for one in text):
            return Criterion(text[0], kind, tuple(text[1:])).check(field)
    raise InvalidInput(f'{field} is {value!r}; write a text, or {{"regex": "..."}}, {{"token": "..."}} or {{"equals": "..."}}', field=field)


def verdict_criterion(*, yes: bool) -> Criterion:
    """Met where the first yes, no, true or false of an answer says so: "Yes, there is no doubt" is a yes, "That is not true" a no."""
    word, other = (_YES, _NO) if yes else (_NO, _YES)
    return Criterion(rf"(?is)\b(?:{word})\b(?<!\b(?:{other})\b.*)", "regex")


def without_full_stop(text: str) -> str:
    """A text without the full stop that ends it, for looking for it within an answer."""
    return text.strip().rstrip(_TRAILING).rstrip() or text.strip()


def _word(word: str) -> str:
    """Looks for one word; a number from a thousand on with commas between its thousands and without: 1,000 is 1000."""
    found = _THOUSANDS.fullmatch(word)
    if found is None:
        return str(regex.escape(word))
    digits = found[2].replace(",", "")
    first = len(digits) % 3 or 3
    groups = [digits[:first], *(digits[at : at + 3] for at in range(first, len(digits), 3))]
    return f"{regex.escape(found[1])}{',?'.join(groups)}{regex.escape(found[3])}"


def _words(text: str) -> Any:
    """Looks for a folded text as words of their own, as far as its script parts words."""
    words = r"\s+".join(map(_word, text.split(" ")))
    first, last = text[:1], text[-1:]
    before = rf"(?<!{_SPACED}_*)(?<!\d[.,])" if first.isalnum() and not _FREE.match(first) else ""
    if first.isdigit():
        before += _NO_OTHER_NUMBER
    elif _SIGNED.match(text):
        before = r"(?<!\w)"
    after = ""
    if last.isalnum() and not _FREE.match(last):
        after = r"(?!\d)" if _HANGUL.match(last) else rf"(?!_*{_SPACED})(?![.,/]\d)" if last.isdigit() else rf"(?!_*{_SPACED})"
    return regex.compile(f"(?V1){before}{words}{after}")


def _plain(text: str) -> str:
    return " ".join(fold(text).split()).rstrip(_TRAILING)
