"""`neuronscope repair`: find the smallest steer that fixes a wrong answer, and say what it is worth."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neurons.cli.common import FAILED, Json, Loading, emit, stderr_progress, table
from neurons.cli.options import takes_options
from neurons.core.errors import Cancelled
from neurons.storage.files import write_output

if TYPE_CHECKING:
    from neurons.repair.result import RepairResult

_BUDGET = 4000


def register(app: typer.Typer) -> None:
    """Add the command `repair`."""
    app.command()(repair)


@dataclass(frozen=True)
class Kept:
    """Where the result stays."""

    save: Annotated[str, typer.Option(help="Keep the result as an experiment of this name.")] = ""
    steer_out: Annotated[Path | None, typer.Option(help="Write the steer to this file.", show_default=False)] = None
    report: Annotated[Path | None, typer.Option(help="Write a report page (HTML) to this file.", show_default=False)] = None
    script: Annotated[
        Path | None, typer.Option(help="Write a Python script that needs only transformers to this file.", show_default=False)
    ] = None


@takes_options
def repair(
    spec: Annotated[Path, typer.Argument(help="JSON file: prompt, wanted, and unwanted, paraphrases, controls where you have them.")],
    budget: Annotated[int, typer.Option(min=1, help="Most forward passes that the search may take.")] = _BUDGET,
    loading: Loading = Loading(),
    compare: Annotated[bool, typer.Option("--compare/--no-compare", help="Also measure random neurons and simple baselines.")] = True,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over, even if an earlier search of the same repair was stopped.")] = False,
    kept: Kept = Kept(),
    as_json: Json = False,
) -> None:
    """Find the smallest steer that turns a wrong answer into the wanted one.

    Part of the paraphrases is held out from the search; the result says how many of them are fixed. Exit status 1: no fix found.
    """
    from neurons.descriptions.known import known_headlines
    from neurons.repair.experiments import save_repair
    from neurons.repair.export import python_script, report_html, steer_file
    from neurons.repair.repair import repair as find
    from neurons.repair.result import result_to_json
    from neurons.repair.spec import load_spec

    wish, _ = load_spec(spec)
    loaded = loading.load(quiet=as_json)
    about = known_headlines(loaded.ref) if kept.report is not None else {}  # before the search: a damaged atlas is told now
    with stderr_progress(quiet=as_json) as progress:
        result = find(loaded, wish, budget=budget, compare=compare, resume=not fresh, progress=progress)
    if kept.save:
        save_repair(kept.save, result)
    for path, text in (
        (kept.steer_out, partial(steer_file, result.steers, result.model)),
        (kept.report, partial(report_html, result, about_neurons=about)),
        (kept.script, partial(python_script, loaded, wish, result.steers)),
    ):
        if path is not None:
            write_output(path, text())
    emit(result_to_json(result), as_json, lambda: _tell(result))
    if result.stopped == "cancelled":
        raise Cancelled("stopped; run the same command again to go on")
    if not result.found:
        raise typer.Exit(FAILED)


def _tell(result: RepairResult) -> str:
    """The result for a reader."""
    from neurons.repair.steers import acts_on, told

    lines = [result.message, f"unsteered: {result.unsteered.strip()}"]
    if result.verdict is not None:
        lines.append(f"steered:   {result.verdict.answers[0].steered.strip()}")
    lines += [f"  {side.layer}:{side.index} {what}" for s in result.steers for side, what in told(s)]
    lines.append(f"acts {acts_on(result.steers, result.spec.tokens)}")
    rows = []
    if result.verdict is not None:
        v = result.verdict
        rows.append(
            (
                "this fix",
                result.neurons,
                _of(v.train.count, v.train.total),
                _of(v.heldout.count, v.heldout.total),
                _of(v.controls.count, v.controls.total),
                v.kl,
            )
        )
    for b in (*result.baselines, *result.random):
        v = b.verdict
        rows.append(
            (
                b.name,
                b.neurons,
                _of(v.train.count, v.train.total),
                _of(v.heldout.count, v.heldout.total),
                _of(v.controls.count, v.controls.total),
                v.kl,
            )
        )
    if rows:
        lines += ["", table(("steer", "neurons", "train fixed", "held-out fixed", "controls unchanged", "KL"), rows)]
    lines.append(f"{result.forward_passes} forward passes, {result.seconds:.0f} s")
    return "\n".join(lines)


def _of(count: int, total: int) -> str:
    return f"{count} of {total}"
