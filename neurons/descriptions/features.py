"""Turn token sequences into the visible features that a description may name: what stands at, just before and just after a token."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy import sparse

from neurons.descriptions.word_classes import key, shape_classes, word_classes, words_so_far

Where = Literal["at", "after", "before", "in"]
Kind = Literal["word", "class", "domain"]


class Part(NamedTuple):
    """One visible condition on a token, such as Part("after", "word", "of") or Part("at", "class", "ends:ing")."""

    where: Where
    kind: Kind
    value: str


@dataclass(frozen=True)
class View:
    """The parts that hold at each token of one sequence, before any vocabulary is chosen."""

    at: list[tuple[Part, ...]]
    """Parts of the token itself, "at" only; the other places derive from these."""
    place: list[tuple[Part, ...]]
    """Parts that depend on the tokens before: sentence start, line start, inside brackets or quotes, seen before."""


def at_parts(piece: str, word: str) -> tuple[Part, ...]:
    """The parts of one token by its own text and the word so far."""
    name = key(piece)
    found = [Part("at", "word", name)] if name.strip() else []
    found += [Part("at", "class", label) for label in shape_classes(piece)]
    if word:
        found += [Part("at", "class", label) for label in word_classes(word)]
        text = piece.strip()
        if len(word) > len(text):
            found.append(Part("at", "class", "word piece"))
    return tuple(dict.fromkeys(found))


def view(pieces: Sequence[str]) -> View:
    """Read one sequence of token texts (as they stand, with their spaces)."""
    at = [at_parts(piece, word) for piece, word in zip(pieces, words_so_far(pieces), strict=True)]
    place: list[tuple[Part, ...]] = []
    seen: set[str] = set()
    depth = 0
    quoted = False
    fresh_line = fresh_sentence = False
    for piece in pieces:
        name = key(piece)
        found = []
        wordy = len(name) > 2 and name.isalpha()
        if fresh_line and name not in ("\n", " ", "  ", ""):
            found.append("line start")
        if fresh_sentence and name not in ("\n", " ", "  ", ""):
            found.append("sentence start")
        if depth:
            found.append("in brackets")
        if quoted:
            found.append("in quotes")
        if wordy and name in seen:
            found.append("seen before")
        if wordy and name not in seen:
            found.append("new word")
        place.append(tuple(Part("at", "class", label) for label in found))
        if wordy:
            seen.add(name)
        if name == "\n":
            fresh_line, fresh_sentence, depth, quoted = True, True, 0, False
        elif name not in (" ", "  ", ""):
            fresh_line = False
            fresh_sentence = name[-1:] in ".!?" or (fresh_sentence and not name[-1:].isalnum())
        depth = max(0, min(4, depth + sum(name.count(c) for c in "([{") - sum(name.count(c) for c in ")]}")))
        if name.count('"') % 2 or "“" in name or "”" in name:
            quoted = not quoted
    return View(at, place)


def token_parts(seen: View, position: int, domain: str = "") -> list[Part]:
    """Every part that holds at one position of a sequence."""
    found = [*seen.at[position], *seen.place[position]]
    if position:
        found += [Part("after", part.kind, part.value) for part in (*seen.at[position - 1], *seen.place[position - 1])]
    if position + 1 < len(seen.at):
        found += [Part("before", part.kind, part.value) for part in seen.at[position + 1]]
    if domain:
        found.append(Part("in", "domain", domain))
    return found


def feature_matrix(
    views: Sequence[View], vocabulary: Mapping[Part, int], *, domains: Sequence[str] | None = None, first: int = 0
) -> sparse.csr_matrix:
    """Which vocabulary parts hold at each token: shape (sum of lengths less `first` each, F), float32 zeros and ones."""
    columns: list[int] = []
    pointers = [0]
    for row, seen in enumerate(views):
        domain = domains[row] if domains is not None else ""
        for position in range(first, len(seen.at)):
            columns += [index for part in token_parts(seen, position, domain) if (index := vocabulary.get(part)) is not None]
            pointers.append(len(columns))
    data = np.ones(len(columns), dtype=np.float32)
    return sparse.csr_matrix((data, np.asarray(columns, dtype=np.int32), np.asarray(pointers)), shape=(len(pointers) - 1, len(vocabulary)))


def choose_vocabulary(
    views: Sequence[View],
    documents: Sequence[int],
    *,
    domains: Sequence[str] | None = None,
    least: Mapping[tuple[str, str], int],
    least_documents: int,
    most: int,
) -> list[Part]:
    """Parts that stand at `least[where, kind]` tokens or more, in enough documents; the `most` commonest. Sorted, free of hash order."""
    counts: Counter[Part] = Counter()
    spread: defaultdict[Part, set[int]] = defaultdict(set)
    for row, seen in enumerate(views):
        domain = domains[row] if domains is not None else ""
        here: Counter[Part] = Counter()
        for position in range(len(seen.at)):
            here.update(token_parts(seen, position, domain))
        counts.update(here)
        for part in here:
            if len(spread[part]) < least_documents:
                spread[part].add(documents[row])
    total = sum(len(seen.at) for seen in views)
    enough = min(least_documents, len(set(documents)))
    usable = [p for p, count in counts.items() if least[p.where, p.kind] <= count <= 0.95 * total and len(spread[p]) >= enough]
    return sorted(sorted(usable, key=lambda part: (-counts[part], part))[:most])
