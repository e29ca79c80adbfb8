"""`neuronscope concept ...`: saved sets of neurons."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neurons.cli.common import Device, Dtype, Group, Json, Model, emit, load, stderr_progress, table
from neurons.cli.options import takes_options
from neurons.cli.prompt_files import read_prompts
from neurons.core.errors import InvalidInput
from neurons.core.types import NeuronSide

if TYPE_CHECKING:
    from collections.abc import Mapping

    from neurons.concepts.sets import Concept

Name = Annotated[str, typer.Argument(help="Name of the concept.")]
Replace = Annotated[bool, typer.Option("--replace", help="Overwrite a concept of that name.")]


def register(app: typer.Typer) -> None:
    """Add the group `concept`."""
    group = typer.Typer(
        cls=Group, no_args_is_help=True, help="Saved sets of neurons: from a search, examples or a list; combined like sets."
    )
    group.command("save")(save)
    group.command("list")(list_concepts)
    group.command("show")(show)
    group.command("union")(union)
    group.command("intersection")(intersection)
    group.command("difference")(difference)
    group.command("rename")(rename)
    group.command("note")(note)
    group.command("delete")(delete)
    group.command("restore")(restore)
    group.command("export")(export)
    group.command("import")(import_)
    group.command("strength")(strength)
    app.add_typer(group, name="concept")


@dataclass(frozen=True)
class MadeOf:
    """What a concept is made of: one of the first three."""

    text: Annotated[str | None, typer.Option("--text", help="Search for this.", show_default=False)] = None
    neurons: Annotated[str | None, typer.Option(help="Neurons, such as 17:803,4:12-.", show_default=False)] = None
    examples: Annotated[
        Path | None, typer.Option(help="File with an example text on each line, or a table with a column of them.", show_default=False)
    ] = None
    counter_examples: Annotated[
        Path | None, typer.Option(help="File with counter-examples. [default: built-in neutral sentences]", show_default=False)
    ] = None
    top: Annotated[int, typer.Option("--top", "-k", help="Neurons to take from a search or examples.", min=1, max=100_000)] = 50
    note: Annotated[str, typer.Option(help="A note to keep with it.")] = ""

    def concept(self, model: str, *, quiet: bool) -> Concept:
        """The concept, of this model's neurons. Raises `InvalidInput` unless exactly one says what it is made of."""
        if sum(given is not None for given in (self.text, self.neurons, self.examples)) != 1:
            raise InvalidInput("give exactly one of --text, --neurons and --examples", field="text")
        if self.text is not None:
            return self._searched(self.text, model)
        if self.neurons is not None:
            return self._listed(self.neurons, model)
        return self._told_apart(model, quiet=quiet)

    def _searched(self, text: str, model: str) -> Concept:
        from neurons.cli.search import described_model
        from neurons.concepts.search import match_note, open_search
        from neurons.concepts.sets import Concept

        ref = described_model(model)
        hits = open_search(ref).search(text, top=self.top)
        note = self.note or match_note(text, max((hit.reading for hit in hits), default=None))
        return Concept.of((hit.side for hit in hits), ref=ref, origin=f"search: {text}", note=note)

    def _listed(self, neurons: str, model: str) -> Concept:
        from neurons.cli.search import described_model
        from neurons.concepts.sets import Concept

        ref = described_model(model)
        sides = [NeuronSide.parse(part) for part in neurons.split(",") if part.strip()]
        wrong = next((s for s in sides if not (0 <= s.layer < ref.n_layers and 0 <= s.index < ref.n_neurons)), None)
        if wrong is not None:
            raise InvalidInput(
                f"{ref.name} has no neuron {wrong}: layers 0 to {ref.n_layers - 1}, neurons 0 to {ref.n_neurons - 1}", field="neurons"
            )
        return Concept.of(sides, ref=ref, origin="hand-picked", note=self.note)

    def _told_apart(self, model: str, *, quiet: bool) -> Concept:
        from neurons.concepts.contrast import contrast
        from neurons.concepts.sets import Concept

        loaded = load(model, quiet=quiet)
        positive, negative = _texts(self.examples, quiet=quiet), _texts(self.counter_examples, quiet=quiet)
        with stderr_progress(quiet=quiet) as progress:
            found = contrast(loaded, positive, negative, top=self.top, progress=progress)
        kept = [one.side for one in found.found if one.effect > found.chance_effect]
        return Concept.of(kept, ref=loaded.ref, origin=f"{found.examples} examples against {found.counter}", note=self.note)


