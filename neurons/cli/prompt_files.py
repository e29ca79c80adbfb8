"""What the commands that take a file of prompts share: the options that say how it is read, and the line that says what was understood."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurons.core.errors import InvalidInput

if TYPE_CHECKING:
    from neurons.prompts.sets import PromptSet

PromptColumn = Annotated[
    str | None, typer.Option(help="Column that holds the prompts. [default: that of a known kind of file]", show_default=False)
]
Template = Annotated[
    str | None, typer.Option(help='The prompt, with names of columns in braces: "{instruction}\\n{input}".', show_default=False)
]
ExpectedColumn = Annotated[str | None, typer.Option(help="Column with expected answers. [default: detected]", show_default=False)]
SystemColumn = Annotated[str | None, typer.Option(help="Column with system prompts. [default: detected]", show_default=False)]
IdColumn = Annotated[str | None, typer.Option(help="Column with names. [default: detected]", show_default=False)]
TagsColumn = Annotated[str | None, typer.Option(help="Column with tags. [default: detected]", show_default=False)]
Kind = Annotated[
    str | None, typer.Option("--format", help="txt, csv, tsv, jsonl or yaml. [default: by the file's name]", show_default=False)
]
Encoding = Annotated[str | None, typer.Option(help="Such as utf-8 or cp1252. [default: detected]", show_default=False)]
Header = Annotated[
    bool | None,
    typer.Option("--header/--no-header", help="Whether the first row names the columns. [default: detected]", show_default=False),
]
Quotes = Annotated[
    bool | None,
    typer.Option("--quotes/--no-quotes", help="Whether cells may be quoted. [default: in CSV, not in TSV]", show_default=False),
]


@dataclass(frozen=True)
class FileOptions:
    """How a file of prompts is read, as it was told."""

    prompt_column: PromptColumn = None
    template: Template = None
    expected_column: ExpectedColumn = None
    system_column: SystemColumn = None
    id_column: IdColumn = None
    tags_column: TagsColumn = None
    kind: Kind = None
    encoding: Encoding = None
    header: Header = None
    quotes: Quotes = None


def read_prompts(file: str, options: FileOptions | None = None, *, quiet: bool = False) -> tuple[PromptSet, dict[str, Any]]:
    """The prompts of a file, of standard input ("-") or of a saved set, and how they were read, which is said on stderr unless `quiet`.

    Raises `InvalidInput` where somebody has to say which column is asked.
    """
    from neurons.prompts import sets
    from neurons.prompts.files import Columns, load_file

    told = options or FileOptions()
    path = Path(file)
    if file != "-" and not path.is_file():
        if file not in sets.saved_sets():
            raise InvalidInput(f"there is no file {file!r} and no saved set of that name", field="file")
        found = sets.load_set(file)
        about: dict[str, Any] = {"format": "saved set", "source": found.source, "asked": found.asked, "counted": found.account}
    else:
        data = sys.stdin.buffer.read() if file == "-" else path.read_bytes()
        name = "standard input" if file == "-" else path.name
        columns = Columns(told.prompt_column, told.template, told.system_column, told.id_column, told.tags_column, told.expected_column)
        how: dict[str, Any] = {"kind": told.kind, "header": told.header, "encoding": told.encoding, "quotes": told.quotes}
        reading = load_file(data, name=name, columns=columns, **how)
        found, table = reading.prompts, reading.table
        about = {"format": table.format, "encoding": table.encoding, "delimiter": table.delimiter, "header": table.header}
        about |= {
            "columns": table.columns,
            "mapping": reading.columns,
            "asked": found.asked,
            "counted": found.account,
            "notes": list(table.notes),
        }
    if not quiet:
        _say(file, about)
    return found, about


def _say(file: str, about: dict[str, Any]) -> None:
    from neurons.cli.common import printable

    separator = {"\t": "tab separated", ",": "comma separated", ";": "semicolon separated", "|": "bar separated"}
    header = None if about["format"] != "csv" else "with a header" if about["header"] else "without a header"
    facts = [about["format"].upper(), about.get("encoding"), separator.get(about.get("delimiter", "")), header]
    lines = [
        f"{file} ({', '.join(fact for fact in facts if fact)}): {about['asked']}".rstrip(": "),
        about["counted"],
        *about.get("notes", []),
    ]
    for line in lines:
        typer.echo(printable(line), err=True)
