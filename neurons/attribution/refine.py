"""Gradient attributions whose least certain and strongest entries are re-estimated, each by running its own token without it.

A gradient is wrong where the model bends, and it bends most at the neuron's own token: the norms after a large write, the MLPs
that read it, the softmax over the vocabulary. So some entries are run again (`attribution.single_token`), all in one batch, each only
its own token. At the last token the result is the measured effect. At earlier tokens the later tokens' attention answers in
closed form, and from there on the gradient is taken as it is.

Which entries: the gradient's own estimate, and how far it may be off, the second-order term for a write d into a residual r:

    score = |a dM/da| + DOUBT * |dM/dr| |d|^2 / |r|

as many as BUDGET pays for. Docs: docs/attribution.md has what each part is worth, measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neurons.attribution.metrics import effect_from_latent, latent_value, metric_value, slope
from neurons.attribution.single_token import Entry, SingleTokens, attention_answers, run_single_tokens
from neurons.attribution.top_k import largest
from neurons.attribution.unembedding import Unembedding, make_unembedding
from neurons.core.types import TargetSpec
from neurons.models.layers import decoder_layers
from neurons.models.loaded import LoadedModel
from neurons.runs.attention_tap import AttentionCall
from neurons.runs.backward import gradients
from neurons.runs.graph_run import GraphRun, graph_run
from neurons.runs.hooks import Edit

BUDGET = 0.8
"""Arithmetic spent on re-estimating, as a multiple of one forward pass over the text."""
DOUBT = 0.2
LEAST, MOST = 48, 400
"""Fewest and most entries re-estimated, whatever the length."""
MAX_KEYS = 65_536
"""Rows x tokens of one batch, for memory's sake: each row gets its copy of a layer's keys."""


MAX_SCORES = 1_000_000
"""Attention scores worked on at a time: a few megabytes, which a processor's cache holds."""


@dataclass(frozen=True, eq=False)
class Refined:
    """Activations, attributions and (if asked) activation x gradient per layer, each (T, I) float32; `count` entries were re-estimated."""

    value: float
    acts: list[Tensor]
    attrs: list[Tensor]
    gradients: Callable[[], list[Tensor]]
    count: int
    stands_in: str = ""
    """What stands in where entries could not be re-estimated, "" where they could."""


@dataclass(frozen=True, eq=False)
class _Gradients:
    """What the backward pass left, of the latent (see `metrics.latent_value`)."""

    latent: float
    attrs: list[Tensor]
    """activation x gradient, (T, I)."""
    calls: list[AttentionCall]
    """One per layer, or none where the model's attention cannot be seen."""
    out: list[Tensor | None]
    """Of each attention call's output, (H, T, D); None where it has none (layer 0)."""
    residual_LT: Tensor
    """Norm of the gradient of each layer's output at each token."""


