"""`neuronscope stats`: what a steer does over a set of prompts, with intervals."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurons.cli.common import Device, Dtype, Json, Model, emit, load, stderr_progress, table
from neurons.cli.prompt_files import (
    Encoding,
    ExpectedColumn,
    FileOptions,
    Header,
    IdColumn,
    Kind,
    PromptColumn,
    Quotes,
    SystemColumn,
    Template,
    read_prompts,
)
from neurons.cli.stored import sampling
from neurons.core.errors import InvalidInput, NotFound
from neurons.storage.files import write_output

if TYPE_CHECKING:
    from neurons.statistics.criteria import Criterion
    from neurons.statistics.summary import Summary
    from neurons.storage.jobs import JobRunner


def register(app: typer.Typer) -> None:
    """Add the command `stats`."""
    app.command()(stats)


def stats(
    prompts: Annotated[str, typer.Option(help="File of prompts (txt, csv, tsv, json, yaml), or the name of a saved prompt set.")],
    steer: Annotated[Path, typer.Option(help="Steer file.")],
    contains: Annotated[
        str, typer.Option(help="Text that an answer should hold, as a word of its own. [default: what each prompt's row says is expected]")
    ] = "",
    regex: Annotated[str, typer.Option(help="Regular expression that an answer should match.")] = "",
    equals: Annotated[str, typer.Option(help="What an answer should equal; spaces around it and a final full stop are ignored.")] = "",
    token: Annotated[str, typer.Option(help="Token whose probability as the answer's first is compared, such as ' Paris'.")] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Runs per prompt, with different seeds.")] = 1,
    random_sets: Annotated[int, typer.Option(min=0, help="Draws of random neurons matched in number and layer.")] = 3,
    max_new_tokens: Annotated[int, typer.Option(help="Most tokens to generate.")] = 32,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    seed: Annotated[int, typer.Option(help="The first seed.")] = 0,
    job: Annotated[str, typer.Option(help="Go on with this stopped comparison instead of beginning one.")] = "",
    save: Annotated[str, typer.Option(help="Keep the result as an experiment of this name.")] = "",
    prompt_column: PromptColumn = None,
    template: Template = None,
    expected_column: ExpectedColumn = None,
    system_column: SystemColumn = None,
    id_column: IdColumn = None,
    kind: Kind = None,
    encoding: Encoding = None,
    header: Header = None,
    quotes: Quotes = None,
    csv_out: Annotated[Path | None, typer.Option("--csv", help="Write the pairs to this CSV file.", show_default=False)] = None,
    model: Model = "default",
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Compare a steer with no steer over many prompts: rates, differences with 95% intervals, KL, length, repetition.

    It runs as a job: stopped with Ctrl-C, it goes on with --job and the id that is printed.
    """
    from neurons.cli.stored import note_positions
    from neurons.repair.experiments import save_statistics
    from neurons.runs.steering import load_steers
    from neurons.statistics.comparison import JOB_KIND, ComparisonSpec, from_prompt_set, job_worker, spec_to_json
    from neurons.statistics.criteria import Criterion
    from neurons.statistics.summary import summarise
    from neurons.storage.jobs import JobRunner

    criteria = [Criterion(text, kind) for text, kind in ((contains, "contains"), (regex, "regex"), (equals, "equals")) if text]  # type: ignore[arg-type]
    criterion = _one(criteria)
    told = FileOptions(prompt_column, template, expected_column, system_column, id_column, None, kind, encoding, header, quotes)
    found, about = read_prompts(prompts, told)
    spec = ComparisonSpec(
        prompts=from_prompt_set(found, criterion),
        steers=load_steers(steer),
        criterion=criterion,
        token=token or None,
        seeds=seeds,
        random_sets=random_sets,
        sampling=sampling(seed, temperature, 1.0, 0, max_new_tokens),
    ).check()
    loaded = load(model, device=device, dtype=dtype, quiet=as_json)
    note_positions(load_steers(steer, ref=loaded.ref))
    params = {**spec_to_json(spec), "model": loaded.ref.weights_hash}
    runner = JobRunner()
    try:
        if job:
            _check_same(runner, job, params)
        with stderr_progress(quiet=as_json) as progress:
            runner.register(JOB_KIND, job_worker(lambda _params, _progress: loaded))
            title = f"{len(spec.prompts)} prompts, steer {steer.name}"
            started = runner.resume(job) if job else runner.start(JOB_KIND, params, title=title)
            typer.echo(f"job {started.id}", err=True)
            ended = runner.wait(started.id, on_change=lambda now: progress(now.done, now.total, now.message))
    finally:
        runner.close()
    if ended.state != "done":
        raise NotFound(f"the comparison ended early ({ended.message}); go on with --job {ended.id}")
    rows = runner.rows(ended.id)
    summary = summarise(rows)
    if csv_out is not None:
        write_output(csv_out, rows_csv(rows))
    if save:
        save_statistics(save, spec, rows, loaded.ref)
    counted = {"asked": about["asked"], "counted": about["counted"]}
    emit({"job": ended.id, **counted, **_plain(summary)}, as_json, lambda: f"{_tell(summary)}\n{about['counted']}")


def _check_same(runner: JobRunner, job: str, params: Mapping[str, Any]) -> None:
    """Raise `InvalidInput` when the job asks something else than these parameters: its rows would stand under the new question."""
    from neurons.statistics.comparison import JOB_KIND, differing

    old = runner.get(job)
    if old.kind != JOB_KIND:
        raise InvalidInput(f"job {job} is no comparison ({old.kind})", field="job")
    if other := differing(old.params, params):
        raise InvalidInput(
            f"job {job} was started with other {' and '.join(other)}; give it what it had, or leave --job out to start over", field="job"
        )


def _one(criteria: Sequence[Criterion]) -> Criterion | None:
    if len(criteria) > 1:
        raise InvalidInput("give one of --contains, --regex and --equals", field="criterion")
    return criteria[0].check("criterion") if criteria else None


def rows_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """The pairs as CSV, one per line. Cells that a spreadsheet would take for a formula begin with an apostrophe."""
    stream = io.StringIO()
    writer = csv.writer(stream)
    names = ("met", "token_probability", "kl", "length", "repetition", "answer")
    columns = [*(f"{side}_{name}" for side in ("plain", "steered") for name in names), "plain_met_text", "steered_met_text"]
    writer.writerow(["prompt_id", "seed", "prompt", "error", *columns])
    for row in rows:
        values = [row.get(side, {}).get(name) for side in ("plain", "steered") for name in names]
        values += [met_text(row.get(side, {})) for side in ("plain", "steered")]
        writer.writerow([_cell(v) for v in (row["prompt_id"], row["seed"], row["prompt"], row.get("error", ""), *values)])
    return stream.getvalue()


def met_text(facts: Mapping[str, Any]) -> str:
    """The part of an answer that met the criterion."""
    start, end = facts.get("met_at") or (0, 0)
    return str(facts.get("answer", ""))[start:end]


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value


def _plain(summary: Summary) -> dict[str, Any]:
    from neurons.cli.common import plain

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
