"""`neuronscope search | neuron | clusters`: find neurons by meaning, read one, group those of a trace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurons.cli.common import Json, Machine, Model, emit, load, stderr_progress, table
from neurons.cli.options import takes_options
from neurons.core.errors import InvalidInput, ModelError
from neurons.core.percent import percent
from neurons.core.steers import parse_ranges
from neurons.core.types import NeuronSide, TargetSpec

if TYPE_CHECKING:
    from neurons.concepts.active import Active
    from neurons.concepts.clusters import Cluster
    from neurons.concepts.search import Filters, Hit, SearchIndex
    from neurons.core.progress import Progress
    from neurons.core.types import ModelRef
    from neurons.models.loaded import LoadedModel
    from traces.schema import TraceRecord

Top = Annotated[int, typer.Option("--top", "-k", help="Rows to print.", min=1, max=100_000)]


def register(app: typer.Typer) -> None:
    """Add the three commands."""
    app.command()(search)
    app.command()(neuron)
    app.command()(clusters)


def described_model(model: str) -> ModelRef:
    """The model that a name means, by the weights that lie under it on this machine; where none do, the atlas of that name speaks.

    Raises what `load_model` raises.
    """
    from neurons.atlas.store import list_atlases
    from neurons.models.load import find_source
    from neurons.models.reference import model_ref

    atlases = [info.model for info in list_atlases()]
    try:
        found = find_source(model, fetch=False).weights_hash()
    except ModelError:
        named = [ref for ref in atlases if model in (ref.id, ref.name)]
        return named[0] if named else model_ref(model)
    return next((ref for ref in atlases if ref.weights_hash == found), None) or model_ref(model)


def parse_layers(text: str | None) -> tuple[int, int] | None:
    """Read "10:20" or "12": first and last layer, both included."""
    if text is None:
        return None
    first, _, last = text.partition(":")
    numbers = [part.strip() for part in (first, last or first)]
    if not all(number.isdecimal() and len(number) < 10 for number in numbers):
        raise InvalidInput(f"layers are {text[:60]!r}; write the first and the last, such as 10:20", field="layers")
    return int(numbers[0]), int(numbers[1])


@dataclass(frozen=True)
class FilterOptions:
    """Which neurons are looked at."""

    polarity: Annotated[str | None, typer.Option(help="+ or -. [default: both]", show_default=False)] = None
    layers: Annotated[str | None, typer.Option(help="First and last layer, such as 10:20.", show_default=False)] = None
    keyword: Annotated[str, typer.Option(help="Words that must stand in the description or beside it.")] = ""
    kind: Annotated[list[str] | None, typer.Option(help="Type of neuron, such as token or meaning; several times for several.")] = None
    least_score: Annotated[float | None, typer.Option(help="Lowest held-out correlation that the description may have.")] = None
    clear: Annotated[bool, typer.Option("--clear", help="Leave out neurons whose description is unclear.")] = False

    def filters(self) -> Filters:
        """As a search takes them. Raises `InvalidInput` for a polarity or layers that are none."""
        from neurons.concepts.search import Filters

        if self.polarity not in (None, "+", "-"):
            raise InvalidInput(f"polarity is {self.polarity!r}; use + or -", field="polarity")
        kinds = tuple(self.kind or ())
        return Filters(self.keyword, parse_layers(self.layers), self.polarity, self.least_score, kinds, self.clear)  # type: ignore[arg-type]


@takes_options
def search(
    text: Annotated[str, typer.Argument(help='What the neurons should be about, such as "court and law"; "" lists by the filters alone.')],
    top: Top = 20,
    only: FilterOptions = FilterOptions(),
    model: Model = "default",
    as_json: Json = False,
) -> None:
    """Find the neurons that fire most on texts about something.

    "match" is how their activation goes with the meaning of the words over the corpus; below .2 no neuron is clearly about them. Neurons
    that read it and make its words less likely come last.
    """
    from neurons.concepts.search import match_note, open_search

    filters = only.filters()
    index = open_search(described_model(model))
    hits = index.search(text, top=top, filters=filters)
    best = max((hit.reading for hit in hits), default=None)
    match = match_note(text, best) if text.strip() and index.space.has_readings else ""
    columns = ("neuron", "headline", "similarity", "match", "score", "kind", "writes")
    rows = [(str(hit.side), hit.headline, hit.similarity, hit.reading, hit.score, hit.kind, _written(hit)) for hit in hits]
    answer = {"text": text, "model": index.atlas.ref.name, "note": index.atlas.info.note, "match": match, "rows": hits}
    emit(answer, as_json, lambda: "\n".join(filter(None, [table(columns, rows), match])))


def _written(hit: Hit) -> str:
    return f"{hit.writes} (works against it)" if hit.leaning < 0 else hit.writes


def neuron(
    name: Annotated[str, typer.Argument(metavar="L:I", help="Layer and index, such as 17:803 or 17:803-.")],
    examples: Annotated[int, typer.Option(help="Strongest places to print per side.", min=0, max=24)] = 5,
    model: Model = "default",
    as_json: Json = False,
) -> None:
    """What is known of one neuron: both sides' descriptions, scores, strongest places and tokens."""
    from neurons.concepts.search import open_search

    wanted = NeuronSide.parse(name)
    ref = described_model(model)
    index = open_search(ref)
    index.row(wanted)
    pieces = _Pieces(model)
    signs = ("-",) if name.rstrip().endswith("-") else ("+",) if name.rstrip().endswith("+") else ("+", "-")
    sides = [_side(index, NeuronSide(wanted.layer, wanted.index, sign), examples, pieces) for sign in signs]  # type: ignore[arg-type]
    answer = {
        "layer": wanted.layer,
        "index": wanted.index,
        "model": ref.name,
        "tokens": index.atlas.tokens,
        "mean": float(index.atlas.mean_LI()[wanted.layer, wanted.index]),
        "sides": sides,
    }
    emit(answer, as_json, lambda: "\n\n".join(_side_text(side) for side in sides))


