"""Which concepts caused a token, measured: each is taken out of the neurons, and the token's log-odds before and after are compared.

For a concept with weights w over neurons n, at every source token s:

    a'[s, n] = usual[n]   where w[n] (a[s, n] - usual[n]) > 0,   else a[s, n]

so what raises the concept goes back to its usual level and nothing else is touched. The effect is the log-odds of the token with the
concept less those without it, positive where the concept promoted the token. The same is done with random neurons: as many in each layer,
with a change that writes as much into the residual stream. A concept that does no more than they do is no cause.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache

from neurons.core.errors import InvalidInput
from neurons.core.progress import Progress, no_progress
from neurons.detectors.records import ActiveConcept
from neurons.detectors.store import Detectors
from neurons.models.loaded import LoadedModel
from neurons.models.sites import Part
from neurons.runs.hooks import Edit, hooked, run_forward

CANDIDATES = 20
"""Concepts measured, the most active first."""
RANDOM = 19
"""Random directions: one in twenty concepts without an effect lies outside all of them."""
BATCH_TOKENS = 1536
"""Tokens run in one pass."""
_LATE = 8
"""Source tokens just before the answer that concepts are looked for in by themselves."""


@dataclass(frozen=True, eq=False)
class Asked:
    """The token whose causes are asked for, and the run it comes from."""

    ids: Sequence[int]
    """Token ids of prompt and answer; those before `token` are run."""
    token: int
    """The position that is explained."""
    acts_LTI: NDArray[Any]
    """The run's activations over at least the tokens before it, shape (layers, tokens, neurons)."""
    sources: Sequence[int]
    """Positions that concepts are taken out of; leave template and control tokens out. Those at or after `token` are ignored."""
    token_id: int | None = None
    """Explain this token instead of the one that stands there."""
    edits: Sequence[Edit] = ()
    """The steers that were on."""


@dataclass(frozen=True)
class CauseSearch:
    """How many concepts are measured, and against how many random directions."""

    candidates: int = CANDIDATES
    random: int = RANDOM
    seed: int = 0
    """Of the random directions."""


@dataclass(frozen=True)
class ConceptCause:
    """What happens to a token when a concept is taken out."""

    concept: ActiveConcept
    effect: float
    """Log-odds of the token with the concept, less those without it; in nats. Positive: the concept promoted the token."""
    probability: float
    """Of the token, as it was."""
    probability_without: float
    instead_id: int
    """The most probable other token once the concept is out."""
    instead_probability: float
    random_low: float
    """The interval of the effects of matched random neurons."""
    random_high: float

    @property
    def is_cause(self) -> bool:
        """Whether it does more than every matched random direction."""
        return not self.random_low <= self.effect <= self.random_high


@dataclass(frozen=True, eq=False)
class _Change:
    """What is added to some neurons: per layer, which neurons (K,) and by how much at each source token (S, K)."""

    index_K: tuple[NDArray[np.int64], ...]
    add_SK: tuple[NDArray[np.float32], ...]


def measure_causes(
    loaded: LoadedModel,
    detectors: Detectors,
    asked: Asked,
    *,
    search: CauseSearch = CauseSearch(),
    progress: Progress = no_progress,
) -> tuple[ConceptCause, ...]:
    """The concepts active at the asked sources by what they did to the asked token, the largest effect first.

    Raises `InvalidInput` for a position outside the text or without a source before it, `Cancelled` from `progress`.
    """
    ids, token, acts_LTI = asked.ids, asked.token, asked.acts_LTI
    if not 0 < token <= len(ids) or (token == len(ids) and asked.token_id is None):
        raise InvalidInput(f"token {token} is not in this text, which has tokens 0 to {len(ids) - 1}; choose 1 or later", field="token")
    target = int(ids[token]) if asked.token_id is None else int(asked.token_id)
    places = sorted({s for s in asked.sources if 0 <= s < token})
    if not places:
        raise InvalidInput("no word stands before this token, so no concept can have caused it; choose a later one", field="token")
    active = candidates_of(detectors, acts_LTI, places, search.candidates)
    if not active:
        return ()
    removed = [_removal(detectors, concept.number, acts_LTI, places) for concept in active]
    rng = np.random.default_rng(search.seed)
    controls = [_matched(loaded, removed[n % len(removed)], rng) for n in range(search.random)]
    runner = _Runner(loaded, ids[:token], places, asked.edits)
    logits_NV = runner.run([_Change((), ()), *removed, *controls], progress)
    odds_N = _log_odds(logits_NV, target)
    before = odds_N[0]
    effect_C, random_R = before - odds_N[1 : 1 + len(active)], before - odds_N[1 + len(active) :]
    low, high = (float(random_R.min()), float(random_R.max())) if search.random else (0.0, 0.0)
    causes = []
    for concept, effect, logits_V, odds in zip(active, effect_C, logits_NV[1:], odds_N[1:], strict=False):
        others_V = torch.softmax(logits_V, 0)
        others_V[target] = 0
        instead = int(others_V.argmax())
        without = 1 / (1 + np.exp(-odds))
        causes.append(
            ConceptCause(
                concept, float(effect), float(1 / (1 + np.exp(-before))), float(without), instead, float(others_V[instead]), low, high
            )
        )
    return tuple(sorted(causes, key=lambda cause: -abs(cause.effect)))


