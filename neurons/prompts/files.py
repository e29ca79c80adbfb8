"""A file of prompts read whole: as a known shape, or as somebody says; what was asked is said and every row is accounted for.

TXT     one prompt per line, empty lines skipped
CSV     comma, semicolon, tab or bar; TSV without quoting
JSON    one value a line, an array, or an object that holds a list; pretty-printed or not
YAML    promptfoo's configuration, or a list
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from neurons.core.errors import InvalidFile, InvalidInput, StoreError
from neurons.core.types import Message
from neurons.prompts.nested import with_turns
from neurons.prompts.sets import PromptRow, PromptSet
from neurons.prompts.shape_rows import expected_column, named
from neurons.prompts.shapes import Shape, asks_and_expects, find_shape, only_column
from neurons.prompts.values import Asked, expected_of, id_of, messages_of, tags_of, text_of, with_system
from neurons.storage.column_names import ID, SYSTEM, TAGS
from neurons.storage.tables import Format, RowError, Table, kind_of, read_table, short

_SHOWN = 12
_SHOWN_TEXT = 40


@dataclass(frozen=True)
class Columns:
    """What somebody says of a file's columns. None: as its shape has it."""

    prompt: str | None = None
    template: str | None = None
    """The prompt, with names of columns in braces: "{instruction}\\n{input}"."""
    system: str | None = None
    id: str | None = None
    tags: str | None = None
    expected: str | None = None

    @property
    def says_what_is_asked(self) -> bool:
        return self.prompt is not None or self.template is not None


@dataclass(frozen=True)
class Reading:
    """A file as it was understood."""

    prompts: PromptSet
    table: Table
    shape: Shape | None
    """None where somebody said what is asked."""
    columns: Columns
    """Which columns are used, where each is one by itself; those of a shape that joins them are in its text."""


def load_file(
    data: bytes,
    *,
    name: str,
    columns: Columns | None = None,
    kind: Format | None = None,
    header: bool | None = None,
    encoding: str | None = None,
    quotes: bool | None = None,
) -> Reading:
    """Read a file and build its prompts. Raises `InvalidInput` (fields "header", "prompt") where somebody has to say what is what."""
    columns = columns or Columns()
    table = read_table(data, name=name, kind=kind, header=header, encoding=encoding, quotes=quotes)
    if table.header_in_doubt and columns.says_what_is_asked:
        named_by_user = [columns.prompt] if columns.template is None else _fields(columns.template)
        if not set(named_by_user) <= set(table.columns):
            table = read_table(data, name=name, kind=kind, header=False, encoding=encoding, quotes=quotes)
        table = replace(table, header_in_doubt=False)
    return read_prompts(table, columns, source=name)


def pasted(text: str) -> PromptSet:
    """One prompt per line. Raises `InvalidFile` when there is none."""
    if not text.strip():
        raise InvalidFile("paste at least one prompt, one per line", field="prompts")
    return read_prompts(read_table(text.encode("utf-8", errors="surrogatepass"), kind="txt"), source="pasted").prompts


def read_prompts(table: Table, columns: Columns | None = None, *, source: str = "") -> Reading:
    """The prompts of a table; rows that do not fit are listed in `errors`.

    Raises `InvalidInput` for unknown columns, and where neither a known shape nor `columns` says what is asked.
    """
    columns = columns or Columns()
    if columns.prompt is not None and columns.template is not None:
        raise InvalidInput("give a prompt column or a template, not both", field="prompt")
    shape, unfolded = (None, with_turns(table)) if columns.says_what_is_asked else find_shape(table)
    if columns.says_what_is_asked and not _has_columns(table, columns):
        unfolded = find_shape(table)[1]
    if table.header_in_doubt:
        first = ", ".join(map(repr, table.columns[:_SHOWN]))
        raise InvalidInput(
            f"does the first row of {source or 'the file'} name its columns? It holds {first}; say --header or --no-header", field="header"
        )
    if shape is None and not columns.says_what_is_asked:
        raise InvalidInput(
            f"which column of {source or 'the file'} holds the prompts? It has {_shown(unfolded)}; say --prompt-column NAME, "
            'or --template "{one} {other}"',
            field="prompt",
        )
    columns = _checked(unfolded, columns)
    read = shape.read if shape is not None else _reader(unfolded, columns)
    rows, errors = [], list(unfolded.errors)
    for number, values in unfolded.rows:
        try:
            rows.append(_prompt_row(number, _overridden(read(values), values, columns)))
        except InvalidInput as error:
            errors.append(RowError(number, str(error)))
        except (
            TypeError,
            ValueError,
            AttributeError,
            LookupError,
        ):  # the shape was seen in other rows
            errors.append(RowError(number, f"it is not of the form of the others ({shape.name})" if shape else "it cannot be read"))
    asked = asks_and_expects(unfolded, shape) if shape is not None else _said(unfolded, columns)
    used = columns if shape is None else _by_names(unfolded, columns, only_column(unfolded, shape))
    return Reading(_accounted(rows, errors, unfolded, source, asked), unfolded, shape, used)


