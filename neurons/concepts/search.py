"""Find neuron sides by what they do: free text, keywords and filters over all described sides of an atlas."""

from __future__ import annotations

from collections.abc import Collection
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neurons.atlas.store import Atlas, open_atlas
from neurons.concepts.embed import embed_query, embedder
from neurons.concepts.space import ConceptSpace
from neurons.concepts.writing import leanings
from neurons.core.errors import InvalidInput, NotFound
from neurons.core.types import ModelRef, NeuronSide, Polarity
from neurons.descriptions.edits import Edits
from neurons.descriptions.kinds import KINDS, UNCLEAR
from neurons.descriptions.old_headlines import with_headline_columns

LIKENESS = 0.25
"""Weight of the description's likeness beside the reading (whose weight is 1)."""
CLEAR_MATCH = 0.2
"""A best reading below this means that no neuron is clearly about the query: letters typed at random reach .11."""


@dataclass(frozen=True)
class Filters:
    """What a search is narrowed to. Empty or None fields do not narrow."""

    keyword: str = ""
    """Each of its words must stand in the headline, the description, the second line or the theme; case does not matter."""
    layers: tuple[int, int] | None = None
    """First and last layer, both included."""
    polarity: Polarity | None = None
    least_score: float | None = None
    """Held-out correlation of the description, at least."""
    kinds: Collection[str] = ()
    clear_only: bool = False
    """Leave out sides whose description is unclear (they can still be found by what the model does)."""

    def check(self, n_layers: int) -> Filters:
        """Return self, or raise `InvalidInput`."""
        if self.layers is not None and not 0 <= self.layers[0] <= self.layers[1] < n_layers:
            raise InvalidInput(
                f"layers {self.layers[0]}:{self.layers[1]} are not within 0:{n_layers - 1}; give the first and the last layer",
                field="layers",
            )
        if unknown := sorted(set(self.kinds) - set(KINDS)):
            raise InvalidInput(f"{unknown[0]!r} is no type of neuron; there are {', '.join(KINDS)}", field="kind")
        if self.polarity not in (None, "+", "-"):
            raise InvalidInput(f"polarity is {self.polarity!r}; use + or -", field="polarity")
        return self


@dataclass(frozen=True)
class Hit:
    """One neuron side found."""

    layer: int
    index: int
    polarity: Polarity
    headline: str
    """At most eight plain words; the user's own text where there is one."""
    description: str
    second: str
    kind: str
    score: float | None
    """Held-out correlation of its description; None where it is unclear or was written by hand."""
    similarity: float
    """What it is ranked by: `reading`, plus a quarter of the description's likeness to the query."""
    reading: float
    """Correlation, over the atlas's corpus, of its activation with the meaning of the query."""
    writes: str = ""
    """What it makes more or less likely to come next; "" where nothing plain is known."""
    leaning: int = 0
    """-1: it reads what was asked for and makes the words of it less likely; 1: likelier; 0: neither is known."""

    @property
    def side(self) -> NeuronSide:
        return NeuronSide(self.layer, self.index, self.polarity)


