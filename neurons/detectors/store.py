"""Detectors on disk and in use: one folder per weights hash, a manifest and one file of arrays; scores, rarity and what is active.

`open_detectors` finds the user's own of a model, else the shipped ones, else those of near weights (its note says so).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from neurons.atlas.arrays import ArrayFile, write_arrays
from neurons.core.clock import now, stamp
from neurons.core.errors import InvalidInput, NotFound, StoreError
from neurons.core.home import subfolder
from neurons.core.json_text import json_text
from neurons.core.types import ModelRef, NeuronSide
from neurons.detectors.records import (
    LEVELS,
    PIECE_TOKENS,
    RATES,
    ActiveConcept,
    ConceptLabel,
    DetectorArrays,
    Rates,
    labels_from_json,
    labels_to_json,
)
from neurons.storage.manifest import MANIFEST, FileEntry, document_of, entry_of, parse_document, problem_of
from neurons.storage.sealed import write_sealed

FORMAT = "neuronscope-detectors"
VERSION = 2
"""Version 1 had a manifest of its own: see `_with_files`."""
_FIELDS = ("model", "created", "concepts", "found", "lexicon", "texts", "held_out_texts", "corpus_tokens", "corpus", "settings")
"""What a manifest of version 1 says beside its file."""
_CURE = "make it again with `neuronscope atlas concepts`"
SHIPPED = Path(__file__).parent / "shipped"
_AXES = {"C": "concept", "K": "kept", "L": "layer", "I": "neuron", "Q": "rate", "2": "side", "3": "level"}
_SHOWN_NEURONS = 12
SPOKEN = 3.0
"""A score, in spreads over other sentences, from which a text is taken to be in a language."""
_ALIKE = 0.8
"""Chinese scores 32 on Chinese, Japanese 24: what is further below the best than this is of the same script."""
_LOG_RATES = np.log(np.asarray(RATES))


def detectors_folder(ref: ModelRef) -> Path:
    """Where the user's own detectors of this model live (it may not exist yet)."""
    return subfolder("detectors") / ref.weights_hash[:32]


def open_detectors(ref: ModelRef) -> Detectors | None:
    """The detectors for a model, or None: the user's own, else the shipped, else those of other weights of the same shape.

    Raises `StoreError` when those that fit exactly are damaged.
    """
    found = _fitting(ref)
    return None if found is None else Detectors.read(*found)


def detectors_stamp(ref: ModelRef) -> str:
    """What identifies the detectors that `open_detectors` opens, "" where there are none: another one when they are made anew."""
    found = _fitting(ref)
    return "" if found is None else " ".join(str(entry["sha256"]) for entry in found[1]["files"].values())


def _fitting(ref: ModelRef) -> tuple[Path, dict[str, Any]] | None:
    own = detectors_folder(ref)
    folders = [own, SHIPPED, *sorted(path for path in subfolder("detectors").iterdir() if path != own)]
    found = [(folder, manifest) for folder in folders if (manifest := _read_manifest(folder, strict=folder == own)) is not None]
    for folder, manifest in found:
        if manifest["model"]["weights_hash"] == ref.weights_hash:
            return folder, manifest
    for folder, manifest in found:
        if _shape(ModelRef(**manifest["model"])) == _shape(ref):
            return folder, manifest
    return None


def need_detectors(ref: ModelRef) -> Detectors:
    """The detectors for a model. Raises `NotFound` with the command that makes them."""
    found = open_detectors(ref)
    if found is None:
        raise NotFound(f"no concepts are known of {ref.name} yet; find them with `neuronscope atlas concepts --model {ref.id}`")
    return found


