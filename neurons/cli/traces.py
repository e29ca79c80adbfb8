"""`neuronscope traces`: list, show, compare, replay, verify, export, import and tidy saved runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from neurons.cli.common import Device, Dtype, Group, Json, emit, load, size, stderr_progress, table
from neurons.cli.options import takes_options
from neurons.cli.stored import OtherModel, TraceId, find, run_json, store
from neurons.core.errors import InvalidInput, NotFound
from neurons.core.json_text import plain
from neurons.core.percent import percent
from neurons.core.types import ModelRef

_Ids = Annotated[list[str], typer.Argument(help='Ids of traces, unique starts of them, or "last".')]
_Second = Annotated[str, typer.Argument(help="Id of the other trace.")]


def register(app: typer.Typer) -> None:
    """Add the group `traces`."""
    group = typer.Typer(cls=Group, no_args_is_help=True, help="List, compare, replay, check, share and tidy saved runs.")
    group.command("list")(list_traces)
    commands: dict[str, Callable[..., None]] = {"show": show, "compare": compare, "replay": replay, "verify": verify, "export": export}
    commands |= {"import": import_traces, "delete": delete, "restore": restore, "purge": purge, "rename": rename, "tag": tag, "note": note}
    commands |= {"pin": pin, "unpin": unpin, "evict": evict, "usage": usage}
    for name, command in commands.items():
        group.command(name)(command)
    app.add_typer(group, name="traces")


@dataclass(frozen=True)
class Filters:
    """Which traces."""

    query: Annotated[str, typer.Argument(help="Words to find in prompt, answer, name, note, tags, model or date.", show_default=False)] = ""
    tag: Annotated[str | None, typer.Option(help="Only traces with this tag.", show_default=False)] = None
    model: Annotated[str | None, typer.Option("--model", "-m", help="Only traces of this model.", show_default=False)] = None
    run: Annotated[str | None, typer.Option("--set", help="Only traces of this run of a prompt set.", show_default=False)] = None
    since: Annotated[str | None, typer.Option(help="From this date on, such as 2026-01-31.", show_default=False)] = None
    until: Annotated[str | None, typer.Option(help="Before this date.", show_default=False)] = None
    pinned: Annotated[bool, typer.Option("--pinned", help="Only pinned traces.")] = False
    trash: Annotated[bool, typer.Option("--trash", help="What was deleted and can be restored.")] = False


@dataclass(frozen=True)
class Order:
    """Which of them come first, and how many."""

    sort: Annotated[str, typer.Option(help="created, name, prompt, model_name, answer_tokens, seconds or bytes.")] = "created"
    ascending: Annotated[bool, typer.Option("--ascending", help="Smallest or oldest first.")] = False
    limit: Annotated[int, typer.Option(help="Most rows to print.", min=1)] = 50


@takes_options
def list_traces(
    which: Filters = Filters(),
    order: Order = Order(),
    rebuild: Annotated[bool, typer.Option("--rebuild", help="First rebuild the catalogue from the folders.")] = False,
    as_json: Json = False,
) -> None:
    """List saved runs, newest first."""
    traces = store()
    if rebuild:
        traces.rebuild()
    rows = traces.list(
        which.query,
        tag=which.tag,
        model=which.model,
        set_name=which.run,
        since=which.since,
        until=which.until,
        pinned=True if which.pinned else None,
        trashed=which.trash,
        sort=order.sort,
        descending=not order.ascending,
        limit=order.limit,
    )

    def human() -> str:
        cells = [
            (r.id, r.created[:16].replace("T", " "), r.title[:50], r.answer[:50], r.answer_tokens, r.model_name, " ".join(r.tags))
            for r in rows
        ]
        return table(("id", "created (UTC)", "name", "answer", "tokens", "model", "tags"), cells)

    emit({"traces": rows}, as_json, human)


def show(trace_id: TraceId, as_json: Json = False) -> None:
    """Print everything that is known of one run, except its tensors."""
    traces, record = find(trace_id)
    row = traces.summary(record.id)
    attributions = [{"key": info.key, **vars(info)} for info in traces.attributions(record.id)]
    answer = {**run_json(record), "record": record, "activations": row.activations, "bytes": row.bytes, "attributions": attributions}

    def human() -> str:
        facts: dict[str, str] = {
            "id": record.id,
            "name": record.name,
            "created": record.created,
            "model": f"{record.model.name} ({record.model.dtype}, {record.model.device}, weights {record.model.weights_hash[:12]})",
            "prompt": record.prompt,
            "answer": record.answer,
            "ended": record.finish_reason + (f": {record.error}" if record.error else ""),
            "tokens": f"{len(record.prompt_ids)} + {len(record.answer_ids)}",
            "settings": f"temperature {record.sampling.temperature:g}{' (greedy)' if record.sampling.greedy else ''}, "
            f"top-p {record.sampling.top_p:g}, top-k {record.sampling.top_k}, "
            f"seed {record.sampling.seed}, at most {record.sampling.max_new_tokens} tokens",
            "steers": "; ".join(
                f"{s.name or 'steer'}: {s.size} neurons, {s.mode} {s.strength:g}, tokens {s.tokens}" for s in record.steers
            ),
            "baseline": record.baseline_id or "",
            "set": f"{record.set_name}, row {record.set_row}" if record.set_name else "",
            "tags": ", ".join(record.tags),
            "note": record.note,
            "activations": f"{row.activations}, {size(row.bytes)} on disk",
            "attributions": ", ".join(item["key"] for item in attributions),
        }
        return "\n".join(f"{name:12} {value}" for name, value in facts.items() if value != "")

    emit(answer, as_json, human)


def compare(
    first: TraceId,
    second: _Second,
    top: Annotated[int, typer.Option("--top", "-k", help="Neurons that differ most to print.", min=0)] = 20,
    as_json: Json = False,
) -> None:
    """Compare two runs: words, probabilities, the first token that differs, the neurons that differ most."""
    from neurons.descriptions.known import known_headlines
    from traces.compare import compare_traces

    traces = store()
    with stderr_progress(quiet=as_json) as progress:
        found = compare_traces(traces, traces.resolve(first), traces.resolve(second), top=top, progress=progress)
    headlines = known_headlines(traces.load(traces.resolve(first)).model)

    def human() -> str:
        same = "the same" if found.same_ids else f"different from token {found.divergence.position}" if found.divergence else "different"
        words = "".join(op.a if op.tag == "equal" else f"[-{op.a}-]" * bool(op.a) + f"{{+{op.b}+}}" * bool(op.b) for op in found.words)
        names = [f"{n.layer}:{n.index}{'-' if n.a_activation < 0 else '+'}" for n in found.neurons]
        rows = [
            (name, headlines.get(name, ""), n.mean_abs, n.max_abs, n.token, n.a_activation, n.b_activation)
            for name, n in zip(names, found.neurons, strict=True)
        ]
        neurons = (
            table(("neuron", "headline", "mean difference", "largest", "at", "first", "second"), rows) if rows else found.neurons_missing
        )
        changed = f"{percent(found.changed_words)} of the words changed"
        return f"ids: {same}; {changed}\n{words}\n\nover {found.shared_tokens} shared tokens:\n{neurons}"

    emit(found, as_json, human)


def replay(
    trace_id: TraceId,
    model: OtherModel = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Put recomputed activations back where they were removed to save disk space.")
    ] = False,
    times: Annotated[int, typer.Option(help="Replay this many times; reports the first run that differs.", min=1, max=10_000)] = 1,
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Run a trace again: the same ids and bits? Exit status 1 when not, with where and why."""
    from neurons.tracing import replay as replaying

    traces, record = find(trace_id)
    loaded = load(model or record.model.id, device=device or _device(record.model), dtype=dtype or _dtype(record.model), quiet=as_json)
    with stderr_progress(quiet=as_json) as progress:
        reports = [replaying.replay(loaded, record, store=traces, progress=progress) for _ in range(times)]
        report = next((one for one in reports if not one.same), reports[0])
        same = sum(one.same for one in reports)
        if keep and traces.activation_state(record.id) != "stored":
            replaying.recompute(loaded, record, store=traces, progress=progress)

    def human() -> str:
        if report.same:
            often = f"{same} of {times} times " if times > 1 else ""
            return f"trace {record.id}: {often}the same {len(record.answer_ids)} tokens; activations {report.activations}"
        where = f"at token {report.first_difference}: expected {report.expected}, got {report.got}"
        return f"trace {record.id} differs {where}\n{report.reason}"

    emit({**plain(report), "times": times, "same_times": same}, as_json, human)
    if not report.same:
        raise typer.Exit(1)


