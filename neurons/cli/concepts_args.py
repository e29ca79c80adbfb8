"""Options that steer with concepts: `--suppress TEXT` and `--strengthen TEXT=0.75`, for commands that compare."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from neurons.cli.common import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from neurons.concepts.steers import Action
    from neurons.core.types import Steer
    from neurons.models.loaded import LoadedModel


def concept_steers(loaded: LoadedModel, *, suppress: Sequence[str], strengthen: Sequence[str]) -> tuple[Steer, ...]:
    """The steers for `--suppress TEXT` and `--strengthen TEXT=0.75`. What will be done, and to how many neurons, goes to stderr.

    A text that names a saved concept means that concept, else it is searched for. Raises `InvalidInput` naming the option, `NotFound` when
    a
    search is needed and the model has no described atlas.
    """
    from neurons.concepts.steers import concept_steer, split_strength

    asked: list[tuple[Action, str]] = [*(("suppress", text) for text in suppress), *(("strengthen", text) for text in strengthen)]
    steers = []
    for action, given in asked:
        text, strength = split_strength(given, action)
        made = concept_steer(loaded.ref, text, action, strength=strength)
        typer.echo(printable(made.line()), err=True)
        steers.append(made.steer)
    return tuple(steers)
