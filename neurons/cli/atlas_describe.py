"""`neuronscope atlas describe | score`: put what neurons do into words, and see how well the words predict them."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurons.cli.common import Device, Dtype, Json, Machine, Model, emit, load, stderr_progress, table
from neurons.cli.options import takes_options
from neurons.core.errors import InvalidInput, NotFound
from neurons.core.progress import Progress
from neurons.core.types import NeuronSide

if TYPE_CHECKING:
    from neurons.atlas.store import Atlas
    from neurons.describing.endpoint import Endpoint
    from neurons.models.loaded import LoadedModel

_COLUMNS = ("layer", "sides", "scored", "unclear", "score", "null", "ceiling", "auprc", "auprc_null", "top_random")


@dataclass(frozen=True)
class Asking:
    """Which endpoint is asked, about what, and how."""

    endpoint: Annotated[
        str | None, typer.Option(help="Ask a language model at this OpenAI-compatible address too.", show_default=False)
    ] = None
    endpoint_model: Annotated[str, typer.Option(help="The model that the endpoint serves.")] = ""
    candidates: Annotated[int, typer.Option(help="Descriptions to ask for per neuron side.")] = 3
    concurrency: Annotated[int, typer.Option(help="Requests at a time.")] = 4
    per_minute: Annotated[float, typer.Option(help="Most requests per minute; 0 for no limit.")] = 0
    limit: Annotated[int, typer.Option(help="Neuron sides to ask about, those that need it most first.", min=1)] = 200
    neurons: Annotated[str | None, typer.Option(help="Ask about these, such as 17:803,4:12-.", show_default=False)] = None
    price_in: Annotated[float, typer.Option(help="Price per million prompt tokens, for the forecast.")] = 0
    price_out: Annotated[float, typer.Option(help="Price per million answer tokens.")] = 0
    forecast_only: Annotated[bool, typer.Option("--forecast", help="Only predict tokens, cost and time.")] = False

    def service(self) -> Endpoint | None:
        """The endpoint, with the key of the environment; None where none is asked. Raises `InvalidInput`."""
        from neurons.describing.endpoint import KEY_VARIABLE, Endpoint

        if self.endpoint is None:
            return None
        return Endpoint(
            self.endpoint,
            self.endpoint_model,
            api_key=os.environ.get(KEY_VARIABLE, "none"),
            candidates=self.candidates,
            concurrency=self.concurrency,
            requests_per_minute=self.per_minute,
            price_in=self.price_in,
            price_out=self.price_out,
        ).check()


def register(group: typer.Typer) -> None:
    """Add the two commands to the group `atlas`."""
    group.command("describe")(describe)
    group.command("score")(score)


@takes_options
def describe(
    model: Model = "default",
    tokens: Annotated[int | None, typer.Option(help="Describing tokens to fit on. [default: 131072]", show_default=False)] = None,
    held: Annotated[int | None, typer.Option(help="Held-out tokens to score on. [default: 49152]", show_default=False)] = None,
    secondary: Annotated[bool, typer.Option("--secondary", help="Also the published top-and-random score (slow).")] = False,
    asked: Asking = Asking(),
    machine: Machine = Machine(),
    as_json: Json = False,
) -> None:
    """Describe every neuron of a model's atlas and score the descriptions; with --endpoint, ask a language model about the poor ones.

    The endpoint's key, where it needs one, is read from the environment variable NEURONSCOPE_API_KEY.
    """
    from neurons.describing.imported import own_atlas

    service = asked.service()
    loaded = load(model, device=machine.device, dtype=machine.dtype, quiet=as_json)
    atlas = own_atlas(loaded.ref)
    with stderr_progress(quiet=as_json) as progress:
        if service is None:
            answer = _template(loaded, atlas, tokens, held, secondary, progress)
        else:
            answer = _ask(loaded, atlas, service, asked, progress)
    emit(answer, as_json, lambda: _text(answer))


def score(
    model: Model = "default",
    tokens: Annotated[
        int | None, typer.Option(help="Held-out tokens to score on; without it the scores are only shown.", show_default=False)
    ] = None,
    secondary: Annotated[bool, typer.Option("--secondary", help="Also the published top-and-random score (slow).")] = False,
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Show how well the descriptions predict held-out activations, layer by layer; with --tokens, score them again."""
    from neurons.cli.search import described_model
    from neurons.describing.imported import own_atlas
    from neurons.describing.rescore import TOKENS, rescore, summarise

    if tokens is None and not secondary:
        from neurons.atlas.store import open_atlas

        ref = described_model(model)
        atlas = open_atlas(ref)
        if atlas is None:
            raise NotFound(f"there is no atlas of {ref.name}; build one with `neuronscope atlas build`")
    else:
        loaded = load(model, device=device, dtype=dtype, quiet=as_json)
        with stderr_progress(quiet=as_json) as progress:
            atlas = rescore(loaded, own_atlas(loaded.ref), tokens=tokens or TOKENS, secondary=secondary, progress=progress)
    frame = atlas.descriptions()
    if frame is None:
        raise NotFound("this atlas has no descriptions yet; run `neuronscope atlas describe`")
    answer = {"model": atlas.ref.name, "rows": [asdict(row) for row in summarise(frame)]}
    emit(answer, as_json, lambda: _text(answer))


