"""`neuronscope trace | activations | compare | sweep`: run a prompt, look at its neurons, run it steered."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurons.cli.common import (
    Asked,
    Json,
    Machine,
    emit,
    load,
    stderr_progress,
    table,
)
from neurons.cli.options import takes_options
from neurons.cli.stored import (
    OtherModel,
    PromptText,
    SamplingOptions,
    SteerOptions,
    Tags,
    TraceId,
    find,
    following,
    read_prompt,
    run_json,
    store,
)
from neurons.core.errors import InvalidInput
from neurons.core.percent import percent, percentile
from neurons.core.progress import Progress
from neurons.core.steers import parse_ranges
from neurons.core.types import Polarity

if TYPE_CHECKING:
    from neurons.tracing.record import Pair
    from traces.compare import TraceComparison
    from traces.schema import TraceRecord
    from traces.store import TraceStore

NoActivations = Annotated[bool, typer.Option("--no-activations", help="Keep no activations; they can be recomputed.")]


@dataclass(frozen=True)
class Named:
    """What a trace is found by again."""

    name: Annotated[str, typer.Option(help="Name of the trace.", show_default=False)] = ""
    tag: Tags = None


@dataclass(frozen=True)
class Followed:
    """What a sweep looks at, at each strength."""

    token: Annotated[str | None, typer.Option(help="Token to follow, as text or id. [default: the unsteered answer's]")] = None
    offset: Annotated[int, typer.Option(help="Which token of the answer to look at, from 0.", min=0)] = 0
    no_answers: Annotated[bool, typer.Option("--no-answers", help="Only probabilities: faster.")] = False


def register(app: typer.Typer) -> None:
    """Add the four commands."""
    app.command()(trace)
    app.command()(activations)
    app.command()(compare)
    app.command()(sweep)


@takes_options
def trace(
    prompt: PromptText,
    asked: Asked = Asked(),
    chosen: SamplingOptions = SamplingOptions(),
    steering: SteerOptions = SteerOptions(),
    named: Named = Named(),
    no_activations: NoActivations = False,
    machine: Machine = Machine(),
    as_json: Json = False,
) -> None:
    """Ask a model something, record everything, and save it as a trace. Ctrl-C keeps the answer so far."""
    from neurons.tracing.record import RunOptions, as_messages, run_trace

    settings = chosen.settings()
    text = read_prompt(prompt)
    steering.check()
    loaded = load(asked.model, device=machine.device, dtype=machine.dtype, quiet=as_json)
    steers = steering.steers(loaded)
    settings = following(loaded, settings, penalties=chosen.penalties)
    with stderr_progress(quiet=as_json) as progress:
        record, _ = run_trace(
            loaded,
            as_messages(text, system=asked.system),
            sampling=settings,
            steers=steers,
            store=store(),
            options=RunOptions(named.name, named.tag or (), record=not no_activations),
            on_token=_counter(progress, settings.max_new_tokens),
            progress=progress,
        )
    emit(run_json(record), as_json, lambda: _human(record))
    if record.finish_reason == "cancelled":
        raise typer.Exit(1)


def activations(
    trace_id: TraceId,
    tokens: Annotated[str | None, typer.Option("--tokens", help="Positions, such as 3:9,12. [default: all but the first]")] = None,
    top: Annotated[int, typer.Option("--top", "-k", help="Rows to print.", min=1, max=1_000_000)] = 20,
    threshold: Annotated[float, typer.Option(help="Keep neurons whose normalised peak reaches this.")] = 0.0,
    layers: Annotated[str | None, typer.Option("--layers", help="Layers to consider, such as 10:20.", show_default=False)] = None,
    polarity: Annotated[str | None, typer.Option(help="+ or -. [default: both]", show_default=False)] = None,
    model: OtherModel = None,
    as_json: Json = False,
) -> None:
    """Rank the neurons that fire most over some tokens of a trace, against the atlas or the trace's own statistics."""
    from neurons.atlas.quantiles import known_quantiles
    from neurons.descriptions.known import known_headlines
    from neurons.tracing.ranking import rank_activations

    traces, record = find(trace_id)
    positions = None if tokens is None else _positions(tokens, len(record.token_ids))
    chosen = None if layers is None else [n for start, stop in parse_ranges(layers) for n in range(start, min(stop, record.model.n_layers))]
    with stderr_progress(quiet=as_json) as progress:
        ranking = rank_activations(
            trace_activations(traces, record, model, quiet=as_json),
            tokens=positions,
            quantiles=known_quantiles(record.model),
            threshold=threshold,
            layers=chosen,
            polarity=_polarity(polarity),
            top=top,
            progress=progress,
        )
    headlines = known_headlines(record.model)
    rows: list[dict[str, Any]] = []
    for found in ranking.table.to_dict("records"):
        row = {str(key): value for key, value in found.items()}
        token = int(row.pop("peak"))
        headline = headlines.get(f"{row['layer']}:{row['index']}{row['polarity']}")
        rows.append({**row, "token": token, "text": record.pieces[token], "headline": headline})
    answer = {"trace_id": record.id, "normaliser": ranking.normaliser, "passed": ranking.passed, "rows": rows}

    def human() -> str:
        cells = [
            (
                f"{r['layer']}:{r['index']}{r['polarity']}",
                r["headline"] or "",
                r["activation"],
                r["normalised"],
                percentile(r["percentile"]),
                r["token"],
                repr(r["text"]),
            )
            for r in rows
        ]
        columns = ("neuron", "headline", "activation", "normalised", "percentile", "at", "text")
        return f"normalised by {ranking.normaliser}\n" + table(columns, cells)

    emit(answer, as_json, human)


