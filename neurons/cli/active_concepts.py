"""`neuronscope concepts TRACE`: which named concepts are active over some tokens, or which of them caused a token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurons.cli.common import Json, emit, load, stderr_progress, table
from neurons.cli.stored import OtherModel, TraceId, find
from neurons.core.errors import InvalidInput
from neurons.core.steers import parse_ranges

if TYPE_CHECKING:
    from neurons.detectors.causes import ConceptCause
    from neurons.detectors.records import ActiveConcept
    from neurons.detectors.store import Detectors
    from traces.schema import TraceRecord
    from traces.store import TraceStore

_SHOWN_TOKENS = 5
_SHOWN_NEURONS = 4


def register(app: typer.Typer) -> None:
    """Add the command `concepts`."""
    app.command()(concepts)


def concepts(
    trace_id: TraceId,
    by: Annotated[
        str, typer.Option("--by", help="activation: which concepts are active. attribution: which of them caused the token, measured.")
    ] = "activation",
    token: Annotated[
        int | None,
        typer.Option("--token", help="One position, from 0. [default by attribution: the answer's first]", min=0, show_default=False),
    ] = None,
    tokens: Annotated[str | None, typer.Option("--tokens", help="Positions, such as 3:9,12. [default: all]", show_default=False)] = None,
    all_tokens: Annotated[bool, typer.Option("--all-tokens", help="Include template and control tokens.")] = False,
    top: Annotated[int, typer.Option("--top", "-k", help="Concepts to print.", min=1, max=10_000)] = 10,
    model: OtherModel = None,
    as_json: Json = False,
) -> None:
    """Which named concepts are active over some tokens of a trace, or which of them caused a token.

    By activation, a concept comes with how rare its strength is in the corpus. By attribution, each is taken out of the neurons and the
    model is run again: `effect` is the change of the token's log-odds, beside the interval that matched random neurons give.
    """
    from neurons.detectors.store import need_detectors

    if by not in ("activation", "attribution"):
        raise InvalidInput(f"--by is {by!r}; use activation or attribution", field="by")
    if token is not None and tokens is not None:
        raise InvalidInput("give --token or --tokens, not both", field="tokens")
    traces, record = find(trace_id)
    detectors = need_detectors(record.model)
    answer: dict[str, Any] = {
        "trace_id": record.id,
        "by": by,
        "note": detectors.note_for(record.model),
        "left_out": int((~detectors.found).sum()),
        "corpus_tokens": detectors.corpus_tokens,
    }
    if by == "activation":
        chosen = _chosen(record, f"{token}" if token is not None else tokens, all_tokens)
        _print_active(answer, _active(traces, record, detectors, chosen, top, model, as_json), record, as_json)
        return
    if tokens is not None:
        raise InvalidInput("causes are measured for one token; name it with --token", field="tokens")
    target = len(record.prompt_ids) if token is None else token
    _print_causes(
        {**answer, "token": target}, _causes(traces, record, detectors, target, all_tokens, model, as_json)[:top], record, as_json
    )


def _active(
    traces: TraceStore, record: TraceRecord, detectors: Detectors, chosen: list[int], top: int, model: str | None, quiet: bool
) -> tuple[ActiveConcept, ...]:
    from neurons.cli.trace import trace_activations

    with stderr_progress(quiet=quiet) as progress:
        progress(0, None, "reading activations")
        return detectors.active(trace_activations(traces, record, model, quiet=quiet), chosen, top)


def _causes(
    traces: TraceStore, record: TraceRecord, detectors: Detectors, target: int, all_tokens: bool, model: str | None, quiet: bool
) -> tuple[ConceptCause, ...]:
    from neurons.detectors.causes import Asked, measure_causes
    from neurons.runs.steering import compile_edits
    from neurons.tracing.replay import activations_of, check_model

    loaded = load(model or record.model.id, quiet=quiet)
    check_model(loaded, record)
    edits = compile_edits(loaded, record.steers, len(record.prompt_ids))
    with stderr_progress(quiet=quiet) as progress:
        acts_LTI = activations_of(loaded, record, traces, progress=progress)
        sources = _chosen(record, None, all_tokens)
        return measure_causes(loaded, detectors, Asked(record.token_ids, target, acts_LTI, sources, edits=edits), progress=progress)


def _chosen(record: TraceRecord, text: str | None, all_tokens: bool) -> list[int]:
    """The positions meant, the template's left out. Raises `InvalidInput` when none is left."""
    from neurons.tracing.words import word_positions

    count = len(record.token_ids)
    meant = range(count) if text is None else [n for start, stop in parse_ranges(text) for n in range(start, min(stop, count))]
    words = set(word_positions(record))
    left = [n for n in meant if all_tokens or n in words]
    if not left:
        why = "only template and control tokens there; --all-tokens takes them in" if list(meant) else f"it has {count}, from 0"
        raise InvalidInput(f"{text!r} holds no token of this trace to read: {why}", field="tokens")
    return left


