"""A prompt set run as a background job: each prompt a trace (with steers: a pair), failures listed by row, resumable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict

from neurons.core.boundary import checked
from neurons.core.errors import Cancelled, InvalidInput, NeuronscopeError, NotFound
from neurons.core.names import free_name
from neurons.core.progress import Progress
from neurons.core.steers import Steer
from neurons.core.types import Sampling
from neurons.models.loaded import LoadedModel
from neurons.prompts.sets import PromptRow, PromptSet, from_json, to_json
from neurons.runs.steering import parse_steers, steer_to_json
from neurons.storage.job_files import Job
from neurons.storage.job_parameters import JobParameters
from neurons.storage.jobs import JobContext, JobRunner
from neurons.tracing.record import RunOptions, as_messages, resolved, run_pair, run_trace
from traces.compare import changed_share, word_diff
from traces.schema import MAX_NAME
from traces.store import TraceStore

KIND = "prompts"


class RunParameters(JobParameters):
    """What a job of kind `KIND` is started with."""

    run: str
    """The name of the group of traces."""
    model: str = "default"
    """The model's name, as it was asked for."""
    weights: str = ""
    """The hash of its weights, where it was known: the run is not gone on with under others."""
    device: str | None = None
    dtype: str | None = None
    sampling: Sampling = Sampling()
    steers: tuple[Any, ...] = ()
    """As `parse_steers` reads them."""
    system: str | None = None
    """Goes before every prompt that has no system prompt of its own."""
    record: bool = True
    """Whether the activations are kept."""

    @property
    def weights_hash(self) -> str:
        return self.weights


LoadModel = Callable[[RunParameters, Progress], LoadedModel]
"""Gives the model for a run's parameters; the app hands out its shared one."""


@dataclass(frozen=True)
class SetSummary:
    """What came of a set that was run."""

    run: str
    """The name under which its traces are grouped."""
    rows: int
    """Prompts that were answered."""
    failed: int
    partial: int
    """Answers that were cut off by the token limit."""
    pairs: int
    """Rows with a steered answer beside the unsteered one."""
    differ: int
    """Pairs whose answers differ."""
    differ_rate: float | None
    """differ / pairs; None without pairs."""
    mean_changed_words: float | None
    """Mean share of changed words over the pairs, 0 to 1."""


def register(runner: JobRunner, load_model: LoadModel, store: Callable[[], TraceStore]) -> None:
    """Teach a runner to run prompt sets."""
    runner.register(KIND, lambda context: _work(context, load_model, store()))


def start(
    runner: JobRunner,
    prompts: PromptSet,
    params: RunParameters,
    steers: Sequence[Steer] = (),
) -> Job:
    """Queue a run, with `steers` in the place of those in `params`. Raises `InvalidInput` for an empty set, a bad name or bad settings."""
    if not prompts.rows:
        raise InvalidInput("the set has no prompt that can be run", field="prompts")
    run = params.run.strip()
    if not 0 < len(run) <= MAX_NAME:
        raise InvalidInput(f"name the run, with 1 to {MAX_NAME} characters", field="run")
    checked_steers = tuple(steer_to_json(steer.check()) for steer in steers)
    whole = params.model_copy(update={"run": run, "sampling": params.sampling.check(), "steers": checked_steers})
    return runner.start(KIND, whole.to_json(), title=f"{run} ({len(prompts.rows)} prompts)", payload=to_json(prompts))


class Answered(BaseModel):
    """What became of one prompt, as the job keeps it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    row: int
    """Its place in the file."""
    trace: str | None = None
    steered: str | None = None
    """The steered run's trace, where there are steers."""
    same: bool | None = None
    """Whether both answers have the same tokens."""
    error: str | None = None


def _finished(context: JobContext) -> tuple[Answered, ...]:
    """The rows that are done."""
    return checked(tuple[Answered, ...], context.rows, what="the rows of a run")


def _work(context: JobContext, load_model: LoadModel, store: TraceStore) -> dict[str, Any]:
    params = context.parameters(RunParameters)
    prompts = from_json(context.payload())
    total = len(prompts.rows)
    finished = {row.row for row in _finished(context)}
    context.progress(len(finished), total, "loading the model")

    def report(done: int, total: int | None, message: str) -> None:
        context.check()

    loaded = load_model(params, report)
    loaded.require(params.weights or _weights_of(context, store), f"the run {params.run!r}")
    steers = resolved(loaded, parse_steers(list(params.steers)), progress=report)
    for error in prompts.errors:
        context.add_row({"row": error.row, "error": error.message})
    done = len(finished)
    for row in prompts.rows:
        if row.row in finished:
            continue
        context.progress(done, total, f"prompt {done + 1} of {total}")
        context.add_row(_one(context, params, loaded, store, row, steers).model_dump(exclude_none=True))
        done += 1
    context.progress(total, total, "finished")
    return asdict(summary(store, params.run, failed=context.job.errors))


