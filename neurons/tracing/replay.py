"""Running a saved trace again: the same ids and the same bits on the same machine, and why not where they differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from neurons.core.errors import InvalidInput, NotFound, StoreError
from neurons.core.progress import Progress, no_progress
from neurons.models.loaded import LoadedModel
from neurons.runs.generation import Decoder, Generation
from neurons.tracing.record import arrays_of
from traces.schema import TraceRecord
from traces.store import TraceStore
from traces.tensors import ACTIVATIONS

Tensors = Literal["same", "differ", "not stored", "not compared"]
_WHAT = {
    "neuronscope": "Neuronscope's version",
    "torch": "the version of torch",
    "transformers": "the version of transformers",
    "python": "the version of Python",
    "platform": "the operating system or processor",
    "threads": "the number of threads",
    "dtype": "the data type",
    "device": "the device",
}


@dataclass(frozen=True)
class Change:
    """One thing that is not as it was when the trace was made."""

    what: str
    then: str
    now: str


@dataclass(frozen=True)
class ReplayReport:
    """Whether a trace came out the same, and if not, where and why."""

    id: str
    same: bool
    """The same ids, and the same activations and probabilities bit for bit where they are stored."""
    ids_same: bool
    activations: Tensors
    probabilities: Tensors
    first_difference: int | None
    """The first position (over prompt + answer) at which the token, or else a stored number, differs."""
    expected: str
    """What the trace has there."""
    got: str
    """What came out now."""
    changes: tuple[Change, ...]
    """What is recorded about the run and is different now."""
    reason: str
    """One sentence; "" when all is the same."""
    seconds: float


def check_model(loaded: LoadedModel, record: TraceRecord) -> None:
    """Raise `InvalidInput` where the trace belongs to a model of another shape."""
    mine, theirs = loaded.ref, record.model
    shape = ("architecture", "n_layers", "n_neurons", "n_vocab")
    if any(getattr(mine, name) != getattr(theirs, name) for name in shape):
        raise InvalidInput(
            f"trace {record.id} was made with {theirs.name} ({theirs.architecture}), not {mine.name}; load {theirs.id!r} first",
            field="model",
        )


def differences(loaded: LoadedModel, record: TraceRecord) -> tuple[Change, ...]:
    """What may explain other numbers: the weights, and every part of the environment that changed."""
    then, today = record.environment, loaded.environment()
    found = []
    if record.model.weights_hash != loaded.ref.weights_hash:
        found.append(Change("the model's weights", record.model.weights_hash[:12], loaded.ref.weights_hash[:12]))
    for name, what in _WHAT.items():
        before, after = str(getattr(then, name)), str(getattr(today, name))
        if before != after:
            found.append(Change(what, before, after))
    return tuple(found)


def rerun(
    loaded: LoadedModel, record: TraceRecord, *, forced: bool, record_activations: bool = True, progress: Progress = no_progress
) -> Generation:
    """Run the trace's prompt again with its settings and steers: freely, or `forced` along its own answer.

    A partial answer is run to the length it had.
    """
    check_model(loaded, record)
    decoder = Decoder(
        loaded,
        record.prompt_ids,
        sampling=record.sampling,
        steers=record.steers,
        record=record_activations,
        forced_ids=record.answer_ids if forced else None,
    )
    total = len(record.answer_ids) if record.partial or forced else record.sampling.max_new_tokens
    while not (record.partial and len(decoder.answer_ids) >= total):
        progress(len(decoder.answer_ids), total, f"running trace {record.id} again")
        if decoder.step() is None:
            break
    return decoder.result(record.finish_reason if forced or record.partial else None)


def recompute(
    loaded: LoadedModel, record: TraceRecord, *, store: TraceStore | None = None, progress: Progress = no_progress
) -> NDArray[Any]:
    """The activations of a trace, computed again along its own ids: (L, T, I), bit for bit those of the run on the same machine.

    With `store` they are put back there; bytes that differ from the published ones are marked as recomputed.
    """
    run = rerun(loaded, record, forced=True, progress=progress)
    if run.acts_LTI is None:
        raise NotFound(f"trace {record.id} could not be recorded again")
    if store is not None:
        store.put_activations(record.id, run.acts_LTI, torch=loaded.environment().torch, device=loaded.ref.device, dtype=loaded.ref.dtype)
    return run.acts_LTI


def activations_of(loaded: LoadedModel | None, record: TraceRecord, store: TraceStore, *, progress: Progress = no_progress) -> NDArray[Any]:
    """All activations of a trace (L, T, I): from disk, or recomputed (and put back) when they were evicted and the model is at hand.

    Raises `Evicted` when they are gone and no model is given.
    """
    if store.activation_state(record.id) == "stored" or loaded is None:
        return store.read(record.id, ACTIVATIONS)
    return recompute(loaded, record, store=store, progress=progress)


def replay(loaded: LoadedModel, record: TraceRecord, *, store: TraceStore | None = None, progress: Progress = no_progress) -> ReplayReport:
    """Run a trace again and compare: ids always; with `store` also activations and probabilities, bit for bit, where stored.

    Raises `InvalidInput` when the loaded model has another shape. `Cancelled` passes.
    """
    run = rerun(loaded, record, forced=False, progress=progress)
    before, after = record.token_ids, run.prompt_ids + run.answer_ids
    where = next((n for n, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), None)
    if where is None and len(before) != len(after):
        where = min(len(before), len(after))
    ids_same = where is None
    activations: Tensors = "not compared"
    probabilities: Tensors = "not compared"
    expected, got = (_token(before, where), _token(after, where)) if where is not None else ("", "")
    if ids_same and store is not None:
        saved = _saved(store, record)
        fresh = arrays_of(run)
        activations, at = _same(saved, fresh, (ACTIVATIONS,), axis=1)
        probabilities, small = _same(saved, fresh, ("topk_ids", "topk_probs", "rank", "logprob", "entropy"), axis=0)
        places = [place for place in (at, small) if place is not None]
        if places:
            where = min(places)
            expected, got = "the stored numbers", "other numbers for the same token"
    same = ids_same and "differ" not in (activations, probabilities)
    changes = differences(loaded, record)
    return ReplayReport(
        record.id, same, ids_same, activations, probabilities, where, expected, got, changes, _reason(same, changes), run.seconds
    )


def _reason(same: bool, changes: tuple[Change, ...]) -> str:
    if same:
        return ""
    if not changes:
        return "nothing that the trace records is different now: the processor, a library or the program itself must be"
    return "different now: " + "; ".join(f"{c.what} (was {c.then}, is {c.now})" for c in changes)


def _token(ids: tuple[int, ...], position: int) -> str:
    return f"token id {ids[position]}" if position < len(ids) else "the end of the answer"


def _saved(store: TraceStore, record: TraceRecord) -> dict[str, NDArray[Any]]:
    dataset = store.arrays(record.id)
    try:
        return {str(name): np.asarray(dataset[name].values) for name in dataset.data_vars}
    except (OSError, ValueError, RuntimeError) as error:
        raise StoreError(f"trace {record.id} is damaged ({error}); import it again or delete it") from error


def _same(
    saved: dict[str, NDArray[Any]], fresh: dict[str, NDArray[Any]], names: tuple[str, ...], *, axis: int
) -> tuple[Tensors, int | None]:
    """Whether arrays are equal bit for bit, and the first token at which one is not."""
    stored = [name for name in names if name in saved and name in fresh]
    if not stored:
        return "not stored", None
    first: int | None = None
    for name in stored:
        a, b = saved[name], fresh[name]
        if a.shape != b.shape:
            return "differ", 0
        unequal = (a != b.astype(a.dtype)).any(axis=tuple(n for n in range(a.ndim) if n != axis))
        if unequal.any():
            place = int(unequal.argmax())
            first = place if first is None else min(first, place)
    return ("same", None) if first is None else ("differ", first)


__all__ = ["Change", "ReplayReport", "activations_of", "differences", "recompute", "replay", "rerun"]
