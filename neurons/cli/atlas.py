"""`neuronscope atlas`: build, collect in shards, merge, look at, import and export what is known of a model's neurons."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurons.cli import atlas_concepts, atlas_describe
from neurons.cli.common import Group, Json, Machine, Model, emit, load, stderr_progress, table
from neurons.cli.options import leaving_out, takes_options
from neurons.core.errors import InvalidFile, InvalidInput, NotFound

if TYPE_CHECKING:
    from neurons.atlas.build import BuildSettings
    from neurons.atlas.records import AtlasInfo
    from neurons.atlas.store import Atlas
    from neurons.models.token_texts import Pieces

_Corpus = Annotated[
    list[str] | None,
    typer.Option("--corpus", "-c", help='A text, JSONL, CSV or Parquet file, a folder, a data set id, or "default" (may be repeated).'),
]
_Column = Annotated[str | None, typer.Option(help="The column or field that holds the text.")]
_Tokens = Annotated[int | None, typer.Option(help="At most this many tokens. [default: all of the corpus]", show_default=False)]
_Chat = Annotated[int, typer.Option(help="Conversations that the model writes itself for the chat part.")]
_Licence = Annotated[str, typer.Option(help="The licence of your texts, recorded in the atlas.")]
_Folder = Annotated[Path | None, typer.Option(help="Where the collection is kept. [default: the model's own place]", show_default=False)]
_Extremes = Annotated[int, typer.Option(help="Largest activations kept exactly per neuron side.")]
_Memory = Annotated[float, typer.Option(help="Gigabytes for the token tables.")]
_Concepts = Annotated[bool, typer.Option("--concepts/--no-concepts", help="Afterwards also find the neurons of every named concept.")]
_Probe = Annotated[bool, typer.Option(help="Also run every token of the vocabulary alone.")]


@dataclass(frozen=True)
class Texts:
    """What is read, and how much of it is kept."""

    corpus: _Corpus = None
    column: _Column = None
    licence: _Licence = "not stated"
    tokens: _Tokens = None
    conversations: _Chat = 0
    extremes: _Extremes = 128
    memory: _Memory = 1.25
    probe: _Probe = True

    def settings(self) -> BuildSettings:
        """The settings of the build. Raises `InvalidInput`."""
        from neurons.atlas.build import BuildSettings
        from neurons.atlas.plan import CollectSettings

        if not 1 <= self.extremes <= 100_000:
            raise InvalidInput(f"--extremes is {self.extremes}; use 1 to 100000", field="extremes")
        if not 0 < self.memory < 10_000:
            raise InvalidInput(f"--memory is {self.memory}; use a number of gigabytes", field="memory")
        return BuildSettings(
            corpus=tuple(self.corpus or ("default",)),
            column=self.column,
            licence=self.licence,
            tokens=self.tokens,
            conversations=self.conversations,
            probe=self.probe,
            memory_bytes=int(self.memory * 1e9),
            collect=CollectSettings(extremes=self.extremes),
        )


def register(app: typer.Typer) -> None:
    """Add the group `atlas`, with what the describing part adds to it."""
    group = typer.Typer(cls=Group, no_args_is_help=True, help="Build, look at, import and export atlases: what every neuron does.")
    for name, command in (
        ("build", build),
        ("collect", collect_shard),
        ("merge", merge_shards),
        ("info", info),
        ("export", export),
        ("import", import_atlas),
    ):
        group.command(name)(command)
    atlas_describe.register(group)
    atlas_concepts.register(group)
    app.add_typer(group, name="atlas")


@takes_options
def build(
    model: Model = "default",
    texts: Texts = Texts(),
    named: _Concepts = True,
    folder: _Folder = None,
    machine: Machine = Machine(),
    as_json: Json = False,
) -> None:
    """Build a model's atlas: one pass over a corpus, all layers at once. Stopped or killed, it goes on when started again."""
    from neurons.atlas.build import build_atlas
    from neurons.detectors.build import known_or_built

    settings = texts.settings()
    loaded = load(model, device=machine.device, dtype=machine.dtype)
    with stderr_progress() as progress:
        atlas, skipped = build_atlas(loaded, settings, folder=folder, progress=progress)
        made = known_or_built(loaded, progress=progress) if named else None
    answer = {**_fields(atlas.info), "folder": atlas.folder, "skipped": skipped}
    if made is not None:
        answer["concepts"] = {"concepts": len(made), "found": int(made.found.sum())}
    lines = [_human(atlas.info, len(skipped)), *([] if made is None else [atlas_concepts.human(made)])]
    emit(answer, as_json, "\n".join(lines))