def _template(
    loaded: LoadedModel, atlas: Atlas, tokens: int | None, held: int | None, secondary: bool, progress: Progress
) -> dict[str, Any]:
    from neurons.concepts.embed import embedder
    from neurons.describing.explainer import DescribeSettings, describe_atlas
    from neurons.describing.rescore import summarise

    standard = DescribeSettings()
    settings = DescribeSettings(tokens or standard.tokens, held or standard.held_tokens, secondary=secondary)
    described = describe_atlas(
        loaded, atlas, settings=settings, encode=lambda texts: embedder().encode(texts, progress=progress), progress=progress
    )
    frame = described.descriptions()
    return {"model": loaded.ref.name, "rows": [asdict(row) for row in summarise(frame)] if frame is not None else []}


def _ask(loaded: LoadedModel, atlas: Atlas, service: Endpoint, asked: Asking, progress: Progress) -> dict[str, Any]:
    from neurons.describing.endpoint import Client
    from neurons.describing.improve import improve_descriptions, needing, predict_run
    from neurons.describing.survey import piece_table

    frame = atlas.descriptions()
    if frame is None:
        raise NotFound("this atlas has no descriptions yet; run `neuronscope atlas describe` without an endpoint first")
    if asked.neurons is not None:
        sides = tuple(NeuronSide.parse(part) for part in asked.neurons.split(",") if part.strip())
        if not sides:
            raise InvalidInput("--neurons names no neuron; write 17:803,4:12-", field="neurons")
    else:
        sides = needing(frame, most=asked.limit)
    client = Client(service)
    try:
        expected = predict_run(client, atlas, piece_table(loaded), sides)
    finally:
        client.close()
    if asked.forecast_only:
        return {"model": loaded.ref.name, "forecast": asdict(expected)}
    done = improve_descriptions(loaded, atlas, service, sides, progress=progress)
    tally = {name: value for name, value in vars(done.tally).items() if not name.startswith("_")}
    return {
        "model": loaded.ref.name,
        "forecast": asdict(expected),
        "replaced": done.replaced,
        "kept": done.kept,
        "failed": done.failed,
        "requests": tally,
    }


def _text(answer: dict[str, Any]) -> str:
    if "rows" in answer:
        rows = [[("all" if row[c] == -1 else row[c]) if c == "layer" else row[c] for c in _COLUMNS] for row in answer["rows"]]
        return (
            table(_COLUMNS, rows)
            + "\nmedians; score, null and ceiling are correlations on held-out text; top_random is the published, flattering protocol"
        )
    lines = [f"forecast: {answer['forecast']}"]
    if "replaced" in answer:
        lines.append(
            f"{answer['replaced']} descriptions replaced, {answer['kept']} templates kept, {answer['failed']} without a usable answer"
        )
        lines.append(f"requests: {answer['requests']}")
    return "\n".join(lines)
