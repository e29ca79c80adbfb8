"""A pattern's phrase, and the pattern back from its phrase: what a reader sees is exactly what is scored.

    phrase := group ("; " group)*        group := [adverb " "] item (", " item)*
    adverb := "strongly" | "weakly" | "less on" | "not"           (none: the middle level)
    item   := ["after " | "before " | "in "] value ("/" value)*   value := "quoted token" | words for a class

`"than", "about"; weakly numbers, after "of"/"in"; not commas` reads: fires on the tokens than and about, three times less on numbers and
just after of or in, and commas count against it. What holds at a token adds up.
"""

from __future__ import annotations

import json
import re

from neurons.core.errors import InvalidInput
from neurons.core.json_text import json_text
from neurons.descriptions.features import Part, Where
from neurons.descriptions.patterns import LEVELS, Pattern
from neurons.descriptions.word_classes import PREFIXES, SUFFIXES, WORD_CLASSES

MAX_WORDS = 25

_SENSES = {
    "noun.act": "actions", "noun.animal": "animals", "noun.artifact": "man-made things", "noun.attribute": "attributes",
    "noun.body": "body parts", "noun.cognition": "ideas", "noun.communication": "communication", "noun.event": "events",
    "noun.feeling": "feelings", "noun.food": "food", "noun.group": "groups", "noun.location": "places", "noun.motive": "motives",
    "noun.object": "natural objects", "noun.person": "people", "noun.phenomenon": "phenomena", "noun.plant": "plants",
    "noun.possession": "possessions", "noun.process": "processes", "noun.quantity": "quantities", "noun.relation": "relations",
    "noun.shape": "shapes", "noun.state": "states", "noun.substance": "substances", "noun.time": "times", "noun.tops": "basic things",
    "verb.body": "bodily verbs", "verb.change": "verbs of change", "verb.cognition": "verbs of thinking",
    "verb.communication": "verbs of saying", "verb.competition": "verbs of competing", "verb.consumption": "verbs of eating",
    "verb.contact": "verbs of touching", "verb.creation": "verbs of making", "verb.emotion": "verbs of feeling",
    "verb.motion": "verbs of motion", "verb.perception": "verbs of perceiving", "verb.possession": "verbs of owning",
    "verb.social": "social verbs", "verb.stative": "verbs of being", "verb.weather": "weather verbs",
    "adj.all": "descriptive adjectives", "adj.pert": "relational adjectives", "adj.ppl": "participles", "adv.all": "manner adverbs",
}  # fmt: skip
_PLAIN = {
    "article": "articles", "demonstrative": "demonstratives", "quantifier": "quantifiers", "possessive": "possessives",
    "pronoun": "pronouns", "preposition": "prepositions", "conjunction": "conjunctions", "be": "forms of be", "have": "forms of have",
    "do": "forms of do", "modal": "modal verbs", "negation": "negations", "question": "question words", "adverb": "common adverbs",
    "numeral": "number words", "ordinal": "ordinals", "comparative": "comparatives", "month": "months", "weekday": "weekdays",
    "time unit": "units of time", "unit": "units", "colour": "colours", "direction": "directions", "kinship": "family words",
    "nationality": "nationalities", "keyword": "code keywords",
    "letters": "words", "capitalised": "capitalised words", "all caps": "words in capitals", "single letter": "single letters",
    "non-ASCII letters": "accented or foreign letters", "number": "numbers", "punctuation": "punctuation", "symbol": "unusual symbols",
    "several signs": "several signs together", "comma": "commas", "full stop": "full stops", "exclamation": "exclamation marks",
    "question mark": "question marks", "colon": "colons", "semicolon": "semicolons", "dash": "dashes", "quote": "quotation marks",
    "open bracket": "opening brackets", "close bracket": "closing brackets", "slash": "slashes", "underscore": "underscores",
    "operator": "operators", "percent": "percent signs", "currency": "currency signs", "hash": "hash signs",
    "line break": "line breaks", "blank line": "blank lines", "indent": "indentation", "space": "white space",
    "control token": "control tokens", "word piece": "later pieces of words", "long word": "long words",
    "noun": "nouns", "verb": "verbs", "adj": "adjectives", "adv": "adverbs",
    "line start": "starts of lines", "sentence start": "starts of sentences", "in brackets": "text inside brackets",
    "in quotes": "text inside quotes", "seen before": "repeated words", "new word": "words not seen before",
}  # fmt: skip
CLASS_TEXT: dict[str, str] = {
    **_PLAIN,
    **{f"sense:{name}": text if text.split()[-1] in ("verbs", "adjectives", "adverbs", "participles") or text.startswith("verbs")
       else f"words for {text}" for name, text in _SENSES.items()},
    **{f"ends:{ending}": f"words in -{ending}" for ending in SUFFIXES},
    **{f"starts:{prefix}": f"words in {prefix}-" for prefix in PREFIXES},
}  # fmt: skip
"""The words for each class of `lexicon`."""

