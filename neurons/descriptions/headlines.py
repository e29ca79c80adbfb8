"""Headlines: at most eight plain words that say what a neuron side fires on, made from the traits that were chosen for it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from neurons.descriptions.headline_words import AFTER, CLASSES, DOMAINS, PARTS, PLACES, SPOKEN_ENDINGS

MAX_WORDS = 8
UNCLEAR = "unclear"
NEWLINE = "\n"


class Trait(NamedTuple):
    """One visible thing at a token."""

    kind: str
    """word, lemma, piece, part, class, meaning, topic, near, after, afterclass, phrase, before, place or domain."""
    value: str


GENERAL = ("class", "afterclass", "part", "place", "domain")
"""Kinds that stand at many tokens of every text."""
_DETAILS = ("word", "lemma", "phrase", "piece")


class Named(NamedTuple):
    """One thing that a headline names."""

    trait: Trait
    qualifier: Trait | None
    places: int
    """At how many of the side's strongest places it stands."""
    inside: int | None = None
    """The number of an earlier thing that it is an example of."""
    shown: str = ""
    """How it stands in the texts, where that is not its own value (a dictionary form)."""


def said(trait: Trait) -> str | None:
    """A trait in words; None where no person would say it."""
    kind, value = trait
    if "\ufffd" in value or ("\n" in value and value != NEWLINE):
        return None
    if kind in ("word", "lemma", "phrase"):
        return "line breaks" if value == "\n" else quoted(value) if value.strip() else None
    if kind == "piece":
        return f"word piece {quoted(value)}" if value.isalpha() else None
    if kind == "part":
        return PARTS.get(value)
    if kind == "class":
        if value.startswith("ends:"):
            return f"words in -{value[5:]}" if value[5:] in SPOKEN_ENDINGS else None
        if value.startswith("starts:"):
            return f"words in {value[7:]}-"
        return CLASSES.get(value)
    if kind == "meaning":
        return value
    if kind == "topic":
        return f"texts about {value}"
    if kind in ("near", "after", "before"):
        return f"{kind} {'line breaks' if value == NEWLINE else quoted(value)}" if value.strip() or value == NEWLINE else None
    if kind == "afterclass":
        return f"after {AFTER[value]}" if value in AFTER else None
    if kind == "place":
        return PLACES[value]
    if kind == "domain":
        return DOMAINS.get(value, f"{value} texts")
    return None


def cost_in_words(trait: Trait) -> float:
    """Words that a trait takes in a headline; infinite where it is never said."""
    text = said(trait)
    return float("inf") if text is None else float(count_words(text))


def headline(named: Sequence[Named]) -> str:
    """The headline of what was chosen, what stands at most places first; as many things as fit into `MAX_WORDS` words. "" for nothing."""
    kept = [one if not _repeats(one, named, n) else None for n, one in enumerate(named)]
    for count in range(len(kept), 0, -1):
        text = _phrase(kept[:count])
        if text and count_words(text) <= MAX_WORDS:
            return text
    return ""


def _repeats(one: Named, named: Sequence[Named], number: int) -> bool:
    """Whether the same text is said better by another: a phrase by its last word, or the other way round; a piece by the word."""
    texts = {other.shown or other.trait.value: other for n, other in enumerate(named) if n != number and other.trait.kind in _DETAILS}
    kind, text = one.trait.kind, one.shown or one.trait.value
    if kind == "phrase":
        word = texts.get(text.split(" ")[-1])
        return word is not None and one.places < 0.6 * word.places
    if kind in ("word", "lemma"):
        longer = [other for value, other in texts.items() if other.trait.kind == "phrase" and value.split(" ")[-1] == text]
        return any(other.places >= 0.6 * one.places for other in longer)
    return kind == "piece" and text in texts and texts[text].trait.kind != "piece"


def unclear(words: Sequence[str]) -> str:
    """What is said of a side that nothing short explains: words at its strongest places."""
    return f"{UNCLEAR}: around {', '.join(quoted(word) for word in words)}" if words else UNCLEAR


def _phrase(kept: Sequence[Named | None]) -> str:
    details: dict[int, list[Named]] = {}
    main: list[tuple[int, Named]] = []
    for n, one in enumerate(kept):
        if one is None:
            continue
        if one.inside is not None and one.trait.kind in _DETAILS and kept[one.inside] is not None:
            details.setdefault(one.inside, []).append(one)
        else:
            main.append((n, one))
    main.sort(key=lambda item: -item[1].places)
    items: list[str] = []
    for n, one in main:
        same = [other for _, other in main if _group(other) == _group(one)]
        if _group(one) == "":
            items.append(_with_details(one, details.get(n, ())))
        elif one is same[0]:
            items.append(_grouped(_group(one), [_shown(other) for other in same]))
    return ", ".join(items)


def _group(one: Named) -> str:
    """What is said in one breath with others of its kind; "" for what stands alone."""
    kind = one.trait.kind
    return "words" if kind in ("word", "lemma", "phrase") else kind if kind in ("piece", "near", "after", "before") else ""


def _grouped(group: str, texts: Sequence[str]) -> str:
    texts = list(dict.fromkeys(texts))
    if group == "words":
        return ", ".join(texts)
    if group == "piece":
        return f"word piece{'s' * (len(texts) > 1)} {', '.join(texts)}"
    listed = texts[0] if len(texts) == 1 else " or ".join([", ".join(texts[:-1]), texts[-1]])
    return f"{group} {listed}"


def _with_details(one: Named, details: Sequence[Named]) -> str:
    text = said(one.trait) or ""
    if one.qualifier is not None:
        text = f"{text} {_qualified(one.qualifier)}"
    if not details:
        return text
    link = ", mostly" if sum(detail.places for detail in details) >= 0.6 * one.places else " such as"
    return f"{text}{link} {', '.join(dict.fromkeys(_shown(detail) for detail in details))}"


def _qualified(qualifier: Trait) -> str:
    if qualifier.kind == "domain":
        return f"in {said(qualifier)}"
    return {"in brackets": "in brackets", "in quotes": "in quotes", "heading": "in headings", "list item": "in lists",
            "line start": "at starts of lines", "sentence start": "at starts of sentences"}.get(qualifier.value, "")  # fmt: skip


def _shown(one: Named) -> str:
    if one.trait.value == NEWLINE:
        return "line breaks"
    return quoted(one.shown or one.trait.value)


def quoted(text: str) -> str:
    """A token or words as they are quoted."""
    return f"'{text}'" if '"' in text else f'"{text}"'


def count_words(text: str) -> int:
    """Words as a reader counts them: what is in quotes counts by its own words, a lone sign is one."""
    return len(re.sub(r"[,:;](?= |$)", " ", text).split())