def refined(
    loaded: LoadedModel,
    ids: Sequence[int],
    target: TargetSpec,
    edits: Sequence[Edit],
    *,
    budget: float = BUDGET,
    run: GraphRun | None = None,
) -> Refined:
    """Attribute by the gradient of the latent, then re-estimate entries within `budget`. `run` saves the first pass over `ids`.

    Where a check shows that the model cannot be run one token at a time from the middle, entries keep their gradient estimate.
    """
    # Who waits for the model comes in between the passes: each takes its turn itself.
    run = graph_run(loaded, ids, edits) if run is None else run
    acts, found = _gradients(loaded, run, target)
    logits_V = run.logits_V.detach()
    attrs = [effect_from_latent(found.latent, attr, target) for attr in found.attrs]
    unembedding = make_unembedding(loaded, logits_V, target)
    entries = [] if unembedding is None else _choose(loaded, run, acts, found, budget, unembedding.columns)
    size = max(1, MAX_KEYS // len(ids))
    count = 0
    for start in range(0, len(entries), size):
        with loaded.lock:
            own = None if unembedding is None else run_single_tokens(loaded, run, entries[start : start + size], unembedding)
            if own is None or unembedding is None:
                break
            effects_B = effect_from_latent(found.latent, _changes(loaded, run, own, found, unembedding), target)
        for entry, effect in zip(own.entries, effects_B.tolist(), strict=True):
            attrs[entry.layer][entry.token, entry.index] = effect
        count += len(own.entries)
    factor, latents = slope(found.latent, target), [attr.cpu() for attr in found.attrs]  # all that is kept of the run for later
    value = float(metric_value(logits_V[None], target)[0])
    return Refined(value, acts, attrs, lambda: [attr * factor for attr in latents], count, _stands_in(loaded, found, count))


def _stands_in(loaded: LoadedModel, found: _Gradients, count: int) -> str:
    if not count:
        return f"{loaded.ref.architecture} cannot be run from the middle of a text: nothing was re-estimated, logodds stands in for refined"
    if not found.calls:
        return (
            f"{loaded.ref.architecture}'s attention cannot be answered in closed form: only what has no attention after it was "
            "re-estimated, for the rest logodds stands in for refined"
        )
    return ""


def _gradients(loaded: LoadedModel, run: GraphRun, target: TargetSpec) -> tuple[list[Tensor], _Gradients]:
    """One backward pass: the activations, and what it says of them."""
    latent = latent_value(run.logits_V[None], target)[0]
    tokens, hidden, inputs = len(run.ids), run.hidden, run.acts.tensors()
    hidden = [residual for residual in hidden if residual.requires_grad]  # not so below the first layer that has neurons
    attended = [call.out_BHTD for call in run.calls if call.out_BHTD.requires_grad]
    grads = gradients(loaded, latent, [*inputs, *hidden, *attended], keep=run.shared)
    residual_grads, out_grads = grads[len(inputs) : len(inputs) + len(hidden)], iter(grads[len(inputs) + len(hidden) :])
    acts = [act.detach()[0, :tokens].float() for act in run.acts.layers()]
    norms = [grad[0, :tokens].float().norm(dim=-1) for grad in residual_grads]
    act_grads = run.acts.layers(grads[: len(inputs)])
    return acts, _Gradients(
        float(latent.detach()),
        [act * grad[0, :tokens].float() for act, grad in zip(acts, act_grads, strict=True)],
        [call.upto(tokens) for call in run.calls],
        [next(out_grads)[0, :, :tokens].float() if call.out_BHTD.requires_grad else None for call in run.calls],
        torch.stack([torch.zeros_like(norms[0])] * (len(run.outputs) - len(norms)) + norms),
    )


def _choose(loaded: LoadedModel, run: GraphRun, acts: Sequence[Tensor], found: _Gradients, budget: float, columns: int) -> list[Entry]:
    """The entries of highest score, as many as the budget pays for."""
    layers, tokens = len(acts), len(run.ids)
    if len(run.keys) != layers or any(keys.shape[-2] != tokens for keys, _values in run.keys) or run.hidden[-1].dim() != 3:
        return []
    scores, firsts = [], []
    for layer, (attr_TI, act_TI, hidden_BTD) in enumerate(zip(found.attrs, acts, run.hidden, strict=True)):
        residual_TD = hidden_BTD.detach()[0, :tokens].float()
        write_TI = act_TI * loaded.sites[layer].output_norms.to(act_TI)
        doubt_T1 = (DOUBT * found.residual_LT[layer] / residual_TD.norm(dim=-1))[:, None]
        # Above the last layer nothing attends; where attention cannot be seen, its answer is not known.
        firsts.append(tokens - 1 if layer == layers - 1 or not found.calls else 0)
        scores.append(torch.addcmul(attr_TI.abs(), doubt_T1, write_TI.square())[firsts[-1] :])
    starts = np.cumsum([0, *(score_TI.numel() for score_TI in scores)])
    flat = torch.cat([score_TI.flatten() for score_TI in scores])
    body, width = _arithmetic(loaded)
    left = budget * (tokens * body + loaded.ref.n_vocab * width)
    chosen: list[Entry] = []
    for place in largest(flat, MOST)[1].tolist():
        layer = int(np.searchsorted(starts, place, side="right")) - 1
        token, index = divmod(place - int(starts[layer]), scores[layer].shape[1])
        entry = Entry(layer, token + firsts[layer], index)
        left -= body * (layers - layer) / layers + (columns * width if entry.token == tokens - 1 else 0)
        if left < 0 and len(chosen) >= LEAST:
            break
        chosen.append(entry)
    return chosen


def _arithmetic(loaded: LoadedModel) -> tuple[float, float]:
    """Multiplications a token in all layers, and a token of the vocabulary in the unembedding."""
    body = sum(weights.numel() for weights in decoder_layers(loaded).parameters())
    return float(body), float(loaded.model.config.get_text_config().hidden_size)


def _changes(loaded: LoadedModel, run: GraphRun, own: SingleTokens, found: _Gradients, unembedding: Unembedding) -> Tensor:
    """The effect of each entry on the latent, (B,)."""
    last = len(run.ids) - 1
    changes_B = torch.zeros(len(own.entries), device=loaded.device)
    at_last = [n for n, entry in enumerate(own.entries) if entry.token == last]
    changes_B[at_last] = unembedding.changes(own.logits_RC)
    earlier = [n for n, entry in enumerate(own.entries) if entry.token < last]
    if earlier:
        tokens_B = torch.tensor([own.entries[n].token for n in earlier], device=loaded.device)
        for layers in _alike(found, len(earlier), above=min(own.entries[n].layer for n in earlier)):
            active_LB = torch.tensor([[own.entries[n].layer < layer for n in earlier] for layer in layers], device=loaded.device)
            keys, values = (torch.stack([_rows(own.fresh[layer][which], earlier) for layer in layers]) for which in (0, 1))
            grads_LHTD = torch.stack([grad for layer in layers if (grad := found.out[layer]) is not None])
            calls = [found.calls[layer] for layer in layers]
            changes_B[earlier] -= attention_answers(calls, grads_LHTD, tokens_B, active_LB, keys, values)
    return changes_B


def _alike(found: _Gradients, rows: int, *, above: int) -> list[list[int]]:
    """The layers above `above` whose attention has a gradient, in runs of the same shape and scale, few enough for memory."""
    runs: list[list[int]] = []
    kinds: list[tuple[torch.Size, float]] = []
    for layer, grad_HTD in enumerate(found.out):
        if grad_HTD is None or layer <= above:
            continue
        kind = (grad_HTD.shape, found.calls[layer].scale)
        fits = bool(runs) and (len(runs[-1]) + 1) * rows * grad_HTD.shape[0] * grad_HTD.shape[1] <= MAX_SCORES
        if fits and kinds[-1] == kind:
            runs[-1].append(layer)
        else:
            runs.append([layer])
            kinds.append(kind)
    return runs


def _rows(fresh_RGD: Tensor, entries: Sequence[int]) -> Tensor:
    """The entries' rows of a layer's new keys or values; zeros for those that have not joined yet."""
    joined = [n + 1 for n in entries if n + 1 < len(fresh_RGD)]
    return torch.nn.functional.pad(fresh_RGD[joined], (0, 0, 0, 0, 0, len(entries) - len(joined)))
