"""Atlases on disk: one folder per weights hash, whose manifest names each file with its size and SHA-256. Read lazily, written atomically.

`open_atlas` finds the user's atlas of a model, else the shipped one, else one of near weights (said so in its note).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neurons.atlas.arrays import ArrayFile
from neurons.atlas.corpus import Corpus
from neurons.atlas.levels import from_body, from_extremes
from neurons.atlas.records import AtlasInfo, AtlasQuantiles, Exemplar, ExemplarArrays, Histogram, TokenArrays, TokenStats, side_of
from neurons.atlas.writer import CORPUS, NEURONS, AtlasWriter, read_manifest
from neurons.core.errors import InvalidInput, NotFound, StoreError
from neurons.core.home import home
from neurons.core.types import ModelRef, Polarity
from neurons.storage.manifest import FileEntry, problem_of

SHIPPED = Path(__file__).parent / "shipped"


def atlas_folder(ref: ModelRef) -> Path:
    """Where the user's atlas of this model lives (it may not exist yet)."""
    return _own_place() / ref.weights_hash[:32]


def _own_place() -> Path:
    return home() / "atlases"


def open_atlas(ref: ModelRef) -> Atlas | None:
    """The atlas for a model, or None: the user's own, else the shipped one, else one of other weights of the same architecture and size.

    A damaged one is left out, so that it never hides another; the note of what is found instead names it. See `damaged_atlases`.
    """
    own = atlas_folder(ref)
    others = [path for path in own_folders() if path != own]
    found: list[tuple[Path, dict[str, Any]]] = []
    missing = ""
    for folder in (own, SHIPPED, *others):
        try:
            manifest = read_whole(folder)
        except StoreError as error:
            missing = f"; your own atlas is damaged and was left out ({error})" if folder == own else missing
            continue
        if manifest is not None:
            found.append((folder, manifest))
    for folder, manifest in found:
        if manifest["model"]["weights_hash"] == ref.weights_hash:
            return Atlas(folder, manifest, left_out=missing)
    for folder, manifest in found:
        if _same_shape(ModelRef(**manifest["model"]), ref):
            return Atlas(folder, manifest, shown_for=ref, left_out=missing)
    return None


def own_folders() -> tuple[Path, ...]:
    """The folders of the user's atlases, sorted; unfinished ones are left out."""
    folder = _own_place()
    try:
        return tuple(sorted(path for path in folder.iterdir() if "." not in path.name and path.is_dir()))
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise StoreError(f"{folder} cannot be read: {error.strerror or error}; check its permissions") from error


def read_whole(folder: Path) -> dict[str, Any] | None:
    """The manifest of a folder whose files are all there; None when it holds no atlas. Raises `StoreError` where it is damaged.

    Costs a stat per file: their checksums are compared when they are read.
    """
    manifest = read_manifest(folder, strict=True)
    for name, entry in {} if manifest is None else manifest["files"].items():
        problem = problem_of(folder, name, FileEntry(**entry), contents=False)
        if problem is not None:
            raise StoreError(f"the atlas in {folder} is damaged ({problem}); remove it and build or import it again")
    return manifest


def open_folder(folder: Path, *, ref: ModelRef | None = None) -> Atlas:
    """The atlas in `folder`. With `ref`: raises `InvalidInput` when it is of another architecture. Raises `NotFound`, `StoreError`."""
    manifest = read_manifest(folder, strict=True)
    if manifest is None:
        raise NotFound(f"{folder} holds no atlas; build one with `neuronscope atlas build`")
    atlas_ref = ModelRef(**manifest["model"])
    if ref is None or atlas_ref.weights_hash == ref.weights_hash:
        return Atlas(folder, manifest)
    if not _same_shape(atlas_ref, ref):
        raise InvalidInput(
            f"this atlas is of {atlas_ref.name} ({atlas_ref.architecture}, {atlas_ref.n_layers} x {atlas_ref.n_neurons}), "
            f"not of {ref.name} "
            f"({ref.architecture}, {ref.n_layers} x {ref.n_neurons}); build one for this model",
            field="atlas",
        )
    return Atlas(folder, manifest, shown_for=ref)


