"""A test of descriptions on readers: what a side's headline says, two passages with the peak marked, one of them the side's own.

Passages are of ranks 3 to 20 of the side and of another side drawn at random.
Answers are kept apart, so that nobody sees them while reading.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from neurons.atlas.records import Exemplar
from neurons.atlas.store import Atlas
from neurons.core.errors import InvalidInput
from neurons.core.types import NeuronSide, Polarity
from neurons.descriptions.headlines import UNCLEAR
from neurons.descriptions.kinds import UNCLEAR as UNCLEAR_KIND
from neurons.descriptions.old_headlines import headlines_of

By = Literal["headline", "detail"]
RANKS = (3, 20)
"""The strongest places are 1, 2, 3...: passages come from these ranks, both included."""
_CONTEXT = (24, 8)


@dataclass(frozen=True)
class Question:
    """One question, with its answer."""

    side: NeuronSide
    text: str
    """What the reader is told."""
    passages: tuple[str, str]
    """A and B, the peak in double brackets."""
    answer: Literal["A", "B"]
    kept_back: bool
    """The right passage is a place that the headline was not chosen by."""


def questions(atlas: Atlas, pieces: Sequence[str], *, count: int, seed: int, by: By = "headline") -> list[Question]:
    """Draw sides that are not called unclear, and two passages each. `pieces` are the vocabulary's texts.

    Raises `InvalidInput` when the atlas has no descriptions, or fewer clear sides than questions.
    """
    table = atlas.descriptions()
    if table is None:
        raise InvalidInput("this atlas has no descriptions to test; run `neuronscope atlas describe`", field="atlas")
    headlines = headlines_of(table)
    clear = ~headlines.str.startswith(UNCLEAR) if by == "headline" else ~headlines.str.startswith(UNCLEAR) & (table["kind"] != UNCLEAR_KIND)
    rows = np.flatnonzero(clear.to_numpy())
    if len(rows) < max(2, count):
        raise InvalidInput(f"{len(rows)} sides have a description, too few for {count} questions", field="n")
    rng = np.random.default_rng(seed)
    found: list[Question] = []
    for row in rng.permutation(rows):
        side, other = side_at(table, int(row)), side_at(table, int(rng.choice(rows)))
        own, lent = _drawn(atlas, side, rng), _drawn(atlas, other, rng)
        if own is None or lent is None or (other.layer, other.index) == (side.layer, side.index):
            continue
        first = bool(rng.integers(2))
        shown = (_passage(own, pieces), _passage(lent, pieces))
        text = str(headlines.iloc[row]) if by == "headline" else f"{headlines.iloc[row]}\n   {table['description'].iloc[row]}"
        found.append(Question(side, text, shown if first else shown[::-1], "A" if first else "B", own.rank % 4 == 3))
        if len(found) == count:
            return found
    raise InvalidInput(f"only {len(found)} sides have places of ranks {RANKS[0]} to {RANKS[1]}; ask for fewer questions", field="n")


def as_text(asked: Sequence[Question]) -> str:
    """The questions for a reader, without the answers."""
    return "\n".join(f"{n}. {q.text}\n   A: {q.passages[0]}\n   B: {q.passages[1]}\n" for n, q in enumerate(asked, 1))


def answers_text(asked: Sequence[Question]) -> str:
    """One line a question: its number, the answer, the neuron, and whether its passage was kept back."""
    return "".join(f"{n}\t{q.answer}\t{q.side}\t{'kept back' if q.kept_back else 'chosen by'}\n" for n, q in enumerate(asked, 1))


def _drawn(atlas: Atlas, side: NeuronSide, rng: np.random.Generator) -> Exemplar | None:
    places = [
        one for one in atlas.exemplars(side.layer, side.index, side.polarity, context=_CONTEXT) if RANKS[0] <= one.rank + 1 <= RANKS[1]
    ]
    return places[int(rng.integers(len(places)))] if places else None


def _passage(one: Exemplar, pieces: Sequence[str]) -> str:
    texts = [pieces[token] if token < len(pieces) else "" for token in one.ids]
    marked = f"{''.join(texts[: one.peak])}[[{texts[one.peak]}]]{''.join(texts[one.peak + 1 :])}"
    return marked.replace("\n", "⏎")


def side_at(table: pd.DataFrame, row: int) -> NeuronSide:
    """The neuron side of a row of a description table."""
    polarity: Polarity = "-" if table["polarity"].iloc[row] == "-" else "+"
    return NeuronSide(int(table["layer"].iloc[row]), int(table["index"].iloc[row]), polarity)
