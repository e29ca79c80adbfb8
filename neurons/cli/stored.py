"""What the commands about traces share: the store, a trace by a start of its id, its model, steers from a file, prompts from stdin."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurons.cli.common import MaxNewTokens, Seed, Temperature, TopK, TopP
from neurons.core.errors import InvalidInput
from neurons.core.steers import Steer
from neurons.core.types import Sampling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from neurons.models.loaded import LoadedModel
    from traces.schema import TraceRecord
    from traces.store import TraceStore

MOST_TYPED = 10_000_000
"""Bytes of standard input that are read as a prompt; no model has room for more."""

TraceId = Annotated[str, typer.Argument(help='Id of a trace, a unique start of one, or "last".')]
PromptText = Annotated[str, typer.Argument(help='What to ask; "-" reads it from standard input.')]
SteerFiles = Annotated[
    list[Path] | None, typer.Option("--steer", help="Steer file (JSON); may be given several times.", show_default=False)
]
Suppress = Annotated[
    list[str] | None,
    typer.Option(
        "--suppress",
        metavar="TEXT",
        help="Suppress a concept: a saved one, one of the lexicon, or what a search for TEXT finds.",
        show_default=False,
    ),
]
Strengthen = Annotated[
    list[str] | None,
    typer.Option(
        "--strengthen",
        metavar="TEXT",
        help="Strengthen a concept, found in the same way; TEXT=0.75 says how strongly.",
        show_default=False,
    ),
]
OtherModel = Annotated[str | None, typer.Option("--model", "-m", help="Model to run. [default: the trace's own]", show_default=False)]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="Tag of the trace; may be given several times.", show_default=False)]


Penalties = Annotated[
    bool, typer.Option("--penalties/--no-penalties", help="Follow the penalties and suppressed tokens that the model's files ask for.")
]


def following(loaded: LoadedModel, settings: Sampling, *, penalties: bool) -> Sampling:
    """The settings with what the model's generation config asks for; what is not followed is said on stderr."""
    from neurons.runs.followed import ignored_by, offered_by

    found = replace(settings, follow=offered_by(loaded)) if penalties else settings
    if ignored := ignored_by(loaded, found):
        typer.echo(ignored if penalties or not offered_by(loaded) else f"{ignored}; --penalties follows it", err=True)
    return found


def store() -> TraceStore:
    """The user's traces."""
    from traces.store import TraceStore

    return TraceStore()


def find(text: str) -> tuple[TraceStore, TraceRecord]:
    """The store and the trace whose id starts with `text`."""
    found = store()
    return found, found.load(found.resolve(text))


def read_prompt(prompt: str) -> str:
    """The prompt typed, or standard input for "-". Raises `InvalidInput` when it is not UTF-8 text."""
    if prompt != "-":
        return prompt
    try:
        return sys.stdin.buffer.read(MOST_TYPED + 1).decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"standard input is not UTF-8 text: {error}", field="prompt") from error


@dataclass(frozen=True)
class SamplingOptions:
    """How an answer is sampled."""

    seed: Seed = 0
    temperature: Temperature = 0.0
    top_p: TopP = 1.0
    top_k: TopK = 0
    max_new_tokens: MaxNewTokens = 128
    penalties: Penalties = False

    def settings(self) -> Sampling:
        """The settings, checked before a model is loaded. Raises `InvalidInput`."""
        found = Sampling(self.temperature, self.top_p, self.top_k, self.max_new_tokens, self.seed).check()
        if found.greedy and found.temperature:
            typer.echo(found.how, err=True)
        return found


@dataclass(frozen=True)
class SteerOptions:
    """Steers from files and from concepts."""

    steer: SteerFiles = None
    suppress: Suppress = None
    strengthen: Strengthen = None

    def check(self) -> bool:
        """Whether any steer is given; files are checked as far as possible without a model. Raises `InvalidSteer`, `InvalidFile`."""
        return bool(read_steers(self.steer) or self.suppress or self.strengthen)

    def steers(self, loaded: LoadedModel) -> tuple[Steer, ...]:
        """The steers for this model: see `all_steers`."""
        return all_steers(loaded, self.steer, suppress=self.suppress, strengthen=self.strengthen)


def read_steers(files: Sequence[Path] | None) -> tuple[Steer, ...]:
    """The steers of all files, checked as far as possible without a model."""
    from neurons.runs.steering import load_steers

    return tuple(steer for path in files or () for steer in load_steers(path))


def all_steers(
    loaded: LoadedModel, files: Sequence[Path] | None, *, suppress: Sequence[str] | None, strengthen: Sequence[str] | None
) -> tuple[Steer, ...]:
    """The steers of files and of concepts, for this model. What a concept came to is said on stderr.

    Raises `InvalidSteer` for a file saved for another model, `NotFound` for a concept that is not there.
    """
    from neurons.cli.concepts_args import concept_steers
    from neurons.runs.steering import load_steers

    steers = [steer for path in files or () for steer in load_steers(path, ref=loaded.ref)]
    note_positions(steers)
    return (*steers, *concept_steers(loaded, suppress=suppress or (), strengthen=strengthen or ()))


def note_positions(steers: Sequence[Steer]) -> None:
    """Say on stderr which steers count tokens: under another prompt they act on other tokens."""
    from neurons.cli.common import printable
    from neurons.runs.steering import positions_note

    if note := positions_note(steers):
        typer.echo(printable(note), err=True)


def run_json(record: TraceRecord) -> dict[str, Any]:
    """A run as `trace --json` and `compare --json` print it."""
    return {
        "trace_id": record.id,
        "prompt_token_ids": record.prompt_ids,
        "answer_token_ids": record.answer_ids,
        "answer": record.answer,
        "seconds": record.seconds,
        "finish_reason": record.finish_reason,
        "model": record.model.name,
    }
