"""Which word of an answer decided it: where a cause is worth asking for, and what is unwanted when the answer is wrong."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from neurons.descriptions.word_classes import WORD_CLASSES
from neurons.tracing.words import word_positions
from pages.shared.trace_context import TraceContext

_LOOKED_AT = 40
_ASKS_HOW_MUCH = re.compile(
    r"\b(?:how (?:many|much|long|old|far|tall|high|big|fast|often|heavy|deep)|(?:what|which) (?:year|number|age|time)|when)\b", re.I
)
_NUMBERS = frozenset(
    (
        "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen",
        "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty",
        "ninety", "hundred", "thousand", "million", "billion",
    )
)  # fmt: skip
_APOSTROPHE = re.compile("['’]")
_SURE = math.log(0.9)
_SAYS_NOTHING = frozenset(
    word
    for name in (
        "article", "demonstrative", "quantifier", "possessive", "pronoun", "preposition", "conjunction", "be", "have", "do", "modal",
        "negation", "question", "adverb",
    )
    for word in WORD_CLASSES[name]
)  # fmt: skip


def tells(piece: str) -> bool:
    """Whether a token says something by itself: no sign, no article, preposition or other word of grammar."""
    return piece.strip().casefold() not in _SAYS_NOTHING and any(letter.isalnum() for letter in piece)


def words(pieces: Sequence[str]) -> list[tuple[int, int, str]]:
    """The words of some tokens: (first token, one past the last, the word), signs and spaces left out."""
    found: list[tuple[int, int, str]] = []
    for place, piece in enumerate(pieces):
        bare = piece.strip()
        goes_on = bare[:1].isalnum() or (bare[:1] in "'’" and bare[1:2].isalnum())  # "Bob" and "'s" are one word
        joined = found and found[-1][1] == place and not piece[:1].isspace() and goes_on and pieces[place - 1][-1:].isalnum()
        if joined:
            start, _, before = found[-1]
            found[-1] = (start, place + 1, before + bare.rstrip(".,;:!?"))
        elif any(letter.isalnum() for letter in bare):
            found.append((place, place + 1, bare.strip(".,;:!?\"'()*_")))
    return found


def deciding(pieces: Sequence[str], logprobs: Sequence[float], asked: str = "") -> int:
    """The first token of the word that decided an answer; 0 where it has no word.

    Where `asked` asks how much, that is the first number that it does not hold itself. Else it is the first word that says something, is
    not in the question, and was not sure (under 90%); else the first that says something new. An answer of the question's own words is
    decided by its least expected number, else by its least expected word that says something, else by its least expected word.
    """
    known = {word.casefold() for _, _, word in words(_split(asked))}
    spoken = words(pieces)
    telling = [(start, word) for start, _, word in spoken if _APOSTROPHE.split(word.casefold())[0] not in _SAYS_NOTHING]
    new = [start for start, word in telling if word.casefold() not in known]
    numbers = [start for start, _, word in spoken if word[0].isdigit() or word.casefold() in _NUMBERS]
    counted = [start for start in numbers if start in new] if _ASKS_HOW_MUCH.search(asked) else []
    chance = dict(enumerate(logprobs))
    unsure = [start for start in new if chance.get(start, 0.0) < _SURE]
    if counted or unsure or new:
        return (counted or unsure or new)[0]
    repeated = numbers or [start for start, _ in telling] or [start for start, _, _ in spoken]
    return min(repeated, key=lambda start: chance.get(start, 0.0), default=0)


def deciding_token(context: TraceContext) -> int:
    """Its position in a trace's prompt + answer, looked for among the first tokens of the answer."""
    record = context.record
    first = len(record.prompt_ids)
    last = next(iter(reversed(word_positions(record))), first)  # the token that ended the answer decided nothing
    shown = slice(first, min(first + _LOOKED_AT, last + 1))
    return first + deciding(record.pieces[shown], context.facts.get("logprob", ())[shown], record.prompt)


def unwanted_word(context: TraceContext) -> str:
    """The word of the answer that is selected, else the one that decided it."""
    first = len(context.record.prompt_ids)
    inside = [position for position in context.positions if position >= first] if context.ranges else []
    place = (inside[0] if inside else deciding_token(context)) - first
    return next((word for start, stop, word in words(context.record.pieces[first:]) if start <= place < stop), "")


def _split(text: str) -> list[str]:
    """A text as the pieces that `words` reads."""
    return [f" {word}" for word in text.split()]