def list_atlases() -> list[AtlasInfo]:
    """Every atlas on this machine, the shipped one included. Damaged ones are left out; `damaged_atlases` names them."""
    infos = []
    for folder in (*own_folders(), SHIPPED):
        with suppress(StoreError):
            manifest = read_whole(folder)
            if manifest is not None:
                infos.append(Atlas(folder, manifest).info)
    return infos


def damaged_atlases() -> list[tuple[Path, str]]:
    """Folders of the user's atlases that cannot be read, and why."""
    found = []
    for folder in own_folders():
        try:
            read_whole(folder)
        except StoreError as error:
            found.append((folder, str(error)))
    return found


def _same_shape(one: ModelRef, other: ModelRef) -> bool:
    return (one.architecture, one.n_layers, one.n_neurons, one.n_vocab) == (
        other.architecture,
        other.n_layers,
        other.n_neurons,
        other.n_vocab,
    )


class Atlas:
    """One model's atlas, open for reading. Arrays are read from disk when first asked for and kept."""

    def __init__(self, folder: Path, manifest: dict[str, Any], *, shown_for: ModelRef | None = None, left_out: str = "") -> None:
        """`shown_for` is the model it stands in for; `left_out` says which atlas would have come before it, had it been readable."""
        self.folder = folder
        self.manifest = manifest
        self.ref = ModelRef(**manifest["model"])
        self._shown_for = shown_for
        self._left_out = left_out
        self._cache: dict[str, NDArray[Any]] = {}

    @property
    def tokens(self) -> int:
        """Counted tokens behind every figure."""
        return int(self.manifest["tokens"])

    @property
    def n_layers(self) -> int:
        return self.ref.n_layers

    @property
    def n_neurons(self) -> int:
        return self.ref.n_neurons

    @property
    def has_figures(self) -> bool:
        """False for one made of imported descriptions only: quantiles, exemplars and token lists then raise `NotFound`."""
        return NEURONS in self.manifest["files"]

    @property
    def shipped(self) -> bool:
        return self.folder == SHIPPED

    @property
    def info(self) -> AtlasInfo:
        """What lists and pages say of this atlas, with a note where its figures are not exactly this model's."""
        note = ""
        if self._shown_for is not None:
            note = f"collected from other weights ({self.ref.name}) of the same architecture; figures are near, not exact"
        elif not self.manifest.get("complete", True):
            note = f"the collection is unfinished: {self.tokens:,} tokens so far"
        return AtlasInfo(
            model=self.ref,
            tokens=self.tokens,
            documents=int(self.manifest["documents"]),
            sources=tuple(self.manifest["sources"]),
            created=str(self.manifest["created"]),
            near=self._shown_for is not None,
            note=f"{note}{self._left_out}".removeprefix("; "),
            settings=dict(self.manifest.get("settings", {})),
            described=int(self.manifest.get("descriptions", {}).get("described", 0)),
            shipped=self.shipped,
        )

    # -- figures of all neurons ---------------------------------------------------------------------------------------------

    def quantile(self, level: float) -> NDArray[np.float32]:
        """The quantile 1 - level of the positive and level of the negative side, (2, L, I), in activation units. See `quantiles`."""
        return self.quantiles(level).value_2LI

    def quantiles(self, level: float, *, tail_fit: bool = False) -> AtlasQuantiles:
        """The quantile and how it was found.

        From the strongest values where the level is so high, else from the body sample. With `tail_fit` an exponential tail goes beyond the
        corpus extreme. Raises `InvalidInput` for a level outside (0, 0.5].
        """
        if not 0 < level <= 0.5:
            raise InvalidInput(f"quantile level is {level}; use a number above 0 and at most 0.5", field="level")
        ranks = np.asarray(self._attributes["ranks"], dtype=np.int64)
        tail = self._read("tail_scale") if tail_fit else None
        found = from_extremes(level, self.tokens, ranks, self._read("extreme"), tail)
        return found or from_body(level, self.tokens, np.asarray(self._attributes["body_quantiles"]), self._read("body"))

    def mean_LI(self) -> NDArray[np.float32]:
        """Mean activation over all counted tokens, (L, I)."""
        return self._read("mean").astype(np.float32)

    def extremes(self, layer: int) -> NDArray[np.float32]:
        """(2, I, J): the values at `extreme_ranks`, strongest first, sign kept."""
        return self._read("extreme")[:, layer].astype(np.float32)

    @property
    def extreme_ranks(self) -> tuple[int, ...]:
        return tuple(self._attributes["ranks"])

    def token_counts_V(self) -> NDArray[np.int64]:
        """How often each token id stands in the describing part."""
        return self._read("token_count").astype(np.int64)

    # -- one layer, all neurons ---------------------------------------------------------------------------------------------

    def exemplar_arrays(self, layer: int) -> ExemplarArrays:
        """All exemplars of a layer."""
        sequence = _with_none(self._read("exemplar_sequence")[:, layer])
        position = self._read("exemplar_position")[:, layer].astype(np.int32) + int(self._attributes["position_offset"])
        return ExemplarArrays(self._read("exemplar_value")[:, layer].astype(np.float32), sequence, position)

    def token_arrays(self, layer: int) -> TokenArrays:
        """The tokens of highest mean activation."""
        return self._tokens("token", "mean", layer)

    def previous_arrays(self, layer: int) -> TokenArrays:
        """The previous tokens after which the activation is highest on average."""
        return self._tokens("previous", "mean", layer)

    def probe_arrays(self, layer: int) -> TokenArrays | None:
        """The tokens that, alone after the start token, give the strongest activation. None when the probe was left out."""
        return self._tokens("probe", "value", layer) if self._has("probe_id") else None

    def projection_arrays(self, layer: int) -> tuple[TokenArrays, TokenArrays]:
        """(promoted, suppressed) tokens of each side, z-scores of the output row's effect on the logits."""
        promoted = self._tokens("promoted", "score", layer)
        return promoted, TokenArrays(promoted.ids_2IK[::-1], promoted.values_2IK[::-1])

    # -- one neuron ---------------------------------------------------------------------------------------------------------

    def exemplars(
        self, layer: int, index: int, polarity: Polarity, *, context: tuple[int, int] = (24, 8), most: int | None = None
    ) -> tuple[Exemplar, ...]:
        """The strongest places of a neuron side, at `most` so many, with `context` tokens before and after the peak."""
        self._check(layer, index)
        at, offset = (side_of(polarity), layer, index, slice(most)), int(self._attributes["position_offset"])
        sequence_K = _with_none(self._read("exemplar_sequence")[at])
        places = zip(self._read("exemplar_value")[at], sequence_K, self._read("exemplar_position")[at], strict=True)
        return tuple(
            self._exemplar(rank, float(value), int(sequence), int(position) + offset, context)
            for rank, (value, sequence, position) in enumerate(places)
            if sequence >= 0
        )

    def _exemplar(self, rank: int, value: float, sequence: int, position: int, context: tuple[int, int]) -> Exemplar:
        ids, source = self.corpus.sequence(sequence), self.corpus.source_of(sequence)
        start = max(0, position - context[0])
        return Exemplar(
            rank=rank,
            value=value,
            sequence=sequence,
            position=position,
            document=self.corpus.names_D[self.corpus.document_S[sequence]],
            source=source.name,
            domain=source.domain,
            start=start,
            ids=tuple(int(i) for i in ids[start : position + context[1] + 1]),
        )

    def token_stats(self, layer: int, index: int, polarity: Polarity) -> TokenStats:
        """The tokens at which this side is strongest on average."""
        return self._stats(self.token_arrays(layer), layer, index, polarity, "token")

    def previous_stats(self, layer: int, index: int, polarity: Polarity) -> TokenStats:
        """The tokens after which this side is strongest on average."""
        return self._stats(self.previous_arrays(layer), layer, index, polarity, "previous")

    def probe_stats(self, layer: int, index: int, polarity: Polarity) -> TokenStats:
        """The tokens that alone excite this side most."""
        arrays = self.probe_arrays(layer)
        return TokenStats((), (), ()) if arrays is None else self._stats(arrays, layer, index, polarity, None)

    def promoted(self, layer: int, index: int, polarity: Polarity) -> TokenStats:
        """The tokens that this side promotes when it fires."""
        return self._stats(self.projection_arrays(layer)[0], layer, index, polarity, None)

    def suppressed(self, layer: int, index: int, polarity: Polarity) -> TokenStats:
        """The tokens that this side suppresses when it fires."""
        return self._stats(self.projection_arrays(layer)[1], layer, index, polarity, None)

    def histogram(self, layer: int, index: int) -> Histogram:
        """The spread of a neuron's activations over the body sample."""
        self._check(layer, index)
        counts = self._read("histogram")[layer, index].astype(np.int64)
        low, high = self._read("histogram_range")[layer, index]
        return Histogram(np.linspace(low, high, len(counts) + 1, dtype=np.float32), counts, int(counts.sum()))

    @cached_property
    def corpus(self) -> Corpus:
        """The corpus that exemplars point into."""
        return Corpus.load(self.checked(CORPUS))

    # -- descriptions -------------------------------------------------------------------------------------------------------

    def descriptions(self) -> pd.DataFrame | None:
        """One row a described neuron side (columns of the describer, at least layer, index, polarity, description), or None."""
        entry = self.manifest.get("descriptions")
        return None if entry is None else pd.read_parquet(self.checked(entry["table"]))

    def embeddings(self) -> dict[str, NDArray[Any]]:
        """The arrays stored beside the descriptions, rows in the same order; empty when there are none."""
        entry = self.manifest.get("descriptions")
        if entry is None or not entry.get("arrays"):
            return {}
        with ArrayFile(self.checked(entry["arrays"])) as file:
            return {name: file.read(name) for name in file.names}

    def with_descriptions(
        self, table: pd.DataFrame, *, arrays: Mapping[str, NDArray[Any]] | None = None, meta: Mapping[str, Any] | None = None
    ) -> Atlas:
        """Write descriptions into the atlas's folder and return it as it is then. What was there stays until the new ones are whole."""
        writer = AtlasWriter(self.folder, base=self.manifest)
        writer.put_descriptions(table, arrays=arrays or {}, meta=meta or {})
        manifest = writer.commit({})
        return Atlas(self.folder, manifest, shown_for=self._shown_for)

    # -- reading ------------------------------------------------------------------------------------------------------------

    @cached_property
    def _file(self) -> ArrayFile:
        if not self.has_figures:
            raise NotFound(f"this atlas of {self.ref.name} holds descriptions only; build its figures with `neuronscope atlas build`")
        return ArrayFile(self.checked(NEURONS))

    @cached_property
    def _attributes(self) -> dict[str, Any]:
        return self._file.attributes

    def _has(self, name: str) -> bool:
        return name in self._file

    def _read(self, name: str) -> NDArray[Any]:
        if name not in self._cache:
            self._cache[name] = self._file.read(name)
        return self._cache[name]

    def checked(self, name: str) -> Path:
        """The path of a file after its size and SHA-256 were compared with the manifest. Raises `StoreError`."""
        path = self.folder / name
        entry = self.manifest["files"].get(name)
        problem = problem_of(self.folder, name, None if entry is None else FileEntry(**entry), contents=True)
        if problem is not None:
            raise StoreError(f"{path} is missing or damaged ({problem}); build or import this atlas again (neuronscope atlas build)")
        return path

    def _tokens(self, name: str, value: str, layer: int) -> TokenArrays:
        return TokenArrays(_with_none(self._read(f"{name}_id")[:, layer]), self._read(f"{name}_{value}")[:, layer].astype(np.float32))

    def _stats(self, arrays: TokenArrays, layer: int, index: int, polarity: Polarity, counted: str | None) -> TokenStats:
        self._check(layer, index)
        side = side_of(polarity)
        ids, values = arrays.ids_2IK[side, index], arrays.values_2IK[side, index]
        kept = ids >= 0
        if counted is None:
            counts = np.zeros(int(kept.sum()), dtype=np.int64)
        else:
            counts = np.minimum(self.token_counts_V()[ids[kept]], int(self._attributes["occurrence_cap"]))
        return TokenStats(tuple(map(int, ids[kept])), tuple(map(float, values[kept])), tuple(map(int, counts)))

    def _check(self, layer: int, index: int) -> None:
        if not (0 <= layer < self.n_layers and 0 <= index < self.n_neurons):
            raise InvalidInput(
                f"neuron {layer}:{index} does not exist: {self.ref.name} has layers 0 to {self.n_layers - 1}, "
                f"neurons 0 to {self.n_neurons - 1}",
                field="neuron",
            )


def _with_none(array: NDArray[Any]) -> NDArray[np.int32]:
    """int32, with -1 where an unsigned array holds its largest value."""
    wide = array.astype(np.int32)
    return np.where(array == np.iinfo(array.dtype).max, -1, wide) if array.dtype.kind == "u" else wide