@takes_options
def collect_shard(
    model: Model = "default",
    shard: Annotated[str, typer.Option(help="Which part of the work: i/n, counted from 0.")] = "0/1",
    texts: Annotated[Texts, leaving_out("probe")] = Texts(probe=False),
    folder: _Folder = None,
    ray: Annotated[int, typer.Option(help="Do all shards on a Ray cluster with this many actors instead.")] = 0,
    gpus: Annotated[float, typer.Option(help="With --ray: GPUs per actor.")] = 0,
    machine: Machine = Machine(),
    as_json: Json = False,
) -> None:
    """Do one shard of a collection (the same command on a laptop, in a job array or on Ray), to be merged."""
    from neurons.atlas.build import prepare_collection
    from neurons.atlas.collect import collect, collection_info

    settings = texts.settings()
    number, count = _shard(shard)
    loaded = load(model, device=machine.device, dtype=machine.dtype)
    with stderr_progress() as progress:
        place, skipped = prepare_collection(loaded, settings, folder=folder, progress=progress)
        if ray:
            from neurons.atlas.ray_cluster import Workers, collect_on_ray

            del loaded
            collect_on_ray(place, model=model, dtype=machine.dtype, workers=Workers(actors=ray, gpus=gpus), progress=progress)
        else:
            collect(loaded, place, shard=number, shards=count, progress=progress)
    found = collection_info(place)
    rows = [(name, entry["blocks"], entry["tokens"]) for name, entry in found["shards"].items()]
    emit({**found, "folder": place, "skipped": skipped}, as_json, lambda: f"{place}\n" + table(("shard", "blocks", "tokens"), rows))


@takes_options
def merge_shards(
    model: Model = "default",
    folder: _Folder = None,
    probe: _Probe = True,
    output: Annotated[Path | None, typer.Option(help="Write the atlas here. [default: the model's own place]", show_default=False)] = None,
    compact: Annotated[
        bool, typer.Option(help="Keep only the order statistics that quantiles are read at, as the shipped atlas does.")
    ] = False,
    machine: Machine = Machine(),
    as_json: Json = False,
) -> None:
    """Add the collected shards up, exactly and in any order, and write the atlas."""
    from neurons.atlas.build import collection_folder, finish
    from neurons.atlas.finalise import FinaliseSettings

    loaded = load(model, device=machine.device, dtype=machine.dtype)
    with stderr_progress() as progress:
        settings = FinaliseSettings(probe=probe, all_extremes=not compact)
        atlas = finish(loaded, folder or collection_folder(loaded.ref), target=output, settings=settings, progress=progress)
    emit({**_fields(atlas.info), "folder": atlas.folder}, as_json, lambda: _human(atlas.info, 0))


