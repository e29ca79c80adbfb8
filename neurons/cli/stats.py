"""`neuronscope stats`: what a steer does over a set of prompts, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurons.cli.common import Json, Loading, emit, stderr_progress, table
from neurons.cli.options import leaving_out, takes_options
from neurons.cli.prompt_files import FileOptions, read_prompts
from neurons.cli.stored import Penalties, SamplingOptions
from neurons.core.errors import InvalidInput, NotFound
from neurons.storage.files import write_output

if TYPE_CHECKING:
    from neurons.core.types import Sampling
    from neurons.models.loaded import LoadedModel
    from neurons.statistics.comparison import ComparisonSpec
    from neurons.statistics.criteria import Criterion
    from neurons.statistics.criteria import Kind as CriterionKind
    from neurons.statistics.rows import Row
    from neurons.statistics.summary import Summary
    from neurons.storage.jobs import JobRunner


def register(app: typer.Typer) -> None:
    """Add the command `stats`."""
    app.command()(stats)


@dataclass(frozen=True)
class CriterionOptions:
    """What an answer should be, and which first token is followed."""

    contains: Annotated[
        str, typer.Option(help="Text that an answer should hold, as a word of its own. [default: what each prompt's row says is expected]")
    ] = ""
    regex: Annotated[str, typer.Option(help="Regular expression that an answer should match.")] = ""
    equals: Annotated[str, typer.Option(help="What an answer should equal; spaces around it and a final full stop are ignored.")] = ""
    token: Annotated[str, typer.Option(help="Token whose probability as the answer's first is compared, such as ' Paris'.")] = ""

    def criterion(self) -> Criterion | None:
        """The one criterion that is given, or None. Raises `InvalidInput` for several."""
        from neurons.statistics.criteria import Criterion

        given: tuple[tuple[str, CriterionKind], ...] = ((self.contains, "contains"), (self.regex, "regex"), (self.equals, "equals"))
        found = [Criterion(text, kind) for text, kind in given if text]
        if len(found) > 1:
            raise InvalidInput("give one of --contains, --regex and --equals", field="criterion")
        return found[0].check("criterion") if found else None


@dataclass(frozen=True)
class RunOptions:
    """How often and how each prompt is answered."""

    seeds: Annotated[int, typer.Option(min=1, help="Runs per prompt, with different seeds.")] = 1
    random_sets: Annotated[int, typer.Option(min=0, help="Draws of random neurons matched in number and layer.")] = 3
    max_new_tokens: Annotated[int, typer.Option(help="Most tokens to generate.")] = 32
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0
    seed: Annotated[int, typer.Option(help="The first seed.")] = 0
    penalties: Penalties = False

    def settings(self) -> Sampling:
        """The settings, checked. Raises `InvalidInput`."""
        return SamplingOptions(self.seed, self.temperature, max_new_tokens=self.max_new_tokens).settings()


@dataclass(frozen=True)
class Kept:
    """Where a comparison comes from and stays."""

    job: Annotated[str, typer.Option(help="Go on with this stopped comparison instead of beginning one.")] = ""
    save: Annotated[str, typer.Option(help="Keep the result as an experiment of this name.")] = ""


@takes_options
def stats(
    prompts: Annotated[str, typer.Option(help="File of prompts (txt, csv, tsv, json, yaml), or the name of a saved prompt set.")],
    steer: Annotated[Path, typer.Option(help="Steer file.")],
    wanted: CriterionOptions = CriterionOptions(),
    runs: RunOptions = RunOptions(),
    kept: Kept = Kept(),
    files: Annotated[FileOptions, leaving_out("tags_column")] = FileOptions(),
    csv_out: Annotated[Path | None, typer.Option("--csv", help="Write the pairs to this CSV file.", show_default=False)] = None,
    loading: Loading = Loading(),
    as_json: Json = False,
) -> None:
    """Compare a steer with no steer over many prompts: rates, differences with 95% intervals, KL, length, repetition.

    It runs as a job: stopped with Ctrl-C, it goes on with --job and the id that is printed.
    """
    from neurons.cli.stored import following, note_positions
    from neurons.repair.experiments import save_statistics
    from neurons.runs.steering import load_steers
    from neurons.statistics.comparison import ComparisonSpec, from_prompt_set
    from neurons.statistics.rows import read_rows
    from neurons.statistics.summary import summarise

    criterion = wanted.criterion()
    found, _ = read_prompts(prompts, files)
    spec = ComparisonSpec(
        prompts=from_prompt_set(found, criterion),
        steers=load_steers(steer),
        criterion=criterion,
        token=wanted.token or None,
        seeds=runs.seeds,
        random_sets=runs.random_sets,
        sampling=runs.settings(),
    ).check()
    loaded = loading.load(quiet=as_json)
    spec = replace(spec, sampling=following(loaded, spec.sampling, penalties=runs.penalties))
    note_positions(load_steers(steer, ref=loaded.ref))
    job, answered = _run(spec, loaded, kept.job, title=f"{len(spec.prompts)} prompts, steer {steer.name}", quiet=as_json)
    rows = read_rows(answered)
    summary = summarise(rows)
    if csv_out is not None:
        write_output(csv_out, rows_csv(rows))
    if kept.save:
        save_statistics(kept.save, spec, answered, loaded.ref)
    counted = {"asked": found.asked, "counted": found.account}
    emit({"job": job, **counted, **_plain(summary)}, as_json, lambda: f"{_tell(summary)}\n{found.account}")


def _run(spec: ComparisonSpec, loaded: LoadedModel, job: str, *, title: str, quiet: bool) -> tuple[str, tuple[dict[str, Any], ...]]:
    """Run a comparison as a job, or go on with `job`. Its id and its rows. Raises `NotFound` where it ended early."""
    from neurons.statistics.job import JOB_KIND, job_worker, spec_to_json
    from neurons.storage.jobs import JobRunner

    params = {**spec_to_json(spec), "model": loaded.ref.weights_hash, "precision": loaded.ref.dtype}
    runner = JobRunner()
    try:
        if job:
            _check_same(runner, job, params)
        with stderr_progress(quiet=quiet) as progress:
            runner.register(JOB_KIND, job_worker(lambda _params, _progress: loaded))
            started = runner.resume(job) if job else runner.start(JOB_KIND, params, title=title)
            typer.echo(f"job {started.id}", err=True)
            ended = runner.wait(started.id, on_change=lambda now: progress(now.done, now.total, now.message))
    finally:
        runner.close()
    if ended.state != "done":
        raise NotFound(f"the comparison ended early ({ended.message}); go on with --job {ended.id}")
    return ended.id, runner.rows(ended.id)


def _check_same(runner: JobRunner, job: str, params: Mapping[str, Any]) -> None:
    """Raise `InvalidInput` when the job asks something else than these parameters: its rows would stand under the new question."""
    from neurons.statistics.job import JOB_KIND, differing

    old = runner.get(job)
    if old.kind != JOB_KIND:
        raise InvalidInput(f"job {job} is no comparison ({old.kind})", field="job")
    if other := differing(old.params, params):
        raise InvalidInput(
            f"job {job} was started with other {' and '.join(other)}; give it what it had, or leave --job out to start over", field="job"
        )


def rows_csv(rows: Sequence[Row]) -> str:
    """The pairs as CSV, one per line."""
    from neurons.storage.table_files import csv_text

    names = ("met", "token_probability", "kl", "length", "repetition", "answer")
    about, sides = ("prompt_id", "seed", "prompt", "error"), ("plain", "steered")
    columns = [*about, *(f"{side}_{name}" for side in sides for name in names), *(f"{side}_met_text" for side in sides)]
    flat = []
    for row in rows:
        values: dict[str, Any] = {name: getattr(row, name) for name in about}
        for side in sides:
            facts = getattr(row, side)
            values |= {f"{side}_{name}": getattr(facts, name, None) for name in names}
            values[f"{side}_met_text"] = getattr(facts, "met_text", "")
        flat.append(values)
    return csv_text(flat, columns)


def _plain(summary: Summary) -> dict[str, Any]:
    from neurons.core.json_text import plain

    values: dict[str, Any] = plain(summary)
    return values


def _tell(summary: Summary) -> str:
    """The summary for a reader."""
    rows = []
    for prefix, figures in (("", summary.figures), ("random: ", summary.random)):
        for f in figures:
            d = f.difference
            rows.append((prefix + f.name, f.plain, f.steered, d.value, d.low, d.high, d.p_value))
    shown = table(("figure", "unsteered", "steered", "difference", "95% from", "to", "exact p"), rows)
    failed = f"\n{summary.failed} rows failed" if summary.failed else ""
    chance = "" if summary.random_kl is None else f" (random neurons: {summary.random_kl:.4g})"
    pairs = f"{summary.pairs} pairs of {summary.prompts} different prompts; KL {summary.kl:.4g} nats per token{chance}{failed}"
    return f"{summary.message}\n\n{shown}\n\n{pairs}"
