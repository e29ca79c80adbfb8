"""What a reader sees in a token: its text, the word it ends, and the visible classes it belongs to. No model, no activations.

Classes are named by short identifiers ("preposition", "ends:ing", "sense:noun.food"); `render.CLASS_TEXT` holds their words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from neurons.descriptions.wordnet import supersense

WORD_CLASSES: dict[str, frozenset[str]] = {
    name: frozenset(words.split())
    for name, words in {
        "article": "the a an",
        "demonstrative": "this that these those such",
        "quantifier": "all some any no every each many much few several most more less both either neither another other enough lot",
        "possessive": "my your his her its our their whose mine yours hers ours theirs",
        "pronoun": "i you he she it we they me him us them myself yourself himself herself itself ourselves themselves one someone "
        "anyone everyone something anything everything nothing nobody thee thou thy ye",
        "preposition": "of in to for with on at from by about as into like through after over between out against during without before "
        "under around among within upon toward towards across behind beyond near above below off via per until till since along",
        "conjunction": "and or but nor so yet because although though while if unless whereas since than whether",
        "be": "is are was were be been being am 's 're 'm",
        "have": "have has had having 've",
        "do": "do does did done doing",
        "modal": "can could will would shall should may might must ought cannot 'll 'd",
        "negation": "not no never n't nor none neither without nothing cannot",
        "question": "who what which when where why how whose whom",
        "adverb": "very also just only even still already then there here now again too often usually always sometimes well quite rather "
        "almost however therefore thus hence ever once soon later perhaps maybe instead indeed",
        "numeral": "one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty hundred thousand million "
        "billion dozen half",
        "ordinal": "first second third fourth fifth sixth seventh eighth ninth tenth last next 1st 2nd 3rd",
        "comparative": "more less better worse greater larger smaller higher lower older younger longer shorter earlier later further "
        "most least best worst greatest largest smallest highest lowest oldest youngest longest",
        "month": "january february march april june july august september october november december jan feb mar apr jun jul aug sep sept "
        "oct nov dec",
        "weekday": "monday tuesday wednesday thursday friday saturday sunday mon tue tues wed thu fri sat sun",
        "time unit": "second seconds minute minutes hour hours day days week weeks month months year years century centuries decade "
        "decades today yesterday tomorrow night morning evening",
        "unit": "km kg cm mm miles mile meters metres meter feet inches inch percent degrees grams pounds dollars euros mb gb kb ms hz",
        "colour": "red green blue yellow black white brown orange purple pink grey gray golden silver",
        "direction": "north south east west northern southern eastern western left right up down northeast northwest southeast southwest",
        "kinship": "father mother son daughter brother sister wife husband uncle aunt cousin parents parent family children child king "
        "queen prince",
        "nationality": "american british english french german italian spanish russian chinese japanese indian greek roman european "
        "african asian australian canadian dutch swedish irish scottish jewish arab latin turkish polish persian",
        "keyword": "def return import class self none true false lambda elif else except raise yield assert async await int str list dict "
        "float bool tuple function var const let null void public static struct",
    }.items()
}
"""Closed classes of English (and code keywords) by their members, lower case."""

_BY_WORD: dict[str, tuple[str, ...]] = {}
for _name, _members in WORD_CLASSES.items():
    for _member in _members:
        _BY_WORD[_member] = (*_BY_WORD.get(_member, ()), _name)

SUFFIXES = [
    "ing",
    "ed",
    "ly",
    "tion",
    "sion",
    "er",
    "est",
    "al",
    "ous",
    "ive",
    "ity",
    "ness",
    "ment",
    "able",
    "ible",
    "ful",
    "less",
    "ic",
    "ist",
    "ism",
    "y",
    "s",
    "ship",
    "ance",
    "ence",
    "ology",
    "ish",
    "en",
    "ize",
    "ise",
    "ify",
    "ate",
    "us",
    "ia",
    "an",
    "ary",
    "ory",
    "age",
    "ure",
    "th",
]
"""Endings that make a class, for words of at least two letters more than the ending."""

PREFIXES = ["un", "re", "in", "im", "dis", "pre", "non", "over", "inter", "con", "de", "ex", "sub", "anti", "multi"]
"""Beginnings that make a class, for words of at least four letters more than the prefix."""

_PUNCTUATION = {
    ",": "comma",
    ".": "full stop",
    "!": "exclamation",
    "?": "question mark",
    ":": "colon",
    ";": "semicolon",
    "-": "dash",
    "–": "dash",
    "—": "dash",
    '"': "quote",
    "'": "quote",
    "“": "quote",
    "”": "quote",
    "’": "quote",
    "`": "quote",
    "(": "open bracket",
    "[": "open bracket",
    "{": "open bracket",
    ")": "close bracket",
    "]": "close bracket",
    "}": "close bracket",
    "/": "slash",
    "\\": "slash",
    "_": "underscore",
    "=": "operator",
    "+": "operator",
    "*": "operator",
    "<": "operator",
    ">": "operator",
    "|": "operator",
    "&": "operator",
    "%": "percent",
    "$": "currency",
    "€": "currency",
    "£": "currency",
    "#": "hash",
}
_LETTERS = re.compile(r"[^\W\d_]+")
_SPACE_RUN = re.compile(r"^[ \t]{2,}$|^\t$")


def key(piece: str) -> str:
    """The token as a reader quotes it: without spaces around it, in lower case; line breaks and runs of spaces by name; "" for nothing."""
    text = piece.strip().lower()
    if text:
        return text
    if "\n" in piece:
        return "\n"
    return "  " if _SPACE_RUN.match(piece) else piece and " "


def is_word(text: str) -> bool:
    """Whether lower-case letters are a word a reader knows: a closed-class word, or one of WordNet's of more than two letters."""
    return text in _BY_WORD or (len(text) > 2 and supersense(text) is not None)