@takes_options
def compare(
    prompt: PromptText,
    steering: SteerOptions = SteerOptions(),
    asked: Asked = Asked(),
    chosen: SamplingOptions = SamplingOptions(),
    top: Annotated[int, typer.Option("--top", "-k", help="Neurons that differ most to print.", min=0)] = 10,
    named: Named = Named(),
    machine: Machine = Machine(),
    as_json: Json = False,
) -> None:
    """Answer a prompt unsteered and steered, with the same seed and settings, and say what differs. Both are saved."""
    from neurons.models.chat import token_text
    from neurons.tracing.record import RunOptions, as_messages, run_pair
    from traces.compare import compare_traces

    settings = chosen.settings()
    text = read_prompt(prompt)
    if not steering.check():
        raise InvalidInput(
            "there is nothing to compare with; give a steer: --steer FILE, --suppress TEXT or --strengthen TEXT", field="steer"
        )
    loaded = load(asked.model, device=machine.device, dtype=machine.dtype, quiet=as_json)
    steers = steering.steers(loaded)
    settings = following(loaded, settings, penalties=chosen.penalties)
    traces = store()
    with stderr_progress(quiet=as_json) as progress:
        tick = _counter(progress, 2 * settings.max_new_tokens)
        pair = run_pair(
            loaded,
            as_messages(text, system=asked.system),
            steers,
            sampling=settings,
            store=traces,
            options=RunOptions(named.name, named.tag or ()),
            on_token=lambda side, token: tick(token),
            progress=progress,
        )
        found = compare_traces(
            traces, pair.baseline.id, pair.steered.id, top=top, decode=lambda i: token_text(loaded, i), progress=progress
        )
    answer = {
        "baseline": run_json(pair.baseline),
        "steered": run_json(pair.steered),
        "same": pair.same,
        "changed_words": found.changed_words,
        "words": found.words,
        "divergence": found.divergence,
        "neurons": found.neurons,
    }
    emit(answer, as_json, lambda: _human_pair(pair, found))
    if "cancelled" in (pair.baseline.finish_reason, pair.steered.finish_reason):
        raise typer.Exit(1)


def _human_pair(pair: Pair, found: TraceComparison) -> str:
    lines = ["unsteered  " + _human(pair.baseline), "", "steered    " + _human(pair.steered), ""]
    where = found.divergence
    if where is None:
        return "\n".join([*lines, "the answers are the same"])
    tops = [(a.text, a.prob, b.text, b.prob) for a, b in zip(where.a_top[:5], where.b_top[:5], strict=False)]
    kl = "" if where.kl is None else f"; KL {'' if where.kl_exact else 'at least '}{where.kl:.3g} nats"
    said = f"first difference at token {where.position}: {where.a_text!r} or {where.b_text!r}{kl}"
    changed = f"{percent(found.changed_words)} of the words changed; {said}"
    return "\n".join([*lines, changed, table(("unsteered", "p", "steered", "p"), tops)])


