"""The table of shapes: which columns of a known kind of file are asked, and which say what the answer should be.

A column is asked because of what it is, never because of how long its texts are. The first shape of `SHAPES` that a table fits counts; a
table that fits none needs somebody to say. `docs/prompt-files.md` shows each with what the tests ran.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from neurons.prompts import promptfoo
from neurons.prompts import shape_rows as rows
from neurons.prompts.shape_rows import Row, asked_columns, has, holds, is_lone_question, named
from neurons.prompts.values import Asked
from neurons.storage.column_names import EXPECTED, KNOWN, plain_name
from neurons.storage.json_rows import turns_in
from neurons.storage.tables import Table

_CONVERSATIONS = ("messages", "conversations", "conversation")
_LISTS = ("data", "prompts", "questions", "examples", "rows", "items", "instances", "samples", "records")


@dataclass(frozen=True)
class Shape:
    """One kind of file."""

    name: str
    asks: str
    """What of a row is asked."""
    expects: str
    """What the answer is held against; "" for nothing."""
    fits: Callable[[Table], bool]
    read: Callable[[Row], Asked]
    """A row's prompt. Raises `InvalidInput` for a row that does not fit."""
    unfold: Callable[[Row], Sequence[Row]] | None = None
    """The rows of a file that is one object."""


def _only(table: Table, *names: str) -> bool:
    """Whether nothing else is asked."""
    return {plain_name(column) for column in asked_columns(table)} <= set(names)


def _one_object(table: Table, *names: str) -> bool:
    return len(table.rows) == 1 and all(isinstance(table.rows[0][1].get(name), list) for name in names)


def _is_big_bench(table: Table) -> bool:
    def example(item: Any) -> bool:
        return isinstance(item, Mapping) and "input" in item and ("target" in item or "target_scores" in item)

    return _one_object(table, "examples") and all(map(example, table.rows[0][1]["examples"]))


def _is_passage(table: Table) -> bool:
    parts = [name for name in ("context", "passage") if holds(table, name, str)]
    rest = [column for column in table.columns if plain_name(column) not in ("context", "passage")]
    return len(parts) == 1 and holds(table, "question", str) and is_lone_question(replace(table, columns=tuple(rest)))


def _is_alpaca(table: Table) -> bool:
    both = holds(table, "instruction", str) and (holds(table, "input", str) != holds(table, "context", str))
    return both and _only(table, "instruction", "input", "text")


def _is_promptfoo_csv(table: Table) -> bool:
    kept = tuple(name for name in table.columns if not name.startswith("__"))
    return any(name.startswith("__expected") for name in table.columns) and is_lone_question(replace(table, columns=kept))


def _is_question_and_answer(table: Table) -> bool:
    dunder = any(name.startswith("__expected") for name in table.columns)
    return is_lone_question(table) and not dunder and named(table.columns, EXPECTED) is not None


def _is_one_column(table: Table) -> bool:
    """A table of one column, unless that is named as something else."""
    return table.format == "csv" and len(table.columns) == 1 and (not table.header or plain_name(table.columns[0]) not in KNOWN)


SHAPES: tuple[Shape, ...] = (
    Shape(
        "BIG-bench task",
        "input of each example, with its choices",
        "target, or the best of target_scores",
        _is_big_bench,
        rows.read_big_bench,
        rows.big_bench_rows,
    ),
    Shape(
        "promptfoo configuration",
        "each prompt with each test's variables",
        "the test's equals, contains, starts-with or regex",
        lambda table: table.format in ("yaml", "jsonl") and _one_object(table, "prompts") and "tests" in table.rows[0][1],
        rows.read_promptfoo_row,
        promptfoo.unfold,
    ),
    Shape(
        "OpenAI batch",
        "the body's messages, input or prompt",
        "an answer after the last question",
        has("custom_id", "body"),
        rows.read_batch,
    ),
    Shape(
        "lm-eval samples",
        "the first argument",
        "target",
        lambda table: has("doc", "arguments", "target")(table) and holds(table, "arguments", (list, dict)),
        rows.read_lm_eval,
    ),
    Shape(
        "OpenAI preferences",
        "messages of the input",
        "preferred_output",
        lambda table: holds(table, "input", dict) and has("preferred_output")(table),
        rows.read_preference,
    ),
    Shape("OpenAI evals", "input", "ideal", lambda table: has("input", "ideal")(table) and _only(table, "input"), rows.read_evals),
    Shape(
        "OpenAI chat",
        "messages up to the last question",
        "the answer to it",
        lambda table: holds(table, "messages", list),
        rows.read_messages,
    ),
    Shape(
        "ShareGPT",
        "conversations up to the last question",
        "the answer to it",
        lambda table: any(holds(table, name, list) for name in ("conversations", "conversation")),
        rows.read_messages,
    ),
    Shape("promptfoo tests", "the column that is asked", "__expected", _is_promptfoo_csv, rows.read_promptfoo_csv),
    Shape("HarmBench", "Behavior, after its ContextString", "", has("Behavior", "BehaviorID"), rows.read_harmbench),
    Shape("AdvBench", "goal", "target", has("goal", "target"), rows.read_goal),
    Shape("question on a passage", "context (or passage) and question, joined", "answer or answers", _is_passage, rows.read_passage),
    Shape("Alpaca", "instruction and input (or context), joined", "output or response", _is_alpaca, rows.read_alpaca),
    Shape(
        "prompts with expected", "the one column that is asked", "the first that is expected", _is_question_and_answer, rows.read_question
    ),
    Shape("prompts", "the one column that is asked", "", is_lone_question, rows.read_question),
    Shape("one column", "each row", "", _is_one_column, rows.read_only_column),
)