def _row(concept: ActiveConcept, record: TraceRecord) -> dict[str, Any]:
    return {
        "name": concept.name,
        "field": concept.field,
        "strength": round(concept.strength, 3),
        "rarity": round(concept.rarity, 1),
        "level": concept.level,
        "tokens": [{"token": t, "text": record.pieces[t], "rarity": rare} for t, rare in concept.tokens],
        "neurons": [{"neuron": str(side), "share": round(share, 4)} for side, share in concept.neurons],
    }


def _print_active(answer: dict[str, Any], found: tuple[ActiveConcept, ...], record: TraceRecord, as_json: bool) -> None:
    rows = [_row(concept, record) for concept in found]

    def human() -> str:
        cells = [(r["name"], r["field"], r["strength"], f"1 in {r['rarity']:,.0f} {r['level']}s", _tokens(r), _neurons(r)) for r in rows]
        return "\n".join([table(("name", "field", "strength", "rarity", "tokens", "neurons"), cells), _left_out(answer)])

    emit({**answer, "rows": rows}, as_json, human)


def _print_causes(answer: dict[str, Any], found: tuple[ConceptCause, ...], record: TraceRecord, as_json: bool) -> None:
    rows = [
        {
            **_row(cause.concept, record),
            "effect": round(cause.effect, 4),
            "random": [round(cause.random_low, 4), round(cause.random_high, 4)],
            "is_cause": cause.is_cause,
            "probability": cause.probability,
            "probability_without": cause.probability_without,
            "instead_id": cause.instead_id,
            "instead_probability": cause.instead_probability,
        }
        for cause in found
    ]

    def human() -> str:
        from neurons.core.percent import percent

        cells = [
            (
                r["name"],
                f"{r['effect']:+.3f}",
                "yes" if r["is_cause"] else "no more than chance",
                percent(r["probability_without"]),
                _tokens(r),
            )
            for r in rows
        ]
        piece = record.pieces[answer["token"]] if answer["token"] < len(record.pieces) else ""
        first = (
            f"token {answer['token']} {piece!r}: {percent(rows[0]['probability'])}" if rows else "no concept stands out before this token"
        )
        return "\n".join([first, table(("name", "effect", "cause", "without it", "tokens"), cells), _left_out(answer)])

    emit({**answer, "rows": rows}, as_json, human)


def _left_out(answer: dict[str, Any]) -> str:
    return f"{answer['left_out']} concepts of the lexicon are not found in this model and left out"


def _tokens(row: dict[str, Any]) -> str:
    return " ".join(repr(one["text"]) for one in row["tokens"][:_SHOWN_TOKENS])


def _neurons(row: dict[str, Any]) -> str:
    return " ".join(one["neuron"] for one in row["neurons"][:_SHOWN_NEURONS])