class SearchIndex:
    """The descriptions of an atlas (with the user's edits) ready to be searched. Build once an atlas and keep it."""

    def __init__(self, atlas: Atlas, *, edits: Edits | None = None) -> None:
        """Raises `NotFound` when the atlas has no descriptions."""
        table = atlas.descriptions()
        if table is None:
            raise NotFound("this atlas has no descriptions yet; run `neuronscope atlas describe`")
        self.atlas = atlas
        self.edits = edits if edits is not None else Edits.of(atlas.ref)
        self._stored = with_headline_columns(table)
        self.table: pd.DataFrame = self.edits.applied(self._stored)
        self._arrays = atlas.embeddings()

    def refreshed(self, edits: Edits) -> SearchIndex:
        """The same with other edits. What was read from the atlas is shared, so it takes no time."""
        again = copy(self)
        again.edits, again.table = edits, edits.applied(self._stored)
        for name in ("_texts", "_scores"):
            again.__dict__.pop(name, None)
        return again

    @cached_property
    def space(self) -> ConceptSpace:
        """Raises `InvalidInput` when the atlas was described without embeddings."""
        return ConceptSpace.load(self._arrays)

    @cached_property
    def layer_of(self) -> NDArray[np.int64]:
        return self.table["layer"].to_numpy().astype(np.int64)

    @cached_property
    def index_of(self) -> NDArray[np.int64]:
        return self.table["index"].to_numpy().astype(np.int64)

    @cached_property
    def is_negative(self) -> NDArray[np.bool_]:
        return np.asarray(self.table["polarity"].to_numpy() == "-")

    @cached_property
    def _row_of(self) -> NDArray[np.int64]:
        rows = np.full((2, self.atlas.n_layers, self.atlas.n_neurons), -1, dtype=np.int64)
        rows[self.is_negative.astype(np.int64), self.layer_of, self.index_of] = np.arange(len(self.table))
        return rows

    @cached_property
    def _texts(self) -> NDArray[np.object_]:
        """All that keywords are looked for in, lower case."""
        joined = self.table["headline"] + "\n" + self.table["description"] + "\n" + self.table["second"] + "\n" + self.table["theme"]
        return np.asarray(joined.str.lower().to_numpy(), dtype=object)

    @cached_property
    def _scores(self) -> NDArray[np.float32]:
        return np.asarray(np.nan_to_num(self.table["score"].to_numpy(dtype=np.float32), nan=-1.0))

    @cached_property
    def _kinds(self) -> NDArray[np.object_]:
        return np.asarray(self.table["kind"].to_numpy(), dtype=object)

    def row(self, side: NeuronSide) -> int:
        """The table's row of a side. Raises `NotFound`."""
        if 0 <= side.layer < self.atlas.n_layers and 0 <= side.index < self.atlas.n_neurons:
            row = int(self._row_of[int(side.polarity == "-"), side.layer, side.index])
            if row >= 0:
                return row
        raise NotFound(f"the atlas of {self.atlas.ref.name} has no neuron {side}; layers are 0 to {self.atlas.n_layers - 1}")

    def rows(self, sides: Collection[NeuronSide]) -> NDArray[np.int64]:
        """The rows of many sides, in their order; those the atlas does not have are left out."""
        kept = [s for s in sides if 0 <= s.layer < self.atlas.n_layers and 0 <= s.index < self.atlas.n_neurons]
        found = [self._row_of[int(s.polarity == "-"), s.layer, s.index] for s in kept]
        return np.array([row for row in found if row >= 0], dtype=np.int64)

    def keep(self, filters: Filters) -> NDArray[np.bool_]:
        """Which rows a filter lets through, shape (N,)."""
        filters.check(self.atlas.n_layers)
        kept = np.ones(len(self.table), dtype=bool)
        if filters.layers is not None:
            kept &= (self.layer_of >= filters.layers[0]) & (self.layer_of <= filters.layers[1])
        if filters.polarity is not None:
            kept &= self.is_negative == (filters.polarity == "-")
        if filters.least_score is not None:
            kept &= self._scores >= filters.least_score
        if filters.kinds:
            kept &= np.isin(self._kinds, sorted(filters.kinds))
        if filters.clear_only:
            kept &= self._kinds != UNCLEAR
        for word in filters.keyword.lower().split():
            rows = np.flatnonzero(kept)
            kept[rows] = [word in text for text in self._texts[rows]]
        return kept

    def similarity(self, vector_E: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(similarity, reading) of every row with an embedded query."""
        reading = self.space.reading(vector_E)
        return reading + LIKENESS * self.space.likeness(vector_E), reading

    def search(self, text: str, *, top: int = 50, filters: Filters = Filters()) -> tuple[Hit, ...]:
        """The sides that fire most on texts about `text`, best first; ties to the lower layer and index. Only positive readings are hits.

        Those that make the words of it less likely come after the others, marked by `Hit.leaning`. In an atlas of descriptions alone,
        sides are hits by the likeness of what is said of them. With an empty text, the rows that the filters let through, best described
        first. Raises `InvalidInput` for a bad filter.
        """
        if top < 1:
            raise InvalidInput(f"top is {top}; use 1 or more", field="top")
        kept = np.flatnonzero(self.keep(filters))
        if not text.strip():
            order = kept[np.argsort(-self._scores[kept], kind="stable")][:top]
            return tuple(self.hit(int(row), 0.0, 0.0) for row in order)
        query_E = embed_query(text)
        similarity, reading = self.similarity(query_E)
        kept = kept[(reading if self.space.has_readings else similarity)[kept] > 0]
        if len(kept) > top:
            kept = np.sort(kept[np.argpartition(-similarity[kept], top - 1)[:top]])
        order = kept[np.argsort(-similarity[kept], kind="stable")]
        hits = [self.hit(int(row), float(similarity[row]), float(reading[row])) for row in order]
        leaning = leanings([hit.writes for hit in hits], query_E, embedder().encode)
        told = [replace(hit, leaning=one) for hit, one in zip(hits, leaning, strict=True)]
        return tuple(sorted(told, key=lambda hit: hit.leaning < 0))

    def hit(self, row: int, similarity: float, reading: float) -> Hit:
        """A row of the table as a hit."""
        given: Any = self.table.iloc[row]
        score = float(given["score"])
        return Hit(
            layer=int(given["layer"]),
            index=int(given["index"]),
            polarity="-" if given["polarity"] == "-" else "+",
            headline=str(given["headline"]),
            description=str(given["description"]),
            second=str(given["second"]),
            kind=str(given["kind"]),
            score=score if np.isfinite(score) else None,
            similarity=round(similarity, 4),
            reading=round(reading, 4),
            writes=str(given["writes"]) or str(given["second"]),
        )


def match_note(text: str, best: float | None) -> str:
    """What to say when the best reading that a search for `text` found (None: nothing was found) is no clear match; "" when it is."""
    if best is None:
        return f"no neuron was found for \u201c{text}\u201d"
    if best < CLEAR_MATCH:
        return (
            f"no neuron found is clearly about \u201c{text}\u201d: the best match is {best:.2f}, a clear one has {CLEAR_MATCH:.2f} or more"
        )
    return ""


def open_search(ref: ModelRef) -> SearchIndex:
    """The search over a model's atlas. Raises `NotFound` when it has no atlas, or no descriptions yet."""
    atlas = open_atlas(ref)
    if atlas is None:
        raise NotFound(f"there is no atlas of {ref.name}; build one with `neuronscope atlas build`")
    return SearchIndex(atlas)
