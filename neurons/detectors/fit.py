"""Which neurons mean a concept: multi-class linear discriminants with one covariance for all, shrunk half way to a sphere, made sparse.

The neurons outnumber the sentences by far, so the covariance is never formed: everything goes through the texts' inner products (the dual).
With Z the standardised features (N texts, F neurons), R their residuals within classes, S = R'R / N and s = tr(S) / F:

    w_c = ((1 - g) S + g s 1)^-1 d_c,     d_c = (mean of the concept's sentences - mean of all) - b (mean of its near misses - mean of all)

and every d_c is a combination of texts, so by Woodbury w_c is one too. Then each concept keeps its largest weights only, and these
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

    shrink: float = 0.5
    """g: how far the covariance goes to a sphere."""
    near: float = 0.25
    """b: how much a concept is set against its near misses."""
    neurons: int = 100
    """Weights kept a concept."""
    refit_shrink: float = 0.5
    """g among the kept neurons."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """Training texts: which rows of the features, which concept, and whether a near miss of it."""

    row_N: NDArray[np.int64]
    class_N: NDArray[np.int64]
    near_N: NDArray[np.bool_]
    n_concepts: int

    @property
    def group_N(self) -> NDArray[np.int64]:
        """Groups within which residuals are taken: the concepts, then their near misses."""
        return self.class_N + self.n_concepts * self.near_N

    def means_GN(self) -> NDArray[np.float32]:
        """Each group's mean as a combination of the texts."""
        hot = np.zeros((2 * self.n_concepts, len(self.class_N)), dtype=np.float32)
        hot[self.group_N, np.arange(len(self.class_N))] = 1
        return np.asarray(hot / np.maximum(hot.sum(1, keepdims=True), 1), dtype=np.float32)

    def differences_CN(self, near: float) -> NDArray[np.float32]:
        """Each concept's d as a combination of the texts."""
        means_GN = self.means_GN()
        centre_N = (~self.near_N).astype(np.float32) / max(int((~self.near_N).sum()), 1)
        own, misses = means_GN[: self.n_concepts], means_GN[self.n_concepts :]
        d_CN = own - centre_N - near * (misses - centre_N) * misses.any(1, keepdims=True)
        return np.asarray(d_CN, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Scale:
    """Mean and spread of every neuron over the concepts' sentences, (L, I); the spread of a dead neuron is infinite."""

    mean_LI: Tensor
    spread_LI: Tensor

    @classmethod
    def of(cls, features: Features, labelled: Labelled) -> Scale:
        rows = labelled.row_N[~labelled.near_N]
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
    """(N, N): of every two training texts."""
    total = torch.zeros(len(labelled.row_N), len(labelled.row_N))
    n_layers = features.shape_LNI[0]
    for layer in range(n_layers):
        block = scale.standardised(features, layer, labelled.row_N)
        total.addmm_(block, block.T)
        progress(layer + 1, n_layers, "layers compared between sentences")
    return total.numpy()


def directions(inner_NN: NDArray[np.float32], labelled: Labelled, n_neurons: int, settings: FitSettings) -> NDArray[np.float32]:
    """(C, N): each concept's dense direction as a combination of the texts."""
    n_texts, group_N = len(labelled.class_N), labelled.group_N
    means_GN, d_CN = labelled.means_GN(), labelled.differences_CN(settings.near)
    to_means_NG = inner_NN @ means_GN.T
    between_GG = means_GN @ to_means_NG
    residual_NN = inner_NN - to_means_NG[:, group_N]
    residual_NN -= to_means_NG[:, group_N].T
    residual_NN += between_GG[np.ix_(group_N, group_N)]
    sphere = settings.shrink * max(float(np.trace(residual_NN)), 1e-6) / n_texts / n_neurons
    right_NC = inner_NN @ d_CN.T
    right_NC -= (means_GN @ right_NC)[group_N]  # R d
    residual_NN[np.diag_indices(n_texts)] += sphere * n_texts / (1 - settings.shrink)
    solved_NC = linalg.solve(residual_NN, right_NC, assume_a="pos", overwrite_a=True, overwrite_b=True, check_finite=False)
    sums_CG = np.zeros((labelled.n_concepts, len(means_GN)), dtype=np.float32)
    np.add.at(sums_CG.T, group_N, solved_NC)
    return np.asarray((d_CN - (solved_NC.T - sums_CG @ means_GN)) / sphere, dtype=np.float32)


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
    means_GN, d_CN = labelled.means_GN(), labelled.differences_CN(settings.near)
    mean_UG = z_UN @ means_GN.T
    root_G = np.sqrt(np.bincount(labelled.group_N, minlength=len(means_GN))).astype(np.float32)
    weight_CK = np.empty_like(sparse.weight_CK)
    g = settings.refit_shrink
    for c in range(labelled.n_concepts):
        at = np.searchsorted(used_U, sparse.neuron_CK[c])
        z_KN = z_UN[at]
        mean_KG = mean_UG[at] * root_G
        covariance = (z_KN @ z_KN.T - mean_KG @ mean_KG.T) / len(labelled.class_N)
        sphere = float(np.trace(covariance)) / len(at)
        covariance = (1 - g) * covariance + g * sphere * np.eye(len(at), dtype=np.float32)
        weight_CK[c] = linalg.solve(covariance, z_KN @ d_CN[c], assume_a="pos", check_finite=False)
    return Sparse(sparse.neuron_CK, weight_CK)
