"""Options that several commands share: one dataclass becomes options of each command, with the defaults that the command names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer
from typer.testing import CliRunner

from neurons.cli.options import leaving_out, takes_options


@dataclass(frozen=True)
class Shared:
    """Two options."""

    size: Annotated[int, typer.Option("--size", "-s", help="How large.")] = 1
    colour: Annotated[str, typer.Option(help="Which colour.")] = "red"


def test_a_command_gets_its_options_as_one_object() -> None:
    got: list[tuple[str, Shared, bool]] = []

    @takes_options
    def paint(what: Annotated[str, typer.Argument()], how: Shared = Shared(size=7), wet: bool = False) -> None:
        """Paint something."""
        got.append((what, how, wet))

    app = typer.Typer()
    app.command()(paint)
    for arguments in (["wall"], ["wall", "-s", "3", "--wet"], ["door", "--colour", "blue"]):
        assert CliRunner().invoke(app, arguments).exit_code == 0
    assert got == [("wall", Shared(7), False), ("wall", Shared(3), True), ("door", Shared(7, "blue"), False)]
    shown = CliRunner().invoke(app, ["--help"]).stdout
    assert "Paint something." in shown
    assert shown.index("--size") < shown.index("--colour") < shown.index("--wet")


def test_a_field_can_be_left_out() -> None:
    got: list[Shared] = []

    @takes_options
    def paint(how: Annotated[Shared, leaving_out("colour")] = Shared()) -> None:
        got.append(how)

    app = typer.Typer()
    app.command()(paint)
    assert CliRunner().invoke(app, ["--colour", "blue"]).exit_code == 2
    assert CliRunner().invoke(app, ["--size", "2"]).exit_code == 0
    assert got == [Shared(2)]
