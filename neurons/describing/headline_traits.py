"""What a headline may name at each token: numbered traits in flat arrays, a row of slots a token, so that a layer is looked up at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from neurons.atlas.corpus import Corpus
from neurons.describing.headline_units import Units
from neurons.descriptions.headline_words import PLACES
from neurons.descriptions.headlines import Trait
from neurons.descriptions.word_classes import WORD_CLASSES, is_word, key, shape_classes, word_classes
from neurons.descriptions.wordnet import lemma

BEFORE, AFTER = 16, 6
"""Units around a token whose content words are near it."""
NEAR_SLOTS = 10
LONGEST = 4
"""Units of the longest context that is named."""
REPEATED = 4
"""A context must stand in the corpus this often to be named."""
_CONTENT = ("kinship", "colour", "month", "weekday", "nationality", "time unit", "unit", "direction", "keyword")
FUNCTION_WORDS = frozenset(word for name, words in WORD_CLASSES.items() if name not in _CONTENT for word in words)
_AFTER_CLASSES = ("number", "year", "article", "possessive", "pronoun", "preposition", "be", "have", "modal", "negation", "conjunction",
                  "capitalised", "month", "question", "line break", "comma", "full stop", "quote", "open bracket", "close bracket",
                  "colon", "dash", "quantifier", "demonstrative", "numeral", "operator", "underscore", "slash")  # fmt: skip
_IDS = NDArray[np.int32]


@dataclass
class Numbers:
    """Traits numbered in the order they were met."""

    known: list[Trait] = field(default_factory=list)
    _number: dict[Trait, int] = field(default_factory=dict)

    def __call__(self, kind: str, value: str) -> int:
        trait = Trait(kind, value)
        found = self._number.get(trait)
        if found is None:
            found = self._number[trait] = len(self.known)
            self.known.append(trait)
        return found


@dataclass(frozen=True, eq=False)
class Meanings:
    """What words and stretches of text are about, by named concepts; empty where no embedder is at hand."""

    of_word: Mapping[str, tuple[str, ...]]
    """Concepts of a whole word, surest first."""
    block: int
    """Tokens of a stretch."""
    topic_B: tuple[tuple[str, ...], ...]
    """Concepts of each stretch of the corpus, surest first."""


NO_MEANINGS = Meanings({}, 32, ())


@dataclass(frozen=True, eq=False)
class TraitTable:
    """The traits of every token of a corpus."""

    slot_TS: _IDS
    """Numbers into `known`, -1 for nothing."""
    known: tuple[Trait, ...]
    word_T: NDArray[np.int64]
    """The text of each token's unit, a number into `texts`."""
    texts: tuple[str, ...]


def trait_table(corpus: Corpus, pieces: Sequence[str], units: Units, meanings: Meanings = NO_MEANINGS) -> TraitTable:
    """All traits of all tokens. `units` is the corpus as `cut` gives it."""
    numbers = Numbers()
    word_TS = _word_slots(units, meanings, numbers)[units.text_U][units.unit_T]
    token_TS = _token_slots(pieces, numbers)[np.minimum(corpus.tokens.astype(np.int64), len(pieces) - 1)]
    parts = [
        word_TS,
        token_TS,
        _piece_slots(units, corpus, pieces, numbers),
        _context_slots(units, numbers)[units.unit_T],
        _near_slots(units, numbers)[units.unit_T],
        _place_slots(units, numbers)[units.unit_T],
        _text_slots(units, corpus, meanings, numbers),
    ]
    # what stands before a word is no context of its later pieces
    inside_T = units.first_U[units.unit_T] != np.arange(len(units.unit_T))
    parts[3][inside_T, : LONGEST + 1] = -1
    return TraitTable(np.concatenate(parts, axis=1).astype(np.int32), tuple(numbers.known), units.text_U[units.unit_T], units.texts)


def _padded(rows: Sequence[Sequence[int]], slots: int) -> _IDS:
    out = np.full((len(rows), slots), -1, dtype=np.int32)
    for row, values in zip(out, rows, strict=True):
        row[: min(slots, len(values))] = values[:slots]
    return out


def _word_slots(units: Units, meanings: Meanings, numbers: Numbers) -> _IDS:
    """(texts, slots): the word itself by its dictionary form, its classes, its meanings."""
    rows = []
    for text in units.texts:
        row = [numbers("word", text)] if text.strip() else []
        if text.isalpha() and len(text) > 1:
            base = lemma(text)
            if base and base != text and text not in FUNCTION_WORDS:
                row.append(numbers("lemma", base))
            elif base == text and text not in FUNCTION_WORDS:
                row.append(numbers("lemma", text))
            row += [numbers("class", name) for name in word_classes(text) if name not in ("noun", "verb", "adj", "adv", "long word")]
        elif text.isdigit():
            row.append(numbers("class", "year" if len(text) == 4 and "1000" <= text <= "2099" else f"digits:{min(len(text), 5)}"))
        row += [numbers("meaning", name) for name in meanings.of_word.get(text, ())]
        rows.append(row)
    return _padded(rows, 14)


