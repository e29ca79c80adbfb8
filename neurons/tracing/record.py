"""Runs that are saved: encode, generate with everything recorded, and put the result into the trace store.

Partial answers are saved too, and marked: finish reason "cancelled" (also after Ctrl-C) or "error", whatever the error was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch

from neurons.atlas.quantiles import quantiles_for
from neurons.core.clock import now
from neurons.core.errors import Cancelled, InvalidInput, ModelError, NeuronscopeError
from neurons.core.progress import Progress, no_progress
from neurons.core.steers import Steer
from neurons.core.types import FinishReason, Message, Sampling, Segment
from neurons.models.chat import EncodedPrompt, decode, encode_prompt, token_pieces
from neurons.models.loaded import LoadedModel
from neurons.runs.generation import TOP_K, Decoder, Generation
from neurons.runs.steering import needs_quantiles, resolve
from neurons.tracing.divergence import RunningDivergence
from traces.schema import TraceRecord
from traces.store import TraceStore

Side = Literal["baseline", "steered"]
Prompt = str | Sequence[Message]


@dataclass(frozen=True)
class Pair:
    """The unsteered and the steered run of one prompt, with the same seed and settings."""

    baseline: TraceRecord
    steered: TraceRecord
    """Its `baseline_id` is the baseline's id."""
    baseline_run: Generation
    steered_run: Generation

    @property
    def same(self) -> bool:
        """Whether both answers have the same token ids."""
        return self.baseline.answer_ids == self.steered.answer_ids


@dataclass(frozen=True)
class RunOptions:
    """What is recorded of a run, and how it is kept."""

    name: str = ""
    """Of the trace; the two of a pair get " (baseline)" and " (steered)"."""
    tags: Sequence[str] = ()
    set_name: str | None = None
    """The run of a prompt set that it belongs to."""
    set_row: int | None = None
    baseline_id: str | None = None
    """For a steered run: the trace of the unsteered one. A pair sets it itself."""
    record: bool = True
    """Keep the activations; without, they can be recomputed."""
    encoded: EncodedPrompt | None = None
    """The prompt as ids, where somebody has encoded it already."""
    keep_partial: bool = True
    """Save what there is of a run that is stopped; without, `Cancelled` passes and nothing is saved."""

    def label(self, record: TraceRecord) -> TraceRecord:
        """The record with its name, tags and place in a set."""
        return replace(
            record,
            name=self.name,
            tags=tuple(self.tags),
            set_name=self.set_name,
            set_row=self.set_row,
            baseline_id=self.baseline_id,
        )


def as_messages(prompt: Prompt, *, system: str | None = None) -> tuple[Message, ...]:
    """A conversation from a plain question or from messages; `system` goes first when given."""
    messages = (Message("user", prompt),) if isinstance(prompt, str) else tuple(prompt)
    if system is not None:
        messages = (Message("system", system), *(m for m in messages if m.role != "system"))
    return messages


def resolved(
    loaded: LoadedModel, steers: Sequence[Steer], *, prompt: EncodedPrompt | None = None, progress: Progress = no_progress
) -> tuple[Steer, ...]:
    """The steers checked and with their values, looking up the model's quantiles only where they are needed.

    With `prompt`, tokens that are named ("from question") are found there.
    """
    quantiles = quantiles_for(loaded, progress=progress) if needs_quantiles(steers) else None
    return resolve(loaded, steers, quantiles=quantiles, prompt=prompt)


def run_trace(
    loaded: LoadedModel,
    prompt: Prompt,
    *,
    sampling: Sampling | None = None,
    steers: Sequence[Steer] = (),
    store: TraceStore | None = None,
    options: RunOptions | None = None,
    on_token: Callable[[int], None] | None = None,
    progress: Progress = no_progress,
) -> tuple[TraceRecord, Generation]:
    """Answer a prompt and save the run in `store` (None: nothing is saved and the record has no id).

    `on_token` gets each id as it is taken and may raise `Cancelled`: what there is by then is saved, marked and returned
    (unless `options` say otherwise).
    When anything else is raised, what there is is saved, marked and named in the `ModelError` that is raised instead.
    """
    sampling, options = (sampling or Sampling()).check(), options or RunOptions()
    messages = as_messages(prompt)
    encoded = options.encoded or encode_prompt(loaded, messages)
    steers = resolved(loaded, steers, prompt=encoded, progress=progress)
    run = _Run(loaded, messages, encoded, sampling, steers, record=options.record)

    def save(saved: TraceRecord) -> TraceRecord:
        labelled = options.label(saved)
        return labelled if store is None else store.save(labelled, run.arrays())

    reason: FinishReason | None = None
    try:
        while (token := run.step()) is not None:
            if on_token is not None:
                on_token(token)
    except (Cancelled, KeyboardInterrupt):
        if not options.keep_partial:
            raise
        reason = "cancelled"
    except Exception as error:  # memory, device or library: the answer so far is the person's work
        raise _named(error, *_try_to_save(partial(save, run.failed(error)))) from error
    return save(run.finish(reason)), run.generation()


