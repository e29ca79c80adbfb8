"""From a merged collection to an atlas: the figures people read, small enough to ship. Knows both formats, nothing of pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurons.atlas.collection import Collection
from neurons.atlas.corpus import SKIP
from neurons.atlas.probe import probe_vocabulary
from neurons.atlas.project import project_outputs
from neurons.atlas.writer import AtlasWriter
from neurons.core.progress import Progress, no_progress
from neurons.models.loaded import LoadedModel
from neurons.storage.files import atomic_file, disk_errors

LEVELS = (1e-4, 3e-5, 1e-5, 3e-6)
BODY_QUANTILES = (0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999)


@dataclass(frozen=True)
class FinaliseSettings:
    """How much of a collection goes into the atlas."""

    exemplars: int = 24
    tokens: int = 8
    """Tokens a side listed by mean activation."""
    previous: int = 6
    projected: int = 8
    probed: int = 6
    bins: int = 24
    min_occurrences: int = 3
    """A token seen less often is not listed by its mean."""
    all_extremes: bool = True
    """Keep every order statistic; the shipped atlas keeps the ranks that quantiles are read at."""
    probe: bool = True


def finalise(
    loaded: LoadedModel, collection: Collection, folder: Path, *, settings: FinaliseSettings | None = None, progress: Progress = no_progress
) -> Path:
    """Write the atlas of `collection` into `folder` (made or replaced as a whole). Returns `folder`."""
    settings = settings or FinaliseSettings()
    banned_V = unlisted_tokens(loaded)
    arrays = _empty_arrays(collection, settings)
    ranks = arrays.pop("ranks")
    counts_V = collection.token_counts_V()
    occurrences: dict[str, list[int]] = {}
    for layer in range(collection.n_layers):
        _fill_layer(arrays, collection, settings, layer, ranks, banned_V, occurrences)
        progress(layer + 1, collection.n_layers, "layers summed up")
    ids, scores = project_outputs(loaded, keep=settings.projected, banned=banned_V, progress=progress)
    arrays["promoted_id"], arrays["promoted_score"] = ids.astype(arrays["token_id"].dtype), scores.astype(np.float16)
    if settings.probe:
        ids, values = _probe(loaded, collection.folder / "probe.npz", settings.probed, banned_V, progress)
        arrays["probe_id"], arrays["probe_value"] = ids.astype(arrays["token_id"].dtype), _half(values)
    arrays["mean"] = collection.mean_LI()
    arrays["token_count"] = counts_V.astype(np.uint32)
    attributes = {
        "ranks": [int(rank) for rank in ranks],
        "body_quantiles": list(BODY_QUANTILES),
        "body_tokens": len(collection.body(0)[0]),
        "position_offset": SKIP,
        "occurrences": occurrences,
        "occurrence_cap": collection.plan.settings.occurrences,
    }
    writer = AtlasWriter.keeping_descriptions(folder, loaded.ref)
    writer.put_figures(arrays, attributes=attributes, labels={"rank": np.asarray(ranks), "quantile": np.asarray(BODY_QUANTILES)})
    writer.put_corpus(collection.corpus)
    done = collection.done_blocks
    windows = np.arange(collection.corpus.n_describe)
    documents = np.unique(collection.corpus.document_S[windows[done[windows // collection.plan.settings.block]]])
    writer.commit(
        {
            "model": asdict(loaded.ref),
            "tokens": collection.tokens,
            "documents": len(documents),
            "sources": collection.corpus.shares(),
            "settings": {"collect": asdict(collection.plan.settings), "atlas": asdict(settings)},
            "complete": bool(done.all()),
        }
    )
    return folder


def _probe(
    loaded: LoadedModel, path: Path, keep: int, banned_V: NDArray[np.bool_], progress: Progress
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The vocabulary probe, kept beside the collection: it depends on the model alone, not on how much text was read."""
    if not path.exists():
        ids, values = probe_vocabulary(loaded, keep=keep, banned=banned_V, progress=progress)
        with disk_errors(path), atomic_file(path) as stream:
            np.savez_compressed(stream, ids=ids, values=values)
    with np.load(path, allow_pickle=False) as stored:
        return stored["ids"][..., :keep], stored["values"][..., :keep]


def unlisted_tokens(loaded: LoadedModel) -> NDArray[np.bool_]:
    """Ids never shown in token lists: control tokens and rows without a token."""
    banned = np.zeros(loaded.ref.n_vocab, dtype=bool)
    tokenizer: Any = loaded.tokenizer
    banned[min(len(tokenizer), loaded.ref.n_vocab) :] = True
    banned[[number for number in tokenizer.all_special_ids if number < loaded.ref.n_vocab]] = True
    added = getattr(tokenizer, "added_tokens_decoder", {})
    banned[[number for number, token in added.items() if getattr(token, "special", False) and number < loaded.ref.n_vocab]] = True
    return banned


def read_ranks(tokens: int, levels: Sequence[float] = LEVELS, *, most: int = 128) -> list[int]:
    """The ranks at which the levels are read: level * tokens rounded down, and the extreme."""
    return sorted({1, *(int(level * tokens + 1e-9) for level in levels if 1 <= int(level * tokens + 1e-9) <= most)})


