"""`neuronscope attribute | effect | paths | lens`: what caused a token of a trace, by estimate and by measurement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurons.cli.case import Case, about, heading, row_of, rows_table, words_of
from neurons.cli.common import Device, Dtype, Json, emit, load, stderr_progress, table
from neurons.cli.options import leaving_out, takes_options
from neurons.core.errors import InvalidInput, ModelError
from neurons.core.steers import parse_ranges
from neurons.core.types import AttributionRow, NeuronSide, TargetSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from neurons.attribution.forecast import Forecast
    from neurons.models.loaded import LoadedModel

Trace = Annotated[str, typer.Argument(help="Id of a trace; see `neuronscope traces list`.")]
Token = Annotated[
    int, typer.Option("--token", "-t", help="Position of the token explained, from 0 over prompt + answer.", show_default=False)
]
MetricOption = Annotated[
    str | None, typer.Option("--metric", help="prob, logprob, logit, contrast or logodds. [default: prob, or contrast with --against]")
]
Against = Annotated[
    str | None,
    typer.Option(
        help="For the contrast: the other token, as text or id. Of a text of several tokens, the first one counts.", show_default=False
    ),
]
Instead = Annotated[str | None, typer.Option("--of", help="Explain this token at that place instead of the one that stands there.")]
Method = Annotated[
    str | None,
    typer.Option(
        help="How to estimate: refined, grad (activation x gradient, as published), logodds, ig, direct, frozen or relp. [default: refined]"
    ),
]
Top = Annotated[int, typer.Option("--top", "-k", help="Rows to print.", min=1, max=1_000_000)]
Tokens = Annotated[str | None, typer.Option("--tokens", help="Source tokens to consider, such as 3:9,12.", show_default=False)]
Layers = Annotated[str | None, typer.Option("--layers", help="Layers to consider, such as 10:20.", show_default=False)]
OtherModel = Annotated[str | None, typer.Option("--model", "-m", help="Model to run. [default: the trace's own]", show_default=False)]


@dataclass(frozen=True)
class Aim:
    """What of the token is explained."""

    metric: MetricOption = None
    against: Against = None
    of: Instead = None


@dataclass(frozen=True)
class Runner:
    """The model that runs the trace, and where."""

    model: OtherModel = None
    device: Device = None
    dtype: Dtype = None


def register(app: typer.Typer) -> None:
    """Add the four commands."""
    app.command()(attribute)
    app.command()(effect)
    app.command()(paths)
    app.command()(lens)


@takes_options
def attribute(
    trace: Trace,
    token: Token,
    aim: Aim = Aim(),
    method: Method = None,
    top: Top = 20,
    tokens: Tokens = None,
    layers: Layers = None,
    by: Runner = Runner(),
    as_json: Json = False,
) -> None:
    """Attribute one token of a trace to the neurons before it: positive promoted it, negative suppressed it.

    The strongest 5,000 rows are stored in the trace. `gradient` is activation x gradient, which the default method refines.
    """
    from neurons.attribution import attribute as attribution
    from neurons.attribution.forecast import forecast
    from neurons.tracing.saved_attributions import storable

    case = _open(trace, token, by, quiet=as_json)
    target = _target(case, token, aim)
    chosen = method or attribution.DEFAULT
    _foretell(forecast(case.loaded, token, chosen), "attributing", token)
    result = attribution.attribute(
        case.loaded, case.ids, target, steers=case.record.steers, prompt_tokens=case.prompt_tokens, method=chosen
    )
    found = attribution.top_rows(result, top, tokens=_numbers(tokens, token), layers=_numbers(layers, case.loaded.n_layers))
    if layers is None:
        case.store.save_attribution(case.record.id, storable(result, sources=_ranges_text(tokens, token)))
    said = words_of(case.loaded.ref)
    grad_LTI = result.grad_LTI
    rows = [
        {**row_of(case, row, said), "gradient": None if grad_LTI is None else float(grad_LTI[row.layer, row.token, row.index])}
        for row in found.rows
    ]
    answer = {
        **about(case, result.target),
        "method": result.method,
        **({"stands_in": result.stands_in} if result.stands_in else {}),
        **({"convergence": result.convergence, "gap": result.gap, "steps": result.steps} if result.convergence else {}),
        "metric_value": result.metric_value,
        "share": found.share,
        "seconds": result.seconds,
        "rows": rows,
    }
    emit(
        answer,
        as_json,
        lambda: heading(answer) + _said(result.stands_in) + _said(result.convergence) + rows_table(rows, ("attribution",)),
    )


@dataclass(frozen=True)
class Ablating:
    """Which neurons are ablated, where and how."""

    neurons: Annotated[
        str | None, typer.Option(help="Neurons to ablate, such as 17:803,4:12. [default: the strongest by attribution]", show_default=False)
    ] = None
    at: Annotated[str | None, typer.Option(help="Source tokens for --neurons, such as 3:9.", show_default=False)] = None
    ablation: Annotated[str, typer.Option(help="zero, or mean (needs an atlas).")] = "zero"
    scope: Annotated[str, typer.Option(help="token: at the row's own token; all: at every token.")] = "token"


@takes_options
def effect(
    trace: Trace,
    token: Token,
    aim: Aim = Aim(),
    how: Ablating = Ablating(),
    top: Top = 20,
    by: Runner = Runner(),
    as_json: Json = False,
) -> None:
    """Measure what happens to a token when neurons are ablated, one by one: positive means the neuron promoted it."""
    from neurons.attribution import attribute as attribution
    from neurons.attribution.effect import EffectOptions, agreement, measure_effects
    from neurons.attribution.forecast import forecast, forecast_effects

    case = _open(trace, token, by, quiet=as_json)
    target = _target(case, token, aim)
    _foretell(forecast(case.loaded, token), "attributing", token)
    result = attribution.attribute(case.loaded, case.ids, target, steers=case.record.steers, prompt_tokens=case.prompt_tokens)
    if how.neurons is None:
        wanted = list(attribution.top_rows(result, top).rows)
    else:
        wanted = _named_rows(case, result, how.neurons, _numbers(how.at, token))
    starts = [(row.layer, 0 if how.scope == "all" else row.token) for row in wanted]
    _foretell(forecast_effects(case.loaded, token, starts), "measuring effects on", token)
    with stderr_progress(quiet=as_json) as progress:
        effects = measure_effects(
            case.loaded,
            case.ids,
            target,
            wanted,
            EffectOptions(
                ablation=how.ablation,  # type: ignore[arg-type]  # checked by measure_effects
                means_LI=_means(case.loaded) if how.ablation == "mean" else None,
                scope=how.scope,  # type: ignore[arg-type]
                steers=case.record.steers,
                prompt_tokens=case.prompt_tokens,
            ),
            progress=progress,
        )
    said = words_of(case.loaded.ref)
    rows = [{**row_of(case, row, said), "effect": measured.effect} for row, measured in zip(wanted, effects.rows, strict=True)]
    fit = agreement([row.attribution for row in wanted], [measured.effect for measured in effects.rows])
    answer = {
        **about(case, effects.target),
        "ablation": how.ablation,
        "scope": how.scope,
        "metric_value": effects.metric_value,
        "spearman": fit.spearman,
        "pearson": fit.pearson,
        "seconds": effects.seconds,
        "rows": rows,
    }
    emit(answer, as_json, lambda: heading(answer) + rows_table(rows, ("attribution", "effect")))


@takes_options
def paths(
    trace: Trace,
    token: Token,
    neuron: Annotated[
        str | None,
        typer.Option(help="Begin at this neuron, such as 17:803, at --token. [default: at the token itself]", show_default=False),
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps upstream, 1 to 5.")] = 2,
    width: Annotated[int, typer.Option(help="Drivers followed from each neuron, 1 to 20.")] = 4,
    aim: Annotated[Aim, leaving_out("of")] = Aim(),
    by: Runner = Runner(),
    as_json: Json = False,
) -> None:
    """Walk upstream: which earlier neurons drive a neuron (or a token), and which drive those."""
    from neurons.attribution.forecast import forecast_walk
    from neurons.attribution.paths import MAX_NODES, walk

    case = _open(trace, token, by, quiet=as_json)
    _foretell(forecast_walk(case.loaded, token, MAX_NODES), "walking upstream from", token)
    start: AttributionRow | TargetSpec
    if neuron is None:
        start = _target(case, token, aim)
    else:
        side = case.loaded.side(NeuronSide.parse(neuron, experts=True))
        start = AttributionRow(side.layer, side.index, token, side.polarity, 0.0, 0.0)
    with stderr_progress(quiet=as_json) as progress:
        graph = walk(
            case.loaded,
            case.ids,
            start,
            steps=steps,
            width=width,
            steers=case.record.steers,
            prompt_tokens=case.prompt_tokens,
            progress=progress,
        )
    said = words_of(case.loaded.ref)
    nodes = [
        {
            "id": node.id,
            "layer": node.layer,
            "index": node.index,
            "token": node.token,
            "text": case.piece(node.token),
            "polarity": node.polarity,
            "activation": node.activation,
            "step": node.step,
            **said(NeuronSide(node.layer, node.index, node.polarity)),
        }
        for node in graph.nodes
    ]
    headline = {node["id"]: node["headline"] or "" for node in nodes}
    edges = [
        (edge.source, headline.get(edge.source, ""), edge.target, headline.get(edge.target, ""), edge.drive, edge.share)
        for edge in graph.edges
    ]
    answer = {"trace_id": case.record.id, "nodes": nodes, "edges": graph.edges}
    emit(answer, as_json, lambda: table(("from", "headline", "to", "headline", "drive", "share"), edges))


@takes_options
def lens(
    trace: Trace,
    token: Token,
    top: Annotated[int, typer.Option("--top", "-k", help="Tokens per layer.", min=1, max=1000)] = 3,
    by: Runner = Runner(),
    as_json: Json = False,
) -> None:
    """Print the logit lens: what the model would say at a token if it stopped after each layer."""
    from neurons.attribution.forecast import forecast_lens
    from neurons.models.chat import token_text
    from neurons.runs.lens import logit_lens

    case = _open(trace, token, by, quiet=as_json)
    _foretell(forecast_lens(case.loaded, token), "reading each layer at", token)
    found = logit_lens(case.loaded, case.ids, [token], k=top, steers=case.record.steers, prompt_tokens=case.prompt_tokens)
    rows, lines = [], []
    for number, name in enumerate(found.names):
        ids = found.top_ids_RNK[number, 0].tolist()
        probs = found.top_probs_RNK[number, 0].tolist()
        says = [{"id": i, "token": token_text(case.loaded, i), "prob": p} for i, p in zip(ids, probs, strict=True)]
        chosen = {"target_prob": float(found.target_prob_RN[number, 0]), "target_rank": int(found.target_rank_RN[number, 0])}
        rows.append({"layer": number - 1, "name": name, "top": says, **chosen})
        lines.append((name, *(f"{said['token']!r} {said['prob']:.2f}" for said in says)))
    answer = {"trace_id": case.record.id, "token": token, "text": case.piece(token), "rows": rows}

    def human() -> str:
        return table(("after", *(f"#{n + 1}" for n in range(top))), lines)

    emit(answer, as_json, human)


def _open(trace: str, token: int, by: Runner, *, quiet: bool) -> Case:
    """The trace and its model. The token is checked before the model is loaded, which takes seconds."""
    from traces.store import TraceStore

    store = TraceStore()
    record = store.load(store.resolve(trace))
    if not 0 < token < len(record.token_ids):
        reason = "token 0 is the first: nothing comes before it" if token == 0 else f"token {token} is not in this trace"
        raise InvalidInput(f"{reason}; choose 1 to {len(record.token_ids) - 1}", field="token")
    loaded = load(by.model or record.model.id, device=by.device, dtype=by.dtype, quiet=quiet)
    ours, theirs = loaded.ref, record.model
    if (ours.architecture, ours.n_layers, ours.n_vocab) != (theirs.architecture, theirs.n_layers, theirs.n_vocab):
        raise ModelError(f"trace {record.id} was made with {theirs.name}, not {ours.name}; leave --model out, or name that model")
    if ours.weights_hash != theirs.weights_hash:
        typer.echo(f"note: the weights of {ours.name} are not those that made this trace; numbers may differ", err=True)
    return Case(record, loaded, store)


def _foretell(expected: Forecast, doing: str, token: int) -> None:
    """Refuse what the memory would not do for; say of long work what it takes, before it begins."""
    if expected.check(token, doing=doing).long:
        minutes = max(1, round(expected.seconds / 60))
        took = f"{minutes} minute{'' if minutes == 1 else 's'} and {expected.bytes / 1e9:.1f} GB"
        typer.echo(f"note: {doing} token {token} takes about {took} of memory; Ctrl-C stops it", err=True)


def _target(case: Case, token: int, aim: Aim) -> TargetSpec:
    from neurons.attribution.metrics import METRICS, check_target
    from neurons.models.chat import contrast_token, single_token

    chosen = next((known for known in METRICS if known == (aim.metric or "prob")), None)
    if chosen is None:
        raise InvalidInput(f"metric {aim.metric!r} is unknown; use one of {', '.join(METRICS)}", field="metric")
    if aim.against is not None:
        if aim.metric == "prob":
            raise InvalidInput("a contrast is measured in logits, not in probability; leave --metric out", field="metric")
        chosen = "contrast"  # a difference of logits is one of log-probabilities too
    token_id = None if aim.of is None else single_token(case.loaded, aim.of)
    against_id = None
    if aim.against is not None:
        against_id, note = contrast_token(case.loaded, aim.against, beside=case.ids[token] if token_id is None else token_id)
        if note:
            typer.echo(f"note: {note}", err=True)
    return check_target(case.loaded, case.ids, TargetSpec(token, chosen, token_id, against_id))


def _numbers(text: str | None, stop: int) -> list[int] | None:
    """Positions of "3:9,12", cut at `stop`; None for all."""
    if text is None:
        return None
    found = [n for start, end in parse_ranges(text) for n in range(start, min(end, stop))]
    if not found:
        raise InvalidInput(f"{text!r} holds nothing before {stop}", field="tokens")
    return found


def _ranges_text(text: str | None, stop: int) -> str:
    """Source tokens in the form that the app stores them under: "3:9,12:13"; "" for all."""
    return "" if text is None else ",".join(f"{start}:{min(end, stop)}" for start, end in parse_ranges(text) if start < stop)


def _named_rows(case: Case, result: Any, neurons: str, at: Sequence[int] | None) -> list[AttributionRow]:
    """Rows of the neurons typed, at the given tokens (default: where each is attributed most)."""
    rows = []
    for text in neurons.split(","):
        side = case.loaded.side(NeuronSide.parse(text, experts=True))
        if side.layer >= case.loaded.n_layers or side.index >= case.loaded.sites[side.layer].width:
            raise InvalidInput(f"neuron {side.layer}:{side.index} is not in {case.loaded.ref.name}", field="neurons")
        values_T = result.attr_LTI[side.layer, :, side.index]
        for token in at if at is not None else [int(abs(values_T).argmax())]:
            activation = float(result.acts_LTI[side.layer, token, side.index])
            rows.append(AttributionRow(side.layer, side.index, token, "-" if activation < 0 else "+", activation, float(values_T[token])))
    return rows


def _means(loaded: LoadedModel) -> Any:
    from neurons.atlas.store import open_atlas

    atlas = open_atlas(loaded.ref)
    return None if atlas is None else atlas.mean_LI()


def _said(sentence: str) -> str:
    return f"{sentence}\n" if sentence else ""
