"""`neuronscope steer`: the format of steer files, as a JSON schema and as a check of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurons.cli.common import Group, Json, emit, table


def register(app: typer.Typer) -> None:
    """Add the group `steer`."""
    group = typer.Typer(cls=Group, no_args_is_help=True, help="Steer files: their format, and checking one.")
    group.command("schema")(schema)
    group.command("check")(check)
    app.add_typer(group, name="steer")


def schema(as_json: Json = False) -> None:
    """Print the JSON schema of steer files, for editors and for programs that write them."""
    from neurons.runs.steering import steer_schema

    emit(steer_schema(), as_json)


def check(
    file: Annotated[Path, typer.Argument(help="A steer file.", exists=True, dir_okay=False)],
    as_json: Json = False,
) -> None:
    """Check a steer file without a model: what each of its steers does, or what is wrong with it."""
    from neurons.runs.steering import load_steers, steer_to_json

    steers = load_steers(file)
    rows = [(s.name or "(no name)", s.size, s.mode, s.strength, str(s.tokens), "on" if s.enabled else "off") for s in steers]
    found = [steer_to_json(steer) for steer in steers]
    emit({"steers": found}, as_json, lambda: table(("steer", "neurons", "mode", "strength", "tokens", ""), rows))
