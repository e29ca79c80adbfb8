"""Which neurons mean a concept: multi-class linear discriminants, one covariance for all, shrunk most of the way to a sphere, made sparse.

The neurons outnumber the sentences by far, so the covariance is never formed: everything goes through the sentences' inner products (the
dual). With Z the standardised features (N sentences, F neurons), R their residuals within concepts, S = R'R / N and s = tr(S) / F:

    w_c = ((1 - g) S + g s 1)^-1 d_c,     d_c = (mean of the concept's sentences - mean of all)

and every d_c is a combination of sentences, so by Woodbury w_c is one too. Then each concept keeps its largest weights only, and these
are solved for again among themselves. Features are read a layer at a time: memory goes with N x N and with the neurons that are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import linalg
from torch import Tensor

from neurons.core.progress import Progress, no_progress


class Features(Protocol):
    """Mean activations of N texts, a layer at a time."""

    shape_LNI: tuple[int, int, int]

    def layer(self, layer: int, rows: NDArray[np.int64]) -> Tensor:
        """(rows, I) float32."""


@dataclass(frozen=True)
class FitSettings:
    """How detectors are fitted. Found on folds of the training sentences."""

    shrink: float = 0.95
    """g: how far the covariance goes to a sphere."""
    neurons: int = 100
    """Weights kept a concept."""
    refit_shrink: float = 0.95
    """g among the kept neurons."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """Training sentences: which rows of the features, and which concept."""

    row_N: NDArray[np.int64]
    class_N: NDArray[np.int64]
    n_concepts: int

    def means_CN(self) -> NDArray[np.float32]:
        """Each concept's mean as a combination of the sentences."""
        hot = np.zeros((self.n_concepts, len(self.class_N)), dtype=np.float32)
        hot[self.class_N, np.arange(len(self.class_N))] = 1
        return np.asarray(hot / np.maximum(hot.sum(1, keepdims=True), 1), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Scale:
    """Mean and spread of every neuron over the training sentences, (L, I); the spread of a dead neuron is infinite."""

    mean_LI: Tensor
    spread_LI: Tensor

    @classmethod
    def of(cls, features: Features, labelled: Labelled) -> Scale:
        """Mean and spread of every neuron over the labelled texts."""
        rows = labelled.row_N
        means, spreads = [], []
        for layer in range(features.shape_LNI[0]):
            block = features.layer(layer, rows)
            means.append(block.mean(0))
            spreads.append(block.std(0))
        spread_LI = torch.stack(spreads)
        dead = spread_LI <= 1e-5 * spread_LI.median().clamp_min(1e-12)
        return cls(torch.stack(means), torch.where(dead, torch.inf, spread_LI))

    def standardised(self, features: Features, layer: int, rows: NDArray[np.int64]) -> Tensor:
        """(rows, I)."""
        return (features.layer(layer, rows) - self.mean_LI[layer]) / self.spread_LI[layer]


@dataclass(frozen=True, eq=False)
class Sparse:
    """Weights over standardised neurons. `neuron_CK` is layer * I + index."""

    neuron_CK: NDArray[np.int64]
    weight_CK: NDArray[np.float32]


def inner_products(features: Features, scale: Scale, labelled: Labelled, *, progress: Progress = no_progress) -> NDArray[np.float32]:
    """(N, N): of every two training sentences."""
    total_NN = np.zeros((len(labelled.row_N), len(labelled.row_N)), dtype=np.float32)
    n_layers = features.shape_LNI[0]
    for layer in range(n_layers):
        z_NI = scale.standardised(features, layer, labelled.row_N).numpy()
        total_NN += z_NI @ z_NI.T  # NumPy sees that the halves are the same and does one
        progress(layer + 1, n_layers, "layers compared between sentences")
    return total_NN


def directions(inner_NN: NDArray[np.float32], labelled: Labelled, n_neurons: int, settings: FitSettings) -> NDArray[np.float32]:
    """(C, N): each concept's dense direction as a combination of the sentences."""
    n_texts, class_N = len(labelled.class_N), labelled.class_N
    means_CN = labelled.means_CN()
    d_CN = means_CN - np.float32(1 / n_texts)
    to_means_NC = inner_NN @ means_CN.T
    between_CC = means_CN @ to_means_NC
    residual_NN = inner_NN - to_means_NC[:, class_N]
    residual_NN -= to_means_NC[:, class_N].T
    residual_NN += between_CC[np.ix_(class_N, class_N)]
    sphere = settings.shrink * max(float(np.trace(residual_NN)), 1e-6) / n_texts / n_neurons
    right_NC = inner_NN @ d_CN.T
    right_NC -= (means_CN @ right_NC)[class_N]  # R d
    residual_NN[np.diag_indices(n_texts)] += sphere * n_texts / (1 - settings.shrink)
    solved_NC = linalg.solve(residual_NN, right_NC, assume_a="pos", overwrite_a=True, overwrite_b=True, check_finite=False)
    sums_CC = np.zeros((labelled.n_concepts, labelled.n_concepts), dtype=np.float32)
    np.add.at(sums_CC.T, class_N, solved_NC)
    return np.asarray((d_CN - (solved_NC.T - sums_CC @ means_CN)) / sphere, dtype=np.float32)


def largest(
    features: Features, scale: Scale, labelled: Labelled, direction_CN: NDArray[np.float32], keep: int, *, progress: Progress = no_progress
) -> Sparse:
    """Each concept's `keep` largest weights."""
    n_layers, _, n_neurons = features.shape_LNI
    combined = torch.from_numpy(direction_CN)
    best_value, best_at = torch.zeros(labelled.n_concepts, 0), torch.zeros(labelled.n_concepts, 0, dtype=torch.int64)
    for layer in range(n_layers):
        weight_CI = combined @ scale.standardised(features, layer, labelled.row_N)
        value = torch.cat([best_value, weight_CI], dim=1)
        at = torch.cat([best_at, torch.arange(n_neurons).expand(len(combined), -1) + layer * n_neurons], dim=1)
        chosen = value.abs().topk(min(keep, value.shape[1]), dim=1).indices
        best_value, best_at = value.gather(1, chosen), at.gather(1, chosen)
        progress(layer + 1, n_layers, "layers searched for each concept's neurons")
    return Sparse(best_at.numpy(), best_value.numpy())


def gather(features: Features, scale: Scale, neurons_U: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """(U, rows): some neurons' standardised features. `neurons_U` ascends."""
    n_layers, _, n_neurons = features.shape_LNI
    out = np.empty((len(neurons_U), len(rows)), dtype=np.float32)
    layer_U, index_U = np.divmod(neurons_U, n_neurons)
    for layer in range(n_layers):
        mine = np.flatnonzero(layer_U == layer)
        if len(mine):
            out[mine] = scale.standardised(features, layer, rows)[:, torch.from_numpy(index_U[mine])].T.numpy()
    return out


def refit(sparse: Sparse, z_UN: NDArray[np.float32], used_U: NDArray[np.int64], labelled: Labelled, settings: FitSettings) -> Sparse:
    """The kept neurons' weights solved for again among themselves, with their own covariance."""
    mean_UC = z_UN @ labelled.means_CN().T
    root_C = np.sqrt(np.bincount(labelled.class_N, minlength=labelled.n_concepts)).astype(np.float32)
    centre_U = z_UN.mean(1)
    weight_CK = np.empty_like(sparse.weight_CK)
    g = settings.refit_shrink
    for c in range(labelled.n_concepts):
        at = np.searchsorted(used_U, sparse.neuron_CK[c])
        z_KN, mean_KC = z_UN[at], mean_UC[at] * root_C
        covariance = (z_KN @ z_KN.T - mean_KC @ mean_KC.T) / len(labelled.class_N)
        sphere = max(float(np.trace(covariance)) / len(at), 1e-6)
        covariance = (1 - g) * covariance + g * sphere * np.eye(len(at), dtype=np.float32)
        weight_CK[c] = linalg.solve(covariance, mean_UC[at, c] - centre_U[at], assume_a="pos", check_finite=False)
    return Sparse(sparse.neuron_CK, weight_CK)
