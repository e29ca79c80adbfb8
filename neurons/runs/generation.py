"""Generation with everything recorded: our own decoding loop, so that a run can be steered, streamed, forced and replayed bit for bit.

Unbatched on purpose: a batch of two rounds differently from a batch of one, and then nothing replays.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from neurons.core.errors import Cancelled, InvalidInput, ModelError
from neurons.core.steers import Steer
from neurons.core.types import FinishReason, Sampling
from neurons.models.chat import check_length
from neurons.models.loaded import LoadedModel
from neurons.runs.followed import processors
from neurons.runs.hooks import run_forward
from neurons.runs.steering import compile_edits

TOP_K = 10
_FLOAT16_MAX = 65_504.0

FloatArray = np.ndarray[Any, np.dtype[np.floating[Any]]]
IntArray = np.ndarray[Any, np.dtype[np.int32]]


@dataclass(frozen=True, eq=False)
class Generation:
    """One finished run. Row t of the per-token arrays is about the distribution that token t was taken from (the logits at t - 1).

    Row 0 has no such distribution: ids and rank -1, the rest 0.
    """

    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]
    """With the end token, where the model ended its answer itself."""
    finish_reason: FinishReason
    steers: tuple[Steer, ...]
    """As they were applied: resolved, no-ops left out."""
    acts_LTI: FloatArray | None
    """float16, or float32 where a value is past float16's range; None when not recorded."""
    topk_ids_TK: IntArray
    topk_probs_TK: FloatArray
    """float32, before temperature, top-k and top-p."""
    rank_T: IntArray
    """0 when the token was the most probable one."""
    logprob_T: FloatArray
    """Natural log, float32."""
    entropy_T: FloatArray
    """Nats, float32."""
    seconds: float