def find_shape(table: Table) -> tuple[Shape | None, Table]:
    """The shape of a table, and the table with its rows: those of the file, or those that its one object holds.

    Raises `InvalidInput` for a known shape that only its own program can run.
    """
    by_columns = _by_columns(table)
    if by_columns is not None:
        return find_shape(by_columns)
    table = with_turns(table)
    shape = next((shape for shape in SHAPES if shape.fits(table)), None)
    if shape is not None and shape.unfold is not None:
        return shape, _with_rows(table, shape.unfold(table.rows[0][1]))
    held = _held(table)
    return (shape, table) if held is None else find_shape(held)


def asks_and_expects(table: Table, shape: Shape) -> str:
    """What of this table is asked and expected, for a reader."""
    asked_column = only_column(table, shape)
    if asked_column is None:
        return f"{shape.name}: asked is {shape.asks}" + (f"; expected is {shape.expects}" if shape.expects else "")
    asked = f"asked is the column {asked_column!r}"
    expected = "__expected" if shape.expects == "__expected" else named(table.columns, EXPECTED) if shape.expects else None
    return f"{shape.name}: {asked}" + (f"; expected is the column {expected!r}" if expected else "")


def only_column(table: Table, shape: Shape) -> str | None:
    """The column that is asked, where it is one as it stands."""
    return asked_columns(table)[0] if shape.read in (rows.read_question, rows.read_promptfoo_csv) else None


def _held(table: Table) -> Table | None:
    """The rows of a JSON file that is one object with one list of rows in it."""
    if table.format not in ("jsonl", "yaml") or len(table.rows) != 1 or table.errors:
        return None
    lists = [value for name, value in table.rows[0][1].items() if plain_name(name) in _LISTS and isinstance(value, list) and value]
    if len(lists) != 1 or not all(isinstance(item, str) or (isinstance(item, Mapping) and "role" not in item) for item in lists[0]):
        return None
    return _with_rows(table, [{"prompt": item} if isinstance(item, str) else item for item in lists[0]])


def with_turns(table: Table) -> Table:
    """The table with conversations that stand in its cells as text read."""
    columns = [name for name in table.columns if plain_name(name) in _CONVERSATIONS]
    if not any(isinstance(row.get(name), str) for _, row in table.rows for name in columns):
        return table
    rows = tuple((number, {**row, **{name: turns_in(row.get(name)) for name in columns if name in row}}) for number, row in table.rows)
    return replace(table, rows=rows)


def _by_columns(table: Table) -> Table | None:
    """The rows of a JSON file that is one object of columns, as pandas writes it: lists of equal length, or objects with the same keys."""
    if table.format not in ("jsonl", "yaml") or len(table.rows) != 1 or table.errors or len(table.columns) < 2:
        return None
    row = table.rows[0][1]
    if any(plain_name(name) in _LISTS for name in row):
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
    return _with_rows(table, found)


def _with_rows(table: Table, found: Sequence[Row]) -> Table:
    columns = tuple(dict.fromkeys(str(key) for row in found for key in row))
    return replace(table, columns=columns, rows=tuple(enumerate(found, 1)))
