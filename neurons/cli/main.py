"""The `neuronscope` command: gathers the areas' commands. Imports neither torch nor streamlit, so that help comes at once."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Annotated

import typer

import neurons.cli
from neurons.cli.common import ErrorGroup
from neurons.version import __version__

_FIRST = ("run", "trace", "attribute", "activations", "compare", "traces", "prompts", "steer", "models")
_SHARED = ("common", "main")


def areas() -> list[str]:
    """Names of the modules in neurons/cli that add commands, in the order that help shows them."""
    found = {module.name for module in pkgutil.iter_modules(neurons.cli.__path__) if module.name not in _SHARED and not module.ispkg}
    found = {name for name in found if not name.startswith("_")}
    return [*(name for name in _FIRST if name in found), *sorted(found.difference(_FIRST))]


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

    for area in areas():
        module = importlib.import_module(f"neurons.cli.{area}")
        if hasattr(module, "register"):
            module.register(app)
    return app


app = build()


def main() -> None:
    """Run the command line; never returns."""
    app(prog_name="neuronscope")


if __name__ == "__main__":
    main()