def pieces_of(model: str) -> list[str]:
    """Each vocabulary id's text as it stands, without loading the model's weights."""
    return _Pieces(model).all()


class _Pieces:
    """Token texts from the model's tokenizer, without loading its weights."""

    def __init__(self, model: str) -> None:
        from neurons.models.reference import tokenizer_of

        self._tokenizer: Any = tokenizer_of(model)

    def __call__(self, ids: Any) -> str:
        return str(self._tokenizer.decode([int(i) for i in ids]))

    def all(self) -> list[str]:
        ids = [[i] for i in range(len(self._tokenizer))]
        return [str(text) for text in self._tokenizer.batch_decode(ids, clean_up_tokenization_spaces=False)]


def _side(index: SearchIndex, side: NeuronSide, examples: int, pieces: _Pieces) -> dict[str, Any]:
    from neurons.descriptions.old_headlines import HEADLINE_SCORES, JUDGED

    row = index.table.iloc[index.row(side)]
    edit = index.edits.get(side)
    atlas = index.atlas
    stats, promoted = atlas.token_stats(side.layer, side.index, side.polarity), atlas.promoted(side.layer, side.index, side.polarity)
    suppressed = atlas.suppressed(side.layer, side.index, side.polarity)
    found = atlas.exemplars(side.layer, side.index, side.polarity)[:examples] if examples else ()
    texts = ("polarity", "headline", "headline_by", "description", "writes", "second", "kind", "source", "peaks", "theme")
    numbers = ("score", "null", "ceiling", "auprc", "auprc_null", "check", *HEADLINE_SCORES, *JUDGED)
    return {
        **{name: str(row[name]) for name in texts},
        **{name: float(row[name]) for name in numbers},
        "vote": edit.vote,
        "locked": edit.locked,
        "note": edit.note,
        "extreme": float(atlas.extremes(side.layer)[int(side.polarity == "-"), side.index, 0]),
        "tokens": [{"text": pieces([i]), "mean": v, "count": c} for i, v, c in zip(stats.ids, stats.values, stats.counts, strict=True)],
        "promotes": [{"text": pieces([i]), "z": v} for i, v in zip(promoted.ids, promoted.values, strict=True)],
        "suppresses": [{"text": pieces([i]), "z": v} for i, v in zip(suppressed.ids, suppressed.values, strict=True)],
        "examples": [
            {
                "value": e.value,
                "source": e.source,
                "before": pieces(e.ids[: e.peak]),
                "token": pieces(e.ids[e.peak : e.peak + 1]),
                "after": pieces(e.ids[e.peak + 1 :]),
            }
            for e in found
        ],
    }


def _side_text(side: dict[str, Any]) -> str:
    score = "unscored" if side["score"] != side["score"] else f"score {side['score']:.2f} of a ceiling of {side['ceiling']:.2f}"
    area = side["headline_auroc"]
    judged = "" if area != area else f"   (held-out AUROC {area:.2f})"
    if side["headline_by"]:
        judged = f"   (by {side['headline_by']}: detection {side['headline_detection']:.2f}, fuzzing {side['headline_fuzzing']:.2f})"
    lines = [f"[{side['polarity']}] {side['headline']}{judged}"]
    lines += [f"    {side['writes']}"] if side["writes"] else []
    lines += [f"    detail: {side['description']}   ({side['kind']}, {score})"]
    lines += [f"    {side[name]}" for name in ("second",) if side[name]]
    lines += [f"    {label}: {side[name]}" for label, name in (("peaks", "peaks"), ("speaks of", "theme"), ("note", "note")) if side[name]]
    for e in side["examples"]:
        shown = f"{e['before'][-60:]}>>{e['token']}<<{e['after'][:40]}".replace("\n", "\\n")
        lines.append(f"    {e['value']:8.2f}  {shown}")
    return "\n".join(lines)