def run_pair(
    loaded: LoadedModel,
    prompt: Prompt,
    steers: Sequence[Steer],
    *,
    sampling: Sampling | None = None,
    store: TraceStore | None = None,
    options: RunOptions | None = None,
    on_token: Callable[[Side, int], None] | None = None,
    progress: Progress = no_progress,
) -> Pair:
    """Answer a prompt unsteered and steered, a token of each in turn, and save both runs as a pair.

    Raising `Cancelled` in `on_token` ends both; what there is is saved and marked (unless `options` say otherwise). When one
    fails, the other goes on, both are saved and `ModelError` names the failed one; an error in `on_token` ends both.
    """
    sampling, options = (sampling or Sampling()).check(), options or RunOptions()
    messages = as_messages(prompt)
    encoded = options.encoded or encode_prompt(loaded, messages)
    steers = resolved(loaded, steers, prompt=encoded, progress=progress)
    pair = _PairOfRuns(
        _Run(loaded, messages, encoded, sampling, (), record=options.record),
        _Run(loaded, messages, encoded, sampling, steers, record=options.record),
        prompt_tokens=len(encoded.ids),
        options=options,
        store=store,
    )
    pair.answer(on_token)
    return pair.save()


def _try_to_save(save: Callable[[], TraceRecord]) -> tuple[TraceRecord | None, str]:
    """What was saved of a run that broke, or why not even that could be."""
    try:
        return save(), ""
    except (NeuronscopeError, OSError) as error:
        return None, str(error)


def _named(error: Exception, saved: TraceRecord | None, unsaved: str) -> ModelError:
    """The error that is raised for a run that broke: what happened, what to do, and where the answer so far is."""
    where = f" What there was is saved as trace {saved.id}." if saved is not None and saved.id else ""
    where = where or (f" What there was could not be saved: {unsaved}" if unsaved else "")
    what = _what_broke(error)
    return ModelError(f"{what.rstrip('.')}.{where}" if where else what)


def _what_broke(error: Exception) -> str:
    if isinstance(error, torch.OutOfMemoryError):
        return "the device ran out of memory; shorten the prompt or the answer, or use the CPU"
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):  # the second is all that torch says on a CPU
        return "this machine ran out of memory; shorten the prompt or the answer, or use a smaller model"
    if isinstance(error, NeuronscopeError):
        return str(error)
    return f"the answer broke off: {type(error).__name__}: {error}"


class _Run:
    """One decoder with what is needed to make a record of it."""

    def __init__(
        self,
        loaded: LoadedModel,
        messages: tuple[Message, ...],
        encoded: EncodedPrompt,
        sampling: Sampling,
        steers: tuple[Steer, ...],
        *,
        record: bool,
    ) -> None:
        self._loaded, self._messages, self._encoded, self._sampling = loaded, messages, encoded, sampling
        self._decoder = Decoder(loaded, encoded.ids, sampling=sampling, steers=steers, record=record)
        self._steers = steers
        self._generation: Generation | None = None
        self._broken = False

    @property
    def decoder(self) -> Decoder:
        return self._decoder

    def step(self) -> int | None:
        return self._decoder.step()

    def finish(self, reason: FinishReason | None = None) -> TraceRecord:
        """The record of the run as it stands. A model that fails on the very last token makes it a failed one."""
        try:
            self._generation = self._decoder.result(reason)
        except Exception as error:  # noqa: BLE001  # as above
            return self.failed(error)
        return self._record()

    def failed(self, error: Exception) -> TraceRecord:
        """The record of a run that broke: its ids and text, no tensors."""
        ids = self._decoder.answer_ids
        tokens = len(self._encoded.ids) + len(ids)
        none_TK, none_T = np.full((tokens, TOP_K), -1, np.int32), np.full(tokens, -1, np.int32)
        zero_TK, zero_T = np.zeros((tokens, TOP_K), np.float32), np.zeros(tokens, np.float32)
        self._broken = True
        self._generation = Generation(
            self._encoded.ids, ids, "error", self._steers, None, none_TK, zero_TK, none_T, zero_T, zero_T, seconds=0.0
        )
        return replace(self._record(), error=_what_broke(error))

    def generation(self) -> Generation:
        if self._generation is None:
            raise InvalidInput("the run has not ended yet")
        return self._generation

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        return {} if self._broken else arrays_of(self.generation())

    def _record(self) -> TraceRecord:
        run = self.generation()
        ids = run.prompt_ids + run.answer_ids
        return TraceRecord(
            id="",
            created=now(),
            model=self._loaded.ref,
            environment=self._loaded.environment(),
            messages=self._messages,
            prompt_ids=run.prompt_ids,
            answer_ids=run.answer_ids,
            segments=(*self._encoded.segments, Segment("assistant", len(run.prompt_ids), len(ids))),
            pieces=token_pieces(self._loaded, ids),
            answer=decode(self._loaded, run.answer_ids),
            finish_reason=run.finish_reason,
            sampling=self._sampling,
            steers=run.steers,
            seconds=run.seconds,
        )