@takes_options
def save(name: Name, made_of: MadeOf = MadeOf(), replace: Replace = False, model: Model = "default", as_json: Json = False) -> None:
    """Save a concept from a search (--text), a list (--neurons) or example texts (--examples)."""
    from neurons.concepts.sets import SavedConcepts

    concept = made_of.concept(model, quiet=as_json)
    SavedConcepts().save(name, concept, replace=replace)
    emit({"name": name, **concept.to_json()}, as_json, lambda: f"saved {name!r}: {len(concept.sides)} neurons")


def _texts(path: Path | None, *, quiet: bool) -> list[str]:
    """The texts of a file, read as files of prompts are: a text on each line, or the column that holds the prompts."""
    if path is None:
        return []
    if not path.is_file():
        raise InvalidInput(f"there is no file {str(path)!r}", field="examples")
    found, _ = read_prompts(str(path), quiet=quiet)
    return [row.prompt for row in found.rows]


def list_concepts(as_json: Json = False) -> None:
    """All saved concepts."""
    from neurons.concepts.sets import SavedConcepts

    entries = [
        {"name": e.name, "changed": e.changed, "neurons": len(e.content["neurons"]), "origin": e.content["origin"]}
        for e in SavedConcepts().list()
    ]
    columns = ("name", "neurons", "origin", "changed")
    emit({"rows": entries}, as_json, lambda: table(columns, [[entry[c] for c in columns] for entry in entries]))


def show(name: Name, as_json: Json = False) -> None:
    """A concept's neurons, with their headlines where the atlas has them."""
    from neurons.concepts.sets import SavedConcepts

    concept = SavedConcepts().load(name)
    headlines, said = _words(concept)
    rows = [
        {
            "layer": s.layer,
            "index": s.index,
            "polarity": s.polarity,
            "headline": headlines.get(str(s), ""),
            "description": said.get(str(s), ""),
        }
        for s in concept.sides
    ]
    answer = {"name": name, **concept.to_json(), "rows": rows}
    emit(answer, as_json, lambda: table(("neuron", "headline"), [(str(s), headlines.get(str(s), "")) for s in concept.sides]))


def _words(concept: Concept) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """(headlines, descriptions) of the concept's model."""
    from neurons.atlas.store import list_atlases
    from neurons.descriptions.known import known_descriptions, known_headlines

    ref = next((info.model for info in list_atlases() if info.model.weights_hash == concept.weights_hash and info.described), None)
    return ({}, {}) if ref is None else (known_headlines(ref), known_descriptions(ref))


def union(
    first: Name,
    second: Name,
    into: Annotated[str, typer.Argument(help="Name of the result.")],
    replace: Replace = False,
    as_json: Json = False,
) -> None:
    """Neurons of either concept."""
    _combine("union", first, second, into, replace, as_json)


def intersection(
    first: Name,
    second: Name,
    into: Annotated[str, typer.Argument(help="Name of the result.")],
    replace: Replace = False,
    as_json: Json = False,
) -> None:
    """Neurons of both concepts."""
    _combine("intersection", first, second, into, replace, as_json)


def difference(
    first: Name,
    second: Name,
    into: Annotated[str, typer.Argument(help="Name of the result.")],
    replace: Replace = False,
    as_json: Json = False,
) -> None:
    """Neurons of the first concept that the second lacks."""
    _combine("difference", first, second, into, replace, as_json)


def _combine(operation: str, first: str, second: str, into: str, replace: bool, as_json: bool) -> None:
    from dataclasses import replace as changed

    from neurons.concepts.sets import SavedConcepts

    saved = SavedConcepts()
    one, other = saved.load(first), saved.load(second)
    result = {"union": one.union, "intersection": one.intersection, "difference": one.difference}[operation](other)
    result = changed(result, origin=f"{operation} of {first} and {second}")
    saved.save(into, result, replace=replace)
    emit({"name": into, **result.to_json()}, as_json, lambda: f"saved {into!r}: {len(result.sides)} neurons")


