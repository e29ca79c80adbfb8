"""Steered against unsteered, in numbers: what a strength does to a token and to the answer, and the full divergence along one text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from neurons.core.errors import Cancelled, InvalidInput
from neurons.core.progress import Progress, no_progress
from neurons.core.steers import Steer
from neurons.core.types import Sampling
from neurons.models.chat import check_length, decode, encode_prompt, token_text
from neurons.models.loaded import LoadedModel
from neurons.runs.generation import generate
from neurons.runs.hooks import run_forward
from neurons.runs.kl import kl_divergence
from neurons.runs.steering import compile_edits
from neurons.tracing.record import Prompt, as_messages, resolved
from traces.compare import changed_share, word_diff

_CHUNK = 256
MAX_STRENGTHS = 101


@dataclass(frozen=True)
class SweepPoint:
    """One strength of a sweep."""

    strength: float
    probability: float
    """Of the chosen token, before temperature, top-k and top-p."""
    logprob: float
    rank: int
    """Of the chosen token, 0 is the most probable."""
    top_id: int
    """The most probable token there."""
    top_probability: float
    kl: float
    """KL(unsteered, steered) in nats of the distribution at the chosen position."""
    answer: str | None
    """None when answers were not asked for."""
    differs: bool | None
    """Whether the answer's ids differ from the unsteered answer's."""
    changed_words: float | None
    """Share of the words of both answers not in common, 0 to 1."""


@dataclass(frozen=True)
class Sweep:
    """What strength does."""

    token_id: int
    token: str
    position: int
    """Which position of prompt + answer the probabilities are for."""
    baseline_answer: str
    baseline_probability: float
    points: tuple[SweepPoint, ...]

    def table(self) -> pd.DataFrame:
        """One row a strength."""
        return pd.DataFrame([vars(point) for point in self.points])


@dataclass(frozen=True, eq=False)
class ForcedDivergence:
    """Unsteered and steered distributions along one and the same text. Row t is about the token at t; row 0 is empty (0)."""

    ids: tuple[int, ...]
    probability_T: NDArray[np.float32]
    """The unsteered probability of the token that stands there."""
    steered_probability_T: NDArray[np.float32]
    kl_T: NDArray[np.float32]
    """KL(unsteered, steered) in nats over the whole vocabulary."""


def sweep(
    loaded: LoadedModel,
    prompt: Prompt,
    steers: Sequence[Steer],
    strengths: Sequence[float],
    *,
    sampling: Sampling | None = None,
    token_id: int | None = None,
    offset: int = 0,
    answers: bool = True,
    progress: Progress = no_progress,
) -> Sweep:
    """Run a prompt at each strength, the same for every steer in `steers`, with one seed and settings.

    The chosen token is `token_id` (None: the one of the unsteered answer) at position `offset` of the answer, after the
    unsteered answer's tokens before it. Steers that are switched off stay off.
    Raises `InvalidInput` for no strengths, no steers that are on, or an offset past the answer.
    """
    values = _checked(strengths, steers)
    sampling = (sampling or Sampling()).check()
    encoded = encode_prompt(loaded, as_messages(prompt))
    # Values are needed at some strengths even where the steers' own strength is 0.
    on = [replace(steer, strength=2.0) for steer in steers if steer.enabled]
    full = resolved(loaded, on, prompt=encoded, progress=progress)
    place = _find_place(loaded, encoded.ids, sampling, token_id, offset)
    points = []
    for number, strength in enumerate(values):
        progress(number, len(values), f"strength {strength:g}")
        at = tuple(replace(s, strength=strength).check() for s in full)
        check = _stop_early(progress, number, len(values))
        answer = _answer(loaded, encoded.ids, sampling, at, place, check) if answers else None
        points.append(_point(strength, _next_logprobs(loaded, place.context, at, len(encoded.ids)), place, answer))
    progress(len(values), len(values), "finished")
    probability = float(place.logp_V[place.token_id].exp())
    return Sweep(place.token_id, token_text(loaded, place.token_id), len(place.context), place.answer, probability, tuple(points))


def _checked(strengths: Sequence[float], steers: Sequence[Steer]) -> list[float]:
    """The strengths, each once. Raises `InvalidInput` where they or the steers make no sweep."""
    values = list(dict.fromkeys(float(s) for s in strengths))
    if not values or len(values) > MAX_STRENGTHS or not all(math.isfinite(s) for s in values):
        raise InvalidInput(f"give 1 to {MAX_STRENGTHS} finite strengths", field="strengths")
    if not steers:
        raise InvalidInput("a sweep needs at least one steer", field="steers")
    if not any(steer.enabled for steer in steers):
        raise InvalidInput("every steer is switched off; switch one on to sweep its strength", field="steers")
    return values


@dataclass(frozen=True, eq=False)
class _Place:
    """Where a sweep looks, and what is there without a steer."""

    context: tuple[int, ...]
    """The ids before the chosen token."""
    token_id: int
    logp_V: torch.Tensor
    answer_ids: tuple[int, ...]
    answer: str


def _find_place(loaded: LoadedModel, prompt_ids: tuple[int, ...], sampling: Sampling, token_id: int | None, offset: int) -> _Place:
    """The unsteered answer and the chosen token in it. Raises `InvalidInput` for an offset past the answer or an id past the vocabulary."""
    enough = replace(sampling, max_new_tokens=max(sampling.max_new_tokens, offset + 1))
    answer_ids = generate(loaded, prompt_ids, sampling=enough, record=False).answer_ids
    if not 0 <= offset < len(answer_ids):
        raise InvalidInput(f"the unsteered answer has {len(answer_ids)} tokens; choose one from 0", field="offset")
    chosen = answer_ids[offset] if token_id is None else token_id
    if not 0 <= chosen < loaded.ref.n_vocab:
        raise InvalidInput(f"token id {chosen} is not in the vocabulary (0 to {loaded.ref.n_vocab - 1})", field="token")
    context = (*prompt_ids, *answer_ids[:offset])
    kept = answer_ids[: sampling.max_new_tokens]
    return _Place(context, chosen, _next_logprobs(loaded, context, (), len(prompt_ids)), kept, decode(loaded, kept))


@dataclass(frozen=True)
class _Answer:
    """A steered answer against the unsteered one."""

    text: str
    differs: bool
    changed: float


def _answer(
    loaded: LoadedModel,
    prompt_ids: tuple[int, ...],
    sampling: Sampling,
    steers: Sequence[Steer],
    place: _Place,
    on_token: Callable[[int], None],
) -> _Answer:
    run = generate(loaded, prompt_ids, sampling=sampling, steers=steers, record=False, on_token=on_token)
    if run.finish_reason == "cancelled":
        raise Cancelled
    text = decode(loaded, run.answer_ids)
    return _Answer(text, run.answer_ids != place.answer_ids, changed_share(word_diff(place.answer, text)))


def _point(strength: float, logp_V: torch.Tensor, place: _Place, answer: _Answer | None) -> SweepPoint:
    chosen, top = place.token_id, int(logp_V.argmax())
    return SweepPoint(
        strength=strength,
        probability=float(logp_V[chosen].exp()),
        logprob=float(logp_V[chosen]),
        rank=int((logp_V > logp_V[chosen]).sum()),
        top_id=top,
        top_probability=float(logp_V[top].exp()),
        kl=float(kl_divergence(place.logp_V, logp_V)),
        answer=None if answer is None else answer.text,
        differs=None if answer is None else answer.differs,
        changed_words=None if answer is None else answer.changed,
    )


def _stop_early(progress: Progress, number: int, total: int) -> Callable[[int], None]:
    def on_token(token: int) -> None:
        progress(number, total, "answering")

    return on_token


def _next_logprobs(loaded: LoadedModel, ids: Sequence[int], steers: Sequence[Steer], prompt_tokens: int) -> torch.Tensor:
    """Log-probabilities (V,) of the token after `ids`, fp32 on the CPU."""
    check_length(loaded, len(ids))
    edits = compile_edits(loaded, steers, prompt_tokens)
    output = run_forward(loaded, torch.tensor([list(ids)]), edits=edits, logits_to_keep=1)
    if output.logits is None:
        raise InvalidInput("this model gives no logits")
    return output.logits[0, -1].float().log_softmax(-1).cpu()


def forced_divergence(
    loaded: LoadedModel,
    ids: Sequence[int],
    steers: Sequence[Steer],
    *,
    prompt_tokens: int,
    base: Sequence[Steer] = (),
    progress: Progress = no_progress,
) -> ForcedDivergence:
    """How far resolved `steers` move the next-token distribution at every position of one text, over the whole vocabulary.

    They are compared with the `base` steers (none: the unsteered model), which `probability_T` belongs to.
    """
    from transformers import DynamicCache

    check_length(loaded, len(ids) - 1)
    edits = compile_edits(loaded, steers, prompt_tokens)
    cached = loaded.running.uses_cache(len(ids))
    chunk = min(_CHUNK, loaded.running.piece) if cached and loaded.running.piece else len(ids)
    caches = [DynamicCache(config=loaded.model.config) if cached else None for _ in range(2)]
    probs, steered_probs, kls = [torch.zeros(1)], [torch.zeros(1)], [torch.zeros(1)]
    for start in range(0, len(ids) - 1, chunk):
        progress(start, len(ids), "comparing distributions")
        stop = min(start + chunk, len(ids) - 1)
        ids_BT = torch.tensor([list(ids[start:stop])])
        both = []
        for cache, applied in zip(caches, (compile_edits(loaded, base, prompt_tokens), edits), strict=True):
            logits = run_forward(loaded, ids_BT, edits=applied, cache=cache, start=start).logits
            if logits is None:
                raise InvalidInput("this model gives no logits")
            both.append(logits[0].float().log_softmax(-1))
        base_TV, steered_TV = both
        taken_T1 = torch.tensor(ids[start + 1 : stop + 1], device=base_TV.device)[:, None]
        probs.append(base_TV.gather(1, taken_T1)[:, 0].exp().cpu())
        steered_probs.append(steered_TV.gather(1, taken_T1)[:, 0].exp().cpu())
        kls.append(kl_divergence(base_TV, steered_TV).cpu())
    arrays = [torch.cat(parts).numpy() for parts in (probs, steered_probs, kls)]
    return ForcedDivergence(tuple(ids), *arrays)
