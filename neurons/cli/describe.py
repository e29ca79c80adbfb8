"""`neuronscope describe headlines | explain | quiz`: a plain headline for every neuron, by the atlas or by a language model, and a test."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from neurons.cli.atlas_describe import Asking
from neurons.cli.common import Device, Dtype, Group, Json, Model, emit, load, stderr_progress
from neurons.cli.options import takes_options
from neurons.core.errors import InvalidInput, NotFound


def register(app: typer.Typer) -> None:
    """Add the group `describe`."""
    group = typer.Typer(cls=Group, no_args_is_help=True, help="Plain headlines of neurons, and a test of them on readers.")
    group.command("headlines")(headlines)
    group.command("explain")(explain)
    group.command("quiz")(quiz)
    app.add_typer(group, name="describe")


def headlines(
    model: Model = "default",
    held: Annotated[int | None, typer.Option(help="Held-out tokens to score on. [default: 49152]", show_default=False)] = None,
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Give every neuron of a described atlas a headline of at most eight words, and score it.

    `neuronscope atlas describe` and `atlas build` do the same at their end. A stopped run goes on where it was.
    """
    from neurons.concepts.embed import embedder
    from neurons.describing.headlines import HELD_TOKENS, add_headlines, summary
    from neurons.describing.imported import own_atlas

    loaded = load(model, device=device, dtype=dtype, quiet=as_json)
    with stderr_progress(quiet=as_json) as progress:
        atlas = add_headlines(
            loaded,
            own_atlas(loaded.ref),
            encode=lambda texts: embedder().encode(texts, progress=progress),
            held_tokens=held or HELD_TOKENS,
            progress=progress,
        )
    table = atlas.descriptions()
    if table is None:
        raise NotFound("this atlas has no descriptions yet; run `neuronscope atlas describe`")
    answer = {"model": loaded.ref.name, **summary(table)}
    emit(answer, as_json, lambda: "\n".join(f"{name}: {value}" for name, value in answer.items()))


@takes_options
def explain(model: Model = "default", asked: Asking = Asking(), as_json: Json = False) -> None:
    """Have a language model write headlines, and keep those that it judges better than the present ones.

    It is shown strong places of a neuron, writes --candidates headlines, then says of other passages which of them each headline fits
    (detection) and whether the marked token is the right one (fuzzing). It judges the present headline in the same way. Without --neurons,
    it is asked about those whose headline is unclear or holds least. --forecast asks about the first few, keeps what comes of it, and says
    how long the others take.
    The endpoint's key, where it needs one, is read from the environment variable NEURONSCOPE_API_KEY.
    """
    from neurons.cli.search import described_model, pieces_of
    from neurons.describing.atlas_jobs import sides_to_explain
    from neurons.describing.explain import Explaining
    from neurons.describing.imported import own_atlas

    service = asked.service()
    if service is None:
        raise InvalidInput(
            "give the address of an OpenAI-compatible endpoint with --endpoint, such as http://localhost:8000/v1", field="endpoint"
        )
    atlas = own_atlas(described_model(model))
    sides = sides_to_explain(atlas, asked.neurons or "", asked.limit)
    run = Explaining(atlas, pieces_of(model), service)
    with stderr_progress(quiet=as_json) as progress:
        if asked.forecast_only:
            answer: dict[str, Any] = {"model": atlas.ref.name, "forecast": asdict(run.forecast(sides, progress=progress))}
        else:
            done = run.run(sides, progress=progress)
            failures = dict(done.tally.told())
            counts = {name: getattr(done.tally, name) for name in ("asked", "answered", "prompt_tokens", "answer_tokens")}
            answer = {
                "model": atlas.ref.name, "replaced": done.replaced, "kept": done.kept, "failed": done.failed,
                "requests": counts, "failures": failures,
            }  # fmt: skip
    emit(answer, as_json, lambda: _explained(answer))


def _explained(answer: dict[str, Any]) -> str:
    if "forecast" in answer:
        found = answer["forecast"]
        cost = f", cost {found['cost']}" if found["cost"] else ""
        tokens = f"about {found['prompt_tokens']:,} prompt tokens, {found['answer_tokens']:,} answer tokens"
        return f"{found['sides']:,} neuron sides are left: {tokens}{cost}, about {found['seconds']:.0f} s"
    lines = [
        f"{answer['replaced']} headlines replaced, {answer['kept']} kept (judged as good), {answer['failed']} without a usable answer",
        f"requests: {answer['requests']['asked']}, answered {answer['requests']['answered']}",
    ]
    return "\n".join([*lines, *(f"{count} times {what}" for what, count in answer["failures"].items())])


def quiz(
    model: Model = "default",
    n: Annotated[int, typer.Option("--n", help="Questions.", min=1, max=10_000)] = 100,
    seed: Annotated[int, typer.Option(help="Which neurons and passages are drawn.")] = 0,
    by: Annotated[str, typer.Option(help="headline, or detail (the headline and the line below it).")] = "headline",
    answers: Annotated[Path | None, typer.Option(help="File for the answers. [default: quiz-SEED-answers.tsv]", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Print questions that test descriptions on a reader; the answers go to a second file.

    Each question is a neuron's headline and two passages with the peak in double brackets, of ranks 3 to 20 of the neuron and of another
    one drawn at random: which is the neuron's own? In the answers' file "kept back" marks passages that the headline was not chosen by.
    """
    from neurons.atlas.store import open_atlas
    from neurons.cli.search import described_model, pieces_of
    from neurons.descriptions.quiz import answers_text, as_text, questions

    if by not in ("headline", "detail"):
        raise InvalidInput(f"--by is {by!r}; use headline or detail", field="by")
    ref = described_model(model)
    atlas = open_atlas(ref)
    if atlas is None:
        raise NotFound(f"there is no atlas of {ref.name}; build one with `neuronscope atlas build`")
    asked = questions(atlas, pieces_of(model), count=n, seed=seed, by="detail" if by == "detail" else "headline")
    path = answers or Path(f"quiz-{seed}-answers.tsv")
    path.write_text(answers_text(asked), encoding="utf-8")
    rows: list[dict[str, Any]] = [{"number": k, "text": q.text, "a": q.passages[0], "b": q.passages[1]} for k, q in enumerate(asked, 1)]
    emit({"questions": rows, "answers": str(path)}, as_json, lambda: f"{as_text(asked)}\nanswers: {path}")
