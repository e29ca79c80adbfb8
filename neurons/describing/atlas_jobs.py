"""Building, describing, scoring, asking and exporting as jobs: on disk, so that a reload or a restart finds them again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict

from neurons.atlas import exchange
from neurons.atlas.build import BuildSettings, build_atlas, collection_folder, prepare_collection
from neurons.atlas.store import Atlas, open_atlas
from neurons.core.errors import InvalidInput, NotFound
from neurons.core.home import subfolder
from neurons.core.progress import Progress
from neurons.core.types import ModelRef, NeuronSide
from neurons.describing.endpoint import KEY_VARIABLE, Endpoint
from neurons.describing.explain import Explaining, needing_headlines
from neurons.describing.explainer import DescribeSettings, describe_atlas
from neurons.describing.imported import own_atlas
from neurons.describing.improve import improve_descriptions, needing
from neurons.describing.rescore import rescore
from neurons.describing.survey import piece_table
from neurons.detectors.build import JOB_KIND, job_worker, known_or_built
from neurons.models.loaded import LoadedModel
from neurons.models.token_texts import kept_pieces
from neurons.storage.job_files import Job
from neurons.storage.job_parameters import JobParameters
from neurons.storage.jobs import JobContext, JobRunner
from neurons.storage.table_files import write_rows

BUILD, DESCRIBE, SCORE, ASK, EXPORT = "atlas-build", "atlas-describe", "atlas-score", "atlas-ask", "atlas-export"
FIND = JOB_KIND
"""Finding the neurons of the named concepts."""
WRITING = (BUILD, DESCRIBE, SCORE, ASK, FIND)
"""Jobs that change what is known of a model: one at a time."""
What = Literal["neurons", "exemplars", "explanations", "activations", "atlas"]
"""A key of `EXPORTS`."""
EXPORTS: dict[What, str] = {
    "neurons": "One row per neuron: figures, tokens, description",
    "exemplars": "One row per exemplar: where each neuron is strongest",
    "explanations": "Descriptions as Neuronpedia's records",
    "activations": "Exemplars as Neuronpedia's records",
    "atlas": "The whole atlas, for another machine",
}
FORMATS = {"neurons": ("parquet", "csv", "jsonl"), "exemplars": ("jsonl", "csv"), "explanations": ("jsonl",), "activations": ("jsonl",)}
Load = Callable[[JobParameters, Progress], LoadedModel]
"""Gives the model for a job's parameters, or raises."""


class BuildParameters(JobParameters):
    """Of a build."""

    settings: BuildSettings
    concepts: bool = True
    """Whether the neurons of the named concepts are found afterwards."""


class DescribeParameters(JobParameters):
    """Of describing without a language model."""

    tokens: int
    held: int
    """Held-out tokens, for the scores."""
    secondary: bool = False
    """Also the published score."""


class ScoreParameters(JobParameters):
    """Of scoring again."""

    tokens: int
    secondary: bool = False


class EndpointParameters(BaseModel):
    """Which endpoint is asked, and how. The key is no parameter: it comes from the environment and is never written."""

    model_config = ConfigDict(frozen=True)

    base_url: str
    model: str
    candidates: int = Endpoint.candidates
    concurrency: int = Endpoint.concurrency
    requests_per_minute: float = Endpoint.requests_per_minute
    price_in: float = Endpoint.price_in
    price_out: float = Endpoint.price_out

    def endpoint(self) -> Endpoint:
        """The endpoint, checked, with the key of the environment. Raises `InvalidInput`."""
        return Endpoint(**self.model_dump(), api_key=os.environ.get(KEY_VARIABLE, "none")).check()


class AskParameters(JobParameters):
    """Of asking a language model."""

    endpoint: EndpointParameters
    neurons: str = ""
    """Typed neurons; empty takes those that need a better text most."""
    limit: int = 200
    what: Literal["detail", "headline"] = "detail"
    """The line of the grammar, judged by how well it predicts; or a headline in free words, judged by the same language model."""


class ExportParameters(JobParameters):
    """Of an export."""

    what: What
    format: str
    count: int = 24
    """Exemplars per neuron side."""


@dataclass(frozen=True)
class Built:
    """What a build made. `skipped` are texts that could not be read."""

    tokens: int
    documents: int
    skipped: int
    found: int = 0
    """Named concepts whose neurons were found."""


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
    """Their old text is as good."""
    failed: int
    """No usable answer came; the next run asks again."""
    what: str = "detail"


@dataclass(frozen=True)
class Exported:
    """The file that was made. `rows` is None for a whole atlas."""

    path: str
    rows: int | None