_TEXT_CLASS = {text: name for name, text in CLASS_TEXT.items()}
_ADVERBS = {9: "strongly", 3: "", 1: "weakly", -1: "less on", -3: "not"}
_PLACES: tuple[Where, ...] = ("at", "after", "before", "in")
_PIECES = re.compile(r'"(?:[^"\\]|\\.)*"|[^",;/]+|[,;/]')

if missing := (set(WORD_CLASSES) - set(CLASS_TEXT)) or (len(_TEXT_CLASS) != len(CLASS_TEXT)):
    raise RuntimeError(f"class texts are missing or not unique: {missing}")


def value_text(part: Part) -> str:
    """One value as it stands in a phrase: a quoted token, the words for a class, or a domain's name."""
    if part.kind == "word":
        return json_text(part.value)
    return CLASS_TEXT[part.value] if part.kind == "class" else part.value


def render(pattern: Pattern) -> str:
    """The phrase of a pattern; "" for an empty one. Within a level: the token itself first, then after, before, in."""
    groups = []
    for level in LEVELS:
        items = []
        for place in _PLACES:
            values = [value_text(part) for part, at in pattern.parts if at == level and part.where == place]
            if values:
                items.append(", ".join(values) if place == "at" else f"{place} {'/'.join(values)}")
        if items:
            groups.append(f"{_ADVERBS[level]} {', '.join(items)}".strip())
    return "; ".join(groups)


def count_words(phrase: str) -> int:
    """Words of a phrase as a reader counts them: each quoted token is one, values joined by slashes are counted apart."""
    quoted = re.sub(r'"(?:[^"\\]|\\.)*"', " q ", phrase)
    return len(re.sub(r"[/,;]", " ", quoted).split())


def parse(phrase: str) -> Pattern:
    """The pattern of a phrase written by `render`. Raises `InvalidInput` for free text (which has no score)."""
    pieces = _PIECES.findall(phrase)
    if not phrase or "".join(pieces) != phrase:
        raise InvalidInput("the description is free text, not a pattern; it is kept and shown, and has no score of its own")
    parts: list[tuple[Part, int]] = []
    level, place, fresh_group, fresh_item = 3, _PLACES[0], True, True
    for piece in pieces:
        text = piece.strip()
        if piece in (",", ";", "/"):
            fresh_group, fresh_item = piece == ";", piece in ",;"
            continue
        if fresh_group and not piece.startswith('"'):
            level = next((at for at, adverb in _ADVERBS.items() if adverb and f"{text} ".startswith(adverb + " ")), 3)
            text = f"{text} ".removeprefix(_ADVERBS[level] + " ").strip() if level != 3 else text
        elif fresh_group:
            level = 3
        if fresh_item:
            place = (
                next((where for where in _PLACES[1:] if f"{text} ".startswith(where + " ")), "at") if not piece.startswith('"') else "at"
            )
            text = f"{text} ".removeprefix(place + " ").strip() if place != "at" else text
        fresh_group = fresh_item = False
        if text:
            parts.append((_value(text, place), level))
    if not parts:
        raise InvalidInput(f"{phrase!r} names no token and no class; it is kept as free text, without a score")
    return Pattern(tuple(parts))


def _value(text: str, place: Where) -> Part:
    if text.startswith('"'):
        try:
            return Part(place, "word", str(json.loads(text)))
        except ValueError as error:
            raise InvalidInput(f"{text} is not a quoted token") from error
    if text in _TEXT_CLASS:
        return Part(place, "class", _TEXT_CLASS[text])
    if place == "in":
        return Part(place, "domain", text)
    raise InvalidInput(
        f"{text!r} is not a token in quotes or a class that descriptions use; the description is kept as free text, without a score"
    )
