"""A headline for every side of an atlas, scored by itself, and what the side writes. Resumable, a layer at a time.

Candidates come from what the atlas holds: each side's strongest places in the corpus. See `headline_choice` for how they are chosen and
`docs/descriptions.md` for the figures.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from neurons.atlas.store import Atlas
from neurons.concepts.space import Encode
from neurons.core.errors import InvalidInput, NotFound
from neurons.core.home import subfolder
from neurons.core.progress import Progress, no_progress
from neurons.describing.evidence import Likeness, Words, places, vocabulary_words
from neurons.describing.headline_choice import Choice, Costs, choose, layer_masks
from neurons.describing.headline_meanings import meanings_of
from neurons.describing.headline_score import HeldTraits, score_headlines
from neurons.describing.headline_traits import NO_MEANINGS, TraitTable, trait_table
from neurons.describing.headline_units import cut
from neurons.describing.headline_writes import PASSAGE_TOKENS, PASSAGES, RIGHT, Effects, Writes, line, plain_writes, right, sample_rows
from neurons.describing.layers import layer_table
from neurons.describing.recording import Recording, record_windows
from neurons.describing.survey import Windows, heldout_rows, piece_table, read_windows
from neurons.descriptions.headlines import GENERAL, UNCLEAR, Named, cost_in_words, headline, unclear
from neurons.descriptions.old_headlines import JUDGED
from neurons.detectors.lexicon import load_lexicon
from neurons.models.loaded import LoadedModel

CLEAR = 0.42
"""A headline must cover this much more of its side's places than of any side's; else the side is called unclear."""
COLUMNS = ("headline", "headline_auprc", "headline_auprc_null", "headline_auroc", "headline_auroc_null", "headline_check",
           "writes", "writes_effect", "writes_null")  # fmt: skip
"""What is added to a description table."""
HEADLINES = 1
"""The version of the method; written beside the descriptions, and a part of what a stopped run goes on with."""
HELD_TOKENS = 49_152
LEVEL = 1e-5
"""The side's value that is added when its writing is measured: it is reached once in 100,000 tokens."""
_HARD = {"piece": 0.02, "part": 0.03, "meaning": 0.0, "topic": 0.03, "near": 0.05, "afterclass": 0.02, "before": 0.03, "place": 0.03,
         "domain": 0.03}  # fmt: skip
_LEAST = {"word": 2, "lemma": 2, "piece": 2, "meaning": 4, "topic": 4, "near": 4}
"""Places at which a trait of a kind must stand, 3 where it is not listed."""
_QUALIFIERS = ("in brackets", "in quotes", "heading", "list item", "line start", "sentence start")
_SAMPLE = 200_000
_BLOCK = 384


@dataclass(frozen=True, eq=False)
class Held:
    """Held-out windows and the activations there."""

    windows: Windows
    rows: range
    recording: Recording


