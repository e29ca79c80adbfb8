"""Building, describing, scoring, asking and exporting as jobs: on disk, so that a reload or a restart finds them again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neurons.atlas import exchange
from neurons.atlas.build import BuildSettings, build_atlas, collection_folder, prepare_collection
from neurons.atlas.plan import CollectSettings
from neurons.atlas.store import Atlas, open_atlas, open_folder
from neurons.core.errors import InvalidInput, NotFound
from neurons.core.home import subfolder
from neurons.core.progress import Progress
from neurons.core.types import ModelRef, NeuronSide
from neurons.describing.endpoint import KEY_VARIABLE, Endpoint
from neurons.describing.explainer import DescribeSettings, describe_atlas
from neurons.describing.imported import own_copy
from neurons.describing.improve import improve_descriptions, needing
from neurons.describing.rescore import rescore
from neurons.models.chat import token_text
from neurons.models.loaded import LoadedModel
from neurons.storage.job_files import Job
from neurons.storage.jobs import JobContext, JobRunner
from neurons.storage.manifest import MANIFEST

BUILD, DESCRIBE, SCORE, ASK, EXPORT = "atlas-build", "atlas-describe", "atlas-score", "atlas-ask", "atlas-export"
WRITING = (BUILD, DESCRIBE, SCORE, ASK)
"""Jobs that change an atlas."""
EXPORTS = {
    "neurons": "One row per neuron: figures, tokens, description",
    "exemplars": "One row per exemplar: where each neuron is strongest",
    "explanations": "Descriptions as Neuronpedia's records",
    "activations": "Exemplars as Neuronpedia's records",
    "atlas": "The whole atlas, for another machine",
}
FORMATS = {"neurons": ("parquet", "csv", "jsonl"), "exemplars": ("jsonl", "csv"), "explanations": ("jsonl",), "activations": ("jsonl",)}
Load = Callable[[Mapping[str, Any], Progress], LoadedModel]
"""Gives the model for a job's parameters, or raises."""


@dataclass(frozen=True)
class Built:
    """What a build made. `skipped` are texts that could not be read."""

    tokens: int
    documents: int
    skipped: int


@dataclass(frozen=True)
class Described:
    """How many neuron sides have a description after describing or scoring."""

    described: int


@dataclass(frozen=True)
class Asked:
    """What came of asking a language model about neurons."""

    asked: int
    replaced: int
    kept: int
    """Their old description predicts as well."""
    failed: int
    """No usable answer came; the next run asks again."""


@dataclass(frozen=True)
class Exported:
    """The file that was made. `rows` is None for a whole atlas."""

    path: str
    rows: int | None


def register(jobs: JobRunner, load: Load) -> None:
    """Teach a runner to do these. `load` gives the model a job belongs to, or raises."""
    for kind, work in ((BUILD, _build), (DESCRIBE, _describe), (SCORE, _score), (ASK, _ask), (EXPORT, _export)):
        jobs.register(kind, _worker(work, load))


def jobs_of(jobs: JobRunner, ref: ModelRef, *kinds: str) -> list[Job]:
    """This model's jobs of these kinds, newest first."""
    return [job for job in jobs.list() if job.kind in kinds and job.params.get("model") == ref.weights_hash]


def check_free(jobs: JobRunner, ref: ModelRef) -> None:
    """Raise `InvalidInput` while a job works on this model's atlas: two at once would write over each other."""
    busy = next((job for job in jobs_of(jobs, ref, *WRITING) if job.active), None)
    if busy is not None:
        raise InvalidInput(f"“{busy.title}” is at work on this atlas; wait for it or stop it first")


Outcome = Built | Described | Asked | Exported


def _worker(work: Callable[[JobContext, LoadedModel], Outcome], load: Load) -> Callable[[JobContext], dict[str, Any]]:
    return lambda context: asdict(work(context, load(context.params, context.progress)))


def collected(ref: ModelRef) -> int | None:
    """Tokens collected so far by an atlas build of this model; None when there is no collection."""
    folder = collection_folder(ref)
    if not (folder / "plan.json").exists():
        return None
    total = 0
    for path in folder.glob("shard-*-of-*/current.json"):
        with suppress(OSError, ValueError, KeyError):
            total += int(json.loads(path.read_text(encoding="utf-8"))["tokens"])
    return total


def build_params(settings: BuildSettings) -> dict[str, Any]:
    """Build settings as a job keeps them."""
    return {"settings": asdict(settings)}


