"""Files as tables: format, encoding, separator and header found or told; every row of the file is a row here or a reason.

The one reader of TXT, CSV, TSV, JSON, JSON Lines and YAML: prompt files, uploaded files and a corpus of one's own come through here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import yaml

from neurons.core.errors import InvalidFile, InvalidInput
from neurons.storage.delimited import read_delimited
from neurons.storage.encodings import decode
from neurons.storage.json_rows import numbered, read_json

Format = Literal["txt", "csv", "tsv", "jsonl", "yaml"]
FORMATS: tuple[Format, ...] = get_args(Format)
MAX_BYTES = 100 << 20
MAX_ROWS = 100_000
MAX_YAML = 2_000_000
"""Values of a YAML file, every alias written out."""
_ENDINGS: dict[str, Format] = {
    "txt": "txt",
    "csv": "csv",
    "tsv": "tsv",
    "tab": "tsv",
    "jsonl": "jsonl",
    "json": "jsonl",
    "ndjson": "jsonl",
    "yaml": "yaml",
    "yml": "yaml",
}


_LINES = ("text", "prompt", "prompts", "list")
"""Further endings of files with a prompt on each line."""
_ENDING = re.compile(r"[a-z]{1,8}")
_MARKDOWN_RULE = re.compile(r"\s*\|?(\s*:?-+:?\s*\|)+(\s*:?-+:?\s*)?")
"""The line below the header of a Markdown table."""


@dataclass(frozen=True)
class RowError:
    """Why one row cannot be used."""

    row: int
    """From 1: the line of a TXT or JSONL file, the record of a CSV file (its header not counted)."""
    message: str


@dataclass(frozen=True)
class Table:
    """A file as read, before its columns are given a meaning."""

    format: Format
    encoding: str
    columns: tuple[str, ...]
    rows: tuple[tuple[int, Mapping[str, Any]], ...]
    """(row number, column to value)."""
    errors: tuple[RowError, ...]
    """Rows that could not be read at all."""
    delimiter: str = ""
    header: bool = False
    """Whether a CSV file's first row was taken as column names."""
    header_in_doubt: bool = False
    """Nothing tells whether that is right: somebody should say."""
    notes: tuple[str, ...] = ()
    """What a reader should know of how the file was read."""

    @property
    def read(self) -> int:
        """Rows that the file has, those that cannot be used among them."""
        return len(self.rows) + len(self.errors)


def read_table(
    data: bytes,
    *,
    name: str = "",
    kind: Format | None = None,
    header: bool | None = None,
    encoding: str | None = None,
    quotes: bool | None = None,
    limit: int | None = MAX_ROWS,
) -> Table:
    """Read a file. `kind` None goes by the name's ending, else by the content; `encoding`, `header` and `quotes` None are found out.

    Raises `InvalidFile` when the whole file is no use, `InvalidInput` for an unknown `kind`.
    """
    if kind is not None and kind not in FORMATS:
        raise InvalidInput(f"the format is {kind!r}; use {', '.join(FORMATS[:-1])} or {FORMATS[-1]}", field="format")
    if limit is not None and len(data) > MAX_BYTES:
        raise InvalidFile(f"the file has {len(data) / 1e6:.0f} MB; the limit is {MAX_BYTES >> 20} MB: split it", field="file")
    text, encoding = decode(data, encoding)
    if not text.strip():
        raise InvalidFile("the file is empty", field="file")
    told = kind is not None
    kind = kind or _kind(name, text)
    if kind == "txt":
        table = _lines(text, encoding)
        if not told:
            _check_ending(name)
    elif kind in ("csv", "tsv"):
        found = read_delimited(text, tabs=kind == "tsv", header=header, quotes=quotes)
        errors = tuple(RowError(*error) for error in found.errors)
        marks = found.delimiter, found.header, found.header_in_doubt, found.notes
        table = Table("csv", encoding, found.columns, found.rows, errors, *marks)
    elif kind == "yaml":
        table = _from_values("yaml", encoding, numbered(_yaml(text)), [])
    else:
        table = _from_values("jsonl", encoding, *read_json(text))
    if limit is not None and len(table.rows) > limit:
        raise InvalidFile(f"the file has {len(table.rows):,} rows; the limit is {limit:,}: split it", field="file")
    return table