@dataclass(frozen=True)
class Density:
    """What counts as a cluster."""

    min_size: Annotated[int, typer.Option(help="Fewest members of a cluster.")] = 5
    min_samples: Annotated[int, typer.Option(help="Neighbours that make a place dense.")] = 3
    breadth: Annotated[str, typer.Option(help="fine (by concept) or broad (by field).")] = "fine"
    method: Annotated[str | None, typer.Option(help="The former name of --breadth: leaf is fine, eom is broad.", hidden=True)] = None


@takes_options
def clusters(
    trace: Annotated[str, typer.Argument(help="Id of a trace; see `neuronscope traces list`.")],
    by: Annotated[str, typer.Option(help="activation, or attribution (of --token).")] = "activation",
    token: Annotated[
        int | None, typer.Option("--token", "-t", help="The token explained, for --by attribution.", show_default=False)
    ] = None,
    tokens: Annotated[
        str | None, typer.Option(help="Tokens whose activations count, such as 3:9. [default: all]", show_default=False)
    ] = None,
    top: Annotated[int, typer.Option("--top", "-k", help="Neurons to cluster, the strongest.", min=10, max=15_000)] = 1000,
    density: Density = Density(),
    model: Annotated[str | None, typer.Option("--model", "-m", help="Model to run. [default: the trace's own]", show_default=False)] = None,
    machine: Machine = Machine(),
    as_json: Json = False,
) -> None:
    """Group the neurons that a trace is about by meaning."""
    from neurons.concepts.clusters import cluster_sides
    from neurons.concepts.density import FORMER, ClusterSettings
    from neurons.concepts.search import open_search
    from neurons.detectors.store import open_detectors
    from neurons.tracing.replay import activations_of, check_model
    from neurons.tracing.words import word_positions
    from traces.store import TraceStore

    if by not in ("activation", "attribution"):
        raise InvalidInput(f"--by is {by!r}; use activation or attribution", field="by")
    if by == "attribution" and token is None:
        raise InvalidInput("name the token to explain with --token; position 0 is the prompt's first", field="token")
    breadth = density.breadth if density.method is None else FORMER.get(density.method, density.method)
    settings = ClusterSettings(density.min_size, density.min_samples, breadth).check()
    store = TraceStore()
    record = store.load(trace)
    loaded = load(model or record.model.id, device=machine.device, dtype=machine.dtype, quiet=as_json)
    check_model(loaded, record)
    index = open_search(loaded.ref)
    with stderr_progress(quiet=as_json) as progress:
        if by == "activation" or token is None:
            found = _most_active(loaded, record, tokens, top, progress)
        else:
            found = _most_attributed(loaded, record, token, top)
        detectors = open_detectors(loaded.ref)
        spoken = () if detectors is None else detectors.spoken(activations_of(loaded, record, store), word_positions(record))
        clustering = cluster_sides(
            index, found.sides, weights=found.weights, settings=settings, detectors=detectors, spoken=spoken, progress=progress
        )
    answer = {
        "trace": record.id,
        "by": by,
        "token": token,
        "settings": settings,
        "neurons": clustering.sides,
        "noise": clustering.noise,
        "note": clustering.note,
        "rows": clustering.rows(),
    }
    rows = [
        (c.number, len(c.sides), c.weight, percent(c.share), _stable(c), c.label, ", ".join(map(str, c.sides[:4])))
        for c in clustering.clusters
    ]
    emit(answer, as_json, lambda: table(("cluster", "size", by, "share", "stability", "label", "neurons"), rows))


def _stable(cluster: Cluster) -> str:
    if cluster.stability is None:
        return ""
    return f"{cluster.stability:.2f}" + (" unstable" if cluster.unstable else "")


def _most_active(loaded: LoadedModel, record: TraceRecord, tokens: str | None, top: int, progress: Progress) -> Active:
    """The sides that fire most over some tokens of a trace."""
    from neurons.atlas.quantiles import quantiles_for
    from neurons.concepts.active import active_sides
    from neurons.tracing.replay import activations_of
    from traces.store import TraceStore

    count = len(record.token_ids)
    chosen = None if tokens is None else [n for start, stop in parse_ranges(tokens) for n in range(start, min(stop, count))]
    acts_LTI = activations_of(loaded, record, TraceStore(), progress=progress)
    return active_sides(acts_LTI, quantiles_for(loaded, progress=progress).norm_2LI, tokens=chosen, top=top)


def _most_attributed(loaded: LoadedModel, record: TraceRecord, token: int, top: int) -> Active:
    """The sides that caused one token most."""
    from neurons.attribution import attribute as attribution
    from neurons.concepts.active import attributed_sides

    asked = len(record.prompt_ids)
    result = attribution.attribute(loaded, record.token_ids, TargetSpec(token), steers=record.steers, prompt_tokens=asked)
    return attributed_sides(attribution.top_rows(result, 4 * top).rows, top=top)