def save_detectors(
    folder: Path, ref: ModelRef, labels: Sequence[ConceptLabel], arrays: DetectorArrays, *, facts: Mapping[str, Any]
) -> Detectors:
    """Write detectors into `folder`; those before stay valid until the manifest names the new ones. Raises `StoreError`."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"detectors-{stamp()}.zarr.zip"
    packed = _packed(arrays)
    dimensions = {name: tuple(_AXES[letter] for letter in name.rsplit("_", 1)[1]) for name in packed}
    write_arrays(folder / name, packed, dimensions=dimensions, attributes={"labels": labels_to_json(tuple(labels))})
    manifest = {
        **document_of({name: entry_of(folder / name)}, kind=FORMAT, version=VERSION),
        "model": asdict(ref),
        "created": now(),
        "concepts": len(labels),
        "found": int(arrays.found_C.sum()),
        **facts,
    }
    write_sealed(folder / MANIFEST, manifest)
    for old in folder.glob("detectors-*.zarr.zip"):
        if old.name != name:
            old.unlink(missing_ok=True)
    return Detectors.read(folder, manifest)


class Detectors:
    """The named concepts of one model, ready to be read off activations."""

    def __init__(self, ref: ModelRef, labels: Sequence[ConceptLabel], arrays: DetectorArrays, manifest: Mapping[str, Any]) -> None:
        self.ref = ref
        self.labels = tuple(labels)
        self.arrays = arrays
        self.manifest = manifest

    @classmethod
    def read(cls, folder: Path, manifest: Mapping[str, Any]) -> Detectors:
        """Raises `StoreError` when the file is missing, cut or changed."""
        ((name, entry),) = manifest["files"].items()
        path = folder / name
        if problem_of(folder, name, FileEntry(**entry), contents=True):
            raise StoreError(f"{path} is missing or was changed; {_CURE}")
        ref = ModelRef(**manifest["model"])
        with ArrayFile(path) as file:
            labels = labels_from_json(file.attributes["labels"])
            return cls(ref, labels, _unpacked(file, labels), manifest)

    # -- what they are ------------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.labels)

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(label.key for label in self.labels)

    @property
    def fields(self) -> tuple[str, ...]:
        """The field of each concept."""
        return tuple(label.field for label in self.labels)

    @property
    def found(self) -> NDArray[np.bool_]:
        """(C,): which concepts this model knows better than chance. The others are never shown as active."""
        return self.arrays.found_C

    @property
    def corpus_tokens(self) -> int:
        """Tokens behind every rarity."""
        return int(self.manifest["corpus_tokens"])

    @property
    def lexicon(self) -> str:
        """The fingerprint of the lexicon that they were fitted to."""
        return str(self.manifest["lexicon"])

    def note_for(self, ref: ModelRef) -> str:
        """What a reader must know before using them for `ref`, or ""."""
        if ref.weights_hash == self.ref.weights_hash:
            return ""
        return f"found in other weights ({self.ref.name}) of the same architecture; figures are near, not exact"

    def number(self, name: str) -> int:
        """The place of a concept by its name or key. Raises `NotFound`."""
        for number, label in enumerate(self.labels):
            if name.casefold().strip() in (label.key, label.name.casefold()):
                return number
        raise NotFound(f"there is no concept {name!r}; `neuronscope lexicon list` shows all")

    @cached_property
    def languages(self) -> tuple[int, ...]:
        """The concepts that say in which language a text is."""
        return tuple(n for n, label in enumerate(self.labels) if label.language)

    def spoken(self, acts_LTI: NDArray[Any], tokens: Sequence[int] | None = None) -> tuple[int, ...]:
        """Those of `languages` that ten of the tokens in a row are in. Empty for English, which has no concept."""
        if not self.languages or (tokens is not None and not len(tokens)):
            return ()
        score_TC = self.score(acts_LTI, tokens)[:, list(self.languages)]
        width = min(PIECE_TOKENS[1], len(score_TC))
        total_TC = np.cumsum(np.pad(score_TC, ((1, 0), (0, 0))), axis=0)
        best_C = ((total_TC[width:] - total_TC[:-width]) / width).max(axis=0)
        least = max(SPOKEN, _ALIKE * float(best_C.max()))
        return tuple(number for number, best in zip(self.languages, best_C, strict=True) if best >= least)

    def rates(self, number: int) -> Rates:
        """How sure a concept's detector is."""
        a = self.arrays
        return Rates(
            bool(a.found_C[number]),
            float(a.auroc_C[number]),
            float(a.auroc_near_C[number]),
            float(a.auroc_shuffled_C[number]),
            float(a.q_C[number]),
        )

    def sides(self, number: int) -> tuple[tuple[NeuronSide, float], ...]:
        """A concept's neurons, largest weight first: the side that raises the score, and the weight's size in units of raw activation."""
        a = self.arrays
        given = [(int(n), float(w)) for n, w in zip(a.neuron_CK[number], a.weight_CK[number], strict=True) if n >= 0]
        return tuple((self._side(n, w), abs(w)) for n, w in given)

    def strongest_concept(self, side: NeuronSide) -> tuple[int, float] | None:
        """(concept, t) that a neuron's side is most for, or None."""
        return _strongest(side, self.arrays.side_concept_2LI, self.arrays.side_t_2LI)

    def strongest_topic(self, side: NeuronSide) -> tuple[int, float] | None:
        """(concept, t) that a neuron's side is most for among the concepts that are no language, in their sentences; or None."""
        return _strongest(side, self.arrays.side_topic_2LI, self.arrays.side_topic_t_2LI)

    # -- scores -------------------------------------------------------------------------------------------------------------

    def score(self, acts_LTI: NDArray[Any], tokens: Sequence[int] | None = None) -> NDArray[np.float32]:
        """Every concept's score at each token, (T, C) float32; `tokens` picks positions. A text's score is the mean of its tokens'."""
        used_TU = self._used_acts(acts_LTI, tokens)
        scores: NDArray[np.float32] = np.asarray((self._weights_CU @ used_TU.T).T, dtype=np.float32)
        return scores + self.arrays.bias_C

    def rarity(self, scores_NC: NDArray[Any], *, tokens: int) -> NDArray[np.float32]:
        """'Once in so many pieces of the corpus', for scores (..., C) over `tokens` tokens each: 1 / the share of pieces that reach it.

        Between the rates kept it is interpolated in the logarithm, above the rarest it goes on along the tail's last slope; at least 1.
        """
        tail_CQ = self.arrays.tail_3CQ[level_of(tokens)]
        flat = np.asarray(scores_NC, dtype=np.float64).reshape(-1, len(self))
        out = np.empty(flat.shape, dtype=np.float32)
        for c in range(len(self)):
            out[:, c] = _rarity(flat[:, c], tail_CQ[c])
        return out.reshape(np.shape(scores_NC))

    def active(self, acts_LTI: NDArray[Any], tokens: Sequence[int] | None = None, k: int = 20) -> tuple[ActiveConcept, ...]:
        """The `k` concepts most active over the tokens together (None: all), strongest first; at one or two tokens, rarest first.

        Leave template and control tokens out of `tokens` unless they are meant. Concepts not found in this model are left out.
        Raises `InvalidInput` when there is no token, or a token outside the trace.
        """
        positions = np.arange(acts_LTI.shape[1]) if tokens is None else np.asarray(list(tokens), dtype=np.int64)
        if positions.size == 0:
            raise InvalidInput("no token is left to read concepts from; choose others, or take control tokens in", field="tokens")
        if positions.min() < 0 or positions.max() >= acts_LTI.shape[1]:
            raise InvalidInput(f"choose tokens from 0 to {acts_LTI.shape[1] - 1}", field="tokens")
        used_TU = self._used_acts(acts_LTI, positions.tolist())
        mean_U = used_TU.mean(axis=0, dtype=np.float64)
        score_C = np.asarray(self._weights_CU @ mean_U + self.arrays.bias_C, dtype=np.float32)
        rarity_C = self.rarity(score_C[None], tokens=len(positions))[0]
        level = LEVELS[level_of(len(positions))]
        by_C = rarity_C if level == "token" else score_C  # scores are in sentences' units: at one token their spreads differ by concept
        order = np.argsort(-by_C, kind="stable")
        best = [int(c) for c in order if self.found[c] and score_C[c] > 0][:k]
        rows = []
        for c in best:
            score_T = np.asarray(self._weights_CU[[c]] @ used_TU.T)[0] + self.arrays.bias_C[c]
            rare_T = _rarity(score_T, self.arrays.tail_3CQ[0, c])
            shown = [(int(positions[t]), round(float(rare_T[t]), 1)) for t in np.argsort(-score_T, kind="stable") if score_T[t] > 0]
            label = self.labels[c]
            neurons = self._raising(c, mean_U)
            row = ActiveConcept(c, label.key, label.name, label.field, float(score_C[c]), float(rarity_C[c]), level, tuple(shown), neurons)
            rows.append(row)
        return tuple(rows)

    # -- inside -------------------------------------------------------------------------------------------------------------

    def _raising(self, number: int, mean_U: NDArray[np.float64]) -> tuple[tuple[NeuronSide, float], ...]:
        """Which neurons raise a concept's score above its mean, and their share of all that do."""
        row = self._weights_CU[[number]]
        above_K = row.data * (mean_U[row.indices] - self._usual_U[row.indices])
        total = float(above_K[above_K > 0].sum())
        best = [int(k) for k in np.argsort(-above_K, kind="stable")[:_SHOWN_NEURONS] if above_K[k] > 0]
        return tuple((self._side(int(self._used[row.indices[k]]), float(row.data[k])), float(above_K[k]) / total) for k in best)

    def _side(self, neuron: int, weight: float) -> NeuronSide:
        layer, index = divmod(neuron, self.ref.n_neurons)
        return NeuronSide(layer, index, "+" if weight >= 0 else "-")

    @cached_property
    def _used(self) -> NDArray[np.int64]:
        """The neurons that any detector reads."""
        neurons = self.arrays.neuron_CK
        return np.unique(neurons[neurons >= 0]).astype(np.int64)

    @cached_property
    def _usual_U(self) -> NDArray[np.float64]:
        """Their mean activation over the lexicon."""
        return self.arrays.mean_LI.ravel()[self._used].astype(np.float64)

    @cached_property
    def _weights_CU(self) -> Any:
        """Every detector as a sparse row over the neurons used."""
        neuron_CK, weight_CK = self.arrays.neuron_CK, self.arrays.weight_CK
        row, column = np.nonzero(neuron_CK >= 0)
        place = np.searchsorted(self._used, neuron_CK[row, column])
        return sparse.csr_matrix((weight_CK[row, column], (row, place)), shape=(len(self), len(self._used)))

    def _used_acts(self, acts_LTI: NDArray[Any], tokens: Sequence[int] | None) -> NDArray[np.float32]:
        """(T, U): the activations that any detector reads. Raises `InvalidInput` for another model's."""
        if acts_LTI.ndim != 3 or (acts_LTI.shape[0], acts_LTI.shape[2]) != (self.ref.n_layers, self.ref.n_neurons):
            raise InvalidInput(f"these activations are not of {self.ref.name}: shape {acts_LTI.shape}", field="activations")
        positions = slice(None) if tokens is None else np.asarray(list(tokens), dtype=np.int64)
        layer_U, index_U = np.divmod(self._used, self.ref.n_neurons)
        parts = []
        for layer in range(self.ref.n_layers):
            acts_TI = np.asarray(acts_LTI[layer])[positions]
            parts.append(acts_TI[:, index_U[layer_U == layer]].astype(np.float32))
        return np.concatenate(parts, axis=1)