def rename(name: Name, new_name: Annotated[str, typer.Argument(help="Its new name.")], as_json: Json = False) -> None:
    """Give a concept another name."""
    from neurons.concepts.sets import SavedConcepts

    entry = SavedConcepts().rename(name, new_name)
    emit({"name": entry.name}, as_json, f"renamed to {entry.name!r}")


def note(name: Name, text: Annotated[str, typer.Argument(help="The note; empty removes it.")], as_json: Json = False) -> None:
    """Write a concept's note."""
    from neurons.concepts.sets import SavedConcepts

    entry = SavedConcepts().note(name, text)
    emit({"name": entry.name, "note": entry.content["note"]}, as_json, "noted")


def delete(name: Name, as_json: Json = False) -> None:
    """Delete a concept; `restore` puts it back."""
    from neurons.concepts.sets import SavedConcepts

    token = SavedConcepts().delete(name)
    emit({"name": name, "restore": token}, as_json, f"deleted; put it back with: neuronscope concept restore {token}")


def restore(token: Annotated[str, typer.Argument(help="What `delete` printed.")], as_json: Json = False) -> None:
    """Put a deleted concept back."""
    from neurons.concepts.sets import SavedConcepts

    entry = SavedConcepts().restore(token)
    emit({"name": entry.name}, as_json, f"{entry.name!r} is back")


def export(name: Name, path: Annotated[Path, typer.Argument(help="File to write.")], as_json: Json = False) -> None:
    """Write a concept to a JSON file."""
    from neurons.concepts.sets import SavedConcepts, named_json
    from neurons.storage.files import write_json

    write_json(path, named_json(name, SavedConcepts().load(name)))
    emit({"name": name, "path": str(path)}, as_json, f"wrote {path}")


def import_(
    path: Annotated[Path, typer.Argument(help="A concept's JSON file, or a JSON list of neurons.")],
    name: Annotated[str | None, typer.Option(help="Its name. [default: that in the file, else the file's]", show_default=False)] = None,
    replace: Replace = False,
    as_json: Json = False,
) -> None:
    """Read a concept from a JSON file."""
    from neurons.concepts.sets import SavedConcepts, read_concept

    named, concept = read_concept(path)
    entry = SavedConcepts().save(name or named, concept, replace=replace)
    emit({"name": entry.name, **concept.to_json()}, as_json, lambda: f"saved {entry.name!r}: {len(concept.sides)} neurons")


def strength(
    name: Annotated[str, typer.Argument(help="A concept of the lexicon: its name, key or one of its words.")],
    strengths: Annotated[str | None, typer.Option(help="Strengths to try, such as 0.4,0.8,1.2.", show_default=False)] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the steer at the strength found to this file.")] = None,
    model: Model = "default",
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Find how strongly a concept can be strengthened: three open prompts answered at each strength, and scored."""
    from neurons.concepts.steers import find_concept
    from neurons.concepts.strength import STRENGTHS, find_strength
    from neurons.core.errors import NotFound
    from neurons.detectors.lexicon import load_lexicon
    from neurons.runs.steering import dump_steers
    from neurons.storage.files import write_json

    try:
        values = [float(part) for part in strengths.split(",")] if strengths else list(STRENGTHS)
    except ValueError as error:
        raise InvalidInput(f"{strengths!r} is no list of numbers such as 0.4,0.8", field="strengths") from error
    lexicon = load_lexicon()
    concept = find_concept(name, lexicon)
    if concept is None:
        raise NotFound(f"the lexicon has no concept {name!r}; add one with a file (docs/lexicon.md)")
    loaded = load(model, device=device, dtype=dtype, quiet=as_json)
    with stderr_progress(quiet=as_json) as progress:
        curve = find_strength(loaded, concept, lexicon=lexicon, strengths=values, progress=progress)
    if output is not None:
        write_json(output, dump_steers([curve.steer], loaded.ref))
    columns = ("strength", "concept", "fluency", "following", "total", "ratio", "repetition")
    rows = [{**{column: getattr(point, column) for column in columns}, "answer": point.answer} for point in curve.points]
    answer = {"concept": concept.name, "chosen": curve.chosen, "rows": rows}

    def told() -> str:
        shown = table((*columns, "answer"), [[*(row[c] for c in columns), str(row["answer"])[:70]] for row in rows])
        return f"{shown}\n\nstrength {curve.chosen:g} shows {concept.name} best while the text still reads"

    emit(answer, as_json, told)