def _accounted(rows: list[PromptRow], errors: list[RowError], table: Table, source: str, asked: str) -> PromptSet:
    """The set, whose rows and errors must be the file's rows."""
    if not rows and not errors:
        raise InvalidFile(f"{source or 'the file'} names columns but has no row below them", field="file")
    found = PromptSet(tuple(rows), tuple(sorted(errors, key=lambda error: error.row)), source, asked)
    if found.read != table.read:
        raise StoreError(f"{source}: {table.read} rows were read, but {len(rows)} asked and {len(errors)} left out; report this file")
    return found


def _prompt_row(number: int, asked: Asked) -> PromptRow:
    return PromptRow(number, asked.messages, asked.id, asked.tags, asked.expected)


def _shown(table: Table) -> str:
    first: Mapping[str, Any] = table.rows[0][1] if table.rows else {}
    names = ", ".join(f"{name!r} ({short(str(first.get(name, '')))[:_SHOWN_TEXT]})" for name in table.columns[:_SHOWN])
    more = " and more" if len(table.columns) > _SHOWN else ""
    return f"{'the columns ' if len(table.columns) > 1 else ''}{names}{more}"


# -- what somebody says ------------------------------------------------------------------------------------------------


def _fields(template: str) -> list[str]:
    """The columns that a template names. Raises `InvalidInput` for one that names none."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise InvalidInput(f'the template cannot be read ({error}); write columns in braces: "{{question}}"', field="template") from error
    found = [field for _, field, _, _ in parts if field is not None]
    if not found or not all(found) or any(spec or conversion for _, _, spec, conversion in parts):
        raise InvalidInput('the template names no column; write columns in braces: "{instruction}\\n{input}"', field="template")
    return found


def _has_columns(table: Table, columns: Columns) -> bool:
    wanted = _fields(columns.template) if columns.template is not None else [str(columns.prompt)]
    return set(wanted) <= set(table.columns)


def _checked(table: Table, columns: Columns) -> Columns:
    for what in ("prompt", "system", "id", "tags", "expected"):
        column = getattr(columns, what)
        if column is not None and column not in table.columns:
            raise InvalidInput(f"there is no column {column!r}; the file has {', '.join(table.columns)}", field=what)
    missing = [name for name in (_fields(columns.template) if columns.template is not None else []) if name not in table.columns]
    if missing:
        raise InvalidInput(f"there is no column {missing[0]!r}; the file has {', '.join(table.columns)}", field="template")
    if not columns.says_what_is_asked:
        return columns
    used = {columns.prompt} if columns.prompt is not None else set(_fields(str(columns.template)))
    return _by_names(replace(table, columns=tuple(c for c in table.columns if c not in used)), columns, columns.prompt)


def _by_names(table: Table, columns: Columns, prompt: str | None) -> Columns:
    """The columns, those that nobody named by what they are called."""
    rest = tuple(column for column in table.columns if column != prompt)
    return replace(
        columns,
        prompt=prompt,
        system=columns.system or named(rest, SYSTEM),
        id=columns.id or named(rest, ID),
        tags=columns.tags or named(rest, TAGS),
        expected=columns.expected or expected_column(rest),
    )


def _reader(table: Table, columns: Columns) -> Callable[[Mapping[str, Any]], Asked]:
    if columns.prompt is not None:
        prompt = columns.prompt
        return lambda row: Asked(*messages_of(row.get(prompt), prompt))
    template = str(columns.template).replace("\\n", "\n").replace("\\t", "\t")
    fields = _fields(template)

    def filled(row: Mapping[str, Any]) -> Asked:
        values = {name: _field_text(row.get(name), name) for name in fields}
        if not any(value.strip() for value in values.values()):
            raise InvalidInput(f"the {' and the '.join(fields)} {'are' if len(fields) > 1 else 'is'} empty")
        parts = ((literal, field) for literal, field, _, _ in string.Formatter().parse(template))
        text = "".join(literal + (values[field] if field is not None else "") for literal, field in parts)
        return Asked((Message("user", text_of(text.strip(), "prompt")),))

    return filled


def _field_text(value: Any, name: str) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InvalidInput(f"the {name} is {kind_of(value)}, not a text")
    return str(value)


def _overridden(asked: Asked, row: Mapping[str, Any], columns: Columns) -> Asked:
    """The row with the columns that somebody named put over its shape's."""
    if columns.system is not None:
        asked = replace(asked, messages=with_system(asked.messages, row.get(columns.system)))
    if columns.expected is not None:
        asked = replace(asked, expected=expected_of(row.get(columns.expected)))
    if columns.id is not None:
        asked = replace(asked, id=id_of(row.get(columns.id)))
    return asked if columns.tags is None else replace(asked, tags=tags_of(row.get(columns.tags)))


def _said(table: Table, columns: Columns) -> str:
    asked = f"the column {columns.prompt!r}" if columns.prompt is not None else f"the template {columns.template!r}"
    expected = f"; expected is the column {columns.expected!r}" if columns.expected is not None else ""
    return f"as you say: asked is {asked}{expected}"