def _empty_arrays(collection: Collection, settings: FinaliseSettings) -> dict[str, NDArray[Any]]:
    n_layers, n_neurons, corpus = collection.n_layers, max(collection.widths), collection.corpus
    most = collection.plan.settings.extremes
    ranks = np.arange(1, most + 1) if settings.all_extremes else np.asarray(read_ranks(collection.tokens, most=most))
    id_type = np.uint16 if corpus.n_vocab < 65_535 else np.int32
    window_type = np.uint16 if corpus.n_describe < 65_535 else np.int32
    position_type = np.uint8 if int(corpus.length_S.max()) - SKIP <= 255 else np.uint16
    sides = (2, n_layers, n_neurons)
    kept = min(settings.exemplars, collection.plan.settings.exemplars)
    return {
        "ranks": ranks,
        "extreme": np.zeros((*sides, len(ranks)), dtype=np.float16),
        "tail_scale": np.zeros(sides, dtype=np.float16),
        "body": np.zeros((n_layers, n_neurons, len(BODY_QUANTILES)), dtype=np.float16),
        "histogram": np.zeros((n_layers, n_neurons, settings.bins), dtype=np.uint16),
        "histogram_range": np.zeros((n_layers, n_neurons, 2), dtype=np.float32),
        "exemplar_value": np.zeros((*sides, kept), dtype=np.float16),
        "exemplar_sequence": np.full((*sides, kept), _none(window_type), dtype=window_type),
        "exemplar_position": np.zeros((*sides, kept), dtype=position_type),
        "token_id": np.full((*sides, settings.tokens), _none(id_type), dtype=id_type),
        "token_mean": np.zeros((*sides, settings.tokens), dtype=np.float16),
        "previous_id": np.full((*sides, settings.previous), _none(id_type), dtype=id_type),
        "previous_mean": np.zeros((*sides, settings.previous), dtype=np.float16),
    }


def _fill_layer(
    arrays: dict[str, NDArray[Any]],
    collection: Collection,
    settings: FinaliseSettings,
    layer: int,
    ranks: NDArray[Any],
    banned_V: NDArray[np.bool_],
    occurrences: dict[str, list[int]],
) -> None:
    width = collection.widths[layer]
    if not width:  # a hybrid's layer without an MLP
        return
    values = collection.values_2IK(layer)[:, :width]
    arrays["extreme"][:, layer, :width] = _half(np.nan_to_num(values[:, :, ranks - 1]))
    tail = np.nan_to_num(np.abs(values - values[:, :, -1:]))
    arrays["tail_scale"][:, layer, :width] = _half(tail[:, :, :-1].mean(2))
    _, acts_TI = collection.body(layer)
    acts_TI = acts_TI[:, :width]
    arrays["body"][layer, :width] = _half(np.quantile(acts_TI, BODY_QUANTILES, axis=0).T)
    low, high = acts_TI.min(0), acts_TI.max(0)
    arrays["histogram_range"][layer, :width] = np.stack([low, high], axis=1)
    bins = np.minimum((acts_TI - low) / np.maximum(high - low, 1e-12) * settings.bins, settings.bins - 1).astype(np.int64)
    flat = bins + np.arange(width) * settings.bins
    arrays["histogram"][layer, :width] = np.bincount(flat.ravel(), minlength=width * settings.bins).reshape(width, -1)
    value, sequence, position = collection.exemplars_2IK(layer)
    keep = arrays["exemplar_value"].shape[-1]
    missing = sequence[:, :width, :keep] < 0
    arrays["exemplar_value"][:, layer, :width] = _half(value[:, :width, :keep])
    none = _none(arrays["exemplar_sequence"].dtype)
    arrays["exemplar_sequence"][:, layer, :width] = np.where(missing, none, sequence[:, :width, :keep])
    arrays["exemplar_position"][:, layer, :width] = np.where(missing, 0, position[:, :width, :keep] - SKIP)
    for name, means in (("token", collection.token_means(layer)), ("previous", collection.previous_means(layer))):
        ids_U, counts_U, mean_UI = means
        occurrences[name] = [int(count) for count in counts_U]
        usable = (counts_U >= settings.min_occurrences) & ~banned_V[ids_U]
        best_ids, best_means = top_tokens(ids_U[usable], mean_UI[usable][:, :width], arrays[f"{name}_id"].shape[-1])
        arrays[f"{name}_id"][:, layer, :width] = np.where(best_ids < 0, _none(arrays[f"{name}_id"].dtype), best_ids)
        arrays[f"{name}_mean"][:, layer, :width] = _half(best_means)


def top_tokens(ids_U: NDArray[np.int32], mean_UI: NDArray[np.float32], keep: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The `keep` tokens of highest (side 0) and lowest (side 1) mean of each neuron: ids and means (2, I, K), id -1 where missing."""
    n_tokens, width = mean_UI.shape
    take = min(keep, n_tokens)
    ids = np.full((2, width, keep), -1, dtype=np.int32)
    means = np.zeros((2, width, keep), dtype=np.float32)
    if take:
        mean_IU = np.ascontiguousarray(mean_UI.T)
        for side, signed in ((0, -mean_IU), (1, mean_IU)):
            some = np.argpartition(signed, take - 1, axis=1)[:, :take]
            best = np.take_along_axis(some, np.argsort(np.take_along_axis(signed, some, axis=1), axis=1, kind="stable"), axis=1)
            ids[side, :, :take] = ids_U[best]
            means[side, :, :take] = np.take_along_axis(mean_IU, best, axis=1)
    return ids, means


def _half(values: NDArray[Any]) -> NDArray[np.float16]:
    """float16, clipped where it would overflow (no activation seen so far comes near)."""
    return np.asarray(np.clip(values, -65_000, 65_000), dtype=np.float16)


def _none(dtype: Any) -> int:
    """What stands for a missing id or window: -1, or the largest value of an unsigned type."""
    return -1 if np.dtype(dtype).kind == "i" else int(np.iinfo(dtype).max)