def _token_slots(pieces: Sequence[str], numbers: Numbers) -> _IDS:
    return _padded([[numbers("class", name) for name in shape_classes(piece) if name not in ("letters", "space")] for piece in pieces], 4)


def _piece_slots(units: Units, corpus: Corpus, pieces: Sequence[str], numbers: Numbers) -> _IDS:
    """(T, 3): for a token that is only part of its unit, its own text, which part it is, and whether of a name or a rare word."""
    length_T, at_T = units.length_U[units.unit_T], np.arange(len(units.unit_T)) - units.first_U[units.unit_T]
    names = [key(piece) for piece in pieces]
    piece_V = np.array([numbers("piece", name) if name.strip() else -1 for name in names], dtype=np.int32)
    letters_U = np.array([text.isalpha() for text in units.texts])[units.text_U][units.unit_T]
    split_T = length_T > 1
    ids_T = np.minimum(corpus.tokens.astype(np.int64), len(pieces) - 1)
    out = np.full((len(ids_T), 3), -1, dtype=np.int32)
    out[:, 0] = np.where(split_T, piece_V[ids_T], -1)
    part_T = np.where(at_T == 0, 0, np.where(at_T == length_T - 1, 2, 1))
    labels = np.array([[numbers("part", f"{part} {what}") for what in ("number", "word", "name")] for part in ("first", "middle", "last")])
    what_T = np.where(letters_U, np.where(units.capital_U[units.unit_T], 2, 1), 0)
    out[:, 1] = np.where(split_T, labels[part_T, what_T], -1)
    out[:, 2] = np.where(split_T & letters_U, np.where(at_T == 0, numbers("part", "first"), numbers("part", "later")), -1)
    return out


def _context_slots(units: Units, numbers: Numbers) -> _IDS:
    """(U, slots): the 1 to 4 units before, their class, phrases that end here, and the unit after."""
    text_U = units.text_U
    out = np.full((len(text_U), 2 * LONGEST + 3), -1, dtype=np.int32)
    spoken = np.array([bool(text.strip()) or text == "\n" for text in units.texts])
    run_U, strings = text_U + 1, ["", *units.texts]  # the last n units, this one included, as one number; 0: rare, or over a window's start
    good_U = spoken[text_U]
    first = np.flatnonzero(np.diff(units.window_U, prepend=-1))
    for n in range(1, LONGEST + 1):
        counts = np.bincount(run_U, minlength=len(strings))
        run_U = np.where(counts[run_U] >= REPEATED, run_U, 0) * good_U
        out[1:, n - 1] = _named(run_U, strings, "after", numbers)[:-1]
        out[first, n - 1] = -1
        if n > 1:
            out[:, LONGEST + n - 1] = _named(run_U, strings, "phrase", numbers)
        inside = np.concatenate([np.zeros(n, dtype=bool), units.window_U[n:] == units.window_U[:-n]]) & (run_U > 0)
        earlier = np.concatenate([np.zeros(n, dtype=np.int64), text_U[:-n]])
        pairs, run_U = np.unique(np.where(inside, (earlier + 1) * len(strings) + run_U, 0), return_inverse=True)
        left, right = (part.tolist() for part in np.divmod(pairs, len(strings)))
        strings = [f"{units.texts[a - 1]} {strings[b]}" if a else "" for a, b in zip(left, right, strict=True)]
    classes = [_classes(text) for text in units.texts]
    after = [next((numbers("afterclass", name) for name in _AFTER_CLASSES if name in found), -1) for found in classes]
    before = [numbers("before", text) if text.strip() or text == "\n" else -1 for text in units.texts]
    same_next = units.window_U[1:] == units.window_U[:-1]
    out[1:, 2 * LONGEST] = np.where(same_next, np.array(after, dtype=np.int32)[text_U[:-1]], -1)
    out[1:, 2 * LONGEST + 1] = np.where(same_next & units.capital_U[:-1], numbers("afterclass", "capitalised"), -1)
    out[:-1, 2 * LONGEST + 2] = np.where(same_next, np.array(before, dtype=np.int32)[text_U[1:]], -1)
    # slots that `trait_table` clears inside words come first: the contexts and the class before
    order = [*range(LONGEST), 2 * LONGEST, *range(LONGEST, 2 * LONGEST), 2 * LONGEST + 1, 2 * LONGEST + 2]
    return out[:, order]


