"""Rows that do not lie on top: lists within one object, tables by columns, conversations and objects in cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from neurons.core.errors import InvalidFile
from neurons.core.outside_json import parse_json
from neurons.prompts.shape_rows import Row, asked_columns, expected_column, get, holds, named
from neurons.storage.column_names import ASKED, BESIDE, EXPECTED, ID, SYSTEM, TAGS, plain_name
from neurons.storage.json_rows import turns_in
from neurons.storage.tables import Table

_CONVERSATIONS = ("messages", "conversations", "conversation")
_LISTS = ("data", "prompts", "questions", "examples", "rows", "items", "instances", "samples", "records")
_ASKED = frozenset(plain_name(name) for name in ASKED)
_FACTS = frozenset(plain_name(name) for name in (*EXPECTED, *ID, *SYSTEM, *TAGS))
_PART_OF_A_ROW = frozenset(plain_name(name) for name in (*ASKED, *BESIDE, *EXPECTED)) - {"schema"}  # which pandas writes beside its rows


def with_rows(table: Table, found: Sequence[Row]) -> Table:
    """The table with these rows, counted anew."""
    columns = tuple(dict.fromkeys(str(key) for row in found for key in row))
    return replace(table, columns=columns, rows=tuple(enumerate(found, 1)))


# -- one object that holds the rows ------------------------------------------------------------------------------------


def _is_one_object(table: Table) -> bool:
    return table.format in ("jsonl", "yaml") and len(table.rows) == 1 and not table.errors


def _row_lists(table: Table) -> list[str]:
    return [name for name, value in table.rows[0][1].items() if plain_name(name) in _LISTS and isinstance(value, list) and value]


def holds_rows(table: Table) -> bool:
    """Whether the file is one object with a list that looks like rows, though these are not all of it."""
    return _is_one_object(table) and bool(_row_lists(table)) and len(table.columns) > 1


def held(table: Table) -> Table | None:
    """The rows of a JSON file that is one object with one list of rows in it, and nothing that belongs to each of them."""
    lists = _row_lists(table) if _is_one_object(table) else []
    if len(lists) != 1 or any(plain_name(name) in _PART_OF_A_ROW for name in table.columns if name != lists[0]):
        return None
    items = table.rows[0][1][lists[0]]
    if all(isinstance(item, Mapping) and isinstance(item.get("row"), Mapping) and "row_idx" in item for item in items):
        items = [item["row"] for item in items]  # what a data set's page on the Hugging Face hub gives
    if not all(isinstance(item, str) or (isinstance(item, Mapping) and "role" not in item) for item in items):
        return None
    system = named(tuple(table.columns), SYSTEM)
    shared = {} if system is None else {system: table.rows[0][1][system]}
    return with_rows(table, [shared | ({"prompt": item} if isinstance(item, str) else item) for item in items])


def by_columns(table: Table) -> Table | None:
    """The rows of a JSON file that is one object of columns, as pandas writes it: lists of equal length, or objects with the same keys."""
    if not _is_one_object(table) or len(table.columns) < 2:
        return None
    row = table.rows[0][1]
    split = _split(row)
    if split is not None:
        return with_rows(table, split)
    others = [name for name in row if plain_name(name) not in _LISTS]
    if len(others) < len(row) and not (len(others) == len(row) - 1 and all(plain_name(name) in _FACTS for name in others)):
        return None
    keys = {
        tuple(value) if isinstance(value, Mapping) else range(len(value)) if isinstance(value, list) else None for value in row.values()
    }
    [only] = keys if len(keys) == 1 else [None]
    if not only or (isinstance(only, tuple) and not all(str(key).isdigit() for key in only)):
        return None
    found = [{name: value[key] for name, value in row.items()} for key in only]
    if any(isinstance(item, Mapping | list) for one in found for item in one.values()):
        return None
    return with_rows(table, found)


def _split(row: Row) -> list[dict[str, Any]] | None:
    """The rows of {"columns": [...], "data": [[...], ...]}, which pandas calls "split"."""
    names, rows = row.get("columns"), row.get("data")
    if not isinstance(names, list) or not isinstance(rows, list) or not set(row) <= {"columns", "data", "index"}:
        return None
    if not rows or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        return None
    even = all(isinstance(one, list) and len(one) == len(names) for one in rows)
    return [dict(zip(names, one, strict=True)) for one in rows] if even else None


# -- conversations and objects in cells --------------------------------------------------------------------------------


def with_turns(table: Table) -> Table:
    """The table with conversations that stand in its cells as text read."""
    columns = {*asked_columns(table), *(name for name in table.columns if plain_name(name) in _CONVERSATIONS)}
    if not any(isinstance(row.get(name), str) and "{" in row[name] for _, row in table.rows for name in columns):
        return table
    rows = tuple((number, {**row, **{name: turns_in(row.get(name)) for name in columns if name in row}}) for number, row in table.rows)
    return replace(table, rows=rows)


def with_objects(table: Table) -> Table:
    """The table with columns of questions and answers read whose every cell is a JSON object as text, as exports write them into CSV."""
    if table.format == "txt":
        return table
    changed: dict[str, list[Any]] = {}
    asked = set(asked_columns(table))
    for name in [name for name in table.columns if name in asked or plain_name(name) in _FACTS]:
        found = [_object_in(row.get(name)) for _, row in table.rows]
        if any(value is not None for value in found) and all(value is not False for value in found):
            changed[name] = found
    if not changed:
        return table
    rows = ((number, {**row, **{name: found[n] for name, found in changed.items()}}) for n, (number, row) in enumerate(table.rows))
    return replace(table, rows=tuple(rows))


def with_texts(table: Table) -> Table:
    """The table with objects among texts in a column that is asked read as the one text or conversation that they hold.

    Langfuse keeps one item's input as a text and another's as an object. One that holds more stays, and is left out as no text.
    """
    names = [name for name in asked_columns(table) if {type(row.get(name)) for _, row in table.rows} >= {str, dict}]
    if len(names) != 1:
        return table
    answers = expected_column(table.columns, but=names[0])

    def plain(row: Row) -> Row:
        if not isinstance(row.get(names[0]), dict):
            return row
        told = {} if answers is None else {answers: _answer_in(row.get(answers))}
        return {**row, names[0]: _only_text(row[names[0]]), **told}

    said = f"where {names[0]!r} is an object, the one text or conversation in it is asked"
    return replace(table, rows=tuple((number, plain(row)) for number, row in table.rows), notes=(*table.notes, said))


def _only_text(value: Mapping[str, Any]) -> Any:
    """What an object asks, where it is one field that is asked, or the only one; else the object."""
    asked = [name for name in value if plain_name(name) in _ASKED]
    parts = [name for name in value if plain_name(name) in BESIDE]
    if parts or not (len(asked) == 1 or len(value) == 1):
        return value
    return value[asked[0] if asked else next(iter(value))]


def _object_in(cell: Any) -> Any:
    """The object that a cell holds as text; None for an empty cell, False for any other."""
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return None
    if not isinstance(cell, str) or not (cell.lstrip().startswith("{") and cell.rstrip().endswith("}")):
        return False
    try:
        value = parse_json(cell, what="it")
    except InvalidFile:
        return False
    return value if isinstance(value, dict) else False


def opened(table: Table) -> Table | None:
    """The table with the fields of an object that is asked as columns, as LangSmith, Langfuse and others keep inputs and outputs."""
    asked = asked_columns(table)
    if len(asked) != 1 or not holds(table, asked[0], dict):
        return None
    answers = expected_column(table.columns, but=asked[0])
    kept = [name for name in table.columns if plain_name(name) in _FACTS and name != answers]

    def row_of(row: Row) -> Row:
        inner = row.get(asked[0])
        found = {name: row[name] for name in kept if name in row} | (dict(inner) if isinstance(inner, Mapping) else {})
        return found | ({} if answers is None else {"expected": _answer_in(row.get(answers))})

    rows = tuple((number, row_of(row)) for number, row in table.rows)
    columns = tuple(dict.fromkeys(str(key) for _, row in rows for key in row))
    said = f"the fields of {asked[0]!r} are read as columns" + (f", and {answers!r} as expected" if answers else "")
    return replace(table, columns=columns, rows=rows, notes=(*table.notes, said))


def _answer_in(value: Any) -> Any:
    """The answer in what a run gave: a field that is called one, a last message, or the only field."""
    if not isinstance(value, Mapping):
        return value
    messages = value.get("messages")
    if isinstance(messages, list) and messages and isinstance(messages[-1], Mapping):
        return messages[-1].get("content")
    found = get(value, *EXPECTED, "content")
    return found if found is not None or len(value) != 1 else next(iter(value.values()))