class Headliner:
    """Makes the headlines of one atlas, layer by layer."""

    def __init__(
        self,
        loaded: LoadedModel,
        atlas: Atlas,
        pieces: list[str],
        words: Words,
        alike: Likeness,
        held: Held,
        *,
        encode: Encode | None,
        progress: Progress = no_progress,
    ) -> None:
        """Reads the corpus's visible traits: about half a minute a million tokens, and one for the meanings of its words."""
        self._loaded, self._atlas, self._words, self._alike, self._held, self._progress = loaded, atlas, words, alike, held, progress
        corpus = atlas.corpus
        progress(0, None, "reading what words mean" if encode is not None else "reading the corpus's words")
        units = cut(corpus, pieces)
        meanings = NO_MEANINGS if encode is None else meanings_of(units, load_lexicon(), encode)
        progress(0, None, "reading what stands where in the corpus")
        self._table: TraitTable = trait_table(corpus, pieces, units, meanings)
        self._position_L = [places(corpus, atlas.exemplar_arrays(layer)).position_NK for layer in range(atlas.n_layers)]
        held_T = np.concatenate([np.arange(corpus.offset_S1[n] + corpus.start_S[n], corpus.offset_S1[n + 1]) for n in held.rows])
        self._held_traits = HeldTraits(self._table.slot_TS[held_T], len(self._table.known))

    @cached_property
    def _costs(self) -> Costs:
        known = self._table.known
        chance_F, together = self._chances()
        kinds = [trait.kind for trait in known]
        return Costs(
            chance_F,
            np.array([cost_in_words(trait) for trait in known], dtype=np.float32),
            np.array([_HARD.get(kind, 0.0) for kind in kinds], dtype=np.float32),
            np.array([_LEAST.get(kind, 3) for kind in kinds], dtype=np.float32),
            np.array([kind in GENERAL for kind in kinds]),
            self._qualifiers(),
            together,
        )

    def _qualifiers(self) -> NDArray[np.bool_]:
        return np.array([t.kind == "domain" or (t.kind == "place" and t.value in _QUALIFIERS) for t in self._table.known])

    def _chances(self) -> tuple[NDArray[np.float32], dict[tuple[int, int], float]]:
        """How often each trait stands at the strongest places of all sides, and each general one together with a qualifier."""
        traits, slot_TS = len(self._table.known), self._table.slot_TS
        position = np.concatenate([layer[layer >= 0] for layer in self._position_L])
        used, times = np.unique(position, return_counts=True)
        slots = slot_TS[used]
        weight = np.repeat(times[:, None], slots.shape[1], axis=1)[slots >= 0]
        chance_F = np.bincount(slots[slots >= 0], weights=weight, minlength=traits) / max(1, len(position))
        drawn = np.random.default_rng(0).choice(position, size=min(_SAMPLE, len(position)), replace=False) if len(position) else position
        slots = slot_TS[drawn]
        row, _ = np.nonzero(slots >= 0)
        stands = sparse.csr_matrix((np.ones(len(row), dtype=np.float32), (row, slots[slots >= 0])), shape=(len(drawn), traits)).tocsc()
        stands.data[:] = 1
        general = np.flatnonzero([trait.kind in GENERAL for trait in self._table.known])
        qualifiers = np.flatnonzero(self._qualifiers())
        both = (stands[:, general].T @ stands[:, qualifiers]).tocoo()
        together = {
            (int(general[g]), int(qualifiers[q])): float(n) / max(1, len(drawn))
            for g, q, n in zip(both.row, both.col, both.data, strict=True)
        }
        return chance_F.astype(np.float32), together

    @cached_property
    def _effects(self) -> Effects:
        ids = [window[:PASSAGE_TOKENS] for window in self._held.windows.ids if len(window) >= PASSAGE_TOKENS][:PASSAGES]
        return Effects(self._loaded, ids or [self._held.windows.ids[0]])

    def layer(self, layer: int) -> pd.DataFrame:
        """`COLUMNS` of one layer's sides, positive ones first."""
        choices, texts = self._choices(layer)
        scores = self._scores(layer, choices)
        writes, effect, null = self._writes(layer)
        neurons = self._atlas.n_neurons
        return pd.DataFrame(
            {
                "layer": np.int16(layer),
                "index": np.tile(np.arange(neurons, dtype=np.int32), 2),
                "polarity": np.repeat(["+", "-"], neurons),
                "headline": texts,
                "headline_auprc": scores[0],
                "headline_auprc_null": scores[1],
                "headline_auroc": scores[2],
                "headline_auroc_null": scores[3],
                "headline_check": np.array([choice.check for choice in choices], dtype=np.float32).round(3),
                "writes": writes,
                "writes_effect": effect,
                "writes_null": null,
            }
        )

    def _choices(self, layer: int) -> tuple[list[Choice], list[str]]:
        position_NK = self._position_L[layer]
        choices, texts = [], []
        for n, side in enumerate(layer_masks(self._table.slot_TS, position_NK, len(self._table.known))):
            choice = choose(side, self._costs)
            text = headline(self._named(choice, position_NK[n])) if choice.worth >= CLEAR else ""
            choices.append(choice if text else Choice((), 0, choice.worth, choice.check))
            texts.append(text or unclear(self._around(position_NK[n])))
        return choices, texts

    def _named(self, choice: Choice, position_K: NDArray[np.int64]) -> list[Named]:
        known, named = self._table.known, []
        for number, part in enumerate(choice.parts):
            trait = known[part.trait]
            inside = next(
                (
                    earlier
                    for earlier, other in enumerate(choice.parts[:number])
                    if known[other.trait].kind not in ("word", "lemma", "phrase", "piece", "near", "after", "before")
                    and (other.mask & part.mask).bit_count() >= 0.7 * part.mask.bit_count()
                ),
                None,
            )
            shown = ""
            if trait.kind == "lemma":
                at = [int(position_K[k]) for k in range(len(position_K)) if part.mask >> k & 1]
                shown = Counter(self._table.texts[self._table.word_T[position]] for position in at).most_common(1)[0][0]
            named.append(Named(trait, known[part.qualifier] if part.qualifier >= 0 else None, part.mask.bit_count(), inside, shown))
        return named

    def _around(self, position_K: NDArray[np.int64]) -> list[str]:
        """The commonest words at a side's strongest places."""
        counts = Counter(self._table.texts[self._table.word_T[position]] for position in position_K if position >= 0)
        return [text for text, _ in counts.most_common() if text.strip() and "\n" not in text][:2]

    def _scores(self, layer: int, choices: list[Choice]) -> list[NDArray[np.float32]]:
        neurons = self._atlas.n_neurons
        found = [np.full(2 * neurons, np.nan, dtype=np.float32) for _ in range(4)]
        for at in range(0, neurons, _BLOCK):
            some = np.arange(at, min(at + _BLOCK, neurons))
            rows = np.concatenate([some, some + neurons])
            true_TN = self._held.recording.sides(layer, slice(int(some[0]), int(some[-1]) + 1))
            scores = score_headlines(self._held_traits, [choices[row] for row in rows], true_TN, seed=layer)
            for column, values in zip(found, (scores.auprc, scores.auprc_null, scores.auroc, scores.auroc_null), strict=True):
                column[rows] = values.round(3)
        return found

    def _writes(self, layer: int) -> tuple[list[str], NDArray[np.float32], NDArray[np.float32]]:
        """(line, effect, null) of each side; the last two NaN where it was not measured. What is measured wrong is taken back, and the
        lines of a layer where that is too often so.
        """
        writes: list[Writes] = plain_writes(*self._atlas.projection_arrays(layer), self._words, self._alike)
        lines = [line(one, self._words) for one in writes]
        effect, null = (np.full(len(writes), np.nan, dtype=np.float32) for _ in range(2))
        rows = sample_rows(writes, seed=layer)
        if len(rows):
            neurons = self._atlas.n_neurons
            value_2I = self._atlas.quantile(LEVEL)[:, layer]
            effect[rows], null[rows] = self._effects.measure(
                layer, rows % neurons, value_2I[rows // neurons, rows % neurons].astype(np.float32), [writes[row] for row in rows]
            )
        said = right(effect[rows], null[rows])
        if len(rows) and said.mean() < RIGHT:
            lines = [""] * len(lines)
        for row in rows[~said]:
            lines[row] = ""
        return lines, effect.round(3), null.round(3)


def with_headlines(
    table: pd.DataFrame, make: Callable[[int], pd.DataFrame], layers: int, work: Path, *, key: str, progress: Progress = no_progress
) -> pd.DataFrame:
    """A description table with its headlines: `make` gives a layer's, each kept in `work` until all are done."""
    work.mkdir(parents=True, exist_ok=True)
    parts = []
    for layer in range(layers):
        parts.append(layer_table(work, "headlines", layer, key, partial(make, layer)))
        progress(layer + 1, layers, "layers given headlines")
    kept = table.drop(columns=[name for name in (*COLUMNS, *JUDGED, "headline_by") if name in table])
    return kept.merge(pd.concat(parts, ignore_index=True), on=["layer", "index", "polarity"], how="left", validate="one_to_one")


def add_headlines(
    loaded: LoadedModel,
    atlas: Atlas,
    *,
    encode: Encode | None = None,
    held_tokens: int = HELD_TOKENS,
    work: Path | None = None,
    progress: Progress = no_progress,
) -> Atlas:
    """Give an atlas that is described already its headlines (anew), and write them beside what it has. Returns the atlas as it is then.

    Goes on where a stopped run was. Raises `InvalidInput` when the atlas is of other weights, `NotFound` when it is not described.
    """
    if atlas.ref.weights_hash != loaded.ref.weights_hash:
        raise InvalidInput(f"this atlas was collected from {atlas.ref.name} with other weights; use that model", field="atlas")
    table = atlas.descriptions()
    if table is None:
        raise NotFound("this atlas has no descriptions yet; run `neuronscope atlas describe`")
    folder = work or subfolder("work") / f"headlines-{loaded.ref.weights_hash[:16]}"
    pieces = piece_table(loaded)
    rows = heldout_rows(atlas.corpus, held_tokens)
    windows = read_windows(atlas.corpus, rows, pieces)
    key = f"{HEADLINES}:{atlas.corpus.fingerprint}:{loaded.ref.weights_hash}:{loaded.ref.dtype}:{len(rows)}:{encode is not None}"
    recording = record_windows(loaded, windows, folder / "held-out", key=key, progress=progress, message="held-out tokens read")
    embeddings: Any = loaded.model.get_input_embeddings()
    headliner = Headliner(
        loaded,
        atlas,
        pieces,
        vocabulary_words(pieces, atlas.token_counts_V()),
        Likeness(embeddings.weight),
        Held(windows, rows, recording),
        encode=encode,
        progress=progress,
    )
    table = with_headlines(table, headliner.layer, atlas.n_layers, folder, key=key, progress=progress)
    meta = {name: value for name, value in atlas.manifest.get("descriptions", {}).items() if name not in ("table", "arrays", "described")}
    described = atlas.with_descriptions(table, arrays=atlas.embeddings(), meta={**meta, "headlines": HEADLINES})
    shutil.rmtree(folder, ignore_errors=True)
    return described


def summary(table: pd.DataFrame) -> dict[str, float | int]:
    """How many sides are clear, and medians of their scores: AUPRC and AUROC, those of another side's headline, the writing's effect."""
    clear = ~table["headline"].astype(str).str.startswith(UNCLEAR)
    shown: dict[str, float | int] = {"sides": len(table), "unclear": int((~clear).sum())}
    for name in COLUMNS:
        if name.startswith(("headline_", "writes_")):
            values = table.loc[clear, name].to_numpy(dtype=np.float64)
            shown[name] = round(float(np.nanmedian(values)), 4) if np.isfinite(values).any() else float("nan")
    shown["writes"] = int((table["writes"].astype(str) != "").sum())
    return shown
