"""When a wrong answer counts as fixed: it names what is wanted, nothing else, does not take it back, and is no broken text.

The rule, word by word, is for English sentences; in other languages only "the wanted text, not the unwanted one" and broken text
decide. A rule that errs should err towards "not fixed": a fix that is called one and is none is the worse mistake.
"""

from __future__ import annotations

from typing import Any

import regex

from neurons.statistics.criteria import Criterion

MISSING = "the wanted text is not there"
DENIED = "it denies the wanted text"
UNWANTED = "the unwanted text is there"
TAKEN_BACK = "it takes the wanted text back"
BROKEN = "broken text"

_GAP = r"(?:[ \t]+(?!but\b|only\b|just\b|merely\b|simply\b|that\b|because\b)[\w'’]+){0,4}[ \t]*[\"'“‘(*_]*\Z"
"""From a word to the text it belongs to: at most four words of the same clause, and an opening quote."""
_DENIED_BEFORE = regex.compile(
    rf"(?:\b(?:not|never|neither|nor|no longer)\b|n['’]t\b)(?![ \t]+(?:only|just|merely|simply)\b){_GAP}", regex.I
)
_COMPARED_BEFORE = regex.compile(rf"\b(?:than|unlike|instead of|as opposed to|except(?: for)?|besides|apart from){_GAP}", regex.I)
_DENIED_AFTER = regex.compile(
    r"\A[\"'”’)*_]*[ \t]+(?:is|was|are|were|be)(?:n['’]t|[ \t]+not)[ \t]+(?:the|correct|right|true|it|what|an? answer)\b"
    r"|\A[\"'”’)*_]*[ \t]+(?:is|was|are|were)[ \t]+(?:wrong|incorrect|false|no longer)\b",
    regex.I,
)

_IT = r"(?:it|that|this|they|he|she|the (?:\w+ ){0,2}(?:answer|one|name|capital|city|word|number|result))"
_REALLY = r"(?:actually|really|in fact|in reality|in truth|instead|rather|truly)"
_IS = r"(?:['’]s|['’]re|[ \t]+(?:is|was|are|were|should be|would be|must be))"
_BUT = r"\b(?:but|however|though|although|yet|no|wait|sorry)\b[,;:]?[ \t]+"
_WAIT = r"(?:wait|no|nope|sorry|oops|correction|scratch that|my mistake|i was wrong|i mean|i meant)\b[,.:;!—–-]*[ \t]+"
_TURNS = tuple(
    regex.compile(pattern, regex.I)
    for pattern in (
        rf"{_BUT}(?:{_REALLY}[,]?[ \t]+)?{_IT}{_IS}[ \t]+(?:{_REALLY}[ \t]+)?(?:not[ \t]+)?",
        rf"(?<=[.!?\n;—–-])[ \t]*(?:well,?[ \t]+)?{_REALLY},[ \t]+(?:no,?[ \t]+)?(?:{_IT}{_IS}[ \t]+)?",
        rf"(?<=[.!?\n;,—–-])[ \t]*{_WAIT}(?:{_IT}{_IS}[ \t]+)?(?:{_REALLY}[ \t]+)?",
        rf"\bthe (?:correct|right|real|true|actual) (?:\w+ ){{0,5}}(?:is|was)[ \t]+(?:{_REALLY}[ \t]+)?",
        r"\b(?:that|this|which|it)(?:['’]s|[ \t]+(?:is|was))[ \t]+(?:wrong|incorrect|not (?:right|correct|true)|false|a mistake)\b",
    )
)
"""What takes an answer back, up to what is said instead."""
_BLANDS = r"(?:the|an?|that|of|in|called|named|city|planet|number|word|to|be)"
_INSTEAD = regex.compile(rf"\A(?:{_BLANDS}[ \t]+){{0,3}}[\"'“‘*_(]*(?P<said>[\w.,'’-]*\w)")
_SENTENCE_END = regex.compile(r"[.!?](?!\d)|\n")