def level_of(tokens: int) -> int:
    """Which level's corpus pieces a stretch of so many tokens is compared with: the nearest in the logarithm."""
    return int(np.argmin(np.abs(np.log(PIECE_TOKENS) - np.log(max(tokens, 1)))))


def _rarity(score_N: NDArray[Any], tail_Q: NDArray[np.float32]) -> NDArray[np.float64]:
    steps = np.maximum.accumulate(tail_Q.astype(np.float64)) + np.arange(len(tail_Q)) * 1e-9
    rate_N = np.interp(score_N, steps, -_LOG_RATES, left=0.0)  # below the median: "1 in 1"
    slope = (-_LOG_RATES[-1] + _LOG_RATES[-4]) / max(steps[-1] - steps[-4], 1e-6)
    beyond_N = np.maximum(score_N - steps[-1], 0) * slope
    return np.asarray(np.exp(np.minimum(rate_N + beyond_N, 30)))


def _shape(ref: ModelRef) -> tuple[str, int, int, int]:
    return ref.architecture, ref.n_layers, ref.n_neurons, ref.n_vocab


def _read_manifest(folder: Path, *, strict: bool) -> dict[str, Any] | None:
    """The manifest of a folder of detectors; None where there is none, or where it cannot be used and `strict` is off."""
    path = folder / MANIFEST
    try:
        data = _with_files(path.read_bytes())
        manifest, files = parse_document(data, what=str(path), kind=FORMAT, version=VERSION, unsealed=_FIELDS, cure=_CURE)
        if len(files) != 1 or "/" in next(iter(files)):
            raise StoreError(f"{path} does not name one file of detectors; {_CURE}")
        ModelRef(**manifest["model"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        if not strict:
            return None
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"{path} is no manifest this version reads ({error}); {_CURE}") from error
    return manifest


def _with_files(data: bytes) -> bytes:
    """A manifest of the first version, which named its one file under "file", in the form that every manifest has now."""
    value = json.loads(data)
    if not isinstance(value, dict) or "files" in value or not isinstance(value.get("file"), dict):
        return data
    file = value.pop("file")
    return json_text({**value, "files": {str(file["name"]): {"size": file["size"], "sha256": file["sha256"]}}}, ascii_only=True).encode()


def _packed(arrays: DetectorArrays) -> dict[str, NDArray[Any]]:
    """As stored: neurons in order within a row, so that they compress."""
    return {field.name: getattr(arrays, field.name) for field in fields(DetectorArrays)}


def _unpacked(file: ArrayFile, labels: Sequence[ConceptLabel]) -> DetectorArrays:
    """The arrays of a file; those made before sides had topics know the topics of those whose strongest concept is no language."""
    stored = {field.name: file.read(field.name) for field in fields(DetectorArrays) if field.name in file}
    if "side_topic_2LI" not in stored:
        concept_2LI, t_2LI = stored["side_concept_2LI"], stored["side_t_2LI"]
        topic_2LI = (concept_2LI >= 0) & ~np.array([label.language for label in labels])[concept_2LI]
        stored |= {
            "side_topic_2LI": np.where(topic_2LI, concept_2LI, -1).astype(np.int16),
            "side_topic_t_2LI": np.where(topic_2LI, t_2LI, 0).astype(np.float16),
        }
    return DetectorArrays(**stored)


def _strongest(side: NeuronSide, concept_2LI: NDArray[np.int16], t_2LI: NDArray[np.float16]) -> tuple[int, float] | None:
    at = (0 if side.polarity == "+" else 1, side.layer, side.index)
    return None if concept_2LI[at] < 0 else (int(concept_2LI[at]), float(t_2LI[at]))