def candidates_of(detectors: Detectors, acts_LTI: NDArray[Any], places: Sequence[int], count: int) -> tuple[ActiveConcept, ...]:
    """Concepts that may be causes: the most active over all source tokens, and over the last few, which the answer follows from."""
    whole = detectors.active(acts_LTI, places, count)
    late = detectors.active(acts_LTI, places[-_LATE:], count) if len(places) > _LATE else ()
    found: dict[int, ActiveConcept] = {}
    for pair in zip(whole, (*late, *whole[len(late) :]), strict=False):
        for concept in pair:
            found.setdefault(concept.number, concept)
    return tuple(found.values())[:count]


def _removal(detectors: Detectors, number: int, acts_LTI: NDArray[Any], places: Sequence[int]) -> _Change:
    """What takes a concept out: the neurons that raise it go back to their usual level."""
    a = detectors.arrays
    kept = a.neuron_CK[number] >= 0
    layer_K, index_K = np.divmod(a.neuron_CK[number][kept].astype(np.int64), detectors.ref.n_neurons)
    weight_K = a.weight_CK[number][kept]
    index, add = [], []
    for layer in range(detectors.ref.n_layers):
        here = layer_K == layer
        above_SK = np.asarray(acts_LTI[layer])[list(places)][:, index_K[here]].astype(np.float32) - a.mean_LI[layer, index_K[here]].astype(
            np.float32
        )
        index.append(index_K[here])
        add.append(np.where(above_SK * weight_K[here] > 0, -above_SK, 0).astype(np.float32))
    return _Change(tuple(index), tuple(add))


def _matched(loaded: LoadedModel, change: _Change, rng: np.random.Generator) -> _Change:
    """As many random neurons in each layer, changed so that as much is written into the residual stream at each token."""
    index, add = [], []
    for site, index_K, add_SK in zip(loaded.sites, change.index_K, change.add_SK, strict=True):
        if not len(index_K):
            index.append(index_K)
            add.append(add_SK)
            continue
        chosen_K = rng.choice(site.width, len(index_K), replace=False)
        wanted_SK = add_SK * _written(loaded, site.layer, index_K)
        signs_K = rng.choice([-1.0, 1.0], len(index_K))
        index.append(chosen_K.astype(np.int64))
        add.append((wanted_SK * signs_K / np.maximum(_written(loaded, site.layer, chosen_K), 1e-6)).astype(np.float32))
    return _Change(tuple(index), tuple(add))


def _written(loaded: LoadedModel, layer: int, index_K: NDArray[np.int64]) -> NDArray[np.float32]:
    """How much a unit of each neuron's activation writes into the residual stream: the norm of its output row."""
    norms: NDArray[np.float32] = loaded.sites[layer].output_norms[torch.from_numpy(index_K)].float().cpu().numpy()
    return norms


def _log_odds(logits_NV: Tensor, token_id: int) -> NDArray[np.float64]:
    logits_NV = logits_NV.double()
    others_NV = logits_NV.index_fill(1, torch.tensor([token_id]), -torch.inf)
    odds: NDArray[np.float64] = (logits_NV[:, token_id] - torch.logsumexp(others_NV, dim=1)).numpy()
    return odds


class _Runner:
    """Many changes of one text: what comes before the first changed token is run once, the rest in batches."""

    def __init__(self, loaded: LoadedModel, ids: Sequence[int], places: Sequence[int], edits: Sequence[Edit]) -> None:
        self.loaded, self.ids, self.places, self.edits = loaded, tuple(ids), tuple(places), tuple(edits)
        self.start = places[0] if loaded.running.uses_cache(len(ids)) else 0
        self._cache: Any = None
        if self.start:
            self._cache = DynamicCache(config=loaded.model.config)
            run_forward(loaded, torch.tensor([self.ids[: self.start]]), edits=edits, cache=self._cache, logits_to_keep=1)

    def run(self, changes: Sequence[_Change], progress: Progress) -> Tensor:
        """The next-token logits after each change, (N, V) float32 on the CPU."""
        rows = max(1, BATCH_TOKENS // (len(self.ids) - self.start))
        found = []
        for begin in range(0, len(changes), rows):
            progress(begin, len(changes), "taking concepts out, one after the other")
            found.append(self._batch(changes[begin : begin + rows]))
        progress(len(changes), len(changes), "took every concept out")
        return torch.cat(found)

    def _batch(self, changes: Sequence[_Change]) -> Tensor:
        loaded, tokens = self.loaded, self.ids[self.start :]
        ids_BT = torch.tensor([tokens] * len(changes), device=loaded.device)
        cache = copy.deepcopy(self._cache)
        if cache is not None:
            cache.batch_repeat_interleave(len(changes))
        at_S = torch.tensor([place - self.start for place in self.places], device=loaded.device)

        def replace(part: Part, acts_BTI: Tensor) -> Tensor:
            edited = acts_BTI.clone()
            for edit in self.edits:  # steers first, then what is taken out
                own = edit.within(part) if edit.layer == part.layer else None
                edited = edited if own is None else own.apply(edited, self.start)
            for row, change in enumerate(changes):
                if not change.index_K:
                    continue
                inside_K = (change.index_K[part.layer] >= part.start) & (change.index_K[part.layer] < part.stop)
                index_K = torch.from_numpy(change.index_K[part.layer][inside_K] - part.start).to(loaded.device)
                edited[row, at_S[:, None], index_K] += torch.from_numpy(change.add_SK[part.layer][:, inside_K]).to(edited)
            return edited

        with torch.no_grad(), hooked(loaded, replace=replace, start=self.start):
            output = loaded.model(input_ids=ids_BT, past_key_values=cache, use_cache=cache is not None, logits_to_keep=1)
        logits: Tensor = output.logits[:, -1].float().cpu()
        return logits
