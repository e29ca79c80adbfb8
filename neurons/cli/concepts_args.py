"""Options that steer with concepts: `--suppress TEXT` and `--strengthen TEXT=0.75`, for commands that compare."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from neurons.cli.common import printable, stderr_progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from neurons.concepts.steers import Action
    from neurons.core.steers import Steer
    from neurons.models.loaded import LoadedModel


def concept_steers(loaded: LoadedModel, *, suppress: Sequence[str], strengthen: Sequence[str]) -> tuple[Steer, ...]:
    """The steers for `--suppress TEXT` and `--strengthen TEXT=0.75`. What will be done, and to how many neurons, goes to stderr.

    A text means the saved concept of that name, else the lexicon's, else it is searched for. Raises `InvalidInput` naming the option,
    `NotFound` when a search is needed and the model has no described atlas.
    """
    from neurons.concepts.steers import split_strength, steer_by_words

    asked: list[tuple[Action, str]] = [*(("suppress", text) for text in suppress), *(("strengthen", text) for text in strengthen)]
    steers = []
    for action, given in asked:
        text, strength = split_strength(given, action)
        with stderr_progress() as progress:
            made = steer_by_words(loaded, text, action, strength=strength, progress=progress)
        typer.echo(printable(made.line()), err=True)
        steers.append(made.steer)
    return tuple(steers)
