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
from neurons.core.types import FinishReason, Message, Sampling, Segment, Steer
from neurons.models.chat import EncodedPrompt, decode, encode_prompt, token_pieces
from neurons.models.loaded import LoadedModel
from neurons.runs.generation import TOP_K, Decoder, Generation
from neurons.runs.steering import needs_quantiles, resolve
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
    name: str = "",
    tags: Sequence[str] = (),
    set_name: str | None = None,
    set_row: int | None = None,
    baseline_id: str | None = None,
    record: bool = True,
    keep_partial: bool = True,
    on_token: Callable[[int], None] | None = None,
    progress: Progress = no_progress,
) -> tuple[TraceRecord, Generation]:
    """Answer a prompt and save the run in `store` (None: nothing is saved and the record has no id).

    `on_token` gets each id as it is taken and may raise `Cancelled`: what there is by then is saved, marked and returned
    (with `keep_partial` off nothing is saved and `Cancelled` passes).
    When anything else is raised, what there is is saved, marked and named in the `ModelError` that is raised instead.
    """
    sampling = (sampling or Sampling()).check()
    messages = as_messages(prompt)
    encoded = encode_prompt(loaded, messages)
    steers = resolved(loaded, steers, prompt=encoded, progress=progress)
    run = _Run(loaded, messages, encoded, sampling, steers, record=record)

    def save(saved: TraceRecord) -> TraceRecord:
        extra = replace(saved, name=name, tags=tuple(tags), set_name=set_name, set_row=set_row, baseline_id=baseline_id)
        return extra if store is None else store.save(extra, run.arrays())

    reason: FinishReason | None = None
    try:
        while (token := run.step()) is not None:
            if on_token is not None:
                on_token(token)
    except (Cancelled, KeyboardInterrupt):
        if not keep_partial:
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
    name: str = "",
    tags: Sequence[str] = (),
    set_name: str | None = None,
    set_row: int | None = None,
    record: bool = True,
    keep_partial: bool = True,
    on_token: Callable[[Side, int], None] | None = None,
    progress: Progress = no_progress,
) -> Pair:
    """Answer a prompt unsteered and steered, a token of each in turn, and save both runs as a pair.

    Raising `Cancelled` in `on_token` ends both; what there is is saved and marked (unless `keep_partial` is off). When one
    fails, the other goes on, both are saved and `ModelError` names the failed one; an error in `on_token` ends both.
    """
    sampling = (sampling or Sampling()).check()
    messages = as_messages(prompt)
    encoded = encode_prompt(loaded, messages)
    steers = resolved(loaded, steers, prompt=encoded, progress=progress)
    runs: dict[Side, _Run] = {
        "baseline": _Run(loaded, messages, encoded, sampling, (), record=record),
        "steered": _Run(loaded, messages, encoded, sampling, steers, record=record),
    }
    reason: FinishReason | None = None
    errors: dict[Side, Exception] = {}
    try:
        active = list(runs)
        while active:
            for side in list(active):
                try:
                    token = runs[side].step()
                except Cancelled:
                    raise
                except Exception as error:  # noqa: BLE001  # memory, device or library: the answer so far is the person's work
                    errors[side] = error
                    token = None
                if token is None:
                    active.remove(side)
                elif on_token is not None:
                    on_token(side, token)
    except (Cancelled, KeyboardInterrupt):
        if not keep_partial:
            raise
        reason = "cancelled"
    except Exception as error:  # noqa: BLE001  # raised by `on_token`: neither run can go on
        errors = dict.fromkeys(runs, error) | errors
    saved: dict[Side, TraceRecord] = {}

    def save(side: Side) -> TraceRecord:
        run, label = runs[side], f"{name} ({side})" if name else ""
        ended = run.failed(errors[side]) if side in errors else run.finish(reason)
        link = saved["baseline"].id or None if side == "steered" and "baseline" in saved else None
        ended = replace(ended, name=label, tags=tuple(tags), set_name=set_name, set_row=set_row, baseline_id=link)
        saved[side] = ended if store is None else store.save(ended, run.arrays())
        return saved[side]

    if not errors:
        return Pair(save("baseline"), save("steered"), runs["baseline"].generation(), runs["steered"].generation())
    outcomes = {side: _try_to_save(partial(save, side)) for side in runs}
    side, failure = next(iter(errors.items()))
    raise _named(failure, *outcomes[side]) from failure


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