class _PairOfRuns:
    """The two runs of a pair, a token of each in turn, with what is needed to save them."""

    def __init__(self, baseline: _Run, steered: _Run, *, prompt_tokens: int, options: RunOptions, store: TraceStore | None) -> None:
        self._runs: dict[Side, _Run] = {"baseline": baseline, "steered": steered}
        self._apart = RunningDivergence(prompt_tokens)
        self._options, self._store = options, store
        self._reason: FinishReason | None = None
        self._errors: dict[Side, Exception] = {}
        self._saved: dict[Side, TraceRecord] = {}

    def answer(self, on_token: Callable[[Side, int], None] | None) -> None:
        """Run both to their ends. Raises `Cancelled` only where nothing is to be kept of a run that is stopped."""
        active = list(self._runs)
        try:
            while active:
                for side in list(active):
                    token = self._step(side)
                    if token is None:
                        active.remove(side)
                    elif on_token is not None:
                        on_token(side, token)
                self._apart.note(self._runs["baseline"].decoder, self._runs["steered"].decoder)
        except (Cancelled, KeyboardInterrupt):
            if not self._options.keep_partial:
                raise
            self._reason = "cancelled"
        except Exception as error:  # noqa: BLE001  # raised by `on_token`: neither run can go on
            self._errors = dict.fromkeys(self._runs, error) | self._errors

    def _step(self, side: Side) -> int | None:
        """The next token of one run; None at its end, and where it broke: the other goes on."""
        try:
            return self._runs[side].step()
        except Cancelled:
            raise
        except Exception as error:  # noqa: BLE001  # memory, device or library: the answer so far is the person's work
            self._errors[side] = error
            return None

    def save(self) -> Pair:
        """Save both. Raises `ModelError` for the first that broke, after both were saved as far as they are."""
        if not self._errors:
            baseline, steered = self._save("baseline"), self._save("steered")
            return Pair(baseline, steered, self._runs["baseline"].generation(), self._runs["steered"].generation())
        outcomes = {side: _try_to_save(partial(self._save, side)) for side in self._runs}
        side, failure = next(iter(self._errors.items()))
        raise _named(failure, *outcomes[side]) from failure

    def _save(self, side: Side) -> TraceRecord:
        run, name = self._runs[side], f"{self._options.name} ({side})" if self._options.name else ""
        ended = run.failed(self._errors[side]) if side in self._errors else run.finish(self._reason)
        link = self._saved["baseline"].id or None if side == "steered" and "baseline" in self._saved else None
        ended = replace(self._options, name=name, baseline_id=link).label(ended)
        arrays = run.arrays()
        if side == "steered" and link is not None and arrays:
            arrays |= self._apart.arrays(len(ended.token_ids))
        self._saved[side] = ended if self._store is None else self._store.save(ended, arrays)
        return self._saved[side]


def arrays_of(run: Generation) -> dict[str, np.ndarray[Any, Any]]:
    """A generation's arrays under the names a trace stores them by."""
    arrays: dict[str, np.ndarray[Any, Any]] = {
        "topk_ids": run.topk_ids_TK,
        "topk_probs": run.topk_probs_TK,
        "rank": run.rank_T,
        "logprob": run.logprob_T,
        "entropy": run.entropy_T,
    }
    if run.acts_LTI is not None:
        arrays["activations"] = run.acts_LTI
    return arrays
