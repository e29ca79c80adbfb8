"""Describe every neuron side of an atlas without a language model, and score the descriptions on text they never saw.

Deterministic: the same atlas, model and settings give the same table. See docs/descriptions.md for the method and its figures.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neurons.atlas.store import Atlas
from neurons.concepts.map2d import POINTS, draw_map
from neurons.concepts.space import COMPONENTS, STEPS, ConceptSpace, Encode, WindowPeaks
from neurons.core.errors import InvalidInput
from neurons.core.home import subfolder
from neurons.core.progress import Progress, no_progress
from neurons.describing.ceiling import Contexts, ceiling_prediction, contexts_of
from neurons.describing.evidence import Likeness, Words, peak_tokens, places, second_lines, themes, vocabulary_words
from neurons.describing.fit import Fitted, carried, fit_layer
from neurons.describing.headlines import HEADLINES, Headliner, Held, with_headlines
from neurons.describing.layers import layer_table
from neurons.describing.recording import Recording, record_windows
from neurons.describing.score import other_neurons, pearson, score_layer
from neurons.describing.survey import TOKENS, Survey, Windows, describing_rows, heldout_rows, piece_table, read_windows, survey
from neurons.descriptions.kinds import UNCLEAR, kind_of
from neurons.descriptions.patterns import predict
from neurons.descriptions.render import render
from neurons.models.loaded import LoadedModel

CLEAR = 0.15
"""A side is described only where its description correlates this much with its activation on the check documents; else it is unclear."""
HELD_TOKENS = 49_152
SAYS = 0.4
"""A side "says" what it promotes where one of the promoted tokens follows in this share of its strongest places."""
_BLOCK = 384
FLOATS = ("score", "null", "ceiling", "ceiling_null", "auprc", "auprc_null", "top_random", "top_random_null", "check")


@dataclass(frozen=True)
class DescribeSettings:
    """What a run of the describer depends on."""

    tokens: int = TOKENS
    """Tokens of describing text to fit on (three quarters) and to check on (a quarter)."""
    held_tokens: int = HELD_TOKENS
    """Held-out tokens to score on."""
    clear: float = CLEAR
    map_points: int = POINTS
    """Sides shown on the map."""
    secondary: bool = False
    """Compute the published top-and-random score too (slow)."""
    components: int = COMPONENTS
    """Numbers a side that concept search reads (see `concepts.space`)."""
    steps: int = STEPS


def describe_atlas(
    loaded: LoadedModel,
    atlas: Atlas,
    *,
    settings: DescribeSettings = DescribeSettings(),
    encode: Encode | None = None,
    work: Path | None = None,
    keep_work: bool = False,
    progress: Progress = no_progress,
) -> Atlas:
    """Describe and score every side, and write the table into the atlas's folder. Returns the atlas as it is then.

    A stopped run goes on where it was: the model's activations and each finished layer are kept in `work` until the end. `encode` embeds
    texts (unit vectors) for concept search; without it descriptions are made, but the atlas cannot be searched by meaning.
    Raises `InvalidInput` when the atlas is of other weights or its corpus too small, `StoreError` when the disk is full.
    """
    if atlas.ref.weights_hash != loaded.ref.weights_hash:
        raise InvalidInput(f"this atlas was collected from {atlas.ref.name} with other weights; describe it with that model", field="atlas")
    run = _Run(loaded, atlas, settings, work or subfolder("work") / f"describe-{loaded.ref.weights_hash[:16]}", progress)
    parts = []
    for layer in range(atlas.n_layers):
        parts.append(run.layer(layer))
        progress(layer + 1, atlas.n_layers, "layers described and scored")
    table = run.with_headlines(pd.concat(parts, ignore_index=True), encode, progress)
    arrays: dict[str, NDArray[np.generic]] = {}
    if encode is not None:
        progress(0, None, "embedding the corpus's windows for search")
        space = ConceptSpace.fit(
            run.peaks(),
            encode(run.chunk_texts()),
            encode,
            table["description"].tolist(),
            components=settings.components,
            steps=settings.steps,
        )
        usable = np.asarray(table["kind"].to_numpy() != UNCLEAR)
        arrays = {**space.arrays(), **draw_map(space, usable, points=settings.map_points, progress=progress).arrays()}
    meta = {
        "method": "template",
        "tokens": run.describing.tokens,
        "held_out_tokens": run.held.tokens,
        "clear": settings.clear,
        "headlines": HEADLINES,
    }
    described = atlas.with_descriptions(table, arrays=arrays, meta=meta)
    if not keep_work:
        shutil.rmtree(run.work, ignore_errors=True)
    return described


class _Run:
    """The state of one run: windows, recordings, and the layers done so far on disk."""

    def __init__(self, loaded: LoadedModel, atlas: Atlas, settings: DescribeSettings, work: Path, progress: Progress) -> None:
        corpus = atlas.corpus
        self.loaded, self.atlas, self.settings, self.work = loaded, atlas, settings, work
        work.mkdir(parents=True, exist_ok=True)
        progress(0, None, "reading the corpus's words")
        self.pieces = piece_table(loaded)
        self.describing: Windows = read_windows(corpus, describing_rows(corpus, settings.tokens), self.pieces)
        self.held_rows = heldout_rows(corpus, settings.held_tokens)
        self.held: Windows = read_windows(corpus, self.held_rows, self.pieces)
        self.survey: Survey = survey(self.describing)
        self.index = {part: n for n, part in enumerate(self.survey.vocabulary)}
        self.held_TF = self.held.features(self.index, range(len(self.held.ids)))
        self.words: Words = vocabulary_words(self.pieces, atlas.token_counts_V())
        embeddings: Any = loaded.model.get_input_embeddings()
        self.alike = Likeness(embeddings.weight)
        key = f"{corpus.fingerprint}:{loaded.ref.weights_hash}:{loaded.ref.dtype}"
        self.recording: Recording = record_windows(
            loaded,
            self.describing,
            work / "describing",
            key=f"{key}:{len(self.describing.ids)}",
            progress=progress,
            message="describing tokens read",
        )
        self.held_recording: Recording = record_windows(
            loaded, self.held, work / "held-out", key=f"{key}:held:{len(self.held.ids)}", progress=progress, message="held-out tokens read"
        )
        self.contexts: tuple[Contexts, Contexts] = contexts_of(self.describing), contexts_of(self.held)
        self.settings_key = f"{key}:{settings.tokens}:{settings.held_tokens}:{settings.clear}:{settings.secondary}"

    def layer(self, layer: int) -> pd.DataFrame:
        """The rows of one layer: descriptions and scores (from disk where they are done), and the evidence of the atlas as it is now."""
        fitted = layer_table(self.work, "layer", layer, self.settings_key, lambda: self._fitted(layer))
        found = places(self.atlas.corpus, self.atlas.exemplar_arrays(layer))
        second, said = second_lines(found, *self.atlas.projection_arrays(layer), self.words, self.alike)
        says = fitted["kind"].isin(("next", "mixed", "context")).to_numpy() & (said >= SAYS)
        neurons = self.atlas.n_neurons
        return pd.DataFrame(
            {
                "layer": np.int16(layer),
                "index": np.tile(np.arange(neurons, dtype=np.int32), 2),
                "polarity": np.repeat(["+", "-"], neurons),
                "description": fitted["description"],
                "second": second,
                "kind": np.where(says, "says", fitted["kind"]),
                "peaks": peak_tokens(found, self.words),
                "theme": themes(self.atlas.corpus, found, self.words),
                "source": "template",
                **{name: fitted[name] for name in FLOATS},
            }
        )

    def with_headlines(self, table: pd.DataFrame, encode: Encode | None, progress: Progress) -> pd.DataFrame:
        """The table of all layers with a headline a side, scored, and what the side writes."""
        held = Held(self.held, self.held_rows, self.held_recording)
        headliner = Headliner(self.loaded, self.atlas, self.pieces, self.words, self.alike, held, encode=encode, progress=progress)
        key = f"{HEADLINES}:{self.settings_key}:{encode is not None}"
        return with_headlines(table, headliner.layer, self.atlas.n_layers, self.work, key=key, progress=progress)

    def _fitted(self, layer: int) -> pd.DataFrame:
        """Description, kind and scores of one layer's sides, positive ones first."""
        neurons = self.atlas.n_neurons
        table = pd.DataFrame({"description": [UNCLEAR] * (2 * neurons), "kind": UNCLEAR, **dict.fromkeys(FLOATS, np.float32(np.nan))})
        for at in range(0, neurons, _BLOCK):
            some = np.arange(at, min(at + _BLOCK, neurons))
            for column, values in self._describe_block(layer, some).items():
                table.loc[np.concatenate([some, some + neurons]), column] = values
        table[list(FLOATS)] = table[list(FLOATS)].astype(np.float32).round(3)
        return table

    def _describe_block(self, layer: int, some: NDArray[np.int64]) -> dict[str, Any]:
        """Columns of some neurons of a layer, positive sides first."""
        columns = slice(int(some[0]), int(some[-1]) + 1)
        acts_TN, held_TN = self.recording.sides(layer, columns), self.held_recording.sides(layer, columns)
        fit, check = self.survey.layer(acts_TN)
        fitted = fit_layer(self.survey.vocabulary, self.survey.fit, self.survey.check, fit, check)
        clear = np.array([one.check >= self.settings.clear for one in fitted])
        predicted_TN = predict([one.pattern for one in fitted], self.held_TF, self.index)
        window_T = self.held.chunk_T() if self.settings.secondary else None
        scores = score_layer(predicted_TN, held_TN, usable=clear, window_T=window_T, seed=layer)
        ceiling_TN = ceiling_prediction(self.contexts[0], acts_TN, self.contexts[1])
        return {
            "description": [render(one.pattern) if ok else UNCLEAR for one, ok in zip(fitted, clear, strict=True)],
            "kind": [self._kind(one, bool(clear[n]), fit.cov_NF[n]) for n, one in enumerate(fitted)],
            "score": scores.pearson,
            "null": scores.pearson_null,
            "ceiling": pearson(ceiling_TN, held_TN),
            "ceiling_null": pearson(ceiling_TN[:, other_neurons(len(fitted), np.ones(len(fitted), dtype=bool), seed=layer)], held_TN),
            "auprc": scores.auprc,
            "auprc_null": scores.auprc_null,
            "top_random": scores.top_random,
            "top_random_null": scores.top_random_null,
            "check": np.array([one.check for one in fitted], dtype=np.float32),
        }

    def _kind(self, one: Fitted, clear: bool, cov_F: NDArray[np.float32]) -> str:
        if not clear:
            return UNCLEAR
        return kind_of([part for part, _ in one.pattern.parts], carried(one.pattern, self.index, cov_F))

    def peaks(self) -> WindowPeaks:
        """Each side's strongest activation in each 64-token chunk of the describing windows, layer by layer."""
        return WindowPeaks(self.recording, self.describing.chunk_T(), self.atlas.n_layers)

    def chunk_texts(self) -> list[str]:
        """The chunks' texts, in the order of `peaks`."""
        flat = np.concatenate([ids[start:] for ids, start in zip(self.describing.ids, self.describing.start, strict=True)])
        chunk_T = self.describing.chunk_T()
        starts = np.flatnonzero(np.diff(chunk_T, prepend=-1))
        return ["".join(self.pieces[token] for token in chunk).strip() for chunk in np.split(flat, starts[1:])]