class Decoder:
    """A run in progress: call `step` until it returns None, then `result`. Interleave two to stream them side by side."""

    def __init__(
        self,
        loaded: LoadedModel,
        prompt_ids: Sequence[int],
        *,
        sampling: Sampling,
        steers: Sequence[Steer] = (),
        record: bool = True,
        forced_ids: Sequence[int] | None = None,
    ) -> None:
        """`steers` are resolved ones (`steering.resolve`). `forced_ids` are taken as the answer, whatever the model would say."""
        sampling.check()
        check_length(loaded, len(prompt_ids))
        bad = [i for i in prompt_ids if not 0 <= i < loaded.ref.n_vocab]
        if bad:
            raise InvalidInput(
                f"token id {bad[0]} is not in the vocabulary of {loaded.ref.name} (0 to {loaded.ref.n_vocab - 1})", field="prompt"
            )
        self._loaded = loaded
        self._sampling = sampling
        self._steers = tuple(s for s in steers if not s.is_noop)
        self._edits = compile_edits(loaded, self._steers, len(prompt_ids))
        self._forced = None if forced_ids is None else list(forced_ids)
        self._ids = list(prompt_ids)
        self._prompt_tokens = len(prompt_ids)
        self._cache: Any = DynamicCache(config=loaded.model.config)
        self._generator = torch.Generator().manual_seed(sampling.seed)
        self._processors = processors(sampling.follow, prompt_tokens=len(prompt_ids))
        self._warpers = _warpers(sampling)
        self._acts = _ActivationBuffer(loaded) if record else None
        self._seen = 0  # tokens that have been through the model
        self._logits_V: Tensor | None = None
        self._newest_V: Tensor | None = None
        self._facts = _TokenFacts()
        self._reason: FinishReason | None = None
        self._started = time.perf_counter()

    @property
    def answer_ids(self) -> tuple[int, ...]:
        return tuple(self._ids[self._prompt_tokens :])

    @property
    def newest_logits(self) -> Tensor | None:
        """The logits (V,) that the newest token was taken from; None before the first."""
        return self._newest_V

    @property
    def done(self) -> bool:
        return self._reason is not None

    def step(self) -> int | None:
        """Run the model on what it has not seen yet and take the next token. None when the answer is complete."""
        if self._reason is not None:
            return None
        self._advance()
        if (reason := self._limit()) is not None:
            self._reason = reason
            return None
        token = self._choose()
        self._ids.append(token)
        assert self._logits_V is not None
        self._newest_V = self._logits_V
        self._facts.add(self._logits_V[None], [token])
        if self._forced is None and token in self._loaded.eos_ids:
            self._reason = "stop"
        return token

    def result(self, reason: FinishReason | None = None) -> Generation:
        """The run so far. `reason` says why it ended, when it was cut off from outside."""
        if self._acts is not None:
            self._advance()  # the last token's own activations
        else:
            self._facts.flush()
        return Generation(
            prompt_ids=tuple(self._ids[: self._prompt_tokens]),
            answer_ids=self.answer_ids,
            finish_reason=reason or self._reason or "cancelled",
            steers=self._steers,
            acts_LTI=None if self._acts is None else self._acts.array(),
            **self._facts.arrays(),
            seconds=time.perf_counter() - self._started,
        )

    def _limit(self) -> FinishReason | None:
        """Why no further token is taken, if so."""
        taken = len(self._ids) - self._prompt_tokens
        if self._forced is not None:
            return "length" if taken >= len(self._forced) else None
        if taken >= self._sampling.max_new_tokens:
            return "length"
        return "context" if len(self._ids) >= self._loaded.ref.max_positions else None

    def _advance(self) -> None:
        """Feed the tokens the model has not seen: the prompt in pieces, then the answer token by token, as the check found right."""
        running = self._loaded.running
        while self._seen < len(self._ids):
            cached = running.uses_cache(len(self._ids))
            stop = min(self._seen + running.piece, len(self._ids)) if cached and running.piece else len(self._ids)
            start = self._seen if cached else 0
            record = None if self._acts is None else self._acts.writer(self._seen, stop)
            output = run_forward(
                self._loaded,
                torch.tensor([self._ids[start:stop]]),
                edits=self._edits,
                record=record,
                cache=self._cache if cached else None,
                start=start,
                logits_to_keep=0 if cached else stop - self._seen,
            )
            assert output.logits is not None
            logits_TV = output.logits[0]
            if not bool(torch.isfinite(logits_TV[-1]).all()):
                raise ModelError("the model's output is not finite; a steer is too strong, or the dtype too small for this model")
            if self._seen == 0:
                self._facts.start()
            following = self._ids[self._seen + 1 : stop + 1]
            if following:
                self._facts.add(logits_TV[: len(following)], following)
            self._logits_V = logits_TV[-1]
            self._seen = stop

    def _choose(self) -> int:
        """The next token: forced, greedy, or sampled on the CPU from a seeded generator."""
        if self._forced is not None:
            return int(self._forced[len(self._ids) - self._prompt_tokens])
        assert self._logits_V is not None
        if self._sampling.greedy and not self._processors:
            return int(self._logits_V.argmax())
        scores: Tensor = self._logits_V[None].float().cpu()
        ids_1T = torch.tensor([self._ids])
        for process in (*self._processors, *self._warpers):
            scores = process(ids_1T, scores)
        if self._sampling.greedy:
            return int(scores[0].argmax())
        return int(torch.multinomial(scores.softmax(-1), 1, generator=self._generator))


def generate(
    loaded: LoadedModel,
    prompt_ids: Sequence[int],
    *,
    sampling: Sampling,
    steers: Sequence[Steer] = (),
    record: bool = True,
    forced_ids: Sequence[int] | None = None,
    on_token: Callable[[int], None] | None = None,
) -> Generation:
    """Answer a prompt. `on_token` gets each id as it is taken; when it raises `Cancelled` the answer so far is returned, marked."""
    decoder = Decoder(loaded, prompt_ids, sampling=sampling, steers=steers, record=record, forced_ids=forced_ids)
    try:
        while (token := decoder.step()) is not None:
            if on_token is not None:
                on_token(token)
    except Cancelled:
        return decoder.result("cancelled")
    return decoder.result()


def _warpers(sampling: Sampling) -> list[Any]:
    """transformers' own logits processors, in its order: temperature, top-k, top-p."""
    if sampling.greedy:
        return []
    warpers: list[Any] = [TemperatureLogitsWarper(float(sampling.temperature))]
    if sampling.top_k:
        warpers.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        warpers.append(TopPLogitsWarper(float(sampling.top_p)))
    return warpers