def _weights_of(context: JobContext, store: TraceStore) -> str:
    """The hash of the weights that the run's first finished prompt was answered with; "" before there is one."""
    for row in _finished(context):
        if row.trace:
            with suppress(NotFound):  # that trace may have been deleted since
                return store.load(row.trace).model.weights_hash
    return ""


def _one(
    context: JobContext, params: RunParameters, loaded: LoadedModel, store: TraceStore, row: PromptRow, steers: tuple[Steer, ...]
) -> Answered:
    """Run one prompt; what goes wrong with it becomes its row's error."""
    own_system = any(message.role == "system" for message in row.messages)
    messages = as_messages(row.messages, system=None if own_system else params.system)
    options = RunOptions(row.id, row.tags, set_name=params.run, set_row=row.row, record=params.record, keep_partial=False)
    common: dict[str, Any] = {"sampling": params.sampling, "store": store, "options": options}
    try:
        if not params.steers:
            record, _ = run_trace(loaded, messages, on_token=lambda token: context.check(), **common)
            return Answered(row=row.row, trace=record.id)
        pair = run_pair(loaded, messages, steers, on_token=lambda side, token: context.check(), **common)
        return Answered(row=row.row, trace=pair.baseline.id, steered=pair.steered.id, same=pair.same)
    except Cancelled:
        raise
    except NeuronscopeError as error:
        return Answered(row=row.row, error=str(error))


def results(store: TraceStore, run: str) -> pd.DataFrame:
    """One row per prompt of a run: row, name, prompt, answer, trace; for pairs also steered_answer, steered, differs, changed_words."""
    found = store.list(set_name=run, sort="created", descending=False)
    steered = {item.baseline_id: item for item in found if item.baseline_id}
    rows = []
    for item in sorted((item for item in found if not item.baseline_id), key=lambda item: item.set_row or 0):
        base = store.load(item.id)
        entry: dict[str, Any] = {
            "row": item.set_row,
            "name": base.name.removesuffix(" (baseline)"),
            "prompt": base.prompt,
            "answer": base.answer,
            "ended": base.finish_reason,
            "trace": base.id,
        }
        other = steered.get(item.id)
        if other is not None:
            changed = store.load(other.id)
            words = word_diff(base.answer, changed.answer)
            entry |= {
                "steered_answer": changed.answer,
                "steered_ended": changed.finish_reason,
                "steered": changed.id,
                "differs": base.answer_ids != changed.answer_ids,
                "changed_words": changed_share(words),
            }
        rows.append(entry)
    columns = ["row", "name", "prompt", "answer", "ended", "trace"]
    paired = ["steered_answer", "steered_ended", "steered", "differs", "changed_words"]
    return pd.DataFrame(rows, columns=columns + (paired if steered else []))


def summary(store: TraceStore, run: str, *, failed: int = 0) -> SetSummary:
    """Count what came of a run."""
    table = results(store, run)
    pairs = int(table["steered"].notna().sum()) if "steered" in table else 0
    differ = int((table["differs"] == True).sum()) if pairs else 0  # noqa: E712  # missing pairs are neither True nor False
    return SetSummary(
        run=run,
        rows=len(table),
        failed=failed,
        partial=int((table["ended"] == "length").sum()),
        pairs=pairs,
        differ=differ,
        differ_rate=differ / pairs if pairs else None,
        mean_changed_words=float(table["changed_words"].mean()) if pairs else None,
    )


def run_names(store: TraceStore) -> tuple[str, ...]:
    """The names of all runs that have traces."""
    store.sync()
    return store.catalogue.distinct("set_name")


def free_run_name(store: TraceStore, runner: JobRunner, wanted: str) -> str:
    """`wanted`, or `wanted 2`, `wanted 3`... whichever no run with traces (deleted ones too) and no job has."""
    store.sync()
    jobs = {str(job.params.get("run")) for job in runner.list(KIND)}
    return free_name(wanted.strip(), jobs | set(store.catalogue.distinct("set_name", trash=True)))