@takes_options
def sweep(
    prompt: PromptText,
    steering: SteerOptions = SteerOptions(),
    strengths: Annotated[str, typer.Option(help="Strengths: from:to:step, or a list such as 0,0.5,1.")] = "0:2:0.5",
    followed: Followed = Followed(),
    asked: Asked = Asked(),
    chosen: SamplingOptions = SamplingOptions(max_new_tokens=32),
    machine: Machine = Machine(),
    as_json: Json = False,
) -> None:
    """Run a prompt at several strengths of a steer: the probability of one token, and how the answer changes."""
    from neurons.models.chat import single_token
    from neurons.tracing import sweeps
    from neurons.tracing.record import as_messages

    settings = chosen.settings()
    values = _strengths(strengths)
    text = read_prompt(prompt)
    if not steering.check():
        raise InvalidInput("a sweep needs a steer: --steer FILE, --suppress TEXT or --strengthen TEXT", field="steer")
    loaded = load(asked.model, device=machine.device, dtype=machine.dtype, quiet=as_json)
    steers = steering.steers(loaded)
    settings = following(loaded, settings, penalties=chosen.penalties)
    with stderr_progress(quiet=as_json) as progress:
        found = sweeps.sweep(
            loaded,
            as_messages(text, system=asked.system),
            steers,
            values,
            sampling=settings,
            token_id=None if followed.token is None else single_token(loaded, followed.token),
            offset=followed.offset,
            answers=not followed.no_answers,
            progress=progress,
        )

    def human() -> str:
        rows = [(p.strength, p.probability, p.rank, p.kl, p.changed_words, p.answer) for p in found.points]
        head = f"probability of {found.token!r} at token {found.position}; {found.baseline_probability:.4g} unsteered\n"
        return head + table(("strength", "probability", "rank", "KL", "changed words", "answer"), rows)

    emit(found, as_json, human)


def _counter(progress: Progress, most: int) -> Callable[[int], None]:
    """Shows each token as it comes."""
    taken = count(1)
    return lambda token: progress(next(taken), most, "answering")


def _human(record: TraceRecord) -> str:
    speed = len(record.answer_ids) / record.seconds if record.seconds else 0.0
    ended = {"stop": "", "length": ", cut at the token limit", "context": ", cut at the model's context"}
    note = ended.get(record.finish_reason, f", {record.finish_reason}")
    return f"trace {record.id}: {len(record.answer_ids)} tokens in {record.seconds:.1f} s ({speed:.1f} per second){note}\n{record.answer}"


def _positions(text: str, n_tokens: int) -> list[int]:
    found = [n for start, stop in parse_ranges(text) for n in range(start, min(stop, n_tokens))]
    if not found:
        raise InvalidInput(f"{text!r} holds no token of this trace; it has {n_tokens}, from 0", field="tokens")
    return found


def _polarity(text: str | None) -> Polarity | None:
    if text in (None, "+", "-"):
        return "+" if text == "+" else "-" if text == "-" else None
    raise InvalidInput(f"polarity is {text!r}; use + or -", field="polarity")


def _strengths(text: str) -> list[float]:
    """ "0:2:0.5" is 0, 0.5 ... 2; "0,1,3" is those."""
    try:
        if ":" not in text:
            return [float(part) for part in text.split(",") if part.strip()]
        start, stop, step = (float(part) for part in text.split(":"))
    except ValueError as error:
        raise InvalidInput(f"strengths are {text!r}; write from:to:step or a list such as 0,0.5,1", field="strengths") from error
    if (
        not (math.isfinite(start) and math.isfinite(stop) and math.isfinite(step))
        or step <= 0
        or stop < start
        or (stop - start) / step > 100
    ):
        raise InvalidInput(f"strengths are {text!r}; write from:to:step with a step above 0 and at most 101 strengths", field="strengths")
    return [round(start + n * step, 10) for n in range(math.floor((stop - start) / step + 1e-9) + 1)]


def trace_activations(traces: TraceStore, record: TraceRecord, model: str | None, *, quiet: bool) -> Any:
    """From disk, or recomputed when they are not there: then the model is loaded."""
    from neurons.tracing.replay import activations_of

    if traces.activation_state(record.id) == "stored":
        return activations_of(None, record, traces)
    loaded = load(model or record.model.id, quiet=quiet)
    with stderr_progress(quiet=quiet) as progress:
        return activations_of(loaded, record, traces, progress=progress)
