"""The corpus of an atlas: token ids stored once, cut into windows, split by document into a describing and a held-out part.

Exemplars are pointers into it: (sequence, position). It knows nothing of models but their vocabulary's size.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurons.atlas.arrays import ArrayFile, write_arrays
from neurons.core.errors import InvalidInput
from neurons.core.json_text import json_text
from neurons.core.progress import Progress, no_progress

SKIP = 4
"""Leading positions of each window that are never counted: position 0 is an attention sink, the next ones are unusual too."""
WINDOW = SKIP + 256
_DIMENSIONS = {
    "tokens": ("token",),
    "offset_S1": ("edge",),
    "document_S": ("window",),
    "start_S": ("window",),
    "held_D": ("document",),
    "source_D": ("document",),
}
MIN_TOKENS = 8
"""A window with fewer counted tokens than this is left out."""


@dataclass(frozen=True)
class Source:
    """Where a part of the corpus comes from."""

    name: str
    domain: str
    """What kind of text it is: encyclopedia, code, docs, law, drama, fiction, history, medicine, glosses, chat, own..."""
    licence: str
    origin: str
    """The package, file or data set it was taken from."""
    generated: bool = False
    """Written by the model itself."""


@dataclass(frozen=True)
class Document:
    """One document before it is cut: a text, or the ids of a conversation. All windows of a document are on one side of the split."""

    source: int
    name: str
    text: str = ""
    ids: tuple[int, ...] | None = None
    """Given for conversations: never re-tokenised."""
    prefix: int = 0
    """Leading ids that other documents share (a template's system turn): counted in one document of sixteen only."""


@dataclass(frozen=True, eq=False)
class Corpus:
    """Token ids in windows. The describing windows come first, then the held-out ones, each part shuffled: a prefix is a fair sample."""

    tokens: NDArray[Any]
    """All windows' ids, end to end: uint16 or uint32."""
    offset_S1: NDArray[np.int64]
    document_S: NDArray[np.int32]
    start_S: NDArray[np.int32]
    """The first counted position of each window."""
    held_D: NDArray[np.bool_]
    """Documents kept back for scoring: no description ever sees them."""
    source_D: NDArray[np.int16]
    names_D: tuple[str, ...]
    sources: tuple[Source, ...]
    n_vocab: int
    fingerprint: str
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def n_sequences(self) -> int:
        return len(self.document_S)

    @property
    def held_S(self) -> NDArray[np.bool_]:
        return self.held_D[self.document_S]

    @property
    def n_describe(self) -> int:
        """How many windows describe: they are [0, n_describe); the held-out ones follow."""
        return int((~self.held_S).sum())

    @property
    def length_S(self) -> NDArray[np.int64]:
        return np.diff(self.offset_S1)

    @property
    def counted_S(self) -> NDArray[np.int64]:
        """Counted tokens of each window."""
        return np.asarray(np.maximum(self.length_S - self.start_S, 0), dtype=np.int64)

    @property
    def counted_tokens(self) -> int:
        """Counted tokens of the describing part: the N of every quantile."""
        return int(self.counted_S[: self.n_describe].sum())

    @property
    def held_tokens(self) -> int:
        return int(self.counted_S[self.n_describe :].sum())

    def sequence(self, number: int) -> NDArray[np.int64]:
        """The ids of one window. Raises `InvalidInput` when it has no such window."""
        if not 0 <= number < self.n_sequences:
            raise InvalidInput(f"the corpus has windows 0 to {self.n_sequences - 1}, not {number}", field="sequence")
        return self.tokens[self.offset_S1[number] : self.offset_S1[number + 1]].astype(np.int64)

    def source_of(self, number: int) -> Source:
        """Where a window comes from."""
        return self.sources[int(self.source_D[self.document_S[number]])]

    def shares(self) -> list[dict[str, Any]]:
        """One row a source: its licence, counted tokens and share of the describing part, and held-out tokens."""
        source_S, counted_S, held_S = self.source_D[self.document_S], self.counted_S, self.held_S
        total = max(self.counted_tokens, 1)
        rows = []
        for number, source in enumerate(self.sources):
            mine = source_S == number
            tokens = int(counted_S[mine & ~held_S].sum())
            documents = int((self.source_D == number).sum())
            held = int(counted_S[mine & held_S].sum())
            rows.append(
                {**asdict(source), "documents": documents, "tokens": tokens, "share": round(tokens / total, 4), "held_out_tokens": held}
            )
        return rows

    def save(self, path: Path) -> None:
        """Write it as one file, whole or not at all."""
        arrays = {name: getattr(self, name) for name in ("tokens", "offset_S1", "document_S", "start_S", "held_D", "source_D")}
        attributes = {
            "names": list(self.names_D),
            "sources": [asdict(source) for source in self.sources],
            "n_vocab": self.n_vocab,
            "fingerprint": self.fingerprint,
            "notes": self.notes,
        }
        write_arrays(path, arrays, dimensions=_DIMENSIONS, attributes=attributes)

    @classmethod
    def load(cls, path: Path) -> Corpus:
        """Read what `save` wrote. Raises `StoreError` for a damaged file."""
        with ArrayFile(path) as file:
            given = file.attributes
            return cls(
                tokens=file.read("tokens"),
                offset_S1=file.read("offset_S1"),
                document_S=file.read("document_S"),
                start_S=file.read("start_S"),
                held_D=file.read("held_D"),
                source_D=file.read("source_D"),
                names_D=tuple(given["names"]),
                sources=tuple(Source(**source) for source in given["sources"]),
                n_vocab=int(given["n_vocab"]),
                fingerprint=str(given["fingerprint"]),
                notes=dict(given["notes"]),
            )


class _Cut:
    """Documents cut into windows so far; those without a usable window are left out."""

    def __init__(self, encode: Callable[[str], Sequence[int]], start_ids: Sequence[int], window: int, *, dtype: Any) -> None:
        self._encode, self._start_ids, self._window, self._dtype = encode, start_ids, window, dtype
        self.used: Counter[int] = Counter()
        """Counted tokens by source."""
        self.windows: list[NDArray[Any]] = []
        self.document_S: list[int] = []
        self.start_S: list[int] = []
        self.source_D: list[int] = []
        self.names_D: list[str] = []

    def add(self, document: Document, budget: int | None) -> bool:
        """Cut one more document, as far as its source's `budget` of counted tokens goes (None: to its end). Whether it gave any window."""
        left = None if budget is None else budget - self.used[document.source]
        if left is not None and left <= 0:
            return False
        number = len(self.names_D)
        pieces = _windows(document, self._encode, self._start_ids, self._window, number=number, left=left)
        for ids, start in pieces:
            self.windows.append(np.asarray(ids, dtype=self._dtype))
            self.document_S.append(number)
            self.start_S.append(start)
            self.used[document.source] += len(ids) - start
        if pieces:
            self.source_D.append(document.source)
            self.names_D.append(document.name)
        return bool(pieces)


@dataclass(frozen=True)
class Cutting:
    """How documents become the windows of a corpus."""

    budgets: Sequence[int | None] | None = None
    """The most counted tokens of each source; None, whole or for a source: no limit."""
    held_out: float = 0.1
    """Share of each source's tokens that is held out, by documents in the order of a hash of their names."""
    window: int = WINDOW
    """Tokens per window, its start tokens counted."""
    seed: int = 0
    """Of the split and of the order of the windows."""
    align: int = 1
    """The describing windows are cut to a multiple of it, so that more text can be added later without changing a block begun."""


def build_corpus(
    documents: Iterable[Document],
    sources: Sequence[Source],
    *,
    encode: Callable[[str], Sequence[int]],
    start_ids: Sequence[int],
    n_vocab: int,
    cutting: Cutting = Cutting(),
    progress: Progress = no_progress,
) -> Corpus:
    """Cut documents into windows, split them, shuffle the windows.

    `encode` turns text into ids without a start token; each window of a text begins with `start_ids`. Raises `InvalidInput` when nothing
    is left.
    """
    budgets, held_out, seed, align = cutting.budgets, cutting.held_out, cutting.seed, cutting.align
    cut = _Cut(encode, start_ids, cutting.window, dtype=np.uint16 if n_vocab <= 1 << 16 else np.uint32)
    for document in documents:
        added = cut.add(document, None if budgets is None else budgets[document.source])
        if added and len(cut.names_D) % 50 == 0:
            progress(sum(cut.used.values()), sum(b or 0 for b in budgets) if budgets else None, "tokens of corpus cut into windows")
    windows, document_S = cut.windows, np.asarray(cut.document_S, dtype=np.int32)
    source_D, start_S = np.asarray(cut.source_D, dtype=np.int16), np.asarray(cut.start_S, dtype=np.int32)
    if not windows:
        raise InvalidInput("the corpus has no usable text: every document was empty or shorter than 12 tokens", field="corpus")
    size_D = np.bincount(document_S, weights=[len(ids) - start for ids, start in zip(windows, start_S, strict=True)])
    held = _split(size_D, source_D, [_unit_hash(f"{seed}:{name}") for name in cut.names_D], held_out)
    order = np.random.default_rng(seed).permutation(len(windows))
    held_S = held[document_S]
    describing = order[~held_S[order]]
    extra = len(describing) % align if len(describing) > align else 0
    order = np.concatenate([describing[: len(describing) - extra], order[held_S[order]]])
    ordered = [windows[n] for n in order]
    tokens = np.concatenate(ordered)
    digest = hashlib.sha256(tokens.tobytes() + start_S[order].tobytes()).hexdigest()
    return Corpus(
        tokens=tokens,
        offset_S1=np.concatenate([[0], np.cumsum([len(ids) for ids in ordered])]).astype(np.int64),
        document_S=document_S[order],
        start_S=start_S[order],
        held_D=held,
        source_D=source_D,
        names_D=tuple(cut.names_D),
        sources=tuple(sources),
        n_vocab=n_vocab,
        fingerprint=digest,
        notes={"window": cutting.window, "skip": SKIP, "held_out": held_out, "seed": seed},
    )


def _windows(
    document: Document, encode: Callable[[str], Sequence[int]], start_ids: Sequence[int], window: int, *, number: int, left: int | None
) -> list[tuple[list[int], int]]:
    """(ids, first counted position) of each window of a document."""
    if document.ids is not None:
        first = document.prefix if number % 16 else 0
        cut = [(list(document.ids[at : at + window]), max(SKIP, first - at)) for at in range(0, len(document.ids), window)]
    else:
        room = window - len(start_ids)
        text = document.text if left is None else document.text[: left * 12]
        ids = list(encode(text))
        ids = ids if left is None else ids[: left + room]
        cut = [([*start_ids, *ids[at : at + room]], SKIP) for at in range(0, len(ids), room)]
    return [(ids, start) for ids, start in cut if len(ids) - start >= MIN_TOKENS]


def _split(size_D: NDArray[Any], source_D: NDArray[Any], hash_D: Sequence[float], share: float) -> NDArray[np.bool_]:
    """Which documents are held out: of each source, those of lowest hash that stay within `share` of its tokens (at least one of two)."""
    held = np.zeros(len(size_D), dtype=bool)
    for source in np.unique(source_D):
        mine = np.flatnonzero(source_D == source)
        mine = mine[np.argsort(np.asarray(hash_D)[mine], kind="stable")]
        left = share * size_D[mine].sum()
        for document in mine:
            if size_D[document] <= left:
                held[document] = True
                left -= size_D[document]
        if share > 0 and len(mine) > 1 and not held[mine].any():
            held[mine[np.argmin(size_D[mine])]] = True
    return held


def _unit_hash(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def describe_shares(corpus: Corpus) -> str:
    """The mix as a JSON text, for people."""
    return json_text(corpus.shares(), indent=2)