def info(
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="The atlas of this model. [default: all of them]", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Say which atlases are on this machine, from how many tokens and which texts, and what is described."""
    from neurons.atlas.store import damaged_atlases, list_atlases

    if model is not None:
        atlas = _atlas(model)
        sources = [(s["name"], s["domain"], s["tokens"], s["share"], s["licence"]) for s in atlas.info.sources]
        heads = ("source", "kind", "tokens", "share", "licence")
        emit({**_fields(atlas.info), "folder": atlas.folder}, as_json, lambda: f"{_human(atlas.info, 0)}\n\n{table(heads, sources)}")
        return
    found = list_atlases()
    rows = [(i.model.name, i.model.weights_hash[:12], i.tokens, i.documents, i.described, "yes" if i.shipped else "") for i in found]
    damaged = [{"folder": folder, "reason": why} for folder, why in damaged_atlases()]

    def human() -> str:
        lines = [table(("model", "weights", "tokens", "documents", "described", "shipped"), rows)]
        return "\n".join([*lines, *(f"damaged and left out: {one['reason']}" for one in damaged)])

    emit({"atlases": found, "damaged": damaged}, as_json, human)


def export(
    path: Annotated[Path, typer.Argument(help="The file to write: .csv, .parquet, .jsonl, or .zip for the whole atlas.")],
    model: Model = "default",
    what: Annotated[
        str, typer.Option(help="neurons, exemplars, explanations or activations (the last two in Neuronpedia's format).")
    ] = "neurons",
    count: Annotated[int, typer.Option(help="Exemplars per neuron side.")] = 24,
    as_json: Json = False,
) -> None:
    """Write an atlas out, for other tools or another machine."""
    from neurons.atlas import exchange
    from neurons.storage.table_files import write_rows

    atlas = _atlas(model)
    if path.suffix.lower() == ".zip":
        exchange.export_zip(atlas, path)
        emit({"path": path, "rows": None}, as_json, f"{path}: the whole atlas")
        return
    with stderr_progress() as progress:
        text = _pieces(model)
        rows: Any
        if what == "neurons":
            rows = exchange.neuron_table(atlas, text, progress=progress).to_dict("records")
        elif what == "exemplars":
            rows = exchange.exemplar_table(atlas, text, count=count, progress=progress)
        elif what == "explanations":
            rows = exchange.neuronpedia_explanations(atlas, model_id=atlas.ref.name)
        elif what == "activations":
            rows = exchange.neuronpedia_activations(atlas, text, model_id=atlas.ref.name, count=count)
        else:
            raise InvalidInput(f"an atlas has no {what!r} to export; use neurons, exemplars, explanations or activations", field="what")
        written = write_rows(path, rows)
    emit({"path": path, "rows": written}, as_json, f"{path}: {written:,} rows")


def import_atlas(
    path: Annotated[Path, typer.Argument(help="An exported .zip, or a table of descriptions (.csv, .parquet, .jsonl).")],
    model: Model = "default",
    as_json: Json = False,
) -> None:
    """Take in an exported atlas, or descriptions: Neuronpedia's records or a table of layer, neuron, polarity, description, score."""
    from neurons.atlas import exchange
    from neurons.atlas.store import atlas_folder
    from neurons.describing.imported import import_descriptions

    if not path.is_file():
        raise InvalidInput(f"{path} does not exist; give the path of a file", field="path")
    if path.suffix.lower() == ".zip" and not zipfile.is_zipfile(path):  # before a model is looked for
        raise InvalidFile(f"{path.name} is not a zip file; give what `atlas export` wrote", field="path")
    ref = _ref(model)
    if path.suffix.lower() == ".zip":
        atlas = exchange.import_zip(path, atlas_folder(ref), ref=ref)
        emit({**_fields(atlas.info), "folder": atlas.folder}, as_json, lambda: _human(atlas.info, 0))
        return
    found = exchange.read_descriptions(path, ref)
    with stderr_progress(quiet=as_json) as progress:
        atlas = import_descriptions(found.table, ref, author=path.name, progress=progress)
    result = {"rows": len(found.table), "skipped": found.skipped, "folder": atlas.folder}
    emit(result, as_json, f"{len(found.table):,} descriptions taken in, {len(found.skipped):,} rows skipped")


def _shard(text: str) -> tuple[int, int]:
    number, _, count = text.partition("/")
    if not all(part.isdecimal() and len(part) < 7 for part in (number, count)) or int(number) >= int(count):
        raise InvalidInput(f"--shard is {text[:60]!r}; write i/n, such as 0/4, with i from 0 to n - 1", field="shard")
    return int(number), int(count)


def _ref(model: str) -> Any:
    from neurons.models.reference import model_ref

    return model_ref(model)


def _atlas(model: str) -> Atlas:
    from neurons.atlas.store import open_atlas

    ref = _ref(model)
    atlas = open_atlas(ref)
    if atlas is None:
        raise NotFound(f"there is no atlas of {ref.name}; build one with `neuronscope atlas build --model {model}`")
    return atlas


def _pieces(model: str) -> Pieces:
    from neurons.models.reference import tokenizer_of
    from neurons.models.token_texts import kept_pieces

    return kept_pieces(tokenizer_of(model))


def _human(found: AtlasInfo, skipped: int) -> str:
    lines = [
        f"{found.model.name}: {found.tokens:,} tokens from {found.documents:,} documents",
        f"{found.model.n_layers} layers x {found.model.n_neurons} neurons, {found.described:,} neuron sides described",
    ]
    lines += [f"texts: {source['origin']}" for source in found.sources if source["domain"] == "own"]
    if found.note:
        lines.append(found.note)
    if skipped:
        lines.append(f"{skipped:,} parts of the corpus were skipped (--json lists them)")
    return "\n".join(lines)


def _fields(found: AtlasInfo) -> dict[str, Any]:
    from neurons.core.json_text import plain

    fields: dict[str, Any] = plain(found)
    return fields