@lru_cache(maxsize=200_000)
def word_classes(word: str) -> tuple[str, ...]:
    """Classes of a word (or the word so far), in lower case: closed classes, endings, beginnings, supersense."""
    found = list(_BY_WORD.get(word, ()))
    if not word.isalpha():
        return tuple(found)
    found += [f"ends:{ending}" for ending in SUFFIXES if word.endswith(ending) and len(word) >= len(ending) + 2]
    found += [f"starts:{prefix}" for prefix in PREFIXES if word.startswith(prefix) and len(word) >= len(prefix) + 4]
    sense = supersense(word) if len(word) > 1 and word not in _BY_WORD else None
    if sense:
        found += [f"sense:{sense}", sense.split(".")[0]]
    if len(word) >= 9:
        found.append("long word")
    return tuple(found)


@lru_cache(maxsize=200_000)
def shape_classes(piece: str) -> tuple[str, ...]:
    """Classes of the token's own characters: capitalised, number, kinds of punctuation, line break, other scripts, control token."""
    text = piece.strip()
    if not text:
        if "\n" in piece:
            return ("line break", "blank line", "space") if piece.count("\n") > 1 else ("line break", "space")
        return ("indent", "space") if len(piece) > 1 or piece == "\t" else ("space",) if piece else ()
    if text.startswith("<|") and text.endswith("|>"):
        return ("control token",)
    found: list[str] = []
    if text.isdigit():
        found.append("number")
    elif _LETTERS.search(text):
        found.append("letters")
        if text[0].isupper():
            found.append("capitalised")
            if len(text) > 1 and text.isupper():
                found.append("all caps")
        if len(text) == 1:
            found.append("single letter")
        if not text.isascii():
            found.append("non-ASCII letters")
    else:
        found.append("punctuation" if text.isascii() else "symbol")
        names = {_PUNCTUATION.get(char, "") for char in text} - {""}
        found += sorted(names)
        if len(text) > 1:
            found.append("several signs")
    return tuple(found)


def words_so_far(pieces: Sequence[str]) -> Iterator[str]:
    """For each token, the lower-case word up to and including it: "Neuron" + "scope" gives "neuron", "neuronscope"; "" off words."""
    word = ""
    for piece in pieces:
        text = piece.strip()
        joined = bool(word) and text[:1].isalpha() and not piece[:1].isspace()
        if not text or not (text.isalpha() or text.lower() in _BY_WORD):
            word = ""
        else:
            word = (word + text if joined else text).lower()
        yield word if len(word) < 40 else ""
