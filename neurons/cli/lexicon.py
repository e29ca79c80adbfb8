"""`neuronscope lexicon ...` and `neuronscope concepts`: the named concepts, and which of them are active in a trace."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurons.cli.common import FAILED, Group, Json, emit, stderr_progress, table
from neurons.cli.stored import OtherModel, TraceId, find
from neurons.core.errors import InvalidInput
from neurons.core.types import parse_ranges

if TYPE_CHECKING:
    from traces.schema import TraceRecord

_SHOWN_TOKENS = 5
_SHOWN_NEURONS = 4


def register(app: typer.Typer) -> None:
    """Add the group `lexicon` and the command `concepts`."""
    group = typer.Typer(cls=Group, no_args_is_help=True, help="The named concepts: what there is, and checking files of your own.")
    group.command("list")(list_concepts)
    group.command("check")(check)
    app.add_typer(group, name="lexicon")
    app.command()(concepts)


def list_concepts(
    field: Annotated[str | None, typer.Option(help="Only the concepts of this field.", show_default=False)] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Also say how well this model's detectors know them.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """List the named concepts by field, those of your own files included."""
    from neurons.detectors.lexicon import load_lexicon

    lexicon = load_lexicon()
    chosen = [c for c in lexicon.concepts if field is None or c.field.casefold() == field.casefold()]
    if not chosen:
        raise InvalidInput(f"there is no field {field!r}; there are {', '.join(lexicon.fields)}", field="field")
    known = _known(model) if model else {}
    rows = [
        {
            "key": c.key,
            "name": c.name,
            "field": c.field,
            "definition": c.entry.definition,
            "sentences": len(c.entry.sentences),
            "near": len(c.entry.near),
            "own": c.own,
            **({"found": None, "auroc": None, **known.get(c.key, {})} if model else {}),
        }
        for c in chosen
    ]
    heads = ("field", "name", "key", "definition", *(("found", "auroc") if model else ()))
    emit({"concepts": rows}, as_json, lambda: table(heads, [[row[head] for head in heads] for row in rows]))


def _known(model: str) -> dict[str, dict[str, Any]]:
    from neurons.detectors.store import need_detectors
    from neurons.models.reference import model_ref

    detectors = need_detectors(model_ref(model))
    rates = [detectors.rates(number) for number in range(len(detectors))]
    return {key: {"found": rate.found, "auroc": round(rate.auroc, 4)} for key, rate in zip(detectors.keys, rates, strict=True)}


def check(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A lexicon file (docs/lexicon.md has the format).")],
    as_json: Json = False,
) -> None:
    """Check a lexicon file: every problem by concept and field, and what is allowed but weak. Exit status 1 where there are problems."""
    from neurons.detectors.lexicon import check_file

    given, problems, notes = check_file(path)
    count = 0 if given is None else len(given.concepts)
    answer = {"file": path, "concepts": count, "problems": problems, "notes": notes}

    def human() -> str:
        lines = [*(f"problem: {line}" for line in problems), *(f"note: {line}" for line in notes)]
        return "\n".join([*lines, f"{path}: {len(problems)} problems" if problems else f"{path}: {count} concepts, no problem"])

    emit(answer, as_json, human)
    if problems:
        raise typer.Exit(FAILED)


def concepts(
    trace_id: TraceId,
    by: Annotated[str, typer.Option("--by", help="activation: which concepts are active.")] = "activation",
    token: Annotated[int | None, typer.Option("--token", help="One position, from 0.", min=0, show_default=False)] = None,
    tokens: Annotated[str | None, typer.Option("--tokens", help="Positions, such as 3:9,12. [default: all]", show_default=False)] = None,
    all_tokens: Annotated[bool, typer.Option("--all-tokens", help="Include template and control tokens.")] = False,
    top: Annotated[int, typer.Option("--top", "-k", help="Concepts to print.", min=1, max=10_000)] = 10,
    model: OtherModel = None,
    as_json: Json = False,
) -> None:
    """Which named concepts are active over some tokens of a trace, strongest first, and how rare that strength is."""
    from neurons.cli.trace import trace_activations
    from neurons.detectors.store import need_detectors

    if by != "activation":
        raise InvalidInput(f"--by is {by!r}; use activation", field="by")
    if token is not None and tokens is not None:
        raise InvalidInput("give --token or --tokens, not both", field="tokens")
    traces, record = find(trace_id)
    detectors = need_detectors(record.model)
    chosen = _chosen(record, f"{token}" if token is not None else tokens, all_tokens)
    with stderr_progress(quiet=as_json) as progress:
        progress(0, None, "reading activations")
        acts_LTI = trace_activations(traces, record, model, quiet=as_json)
        found = detectors.active(acts_LTI, chosen, top)
    rows = [
        {
            "name": row.name,
            "field": row.field,
            "strength": round(row.strength, 3),
            "rarity": round(row.rarity, 1),
            "tokens": [{"token": t, "text": record.pieces[t], "rarity": rare} for t, rare in row.tokens],
            "neurons": [{"neuron": str(side), "share": round(share, 4)} for side, share in row.neurons],
        }
        for row in found
    ]
    level = found[0].level if found else None
    answer = {
        "trace_id": record.id,
        "note": detectors.note_for(record.model),
        "compared_with": {"level": level, "corpus_tokens": detectors.corpus_tokens},
        "left_out": int((~detectors.found).sum()),
        "rows": rows,
    }

    def human() -> str:
        cells = [(r["name"], r["field"], r["strength"], f"1 in {r['rarity']:,.0f}", _tokens(r), _neurons(r)) for r in rows]
        said = f"{answer['left_out']} concepts are not found in this model and left out"
        return "\n".join([table(("name", "field", "strength", f"rarity ({level}s)", "tokens", "neurons"), cells), said])

    emit(answer, as_json, human)


def _chosen(record: TraceRecord, text: str | None, all_tokens: bool) -> list[int]:
    """The positions meant, the template's left out. Raises `InvalidInput` when none is left."""
    count = len(record.token_ids)
    meant = range(count) if text is None else [n for start, stop in parse_ranges(text) for n in range(start, min(stop, count))]
    template = {n for segment in record.segments if segment.template for n in range(segment.start, segment.stop)}
    template |= {n for n in range(count) if record.pieces[n].startswith("<|") and record.pieces[n].endswith("|>")}
    left = [n for n in meant if all_tokens or n not in template]
    if not left:
        why = "only template and control tokens there; --all-tokens takes them in" if list(meant) else f"it has {count}, from 0"
        raise InvalidInput(f"{text!r} holds no token of this trace to read: {why}", field="tokens")
    return left


def _tokens(row: dict[str, Any]) -> str:
    return " ".join(repr(one["text"]) for one in row["tokens"][:_SHOWN_TOKENS])


def _neurons(row: dict[str, Any]) -> str:
    return " ".join(one["neuron"] for one in row["neurons"][:_SHOWN_NEURONS])
