"""How strong a neuron gets: the extremes of each side that normalise activations and scale steers.

They come from the model's atlas where there is one, else from a short calibration over a built-in text, kept on disk.
Every table says from how many tokens it comes.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

import numpy as np
import torch
from filelock import FileLock

from neurons.atlas.store import open_atlas
from neurons.core.home import subfolder
from neurons.core.progress import Progress, no_progress
from neurons.core.quantile_table import NORM_LEVEL, STEER_LEVEL, QuantileTable
from neurons.core.types import ModelRef
from neurons.models.chat import encode_text
from neurons.models.loaded import LoadedModel
from neurons.runs.hooks import run_forward
from neurons.storage.files import atomic_file, disk_errors

_WINDOW = 256
_MASKED = 3  # position 0 is a sink, and the next ones are unusual too
_TOKENS = 8192


def quantiles_for(loaded: LoadedModel, *, progress: Progress = no_progress) -> QuantileTable:
    """The model's quantiles: its atlas's, else a calibration over about 8,000 tokens of built-in text, computed once per model."""
    if (known := known_quantiles(loaded.ref)) is not None:
        return known
    path = subfolder("calibrations") / f"{loaded.ref.weights_hash[:32]}-{loaded.ref.dtype}.npz"
    with FileLock(f"{path}.lock"):
        if not path.exists():
            extreme_2LI, tokens = _calibrate(loaded, progress)
            with disk_errors(path), atomic_file(path) as stream:
                np.savez(stream, extreme_2LI=extreme_2LI, tokens=tokens)
        with np.load(path, allow_pickle=False) as stored:
            extreme_2LI, tokens = stored["extreme_2LI"], int(stored["tokens"])
    return QuantileTable(tokens, "calibration", extreme_2LI, extreme_2LI)


def _calibrate(loaded: LoadedModel, progress: Progress) -> tuple[np.ndarray[Any, np.dtype[np.float32]], int]:
    """Extremes over the built-in text: (2, L, I) and the number of tokens they come from."""
    text = resources.files("neurons.atlas").joinpath("data/calibration.txt").read_text(encoding="utf-8")
    ids = encode_text(loaded, text, bos=False)[:_TOKENS]
    start = encode_text(loaded, "")
    window = min(_WINDOW, loaded.ref.max_positions - len(start) - 1)
    extreme_2LI = torch.zeros(2, loaded.n_layers, loaded.n_neurons)
    seen = 0

    def keep(layer: int, acts_BTI: torch.Tensor) -> None:
        acts_TI = acts_BTI[0, _MASKED:].float()
        width = acts_TI.shape[1]
        extreme_2LI[0, layer, :width] = torch.maximum(extreme_2LI[0, layer, :width], acts_TI.amax(0).cpu())
        extreme_2LI[1, layer, :width] = torch.minimum(extreme_2LI[1, layer, :width], acts_TI.amin(0).cpu())

    for begin in range(0, len(ids), window):
        piece = (*start, *ids[begin : begin + window])
        if len(piece) <= _MASKED:
            continue
        progress(begin, len(ids), "measuring how strong each neuron gets (once for this model)")
        run_forward(loaded, torch.tensor([piece]), record=keep, logits_to_keep=1)
        seen += len(piece) - _MASKED
    return extreme_2LI.numpy(), seen


def known_quantiles(ref: ModelRef) -> QuantileTable | None:
    """The quantiles of a model's atlas, without the model; None where there is no atlas with figures."""
    atlas = open_atlas(ref)
    if atlas is None or not atlas.has_figures:
        return None
    return QuantileTable(atlas.tokens, "atlas", atlas.quantile(NORM_LEVEL), atlas.quantile(STEER_LEVEL))