def verify(
    ids: Annotated[list[str] | None, typer.Argument(help="Ids of traces; none checks all.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Check every byte of traces against their checksums. Exit status 1 when one is damaged."""
    traces = store()
    chosen = [traces.resolve(text) for text in ids] if ids else [row.id for row in traces.list()]
    reports = []
    with stderr_progress(quiet=as_json) as progress:
        for number, trace_id in enumerate(chosen):
            progress(number, len(chosen), "checking")
            reports.append(traces.verify(trace_id))
    bad = [report for report in reports if not report.ok]

    def human() -> str:
        return "\n".join(
            [f"{len(reports) - len(bad)} of {len(reports)} traces are whole", *(f"{r.id}: {p}" for r in bad for p in r.problems)]
        )

    emit({"ok": not bad, "traces": reports}, as_json, human)
    if bad:
        raise typer.Exit(1)


def export(
    ids: _Ids,
    output: Annotated[Path, typer.Option("--output", "-o", help="Zip file to write.")] = Path("traces.zip"),
    no_activations: Annotated[bool, typer.Option("--no-activations", help="Leave activations out: small, they can be recomputed.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file where it exists.")] = False,
    as_json: Json = False,
) -> None:
    """Write traces to a zip file that others can import."""
    from traces.exchange import export_zip

    if output.exists() and not force:
        raise InvalidInput(f"{output} exists; choose another name, or add --force", field="output")
    traces = store()
    chosen = [traces.resolve(text) for text in ids]
    with stderr_progress(quiet=as_json) as progress:
        count = export_zip(traces, chosen, output, with_activations=not no_activations, progress=progress)
    written = output.stat().st_size
    answer = {"path": str(output), "traces": list(dict.fromkeys(chosen)), "files": count, "bytes": written}
    emit(answer, as_json, f"{len(chosen)} traces in {output} ({size(written)})")


def import_traces(file: Annotated[Path, typer.Argument(help="A zip file made by export.")], as_json: Json = False) -> None:
    """Bring in traces from a zip file, after checking all of it. Nothing comes in when anything is wrong."""
    from traces.exchange import import_zip

    if not file.is_file():
        raise InvalidInput(f"there is no file {file}", field="file")
    with stderr_progress(quiet=as_json) as progress:
        found = import_zip(store(), file, progress=progress)
    emit({"traces": found}, as_json, lambda: table(("id", "name", "id in the file"), [(i.id, i.title, i.original_id) for i in found]))


def delete(ids: _Ids, as_json: Json = False) -> None:
    """Move traces to the trash, from which `restore` brings them back."""
    traces = store()
    chosen = list(dict.fromkeys(traces.resolve(text) for text in ids))
    for trace_id in chosen:
        traces.delete(trace_id)
    emit({"deleted": chosen}, as_json, f"in the trash: {', '.join(chosen)} (undo: neuronscope traces restore {' '.join(chosen)})")


def restore(ids: Annotated[list[str], typer.Argument(help="Ids of deleted traces, or starts of them.")], as_json: Json = False) -> None:
    """Bring deleted traces back."""
    traces = store()
    trashed = [row.id for row in traces.list(trashed=True)]
    chosen = []
    for text in ids:
        fits = [trace_id for trace_id in trashed if trace_id.startswith(text.strip().lower())]
        if len(fits) != 1:
            raise NotFound(f"{text!r} fits {len(fits) or 'no'} deleted traces; `neuronscope traces list --trash` shows them")
        chosen.append(traces.restore(fits[0]).id)
    emit({"restored": chosen}, as_json, f"restored: {', '.join(chosen)}")


def purge(
    yes: Annotated[bool, typer.Option("--yes", help="Confirm: what is in the trash is removed for good.")] = False, as_json: Json = False
) -> None:
    """Remove everything in the trash for good."""
    traces = store()
    if not yes:
        raise InvalidInput(f"{len(traces.list(trashed=True))} traces would be removed for good; add --yes", field="yes")
    count = traces.purge()
    emit({"purged": count}, as_json, f"{count} traces removed for good")


def rename(trace_id: TraceId, name: Annotated[str, typer.Argument(help="The new name.")], as_json: Json = False) -> None:
    """Give a trace a name."""
    _changed(trace_id, as_json, name=name)


def tag(
    trace_id: TraceId,
    tags: Annotated[list[str] | None, typer.Argument(help="The tags to add.", show_default=False)] = None,
    remove: Annotated[list[str] | None, typer.Option(help="A tag to remove; may be given several times.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Add tags to a trace, or take some off."""
    _, record = find(trace_id)
    kept = tuple(text for text in (*record.tags, *(tags or ())) if text not in (remove or ()))
    _changed(trace_id, as_json, tags=kept)


def note(trace_id: TraceId, text: Annotated[str, typer.Argument(help="The note; it replaces the old one.")], as_json: Json = False) -> None:
    """Write a note on a trace."""
    _changed(trace_id, as_json, note=text)


def pin(trace_id: TraceId, as_json: Json = False) -> None:
    """Pin a trace: its activations are never removed to save disk space."""
    _changed(trace_id, as_json, pinned=True)


def unpin(trace_id: TraceId, as_json: Json = False) -> None:
    """Unpin a trace."""
    _changed(trace_id, as_json, pinned=False)


def evict(
    ids: _Ids,
    pinned: Annotated[bool, typer.Option("--pinned", help="Those of pinned traces too, which keep them otherwise.")] = False,
    as_json: Json = False,
) -> None:
    """Remove the activations of traces to save disk space; the runs stay and `replay --keep` computes them again."""
    traces = store()
    chosen = list(dict.fromkeys(traces.resolve(text) for text in ids))
    if kept := [trace_id for trace_id in chosen if not pinned and traces.load(trace_id).pinned]:
        raise InvalidInput(f"pinned, so nothing was removed: {', '.join(kept)}; unpin them, leave them out or add --pinned", field="pinned")
    freed = sum(traces.evict(trace_id, pinned=pinned) for trace_id in chosen)
    emit({"freed_bytes": freed}, as_json, f"freed {size(freed)}")


def usage(
    budget: Annotated[float | None, typer.Option(help="Set the disk budget for activations, in GB.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Print how much disk the traces take, and set the budget for their activations."""
    traces = store()
    if budget is not None:
        if not 0 <= budget <= 1_000_000:
            raise InvalidInput(f"the budget is {budget} GB; use 0 or more", field="budget")
        traces.set_budget(int(budget * 1e9))
    found = traces.usage()
    text = f"{found.traces} traces, {size(found.bytes)}; activations {size(found.activation_bytes)} of at most {size(found.budget_bytes)}"
    emit(found, as_json, text)


def _changed(text: str, as_json: bool, **changes: Any) -> None:
    traces, record = find(text)
    record = traces.update(record.id, **changes)
    answer = {"trace_id": record.id, "name": record.name, "tags": record.tags, "note": record.note, "pinned": record.pinned}
    emit(
        answer,
        as_json,
        f"trace {record.id}: {record.name or '(no name)'}{' [pinned]' if record.pinned else ''} {' '.join(record.tags)}".rstrip(),
    )


def _device(model: ModelRef) -> str | None:
    """The device the trace was made on, where this machine has it."""
    import torch

    return model.device if model.device == "cpu" or torch.cuda.is_available() else None


def _dtype(model: ModelRef) -> str | None:
    return model.dtype if model.dtype in ("float32", "bfloat16", "float16") else None