def _named(run_U: NDArray[np.int64], strings: Sequence[str], kind: str, numbers: Numbers) -> _IDS:
    number = np.full(len(strings), -1, dtype=np.int32)
    for at in np.unique(run_U[run_U > 0]).tolist():
        number[at] = numbers(kind, strings[at])
    return number[run_U]


def _classes(text: str) -> tuple[str, ...]:
    if text.isalpha():
        return word_classes(text)
    return shape_classes(text)


def _near_slots(units: Units, numbers: Numbers) -> _IDS:
    """(U, slots): dictionary forms of content words near each unit, the rarest in the corpus first."""
    content = {}
    for number, text in enumerate(units.texts):
        if len(text) > 2 and text.isalpha() and text not in FUNCTION_WORDS and is_word(text):
            content[number] = numbers("near", lemma(text) or text)
    near_U = np.array([content.get(number, -1) for number in range(len(units.texts))], dtype=np.int32)[units.text_U]
    count = Counter(near_U[near_U >= 0].tolist())
    often = np.zeros(max(len(numbers.known), 1) + 1, dtype=np.int64)
    for number, times in count.items():
        often[number] = times
    columns = []
    for step in [step for step in range(-BEFORE, AFTER + 1) if step]:
        column = np.full(len(near_U), -1, dtype=np.int32)
        here = slice(max(0, -step), len(near_U) - max(0, step))
        there = slice(max(0, step), len(near_U) - max(0, -step))
        column[here] = np.where(units.window_U[here] == units.window_U[there], near_U[there], -1)
        columns.append(column)
    all_UN = np.stack(columns, axis=1)
    rarity_UN = np.where(all_UN >= 0, often[all_UN], np.iinfo(np.int64).max)
    best = np.argpartition(rarity_UN, NEAR_SLOTS, axis=1)[:, :NEAR_SLOTS]
    return np.take_along_axis(all_UN, best, axis=1)


def _place_slots(units: Units, numbers: Numbers) -> _IDS:
    """(U, 6): where in line and sentence, inside brackets or quotes, said before."""
    name = {text: numbers("place", text) for text in PLACES}
    out = np.full((len(units.text_U), 6), -1, dtype=np.int32)
    texts = [units.texts[n] for n in units.text_U.tolist()]
    windows = units.window_U.tolist()
    line: list[int] = []
    window, depth, quoted, fresh_line, fresh_sentence = -1, 0, False, False, False
    seen: set[str] = set()
    for unit, text in enumerate(texts):
        if windows[unit] != window:
            window, depth, quoted, fresh_line, fresh_sentence, line = windows[unit], 0, False, False, False, []
            seen = set()
        if text == "\n":
            _end_line(line, texts, out, name)
            line, fresh_line, fresh_sentence, depth, quoted = [], True, True, 0, False
            continue
        if not text.strip():
            continue
        line.append(unit)
        out[unit, 0] = name["line start"] if fresh_line else name["sentence start"] if fresh_sentence else -1
        out[unit, 1] = name["in brackets"] if depth else name["in quotes"] if quoted else -1
        wordy = len(text) > 2 and text.isalpha()
        if wordy:
            out[unit, 2] = name["seen before"] if text in seen and text not in FUNCTION_WORDS else -1
            seen.add(text)
        fresh_line = False
        fresh_sentence = text[-1] in ".!?" or (fresh_sentence and not text[-1].isalnum())
        depth = max(0, min(4, depth + sum(map(text.count, "([{")) - sum(map(text.count, ")]}"))))
        if text.count('"') % 2 or "“" in text or "”" in text:
            quoted = not quoted
        if text[-1] in ".!?":
            out[unit, 3] = name["sentence end"]
    return out


def _end_line(line: list[int], texts: Sequence[str], out: _IDS, name: Mapping[str, int]) -> None:
    if not line:
        return
    out[line[-1], 5] = name["line end"]
    if texts[line[0]] in ("-", "*", "•", "–"):
        out[line, 4] = name["list item"]
    elif len(line) < 9 and texts[line[-1]][-1] not in ".,;:!?" and texts[line[0]].isalpha():
        out[line, 4] = name["heading"]


def _text_slots(units: Units, corpus: Corpus, meanings: Meanings, numbers: Numbers) -> _IDS:
    """(T, 5): the kind of text, and what the stretch is about."""
    domain_S = np.array([numbers("domain", corpus.source_of(n).domain) for n in range(corpus.n_sequences)], dtype=np.int32)
    length = len(units.unit_T)
    out = np.full((length, 5), -1, dtype=np.int32)
    out[:, 0] = domain_S[np.repeat(np.arange(corpus.n_sequences), corpus.length_S)]
    if meanings.topic_B:
        topics = _padded([[numbers("topic", topic) for topic in row] for row in meanings.topic_B], 4)
        out[:, 1:] = topics[np.minimum(np.arange(length) // meanings.block, len(topics) - 1)]
    return out