class _ActivationBuffer:
    """Activations of all layers as they come, on the model's device, grown by doubling."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._shape = (loaded.n_layers, loaded.n_neurons)
        self._device, self._dtype = loaded.device, loaded.dtype
        self._buffer_LTI = self._empty(256)
        self._tokens = 0

    def _empty(self, tokens: int) -> Tensor:
        layers, neurons = self._shape
        return torch.zeros(layers, tokens, neurons, dtype=self._dtype, device=self._device)

    def writer(self, start: int, stop: int) -> Callable[[int, Tensor], None]:
        """A `hooks.Record` that keeps tokens [start, stop)."""
        while stop > self._buffer_LTI.shape[1]:
            grown = self._empty(2 * self._buffer_LTI.shape[1])
            grown[:, : self._tokens] = self._buffer_LTI[:, : self._tokens]
            self._buffer_LTI = grown
        self._tokens = max(self._tokens, stop)
        buffer_LTI = self._buffer_LTI

        def write(layer: int, acts_BTI: Tensor) -> None:
            buffer_LTI[layer, start:stop, : acts_BTI.shape[2]] = acts_BTI[0, -(stop - start) :]

        return write

    def array(self) -> FloatArray:
        acts_LTI = self._buffer_LTI[:, : self._tokens]
        largest = float(acts_LTI.abs().amax())
        if not np.isfinite(largest):
            raise ModelError("an activation is not finite; a steer is too strong, or the dtype too small for this model")
        kept: FloatArray = acts_LTI.to(torch.float16 if largest <= _FLOAT16_MAX else torch.float32).cpu().numpy()
        return kept


class _TokenFacts:
    """What the model thought before each token: top candidates, the rank and log-probability of the token taken, entropy."""

    def __init__(self) -> None:
        self._rows: list[tuple[Tensor, ...]] = []
        self._pending: list[tuple[Tensor, int]] = []

    def start(self) -> None:
        """Row 0: nothing predicted the first token."""
        none_1K = torch.full((1, TOP_K), -1, dtype=torch.int32)
        zero_1 = torch.zeros(1)
        self._rows.append((none_1K, torch.zeros(1, TOP_K), torch.full((1,), -1, dtype=torch.int32), zero_1, zero_1))

    def add(self, logits_TV: Tensor, taken_T: Sequence[int]) -> None:
        """The distributions `logits_TV` and the tokens that were taken from them. Single rows wait and are done together."""
        if len(taken_T) == 1:
            self._pending.append((logits_TV[0], taken_T[0]))
            if len(self._pending) >= 64:
                self.flush()
            return
        self.flush()
        self._rows.append(_token_facts(logits_TV, taken_T))

    def flush(self) -> None:
        if self._pending:
            logits = torch.stack([row for row, _ in self._pending])
            self._rows.append(_token_facts(logits, [token for _, token in self._pending]))
            self._pending = []

    def arrays(self) -> dict[str, Any]:
        self.flush()
        names = ("topk_ids_TK", "topk_probs_TK", "rank_T", "logprob_T", "entropy_T")
        return {name: torch.cat(column).numpy() for name, column in zip(names, zip(*self._rows, strict=True), strict=True)}


def _token_facts(logits_TV: Tensor, taken_T: Sequence[int]) -> tuple[Tensor, ...]:
    """(ids, probabilities) of the top tokens, and rank, log-probability and entropy, on the CPU."""
    logp_TV = logits_TV.float().log_softmax(-1)
    count = min(TOP_K, logp_TV.shape[1])
    top = logp_TV.topk(count, dim=-1)
    ids_TK = torch.nn.functional.pad(top.indices.to(torch.int32), (0, TOP_K - count), value=-1)
    probs_TK = torch.nn.functional.pad(top.values.exp(), (0, TOP_K - count))
    taken_T1 = torch.tensor(list(taken_T), device=logp_TV.device)[:, None]
    logp_T1 = logp_TV.gather(1, taken_T1)
    rank_T = (logp_TV > logp_T1).sum(-1).to(torch.int32)
    entropy_T = -(logp_TV.exp() * logp_TV.clamp_min(-1e4)).sum(-1)
    return tuple(part.cpu() for part in (ids_TK, probs_TK, rank_T, logp_T1[:, 0], entropy_T))
