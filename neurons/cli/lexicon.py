"""`neuronscope lexicon ...`: the named concepts, and checking files of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from neurons.cli.common import FAILED, Group, Json, emit, table
from neurons.core.errors import InvalidInput


def register(app: typer.Typer) -> None:
    """Add the group `lexicon`."""
    group = typer.Typer(cls=Group, no_args_is_help=True, help="The named concepts: what there is, and checking files of your own.")
    group.command("list")(list_concepts)
    group.command("check")(check)
    app.add_typer(group, name="lexicon")


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
