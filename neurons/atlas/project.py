"""What a neuron writes: its output row through the final norm's scale and the unembedding, in z-scores over the vocabulary.

Only the last step of the model is looked at, so this is a hint of what a neuron promotes, strongest for late layers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neurons.atlas.records import TokenStats
from neurons.core.errors import UnsupportedModel
from neurons.core.progress import Progress, no_progress
from neurons.core.types import NeuronSide
from neurons.models.loaded import LoadedModel

_ROWS = 256


def project_outputs(
    loaded: LoadedModel, *, keep: int = 8, banned: NDArray[np.bool_] | None = None, progress: Progress = no_progress
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The `keep` most promoted tokens of every neuron side: ids (2, L, I, K) and z-scores; the other side's are the suppressed ones.

    `banned` (V,) marks ids that are never listed, such as padding rows. Scores keep their sign: negative for the negative side.
    """
    unembed_DV = (_unembedding(loaded).float() * final_norm_scale(loaded)).T.contiguous()
    ids = np.full((2, loaded.n_layers, loaded.n_neurons, keep), -1, dtype=np.int32)
    values = np.zeros((2, loaded.n_layers, loaded.n_neurons, keep), dtype=np.float32)
    penalty_V = torch.zeros(unembed_DV.shape[1], device=unembed_DV.device)
    if banned is not None:
        penalty_V[: len(banned)][torch.from_numpy(banned).to(penalty_V.device)] = torch.inf
    for site in loaded.sites:
        rows_ID = site.output_rows().detach().float()
        for at in range(0, rows_ID.shape[0], _ROWS):
            logits_NV = rows_ID[at : at + _ROWS] @ unembed_DV
            deviation, mean = torch.std_mean(logits_NV, dim=1, keepdim=True)
            z_NV = (logits_NV - mean) / deviation.clamp(min=1e-12)
            for side, sign in ((0, 1.0), (1, -1.0)):
                top = (z_NV * sign - penalty_V).topk(keep, dim=1)
                ids[side, site.layer, at : at + len(rows_ID[at : at + _ROWS])] = top.indices.cpu().numpy()
                values[side, site.layer, at : at + len(rows_ID[at : at + _ROWS])] = top.values.cpu().numpy() * sign
        progress(site.layer + 1, loaded.n_layers, "layers projected to the vocabulary")
    return ids, values


def project_side(loaded: LoadedModel, side: NeuronSide, *, keep: int = 8) -> tuple[TokenStats, TokenStats]:
    """(promoted, suppressed) tokens of one neuron side, as `project_outputs` finds them: one product with the unembedding, no atlas."""
    loaded.check_neuron(side)
    weight_VD = _unembedding(loaded)
    row_D = loaded.sites[side.layer].output_rows()[side.index].detach().float() * final_norm_scale(loaded)
    logits_V = (weight_VD @ row_D.to(weight_VD.dtype)).float()
    deviation, mean = torch.std_mean(logits_V)
    z_V = (logits_V - mean) / deviation.clamp(min=1e-12)
    found = []
    for sign in (1, -1):
        top = (z_V * sign).topk(min(keep, len(z_V)))
        values = (top.values * sign).tolist()
        found.append(TokenStats(tuple(top.indices.tolist()), tuple(values), (0,) * len(values)))
    return (found[0], found[1]) if side.polarity == "+" else (found[1], found[0])


def _unembedding(loaded: LoadedModel) -> Tensor:
    """The unembedding's weight, (V, D)."""
    model: Any = loaded.model
    head = model.get_output_embeddings()
    weight = getattr(head, "weight", None)
    if not isinstance(head, nn.Module) or not isinstance(weight, Tensor):
        raise UnsupportedModel(f"{loaded.ref.name} has no unembedding matrix to project through; leave the projection out")
    return weight.detach()


def final_norm_scale(loaded: LoadedModel) -> Tensor:
    """The weight of the norm before the unembedding, (D,). Ones when it has none; 1 + weight where it is stored so (Gemma)."""
    base: Any = loaded.model.base_model
    decoder = getattr(base, "decoder", base)
    for name in ("norm", "ln_f", "final_layer_norm", "final_layernorm", "norm_f"):
        norm = getattr(decoder, name, None)
        weight = getattr(norm, "weight", None)
        if isinstance(weight, Tensor):
            scale = weight.detach().float()
            return scale + 1 if "Gemma" in type(norm).__name__ else scale
    width = loaded.sites[0].output_rows().shape[1]
    return torch.ones(width, device=loaded.device)