def register(jobs: JobRunner, load: Load) -> None:
    """Teach a runner to do these. `load` gives the model a job belongs to, or raises."""
    for kind, work in ((BUILD, _build), (DESCRIBE, _describe), (SCORE, _score), (ASK, _ask), (EXPORT, _export)):
        jobs.register(kind, _worker(work, load))
    jobs.register(FIND, job_worker(load))


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
    return lambda context: asdict(work(context, load(context.parameters(JobParameters), context.progress)))


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


def _build(context: JobContext, loaded: LoadedModel) -> Built:
    params = context.parameters(BuildParameters)
    settings = params.settings
    _, skipped = prepare_collection(loaded, settings, progress=context.progress)
    for number, one in enumerate(skipped):
        context.add_row({"row": f"{number + 1}. {one.name}", "error": one.reason})
    atlas, _ = build_atlas(loaded, settings, progress=context.progress)
    made = known_or_built(loaded, progress=context.progress) if params.concepts else None
    return Built(atlas.tokens, atlas.info.documents, len(skipped), 0 if made is None else int(made.found.sum()))


def _describe(context: JobContext, loaded: LoadedModel) -> Described:
    from neurons.concepts.embed import embedder

    params = context.parameters(DescribeParameters)
    settings = DescribeSettings(params.tokens, params.held, secondary=params.secondary)
    described = describe_atlas(
        loaded,
        own_atlas(loaded.ref),
        settings=settings,
        encode=lambda texts: embedder().encode(texts, progress=context.progress),
        progress=context.progress,
    )
    return Described(described.info.described)


def _score(context: JobContext, loaded: LoadedModel) -> Described:
    params = context.parameters(ScoreParameters)
    scored = rescore(loaded, own_atlas(loaded.ref), tokens=params.tokens, secondary=params.secondary, progress=context.progress)
    return Described(scored.info.described)


def sides_to_ask(atlas: Atlas, typed: str, limit: int) -> tuple[NeuronSide, ...]:
    """The typed neurons, else those that need a better description most. Raises `NotFound`, `InvalidSteer`."""
    return _typed(typed) or needing(_described(atlas), most=limit)


def sides_to_explain(atlas: Atlas, typed: str, limit: int) -> tuple[NeuronSide, ...]:
    """The typed neurons, else those that need a better headline most. Raises `NotFound`, `InvalidSteer`."""
    return _typed(typed) or needing_headlines(_described(atlas), most=limit)


def _typed(text: str) -> tuple[NeuronSide, ...]:
    return tuple(dict.fromkeys(NeuronSide.parse(part) for part in text.replace("\n", ",").split(",") if part.strip()))


def _described(atlas: Atlas) -> pd.DataFrame:
    table = atlas.descriptions()
    if table is None:
        raise NotFound("this atlas has no descriptions yet; describe it without a language model first")
    return table


def _ask(context: JobContext, loaded: LoadedModel) -> Asked:
    atlas = own_atlas(loaded.ref)
    params = context.parameters(AskParameters)
    endpoint = params.endpoint.endpoint()
    if params.what == "headline":
        sides = sides_to_explain(atlas, params.neurons, params.limit)
        explained = Explaining(atlas, piece_table(loaded), endpoint).run(sides, progress=context.progress)
        replaced, kept, failed, tally = explained.replaced, explained.kept, explained.failed, explained.tally
    else:
        sides = sides_to_ask(atlas, params.neurons, params.limit)
        improved = improve_descriptions(loaded, atlas, endpoint, sides, progress=context.progress)
        replaced, kept, failed, tally = improved.replaced, improved.kept, improved.failed, improved.tally
    for reason, count in tally.told():
        context.add_row({"row": f"{count} answers", "error": reason})
    return Asked(len(sides), replaced, kept, failed, params.what)


def _export(context: JobContext, loaded: LoadedModel) -> Exported:
    params = context.parameters(ExportParameters)
    what, suffix, count = params.what, params.format, params.count
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
    text = kept_pieces(loaded.tokenizer)
    if what == "neurons":
        rows = exchange.neuron_table(atlas, text, progress=context.progress).to_dict("records")
    elif what == "exemplars":
        rows = exchange.exemplar_table(atlas, text, count=count, progress=context.progress)
    elif what == "explanations":
        rows = exchange.neuronpedia_explanations(atlas, model_id=loaded.ref.name)
    else:
        rows = exchange.neuronpedia_activations(atlas, text, model_id=loaded.ref.name, count=count)
    return Exported(str(path), write_rows(path, _watched(rows, context)))


def _watched(rows: Any, context: JobContext) -> Any:
    for number, row in enumerate(rows):
        if number % 500 == 0:
            context.check()
        yield row


def file_of(made: Exported) -> Path | None:
    """The file that an export made, while it is there."""
    path = Path(made.path)
    return path if path.is_file() else None
