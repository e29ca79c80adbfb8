"""What type of neuron side a description speaks of: the kind of part that carries most of what the description predicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from neurons.descriptions.features import Part

UNCLEAR = "unclear"
IMPORTED = "imported"
KINDS = {
    "token": "fires on particular tokens",
    "word class": "fires on a grammatical class of words",
    "morphology": "fires on beginnings, endings or pieces of words",
    "meaning": "fires on words of related meaning",
    "name": "fires on capitalised words, months, nationalities and the like",
    "number": "fires on numbers and number words",
    "punctuation": "fires on punctuation and symbols",
    "layout": "fires on line breaks, indentation and starts of lines or sentences",
    "context": "fires after particular tokens",
    "next": "fires before particular tokens",
    "domain": "fires throughout one kind of text",
    "says": "fires before tokens that it promotes itself",
    "mixed": "several kinds of parts, none of which carries the description",
    UNCLEAR: "no short description predicts it",
    IMPORTED: "described elsewhere, in words that are not scored here",
}
"""Every kind and what it means."""

_CLASS_KIND = {
    **dict.fromkeys(("capitalised", "all caps", "month", "weekday", "nationality", "non-ASCII letters", "single letter"), "name"),
    **dict.fromkeys(("number", "numeral", "ordinal", "percent", "currency", "unit"), "number"),
    **dict.fromkeys(("word piece", "long word"), "morphology"),
    **dict.fromkeys(("line break", "blank line", "indent", "space", "line start", "sentence start", "in brackets", "in quotes"), "layout"),
    **dict.fromkeys(("seen before", "new word"), "context"),
    **dict.fromkeys(("colour", "direction", "kinship", "time unit"), "meaning"),
    **dict.fromkeys(
        [
            "punctuation",
            "symbol",
            "several signs",
            "comma",
            "full stop",
            "exclamation",
            "question mark",
            "colon",
            "semicolon",
            "dash",
            "quote",
            "open bracket",
            "close bracket",
            "slash",
            "underscore",
            "operator",
            "hash",
        ],
        "punctuation",
    ),
}


def part_kind(part: Part) -> str:
    """The kind of one part."""
    if part.where == "after":
        return "context"
    if part.where == "before":
        return "next"
    if part.where == "in":
        return "domain"
    if part.kind == "word":
        return "number" if part.value.isdigit() else "token" if any(c.isalpha() for c in part.value) else "punctuation"
    if part.value.startswith(("ends:", "starts:")):
        return "morphology"
    return "meaning" if part.value.startswith("sense:") else _CLASS_KIND.get(part.value, "word class")


def kind_of(parts: Sequence[Part], carried: Sequence[float]) -> str:
    """The kind that carries most of `carried` (each part's share in the predicted covariance), "mixed" where none reaches 40%."""
    totals: Counter[str] = Counter()
    for part, share in zip(parts, carried, strict=True):
        if share > 0:
            totals[part_kind(part)] += share  # type: ignore[assignment]
    if not totals:
        return UNCLEAR
    kind, most = max(totals.items(), key=lambda item: (item[1], item[0]))
    return kind if most >= 0.4 * sum(totals.values()) else "mixed"