def short(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:120]


def kind_of(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if value is None or isinstance(value, bytes):
        return "nothing" if value is None else "bytes"
    return "a number" if isinstance(value, int | float) else "a list" if isinstance(value, list) else "an object"


def _ending(name: str) -> str:
    return name.rsplit(".", 1)[-1].casefold() if "." in name else ""


def _kind(name: str, text: str) -> Format:
    return _ENDINGS.get(_ending(name)) or ("jsonl" if text.lstrip()[:1] in ("{", "[") else "txt")


def _check_ending(name: str) -> None:
    """Refuse what is named as another kind of file: a page, a program or notes are no prompts, line by line."""
    ending = _ending(name)
    if _ENDING.fullmatch(ending) and ending not in _ENDINGS and ending not in _LINES:
        raise InvalidFile(
            f"a file that ends in .{ending} is not known; save it as TXT, CSV or JSON, or say --format txt (a prompt on each line)",
            field="format",
        )


def _lines(text: str, encoding: str) -> Table:
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    rows = tuple((number, {"prompt": line}) for number, line in enumerate(lines, 1) if line.strip())
    if len(rows) > 1 and "|" in rows[0][1]["prompt"] and _MARKDOWN_RULE.fullmatch(rows[1][1]["prompt"]):
        raise InvalidFile("this is a table in Markdown, whose lines are no prompts; save it as CSV", field="file")
    return Table("txt", encoding, ("prompt",), rows, ())


class _AsWritten(yaml.SafeLoader):  # type: ignore[misc]  # the library has no types
    """YAML whose plain words stay the texts they are: `no`, `12:30`, `1_000` and `2026-01-01` are prompts and answers here."""


_AsWritten.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in found if tag.rpartition(":")[2] in ("null", "merge")]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _yaml(text: str) -> Any:
    try:
        value = yaml.load(text, _AsWritten)
        written_out = _values_in(value, {})
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:
        raise InvalidFile(f"the file is not YAML: {' '.join(str(error).split())[:300]}", field="file") from error
    if written_out > MAX_YAML:
        raise InvalidFile(f"the file's aliases stand for more than {MAX_YAML:,} values; write out what is meant", field="file")
    return value


def _values_in(value: Any, known: dict[int, int]) -> int:
    """How many values there are once every alias is written out: a few lines of them can stand for billions."""
    if not isinstance(value, list | dict):
        return 1
    if id(value) not in known:
        known[id(value)] = MAX_YAML + 1  # an alias of itself has no end
        parts = value if isinstance(value, list) else [*value.keys(), *value.values()]
        known[id(value)] = min(1 + sum(_values_in(part, known) for part in parts), MAX_YAML + 1)
    return known[id(value)]


def _from_values(kind: Format, encoding: str, values: Sequence[tuple[int, Any]], broken: Sequence[tuple[int, str]]) -> Table:
    rows: list[tuple[int, Mapping[str, Any]]] = []
    errors = [RowError(*error) for error in broken]
    for number, value in values:
        if isinstance(value, str):
            rows.append((number, {"prompt": value}))
        elif isinstance(value, dict):
            rows.append((number, {str(key): item for key, item in value.items()}))
        elif isinstance(value, list) and value and all(isinstance(turn, dict) for turn in value):
            rows.append((number, {"messages": value}))
        else:
            errors.append(RowError(number, f"it is {kind_of(value) if value is not None else 'null'}, not a text or an object"))
    if not rows:
        first = f"no row of the file can be read; the first says: {errors[0].message}" if errors else "it has no rows"
        raise InvalidFile(first, field="file")
    columns = tuple(dict.fromkeys(key for _, row in rows for key in row))
    return Table(kind, encoding, columns, tuple(rows), tuple(sorted(errors, key=lambda error: error.row)))