def _settings(params: Mapping[str, Any]) -> BuildSettings:
    given = dict(params["settings"])
    return BuildSettings(**{**given, "corpus": tuple(given["corpus"]), "collect": CollectSettings(**given["collect"])})


def _build(context: JobContext, loaded: LoadedModel) -> Built:
    settings = _settings(context.params)
    _, skipped = prepare_collection(loaded, settings, progress=context.progress)
    for number, one in enumerate(skipped):
        context.add_row({"row": f"{number + 1}. {one.name}", "error": one.reason})
    atlas, _ = build_atlas(loaded, settings, progress=context.progress)
    return Built(atlas.tokens, atlas.info.documents, len(skipped))


def own_atlas(ref: ModelRef) -> Atlas:
    """The user's atlas of exactly this model, copied from the shipped one first where there is none. Raises `NotFound`."""
    folder = own_copy(ref)
    if not (folder / MANIFEST).exists():
        raise NotFound(f"there is no atlas of exactly {ref.name}; build one first")
    return open_folder(folder, ref=ref)


def _describe(context: JobContext, loaded: LoadedModel) -> Described:
    from neurons.concepts.embed import embedder

    settings = DescribeSettings(int(context.params["tokens"]), int(context.params["held"]), secondary=bool(context.params["secondary"]))
    described = describe_atlas(
        loaded,
        own_atlas(loaded.ref),
        settings=settings,
        encode=lambda texts: embedder().encode(texts, progress=context.progress),
        progress=context.progress,
    )
    return Described(described.info.described)


def _score(context: JobContext, loaded: LoadedModel) -> Described:
    atlas = own_atlas(loaded.ref)
    scored = rescore(
        loaded, atlas, tokens=int(context.params["tokens"]), secondary=bool(context.params["secondary"]), progress=context.progress
    )
    return Described(scored.info.described)


def endpoint_of(values: Mapping[str, Any]) -> Endpoint:
    """The endpoint that the form or a job names, with the key of the environment. Raises `InvalidInput`."""
    return Endpoint(**values, api_key=os.environ.get(KEY_VARIABLE, "none")).check()


def sides_to_ask(atlas: Atlas, typed: str, limit: int) -> tuple[NeuronSide, ...]:
    """The typed neurons, else those that need a better description most. Raises `NotFound`, `InvalidSteer`."""
    table = atlas.descriptions()
    if table is None:
        raise NotFound("this atlas has no descriptions yet; describe it without a language model first")
    if typed.strip():
        return tuple(dict.fromkeys(NeuronSide.parse(part) for part in typed.replace("\n", ",").split(",") if part.strip()))
    return needing(table, most=limit)


def _ask(context: JobContext, loaded: LoadedModel) -> Asked:
    atlas = own_atlas(loaded.ref)
    sides = sides_to_ask(atlas, str(context.params["neurons"]), int(context.params["limit"]))
    done = improve_descriptions(loaded, atlas, endpoint_of(context.params["endpoint"]), sides, progress=context.progress)
    for reason, count in sorted(done.tally.failures.items()):
        context.add_row({"row": f"{count} answers", "error": reason})
    return Asked(len(sides), done.replaced, done.kept, done.failed)


def _export(context: JobContext, loaded: LoadedModel) -> Exported:
    what, suffix, count = str(context.params["what"]), str(context.params["format"]), int(context.params["count"])
    atlas = open_atlas(loaded.ref)
    if atlas is None:
        raise NotFound(f"there is no atlas of {loaded.ref.name}")
    path = subfolder("exports") / context.job.id / f"{what}.{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    if what == "atlas":
        context.progress(0, None, "packing the atlas")
        exchange.export_zip(atlas, path)
        return Exported(str(path), None)
    rows: Any

    def text(token: int) -> str:
        return token_text(loaded, token)

    if what == "neurons":
        rows = exchange.neuron_table(atlas, text, progress=context.progress).to_dict("records")
    elif what == "exemplars":
        rows = exchange.exemplar_table(atlas, text, count=count, progress=context.progress)
    elif what == "explanations":
        rows = exchange.neuronpedia_explanations(atlas, model_id=loaded.ref.name)
    else:
        rows = exchange.neuronpedia_activations(atlas, text, model_id=loaded.ref.name, count=count)
    return Exported(str(path), exchange.write_rows(path, _watched(rows, context)))


def _watched(rows: Any, context: JobContext) -> Any:
    for number, row in enumerate(rows):
        if number % 500 == 0:
            context.check()
        yield row


def file_of(made: Exported) -> Path | None:
    """The file that an export made, while it is there."""
    path = Path(made.path)
    return path if path.is_file() else None
