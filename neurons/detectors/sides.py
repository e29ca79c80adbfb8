"""Which concept each side of each neuron is most for, and how surely: t of its mean on the concept's sentences against all others'."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from neurons.core.progress import Progress, no_progress
from neurons.detectors.collect import Texts
from neurons.detectors.fit import Features


def strongest_concepts(
    features: Features, texts: Texts, n_concepts: int, *, among: NDArray[np.bool_] | None = None, progress: Progress = no_progress
) -> tuple[NDArray[np.int16], NDArray[np.float16]]:
    """(concept, t), each (2, L, I): positive sides, negative sides. Over the training sentences; -1 and 0 for a dead neuron.

    `among` (one per concept) leaves all but these concepts and their sentences out.
    """
    n_layers, _, n_neurons = features.shape_LNI
    among_C = np.ones(n_concepts, dtype=np.bool_) if among is None else among
    rows = np.flatnonzero(~texts.held_N & ~texts.near_N & among_C[texts.class_N])
    class_N = torch.from_numpy(texts.class_N[rows])
    count_C = torch.bincount(class_N, minlength=n_concepts).float()[:, None]
    concept = np.full((2, n_layers, n_neurons), -1, dtype=np.int16)
    t = np.zeros((2, n_layers, n_neurons), dtype=np.float16)
    for layer in range(n_layers):
        acts_NI = features.layer(layer, rows)
        t_CI = _t(acts_NI, class_N, count_C)
        for side, signed_CI in enumerate((t_CI, -t_CI)):
            best = signed_CI.max(dim=0)
            alive = (best.values > 0).numpy()
            concept[side, layer, alive] = best.indices.numpy()[alive]
            t[side, layer, alive] = best.values.clamp(max=60_000).numpy()[alive]
        progress(layer + 1, n_layers, "layers' neurons given their strongest concept")
    return concept, t


def _t(acts_NI: torch.Tensor, class_N: torch.Tensor, count_C: torch.Tensor) -> torch.Tensor:
    """(C, I): difference of means over its standard error, the spread pooled within concepts; 0 for a concept without sentences."""
    sum_CI = torch.zeros(len(count_C), acts_NI.shape[1]).index_add_(0, class_N, acts_NI)
    mean_CI = sum_CI / count_C.clamp_min(1)
    rest_CI = (sum_CI.sum(0) - sum_CI) / (len(class_N) - count_C).clamp_min(1)
    within_I = (acts_NI - mean_CI[class_N]).square().sum(0) / max(len(class_N) - int((count_C > 0).sum()), 1)
    error_CI = (within_I * (1 / count_C.clamp_min(1) + 1 / (len(class_N) - count_C).clamp_min(1))).sqrt()
    return torch.where((within_I > 0) & (count_C > 0), (mean_CI - rest_CI) / error_CI.clamp_min(1e-12), 0)
