"""From a lexicon to a model's detectors in one call: sentences run, detectors fitted, measured on held-out sentences, calibrated, saved.

Stopped or killed it goes on from the sentences that were run. The same as a job for the app.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from neurons.atlas.corpus import Corpus
from neurons.core.errors import InvalidInput
from neurons.core.progress import Progress, no_progress
from neurons.core.types import ModelRef
from neurons.detectors.calibrate import calibrate, calibration_corpus
from neurons.detectors.collect import FeatureFile, Texts, collect_features
from neurons.detectors.evaluate import HeldOut, false_discovery, held_out
from neurons.detectors.fit import FitSettings, Labelled, Scale, Sparse, directions, gather, inner_products, largest, refit
from neurons.detectors.lexicon import Lexicon, load_lexicon
from neurons.detectors.records import ConceptLabel, DetectorArrays
from neurons.detectors.sides import strongest_concepts
from neurons.detectors.store import Detectors, detectors_folder, open_detectors, save_detectors
from neurons.models.loaded import LoadedModel
from neurons.storage.job_parameters import JobParameters
from neurons.storage.jobs import JobContext

JOB_KIND = "detectors"
MOST_FALSE = 0.01
"""The false discovery rate held over all concepts that count as found."""


@dataclass(frozen=True)
class DetectorSettings:
    """How detectors are made."""

    fit: FitSettings = field(default_factory=FitSettings)
    corpus_tokens: int = 100_000
    """Tokens of ordinary text that rarity is calibrated on."""
    seed: int = 0
    """Of the shuffled labels."""


def build_detectors(
    loaded: LoadedModel,
    lexicon: Lexicon | None = None,
    *,
    settings: DetectorSettings | None = None,
    folder: Path | None = None,
    work: Path | None = None,
    corpus: Corpus | None = None,
    keep_work: bool = False,
    progress: Progress = no_progress,
) -> Detectors:
    """Make a model's detectors. `folder` is where they go (default: the model's own place), `work` what a stopped call goes on from,
    `corpus` what rarity is calibrated on (default: the atlas's, else the shipped texts).

    Raises `InvalidInput` for a lexicon too small to compare, `StoreError` when the disk refuses, `Cancelled` through `progress`.
    """
    lexicon = lexicon or load_lexicon()
    settings = settings or DetectorSettings()
    if len(lexicon.concepts) < 3:
        raise InvalidInput("a lexicon needs at least 3 concepts, so that each can be told from others", field="lexicon")
    folder = folder or detectors_folder(loaded.ref)
    work = work or folder / "work"
    texts = Texts.of(lexicon)
    features = collect_features(
        loaded, texts, work, fingerprint=f"{lexicon.fingerprint} {loaded.ref.weights_hash} {loaded.ref.dtype}", progress=progress
    )
    fitted = fit_detectors(features, texts, len(lexicon.concepts), settings, progress=progress)
    corpus = corpus or calibration_corpus(loaded, tokens=settings.corpus_tokens, progress=progress)
    labels = [ConceptLabel(c.key, c.name, c.field, c.entry.definition) for c in lexicon.concepts]
    topics = ~np.array([label.language for label in labels])
    sides = [strongest_concepts(features, texts, len(labels), among=among, progress=progress) for among in (None, topics)]
    arrays, counted = _arrays(loaded, fitted, sides, corpus, settings, progress)
    made = save_detectors(
        folder,
        loaded.ref,
        labels,
        arrays,
        facts={
            "lexicon": lexicon.fingerprint,
            "texts": len(texts.texts),
            "held_out_texts": int(texts.held_N.sum()),
            "corpus_tokens": counted,
            "corpus": corpus.fingerprint,
            "settings": asdict(settings),
        },
    )
    if not keep_work:
        shutil.rmtree(work, ignore_errors=True)
    return made


def _arrays(
    loaded: LoadedModel,
    fitted: Fitted,
    sides: Sequence[tuple[NDArray[np.int16], NDArray[np.float16]]],
    corpus: Corpus,
    settings: DetectorSettings,
    progress: Progress,
) -> tuple[DetectorArrays, int]:
    """What is stored of fitted detectors, calibrated on `corpus`, and how many of its tokens were counted."""
    weight_CK, bias_C = fitted.raw(loaded.n_neurons)
    neuron_CK = fitted.sparse.neuron_CK.astype(np.int32)
    calibrated = calibrate(loaded, corpus, neuron_CK, weight_CK, bias_C, tokens=settings.corpus_tokens, progress=progress)
    real, chance = fitted.held_out, fitted.shuffled
    q_C = false_discovery(real.p_C)
    arrays = DetectorArrays(
        neuron_CK=neuron_CK,
        weight_CK=weight_CK,
        bias_C=bias_C,
        auroc_C=real.auroc_C.astype(np.float32),
        auroc_near_C=real.auroc_near_C.astype(np.float32),
        auroc_shuffled_C=chance.auroc_C.astype(np.float32),
        q_C=q_C.astype(np.float32),
        found_C=q_C <= MOST_FALSE,
        mean_LI=fitted.scale.mean_LI.numpy().astype(np.float16),
        tail_3CQ=calibrated.tail_3CQ,
        side_concept_2LI=sides[0][0],
        side_t_2LI=sides[0][1],
        side_topic_2LI=sides[1][0],
        side_topic_t_2LI=sides[1][1],
    )
    return arrays, calibrated.tokens


def up_to_date(ref: ModelRef) -> Detectors | None:
    """The model's detectors where they were fitted to the lexicon as it is now, on these very weights."""
    found = open_detectors(ref)
    fits = found is not None and found.ref.weights_hash == ref.weights_hash and found.lexicon == load_lexicon().fingerprint
    return found if fits else None


def known_or_built(loaded: LoadedModel, *, progress: Progress = no_progress) -> Detectors:
    """`up_to_date`, else made now."""
    return up_to_date(loaded.ref) or build_detectors(loaded, progress=progress)


@dataclass(frozen=True, eq=False)
class Fitted:
    """Detectors over standardised neurons, with their figures on held-out texts."""

    scale: Scale
    sparse: Sparse
    centre_C: NDArray[np.float32]
    spread_C: NDArray[np.float32]
    """Mean and spread of each one's scores on training sentences about other concepts."""
    score_HC: NDArray[np.float32]
    """Scores of the held-out texts."""
    held_out: HeldOut
    shuffled: HeldOut
    """The same after all labels were shuffled."""

    def raw(self, n_neurons: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(weight_CK, bias_C) over raw activations."""
        mean_F, spread_F = self.scale.mean_LI.flatten().numpy(), self.scale.spread_LI.flatten().numpy()
        at = self.sparse.neuron_CK
        weight_CK = self.sparse.weight_CK / spread_F[at] / self.spread_C[:, None]
        bias_C = -(weight_CK * mean_F[at]).sum(1) - self.centre_C / self.spread_C
        return weight_CK.astype(np.float32), bias_C.astype(np.float32)


def fit_detectors(
    features: FeatureFile, texts: Texts, n_concepts: int, settings: DetectorSettings, *, progress: Progress = no_progress
) -> Fitted:
    """Fit on the training part, measure on the held-out part; the same with shuffled labels."""
    train, held = np.flatnonzero(~texts.held_N & ~texts.near_N), np.flatnonzero(texts.held_N)
    labelled = Labelled(train, texts.class_N[train], n_concepts)
    scale = Scale.of(features, labelled)
    inner_NN = inner_products(features, scale, labelled, progress=progress)
    mixed = np.random.default_rng(settings.seed).permutation(len(train))
    results = []
    for one in (labelled, replace(labelled, class_N=labelled.class_N[mixed])):
        sparse_, centre_C, spread_C, score_HC = _fit_one(features, scale, inner_NN, one, held, settings.fit, progress)
        results.append((sparse_, centre_C, spread_C, score_HC, held_out(score_HC, texts.class_N[held], texts.near_N[held])))
    real, chance = results
    return Fitted(scale, *real, chance[4])


def _fit_one(
    features: FeatureFile,
    scale: Scale,
    inner_NN: NDArray[np.float32],
    labelled: Labelled,
    held: NDArray[np.int64],
    settings: FitSettings,
    progress: Progress,
) -> tuple[Sparse, NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    layers, _, n_neurons = features.shape_LNI
    progress(0, None, "solving for each concept's neurons")
    direction_CN = directions(inner_NN, labelled, layers * n_neurons, settings)
    chosen = largest(features, scale, labelled, direction_CN, settings.neurons, progress=progress)
    used_U = np.unique(chosen.neuron_CK)
    z_UN = gather(features, scale, used_U, labelled.row_N)
    final = refit(chosen, z_UN, used_U, labelled, settings)
    weights_CU = _matrix(final, used_U)
    score_NC = np.asarray((weights_CU @ z_UN).T, dtype=np.float32)
    other_NC = labelled.class_N[:, None] != np.arange(labelled.n_concepts)
    centre_C = np.mean(score_NC, axis=0, where=other_NC)
    spread_C = np.maximum(np.std(score_NC, axis=0, where=other_NC), 1e-6)
    held_HC = np.asarray((weights_CU @ gather(features, scale, used_U, held)).T, dtype=np.float32)
    return final, centre_C, spread_C, (held_HC - centre_C) / spread_C


def _matrix(given: Sparse, used_U: NDArray[np.int64]) -> Any:
    concepts, kept = given.neuron_CK.shape
    row = np.repeat(np.arange(concepts), kept)
    return sparse.csr_matrix(
        (given.weight_CK.ravel(), (row, np.searchsorted(used_U, given.neuron_CK.ravel()))), shape=(concepts, len(used_U))
    )


def job_worker(load: Callable[[JobParameters, Progress], LoadedModel]) -> Callable[[JobContext], Mapping[str, Any]]:
    """How jobs of kind `JOB_KIND` are done; their parameters name the model. A stopped one goes on."""

    def work(context: JobContext) -> Mapping[str, Any]:
        made = build_detectors(load(context.parameters(JobParameters), context.progress), progress=context.progress)
        return {"concepts": len(made), "found": int(made.found.sum())}

    return work
