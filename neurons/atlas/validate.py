"""Whether an atlas from elsewhere can be used: every file is opened and read before the atlas is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neurons.atlas.arrays import ArrayFile, check_array_file
from neurons.atlas.corpus import Corpus
from neurons.atlas.store import Atlas
from neurons.atlas.writer import CORPUS, NEURONS
from neurons.core.errors import InvalidFile, StoreError

_SIDES = ("extreme", "exemplar_value", "exemplar_sequence", "exemplar_position", "tail_scale")
_LISTS = (("token", "mean"), ("previous", "mean"), ("promoted", "score"), ("probe", "value"))
_KEY = ("layer", "index", "polarity", "description")


def check_atlas(atlas: Atlas) -> None:
    """Read all of an atlas. Raises `InvalidFile` that says what is wrong, `StoreError` for a damaged file."""
    for name in atlas.manifest["files"]:
        checked = atlas.checked(name)
        if name.endswith(".zarr.zip"):
            check_array_file(checked)
    try:
        if atlas.has_figures:
            _need(atlas.tokens > 0, "its figures come from no tokens")
            _need(CORPUS in atlas.manifest["files"], "it has figures, but not the texts that they come from")
            _check_corpus(atlas.corpus, atlas)
            with ArrayFile(atlas.checked(NEURONS)) as file:
                _check_figures(file, atlas)
        _check_descriptions(atlas)
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, OverflowError) as error:
        if isinstance(error, InvalidFile | StoreError):
            raise
        raise InvalidFile(f"the atlas cannot be used ({type(error).__name__}: {error}); export it again", field="path") from error


def _need(good: bool, what: str) -> None:
    if not good:
        raise InvalidFile(f"the atlas cannot be used: {what}; export it again", field="path")


def _check_figures(file: ArrayFile, atlas: Atlas) -> None:
    """Shapes, and every number finite and in its range."""
    layers, neurons, given = atlas.n_layers, atlas.n_neurons, file.attributes
    ranks, levels = np.asarray(given["ranks"]), np.asarray(given["body_quantiles"], dtype=float)
    _need(ranks.ndim == 1 and ranks.size > 0 and ranks[0] == 1 and bool((np.diff(ranks) > 0).all()), "its ranks do not rise from 1")
    _need(levels.ndim == 1 and levels.size > 1 and bool((np.diff(levels) > 0).all()), "the levels of its quantiles do not rise")
    _need(int(given["occurrence_cap"]) > 0 and int(given["position_offset"]) >= 0, "its attributes are impossible")
    for name in _SIDES:
        _shape(file, name, (2, layers, neurons))
    _need(_shape(file, "extreme", (2, layers, neurons)).shape[-1] == ranks.size, "extremes and ranks do not fit")
    _need(_shape(file, "body", (layers, neurons)).shape[-1] == levels.size, "quantiles and their levels do not fit")
    for name in ("mean", "histogram", "histogram_range"):
        _shape(file, name, (layers, neurons))
    counts = _shape(file, "token_count", (atlas.ref.n_vocab,))
    _need(bool((counts >= 0).all()), "a token count is negative")
    for name, value in _LISTS:
        if name != "probe" or f"{name}_id" in file:
            ids = _shape(file, f"{name}_id", (2, layers, neurons))
            _need(_shape(file, f"{name}_{value}", (2, layers, neurons)).shape == ids.shape, f"{name} ids and values do not fit")
            _check_numbers(ids, atlas.ref.n_vocab, f"{name} ids")
    sequence = file.read("exemplar_sequence")
    _check_numbers(sequence, atlas.corpus.n_sequences, "exemplars")
    _need(file.read("exemplar_value").shape == sequence.shape == file.read("exemplar_position").shape, "exemplars do not fit together")


def _shape(file: ArrayFile, name: str, expected: tuple[int, ...]) -> NDArray[Any]:
    array = file.read(name)
    _need(array.shape[: len(expected)] == expected, f"{name} is of another model (shape {array.shape})")
    _need(array.dtype.kind in "iu" or bool(np.isfinite(array).all()), f"{name} holds NaN or infinite values")
    return array


def _check_numbers(array: NDArray[Any], limit: int, what: str) -> None:
    """Ids below `limit`, or what stands for none: -1, or the largest value of an unsigned type."""
    _need(array.dtype.kind in "iu", f"{what} are no whole numbers")
    none = array == (np.iinfo(array.dtype).max if array.dtype.kind == "u" else -1)
    _need(bool((none | ((array >= 0) & (array < limit))).all()), f"{what} point outside")


def _check_corpus(corpus: Corpus, atlas: Atlas) -> None:
    windows, documents = corpus.n_sequences, len(corpus.names_D)
    offsets = corpus.offset_S1
    _need(len(offsets) == windows + 1 and len(corpus.start_S) == windows and windows > 0, "the windows of its texts do not fit together")
    rising = int(offsets[0]) == 0 and int(offsets[-1]) == len(corpus.tokens) and bool((np.diff(offsets) > 0).all())
    _need(rising, "the windows of its texts overlap")
    _need(len(corpus.held_D) == len(corpus.source_D) == documents, "its documents do not fit together")
    _check_numbers(corpus.document_S.astype(np.int64), documents, "windows")
    _check_numbers(corpus.source_D.astype(np.int64), len(corpus.sources), "documents")
    _need(len(corpus.tokens) > 0 and int(corpus.tokens.max()) < atlas.ref.n_vocab, "its texts hold tokens that the model does not have")


def _check_descriptions(atlas: Atlas) -> None:
    table = atlas.descriptions()
    if table is None:
        return
    missing = [name for name in _KEY if name not in table]
    _need(not missing, f"its descriptions have no column {', '.join(missing)}")
    _need(len(table) == int(atlas.manifest["descriptions"]["described"]), "it has another number of descriptions than it says")
    layer, index = (pd.to_numeric(table[name]).to_numpy() for name in ("layer", "index"))
    inside = (layer >= 0) & (layer < atlas.n_layers) & (index >= 0) & (index < atlas.n_neurons)
    _need(bool(inside.all()) and bool(table["polarity"].isin(["+", "-"]).all()), "it describes neurons that the model does not have")
    _need(all(isinstance(text, str) for text in table["description"]), "a description is no text")
    for name, array in atlas.embeddings().items():
        _need(array.dtype.kind not in "fc" or bool(np.isfinite(array).all()), f"{name} holds NaN or infinite values")
