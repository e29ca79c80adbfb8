"""The `neuronscope` command: gathers the areas' commands. Imports neither torch nor streamlit, so that help comes at once."""

from __future__ import annotations

from typing import Annotated

import typer

from neurons.cli import (
    active_concepts,
    atlas,
    attribute,
    concepts,
    describe,
    lexicon,
    models,
    prompts,
    repair,
    report,
    run,
    search,
    stats,
    steers,
    trace,
    traces,
)
from neurons.cli.common import ErrorGroup
from neurons.cli.streams import any_encoding
from neurons.core.version import __version__

AREAS = (
    run, trace, attribute, active_concepts, traces, report, prompts, steers, models, atlas, describe, concepts, lexicon, repair, search,
    stats,
)  # fmt: skip
"""The modules that add commands, in the order that help shows them."""


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"neuronscope {__version__}")
        raise typer.Exit


def build() -> typer.Typer:
    """The whole application."""
    app = typer.Typer(
        name="neuronscope",
        cls=ErrorGroup,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def root(
        version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")] = False,
    ) -> None:
        """See, read, steer and compare the MLP neurons of a language model.

        Results go to stdout, progress to stderr. Exit status: 0 done, 1 failed or the answer is no, 2 bad usage or input.
        """

    for area in AREAS:
        area.register(app)
    return app


app = build()


def main() -> None:
    """Run the command line; never returns."""
    any_encoding()
    app(prog_name="neuronscope")


if __name__ == "__main__":
    main()