_TWICE = regex.compile(r"(?V1)\b(\p{L}[\p{L}\p{M}'’]*|\d+)(?:[\s\p{P}\p{S}]+\1\b){2,}", regex.I)
_AGAIN = regex.compile(r"(?V1)\b(\w+(?:\W+\w+){1,7}?)(?:\W+\1\b){2,}", regex.I)
_STUTTER = regex.compile(r"(?V1)(\p{L}{1,8}?)\1{4,}", regex.I)
_SIGNS = regex.compile(r"(?V1)([\p{P}\p{S}--[-_=*#~.─━|]])\1{7,}")
_JUNK = regex.compile(r"\ufffd(?!\Z)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def why_not_fixed(answer: str, wanted: Criterion, unwanted: Criterion | None = None) -> str:
    """Why an answer does not count as fixed, or "" when it does.

    It counts when it names the wanted text and nowhere denies it; when it names the unwanted text at most to deny it ("not Istanbul") or to
    compare with it ("rather than Istanbul"); when nothing takes it back ("but it's actually Saturn"); and when it is no broken text.
    """
    named, denied = mentions(answer, wanted)
    if not named:
        return DENIED if denied else MISSING
    if unwanted is not None and any(not _covers(span, named) for span in mentions(answer, unwanted)[0]):
        return UNWANTED
    if denied:
        return DENIED
    if _taken_back(answer, named, wanted):
        return TAKEN_BACK
    return BROKEN if broken(answer, wanted) else ""


def broken(answer: str, wanted: Criterion | None = None) -> bool:
    """Whether a text repeats itself at once (a word or a phrase three times in a row), stutters or holds signs that are no text.

    A repeat that the wanted text itself asks for is none.
    """
    found = [match[0] for pattern in (_TWICE, _AGAIN, _STUTTER, _SIGNS, _JUNK) for match in pattern.finditer(answer)]
    asked = () if wanted is None or wanted.kind == "regex" else tuple(text.casefold() for text in wanted.texts)
    return any(not any(part.strip().casefold() in text for text in asked) for part in found)


def mentions(answer: str, criterion: Criterion) -> tuple[list[tuple[int, int]], bool]:
    """(where the text is named as it is, whether it is denied somewhere). What it is compared with is neither."""
    named, denied = [], False
    for start, end in criterion.spans(answer):
        before, after = answer[max(0, start - 80) : start], answer[end : end + 80]
        if criterion.kind == "equals":
            named.append((start, end))
        elif _DENIED_BEFORE.search(before) or _DENIED_AFTER.search(after):
            denied = True
        elif not _COMPARED_BEFORE.search(before):
            named.append((start, end))
    return named, denied


def _covers(span: tuple[int, int], named: list[tuple[int, int]]) -> bool:
    """Whether a place lies within one of the wanted text: "Istanbul" within "Istanbul Province"."""
    return any(start <= span[0] and span[1] <= end for start, end in named)


def _taken_back(answer: str, named: list[tuple[int, int]], wanted: Criterion) -> bool:
    """Whether something after the wanted text says another thing instead."""
    first = named[0][1]
    shape = _shape(answer[named[0][0] : first])
    for turn in (match for pattern in _TURNS for match in pattern.finditer(answer, first)):
        rest = answer[turn.end() :]
        end = _SENTENCE_END.search(rest)
        clause = rest if end is None else rest[: end.start()]
        if wanted.met(clause):
            continue
        if _is_verdict(turn) or ((said := _INSTEAD.match(clause)) is not None and _shape(said["said"]) == shape):
            return True
    return False


def _is_verdict(turn: Any) -> bool:
    """The turn says itself that it was wrong, whatever follows."""
    return regex.search(r"\b(?:wrong|incorrect|false|mistake|not (?:right|correct|true))\b", turn[0], regex.I) is not None


def _shape(text: str) -> str:
    """What kind of word it ends in: a number, a name or another word. What replaces an answer is of its kind."""
    words = regex.findall(r"\w+", text)
    letter = words[-1][0] if words else ""
    return "number" if letter.isdigit() else "name" if letter.isupper() else "word"
