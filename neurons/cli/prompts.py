"""`neuronscope prompts`: check files of prompts, run them as jobs, resume, and read the results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurons.cli.common import (
    Asked,
    Group,
    Json,
    Machine,
    emit,
    load,
    stderr_progress,
    table,
)
from neurons.cli.options import takes_options
from neurons.cli.prompt_files import (
    FileOptions,
    read_prompts,
)
from neurons.cli.stored import SamplingOptions, SteerOptions, following, store
from neurons.core.errors import InvalidInput, NotFound
from neurons.core.percent import percent

if TYPE_CHECKING:
    from neurons.core.progress import Progress
    from neurons.models.loaded import LoadedModel
    from neurons.prompts.runs import RunParameters
    from neurons.storage.job_files import Job
    from neurons.storage.jobs import JobRunner

_File = Annotated[str, typer.Argument(help='A TXT, CSV or JSONL file, the name of a saved set, or "-" for standard input.')]
_JobId = Annotated[str, typer.Argument(help="Id of a job, or a unique start of one.")]


def register(app: typer.Typer) -> None:
    """Add the group `prompts`."""
    group = typer.Typer(
        cls=Group, no_args_is_help=True, help="Run many prompts, each a trace; compare steered and unsteered answers over them."
    )
    group.command()(check)
    group.command()(run)
    group.command("list")(list_jobs)
    for command in (resume, show, cancel, save, sets):
        group.command()(command)
    app.add_typer(group, name="prompts")


@takes_options
def check(
    file: _File,
    files: FileOptions = FileOptions(),
    preview: Annotated[int, typer.Option(help="Rows to show.", min=0)] = 5,
    as_json: Json = False,
) -> None:
    """Read a file of prompts and say what was understood. Exit status 1 when some row cannot be used."""
    prompts, about = read_prompts(file, files, quiet=True)
    answer = {
        **about,
        "rows": len(prompts.rows),
        "errors": prompts.errors,
        "preview": [
            {"row": r.row, "id": r.id, "prompt": r.prompt, "messages": len(r.messages), "tags": r.tags, "expected": r.expected}
            for r in prompts.rows[:preview]
        ],
    }

    def human() -> str:
        facts = [f"{name}: {value}" for name, value in about.items() if value not in (None, "", []) and name != "mapping"]
        rows = [(r.row, r.id, r.prompt[:100], str(r.expected or "")[:60]) for r in prompts.rows[:preview]]
        wrong = [f"row {error.row}: {error.message}" for error in prompts.errors]
        return "\n".join(
            [
                *facts,
                f"{len(prompts.rows)} prompts, {len(wrong)} rows that cannot be used",
                table(("row", "id", "prompt", "expected"), rows),
                *wrong,
            ]
        )

    emit(answer, as_json, human)
    if prompts.errors:
        raise typer.Exit(1)


@takes_options
def run(
    file: _File,
    name: Annotated[str, typer.Option("--name", help="Name of the run; its traces are grouped under it. [default: the file's name]")] = "",
    files: FileOptions = FileOptions(),
    asked: Asked = Asked(),
    chosen: SamplingOptions = SamplingOptions(),
    steering: SteerOptions = SteerOptions(),
    no_activations: Annotated[bool, typer.Option("--no-activations", help="Keep no activations; they can be recomputed.")] = False,
    machine: Machine = Machine(),
    as_json: Json = False,
) -> None:
    """Run every prompt; with steers each prompt twice, unsteered and steered. Ctrl-C stops it, `resume` goes on.

    Exit status 1 when it did not end or a row failed.
    """
    from neurons.prompts import runs

    settings = chosen.settings()
    prompts, _ = read_prompts(file, files)
    runner = _Runner(quiet=as_json)
    steers = steering.steers(runner.model(asked.model, machine.device, machine.dtype)) if steering.check() else ()
    if chosen.penalties:
        settings = following(runner.model(asked.model, machine.device, machine.dtype), settings, penalties=True)
    job = runs.start(
        runner.jobs,
        prompts,
        runs.RunParameters(
            run=_free_run(runner, name or _run_name(file)),
            model=asked.model,
            device=machine.device,
            dtype=machine.dtype,
            sampling=settings,
            system=asked.system,
            record=not no_activations,
        ),
        steers,
    )
    _finish(runner, job.id, as_json)


def list_jobs(as_json: Json = False) -> None:
    """List the runs of prompt sets, newest first."""
    from neurons.prompts import runs

    jobs = _Runner(quiet=True).jobs.list(runs.KIND)
    rows = [(j.id, j.created.replace("T", " ").rstrip("Z"), j.title, j.state, f"{j.done}/{j.total or '?'}", j.errors) for j in jobs]
    emit({"jobs": jobs}, as_json, lambda: table(("id", "created (UTC)", "run", "state", "done", "failed"), rows))


def resume(job_id: _JobId, as_json: Json = False) -> None:
    """Go on with a run that was stopped or interrupted; finished rows are not run again, failed rows are."""
    runner = _Runner(quiet=as_json)
    job = runner.find(job_id)
    runner.jobs.resume(job.id)
    _finish(runner, job.id, as_json)


def show(job_id: _JobId, as_json: Json = False) -> None:
    """Print the answers of a run, its failed rows and its summary."""
    runner = _Runner(quiet=True)
    _report(runner.jobs, runner.find(job_id), as_json)


def cancel(job_id: _JobId, as_json: Json = False) -> None:
    """Ask a run to stop, even one that the app or another terminal works on."""
    runner = _Runner(quiet=True)
    job = runner.find(job_id)
    runner.jobs.cancel(job.id)
    emit({"job_id": job.id, "cancelled": job.active}, as_json, "asked to stop" if job.active else f"it is {job.state} already")


@takes_options
def save(
    file: _File,
    name: Annotated[str, typer.Argument(help="Name to keep the set under.")],
    files: FileOptions = FileOptions(),
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite the set of that name.")] = False,
    as_json: Json = False,
) -> None:
    """Keep a file of prompts as a named set."""
    from neurons.prompts.sets import save_set, saved_sets

    if name in saved_sets() and not replace:
        raise InvalidInput(f"there is a set {name!r} already; choose another name, or overwrite it with --replace", field="name")
    prompts, _ = read_prompts(file, files)
    save_set(name, prompts, replace=replace)
    emit({"name": name, "rows": len(prompts.rows), "errors": prompts.errors}, as_json, f"{name}: {len(prompts.rows)} prompts")


def sets(as_json: Json = False) -> None:
    """List the saved prompt sets."""
    from neurons.prompts.sets import saved_sets

    entries = saved_sets().list()
    rows = [(entry.name, len(entry.content["rows"]), entry.content.get("source", ""), entry.changed[:10]) for entry in entries]
    emit(
        {"sets": [{"name": r[0], "rows": r[1], "source": r[2], "changed": r[3]} for r in rows]},
        as_json,
        table(("name", "prompts", "source", "changed"), rows),
    )


class _Runner:
    """A job runner of this command, which loads a model at most once."""

    def __init__(self, *, quiet: bool) -> None:
        from neurons.prompts import runs
        from neurons.storage.jobs import JobRunner

        self._quiet = quiet
        self._loaded: dict[tuple[Any, ...], LoadedModel] = {}
        self.jobs = JobRunner()
        runs.register(self.jobs, self._for_run, store)

    def model(self, name: str, device: str | None, dtype: str | None) -> LoadedModel:
        key = (name, device, dtype)
        if key not in self._loaded:
            self._loaded[key] = load(name, device=device, dtype=dtype, quiet=self._quiet)
        return self._loaded[key]

    def _for_run(self, params: RunParameters, _progress: Progress) -> LoadedModel:
        return self.model(params.model, params.device, params.dtype)

    def find(self, text: str) -> Job:
        from neurons.prompts import runs

        fits = [job for job in self.jobs.list(runs.KIND) if job.id.startswith(text.strip().lower())]
        if len(fits) != 1:
            raise NotFound(f"{text!r} fits {len(fits) or 'no'} runs; `neuronscope prompts list` shows them")
        return fits[0]


def _finish(runner: _Runner, job_id: str, as_json: bool) -> None:
    """Wait with progress on stderr; Ctrl-C cancels the job and still reports what is there."""
    with stderr_progress(quiet=as_json) as progress:

        def draw(job: Job) -> None:
            left = "" if job.eta_seconds is None else f", about {_duration(job.eta_seconds)} left"
            progress(job.done, job.total, f"{job.message}{left}")

        try:
            job = runner.jobs.wait(job_id, on_change=draw)
        except KeyboardInterrupt:
            runner.jobs.cancel(job_id)
            job = runner.jobs.wait(job_id)
    if job.state != "done":
        typer.echo(f"{job.state}: {job.message}; go on with: neuronscope prompts resume {job.id}", err=True)
    _report(runner.jobs, job, as_json)
    runner.jobs.close()
    if job.state != "done" or job.errors:
        raise typer.Exit(1)


def _report(jobs: JobRunner, job: Job, as_json: bool) -> None:
    from neurons.prompts import runs

    errors = jobs.errors(job.id)
    found = runs.results(store(), str(job.params["run"]))
    counted = runs.summary(store(), str(job.params["run"]), failed=len(errors))
    rows = [{key: None if value != value else value for key, value in row.items()} for row in found.to_dict("records")]
    answer = {
        "job_id": job.id,
        "run": job.params["run"],
        "state": job.state,
        "done": job.done,
        "total": job.total,
        "seconds": job.seconds,
        "summary": counted,
        "rows": rows,
        "errors": errors,
    }

    def human() -> str:
        columns = [name for name in ("row", "prompt", "answer", "steered_answer", "differs", "trace") if name in found]
        cells = [[str(row[name])[:60] if isinstance(row[name], str) else row[name] for name in columns] for row in rows]
        lines = [table(columns, cells), *(f"row {error['row']} failed: {error['error']}" for error in errors)]
        if counted.pairs:
            changed = percent(counted.mean_changed_words or 0.0)
            lines.append(f"{counted.differ} of {counted.pairs} answers differ; on average {changed} of the words changed")
        return "\n".join([*lines, f"{counted.rows} answered, {len(errors)} failed; job {job.id} is {job.state}"])

    emit(answer, as_json, human)


def _free_run(runner: _Runner, wanted: str) -> str:
    """A name that no other run has: two runs of one name would be counted as one."""
    from neurons.prompts.runs import free_run_name

    name = free_run_name(store(), runner.jobs, wanted)
    if name != wanted.strip():
        typer.echo(f"there is a run {wanted!r} already; this one is {name!r}", err=True)
    return name


def _run_name(file: str) -> str:
    from neurons.core.clock import now

    return f"{'pasted' if file == '-' else Path(file).stem} {now()[:19].replace('T', ' ')}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
