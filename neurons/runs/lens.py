"""The logit lens: what the model would say next if it stopped after each layer.

A layer's residual stream goes through the model's own final norm and unembedding (soft caps and scales included), by running the
model with all of its layers answering with that residual. The last layer's row is therefore what the model really says.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurons.core.errors import InvalidInput, ModelError
from neurons.core.progress import Progress, no_progress
from neurons.core.steers import Steer
from neurons.models.layers import answering, decoder_layers
from neurons.models.loaded import LoadedModel
from neurons.runs.hooks import run_forward, watched
from neurons.runs.layer_outputs import hidden_of, kept_outputs
from neurons.runs.steering import compile_edits

BATCH = 64
"""Residuals unembedded at a time: a row of logits each."""
TOLERANCE, HALF_TOLERANCE = 1e-3, 0.05
"""Largest difference of the last layer's row from what the model says, relative to its largest logit; in half precision."""
CANNOT = (RuntimeError, TypeError, ValueError, IndexError, AttributeError, KeyError)
"""What a model raises whose layers cannot all answer for themselves."""
_NO_LENS = (
    "{}: the last layer, read through the model's own ending, does not give what the model says, so no layer can be read that way; "
    "attribution with the method direct says what each neuron writes"
)


@dataclass(frozen=True, eq=False)
class Lens:
    """What each layer would put at some tokens. R rows: row 0 is the embedding, row r the residual after layer r - 1."""

    tokens: tuple[int, ...]
    """Positions of the tokens predicted (N), each from the residual one before."""
    target_ids: tuple[int, ...]
    """The token that stands at each (-1 past the end)."""
    top_ids_RNK: NDArray[np.int32]
    """Most probable tokens of each row and position, best first."""
    top_probs_RNK: NDArray[np.float32]
    target_prob_RN: NDArray[np.float32]
    """Probability of the token that stands there (NaN past the end)."""
    target_rank_RN: NDArray[np.int32]
    """Its rank, 0 for the most probable (-1 past the end)."""
    seconds: float

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each row."""
        return ("embedding", *(f"layer {layer}" for layer in range(len(self.top_ids_RNK) - 1)))


def logit_lens(
    loaded: LoadedModel,
    ids: Sequence[int],
    tokens: Sequence[int],
    *,
    k: int = 5,
    steers: Sequence[Steer] = (),
    prompt_tokens: int | None = None,
    progress: Progress = no_progress,
) -> Lens:
    """What every layer would say at each of `tokens` (positions 1 to len(ids)), from the residual stream one position before.

    `ids` are prompt + answer; `prompt_tokens` says where the answer starts (None: at the end), for steers.
    Raises `InvalidInput` for a position that nothing comes before, or past the end, `ModelError` where the last layer's row would not
    be what the model really says, and what `progress` raises, which is called at every layer.
    """
    wrong = next((token for token in tokens if not 1 <= token <= len(ids)), None)
    if wrong is not None or not tokens:
        raise InvalidInput(f"token {wrong} has no lens; choose from 1 to {len(ids)}", field="token")
    if not 1 <= k <= loaded.ref.n_vocab:
        raise InvalidInput(f"{k} tokens per layer cannot be shown; use 1 to {loaded.ref.n_vocab}", field="top")
    start = time.perf_counter()
    edits = compile_edits(loaded, steers, len(ids) if prompt_tokens is None else prompt_tokens)
    run_ids = list(ids[: max(tokens)])
    with watched(loaded, progress):
        residuals_RND, outputs, said_V = _residuals(loaded, run_ids, edits, [token - 1 for token in tokens])
        targets = [ids[token] if token < len(ids) else -1 for token in tokens]
        parts = _read_all(loaded, residuals_RND.flatten(0, 1), outputs, run_ids[0], progress)
    last = (len(residuals_RND) - 1) * len(tokens) + list(tokens).index(max(tokens))
    allowed = (TOLERANCE if loaded.dtype == torch.float32 else HALF_TOLERANCE) * max(1.0, float(said_V.abs().max()))
    if not torch.allclose(parts[last // BATCH][last % BATCH], said_V, rtol=0, atol=allowed):
        raise ModelError(_NO_LENS.format(loaded.ref.architecture))
    tops, chosen = _summaries(parts, torch.tensor(targets).repeat(len(residuals_RND)), k)
    rows, shape = len(residuals_RND), (len(residuals_RND), len(tokens))
    return Lens(
        tuple(tokens),
        tuple(int(t) for t in targets),
        tops[0].reshape(rows, len(tokens), k).astype(np.int32),
        tops[1].reshape(rows, len(tokens), k),
        chosen[0].reshape(shape),
        chosen[1].reshape(shape).astype(np.int32),
        time.perf_counter() - start,
    )


def _residuals(loaded: LoadedModel, ids: Sequence[int], edits: Sequence[Any], at: Sequence[int]) -> tuple[Tensor, list[Any], Tensor]:
    """The residual stream before the first layer and after each, at positions `at`: (R, N, D); the layers' outputs; the last logits."""
    first: list[Tensor] = []

    def before(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        first.append(args[0] if args else kwargs["hidden_states"])

    with kept_outputs(loaded) as outputs, ExitStack() as stack:
        stack.callback(decoder_layers(loaded)[0].register_forward_pre_hook(before, with_kwargs=True).remove)
        result = run_forward(loaded, torch.tensor([list(ids)]), edits=edits, logits_to_keep=1)
    hidden = [first[0], *map(hidden_of, outputs)]
    assert result.logits is not None
    if any(layer_BTD.shape[:2] != (1, len(ids)) for layer_BTD in hidden):
        raise ModelError(_NO_LENS.format(loaded.ref.architecture))
    return torch.stack([layer_BTD[0, list(at)] for layer_BTD in hidden]), outputs, result.logits[0, -1].float()


def _read_all(loaded: LoadedModel, residual_MD: Tensor, outputs: Sequence[Any], any_id: int, progress: Progress) -> list[Tensor]:
    """Logits of all residuals, in batches between which others have their turn."""
    parts: list[Tensor] = []
    for residual_BD in torch.split(residual_MD, BATCH):
        progress(len(parts) * BATCH, len(residual_MD), "reading each layer")
        try:
            parts.append(_read(loaded, residual_BD, outputs, any_id))
        except CANNOT as error:
            raise ModelError(_NO_LENS.format(loaded.ref.architecture)) from error
    return parts


def _read(loaded: LoadedModel, residual_BD: Tensor, outputs: Sequence[Any], any_id: int) -> Tensor:
    """Logits (B, V) of residuals, by the model's own ending."""
    with loaded.lock, ExitStack() as stack:  # the lock first: nobody else's pass may meet a layer that answers for itself
        for layer, output in zip(decoder_layers(loaded), outputs, strict=True):
            stack.enter_context(answering(layer, output, residual_BD[:, None]))
        result = run_forward(loaded, torch.full((len(residual_BD), 1), any_id), logits_to_keep=1)
    assert result.logits is not None
    return result.logits[:, -1].float()


def _summaries(
    parts: Sequence[Tensor], targets_B: Tensor, k: int
) -> tuple[tuple[NDArray[Any], NDArray[Any]], tuple[NDArray[Any], NDArray[Any]]]:
    """Top ids and probabilities (B, K), and probability and rank (B,) of the targets."""
    tops, chosen = [], []
    start = 0
    for logits_BV in parts:
        probs_BV = torch.softmax(logits_BV, dim=-1)
        target_B1 = targets_B[start : start + len(logits_BV), None].to(probs_BV.device)
        start += len(logits_BV)
        prob_B1 = probs_BV.gather(1, target_B1.clamp(min=0))
        rank_B = (probs_BV > prob_B1).sum(1)
        known_B = target_B1[:, 0] >= 0
        tops.append(torch.topk(probs_BV, k))
        chosen.append((torch.where(known_B, prob_B1[:, 0], torch.nan), torch.where(known_B, rank_B, -1)))
    ids = torch.cat([top.indices for top in tops]).cpu().numpy()
    probs = torch.cat([top.values for top in tops]).cpu().numpy()
    return (ids, probs), (torch.cat([c[0] for c in chosen]).cpu().numpy(), torch.cat([c[1] for c in chosen]).cpu().numpy())
