"""The table of shapes: which columns of a known kind of file are asked, and which say what the answer should be.

A column is asked because of what it is, never because of how long its texts are. The first shape of `SHAPES` that a table fits counts; a
table that fits none needs somebody to say. `docs/prompt-files.md` shows each with what the tests ran.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from neurons.prompts import nested, promptfoo
from neurons.prompts import shape_rows as rows
from neurons.prompts.shape_rows import Row, asked_columns, expected_column, has, holds, is_lone_question, named
from neurons.prompts.values import Asked, is_transcript
from neurons.storage.column_names import EXPECTED, KNOWN, WRITER, plain_name
from neurons.storage.tables import Table

_MADE_TO_RUN = ("tests", "providers", "targets", "scenarios", "default test")
"""What a promptfoo configuration has beside its prompts."""


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


def _one_object(table: Table, name: str, kind: type | tuple[type, ...] = list) -> bool:
    return len(table.rows) == 1 and isinstance(table.rows[0][1].get(name), kind)


def _is_big_bench(table: Table) -> bool:
    def example(item: Any) -> bool:
        return isinstance(item, Mapping) and "input" in item and ("target" in item or "target_scores" in item)

    return _one_object(table, "examples") and all(map(example, table.rows[0][1]["examples"]))


def _is_promptfoo(table: Table) -> bool:
    names = {plain_name(column) for column in table.columns}
    return table.format in ("yaml", "jsonl") and _one_object(table, "prompts", (list, dict, str)) and bool(names & set(_MADE_TO_RUN))


def _is_squad(table: Table) -> bool:
    """SQuAD's own file. Questions that go on from the one before (QuAC's) are none to be asked alone."""

    def paragraph(item: Any) -> bool:
        return isinstance(item, Mapping) and isinstance(item.get("context"), str) and isinstance(item.get("qas"), list)

    def question(item: Any) -> bool:
        return isinstance(item, Mapping) and "question" in item and "followup" not in item

    if not _one_object(table, "data"):
        return False
    articles = table.rows[0][1]["data"]
    paragraphs = [part for one in articles if isinstance(one, Mapping) for part in one.get("paragraphs") or [None]]
    return bool(paragraphs) and all(map(paragraph, paragraphs)) and all(question(item) for part in paragraphs for item in part["qas"])


def _is_instructions(table: Table) -> bool:
    return "Definition" in table.columns and _one_object(table, "Instances")


def _is_ultrachat(table: Table) -> bool:
    """Turns by turn without names. A lone list of texts called "data" may as well be prompts."""
    turns = [row.get("data") for _, row in table.rows]
    texts = all(isinstance(one, list) and one and all(isinstance(turn, str) for turn in one) for one in turns)
    return texts and {plain_name(column) for column in table.columns} == {"id", "data"}


def _is_preference(table: Table) -> bool:
    """Two answers to one conversation, the better and the other, each with it."""
    both = [row.get(name) for _, row in table.rows for name in ("chosen", "rejected")]
    return (
        has("chosen", "rejected")(table)
        and not asked_columns(table)
        and all(is_transcript(one) or isinstance(one, list) for one in both if one)
    )


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
    return is_lone_question(table) and not dunder and expected_column(table.columns) is not None


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
        _is_promptfoo,
        rows.read_promptfoo_row,
        promptfoo.unfold,
    ),
    Shape("SQuAD", "the paragraph and each question, joined", "answers", _is_squad, rows.read_passage, rows.squad_rows),
    Shape(
        "Natural Instructions",
        "the definition and the input of each instance, joined",
        "its output",
        _is_instructions,
        rows.read_instruction,
        rows.instruction_rows,
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
    Shape("HH-RLHF", "the turns of chosen up to the last human one", "", _is_preference, rows.read_chosen),
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
    Shape("UltraChat", "data, turn by turn, up to the last question", "the answer to it", _is_ultrachat, rows.read_messages),
    Shape(
        "MT-bench questions",
        "the first of turns",
        "the first of reference",
        lambda table: holds(table, "turns", list) and not asked_columns(table),
        rows.read_first_turn,
    ),
    Shape("promptfoo tests", "the column that holds the prompts", "__expected", _is_promptfoo_csv, rows.read_promptfoo_csv),
    Shape("HarmBench", "Behavior, after its ContextString", "", has("Behavior", "BehaviorID"), rows.read_harmbench),
    Shape("AdvBench", "goal", "target", has("goal", "target"), rows.read_goal),
    Shape("question on a passage", "context (or passage) and question, joined", "answer or answers", _is_passage, rows.read_passage),
    Shape("Alpaca", "instruction and input (or context), joined", "output or response", _is_alpaca, rows.read_alpaca),
    Shape(
        "prompts with expected",
        "the one column that holds the prompts",
        "the first that is expected",
        _is_question_and_answer,
        rows.read_question,
    ),
    Shape("prompts", "the one column that holds the prompts", "", is_lone_question, rows.read_question),
    Shape("one column", "each row", "", _is_one_column, rows.read_only_column),
)


def find_shape(table: Table) -> tuple[Shape | None, Table]:
    """The shape of a table, and the table with its rows: those of the file, or those that its one object holds.

    Raises `InvalidInput` for a known shape that only its own program can run.
    """
    by_columns = nested.by_columns(table)
    if by_columns is not None:
        return find_shape(by_columns)
    table = nested.with_texts(nested.with_objects(nested.with_turns(table)))
    shape = next((shape for shape in SHAPES if shape.fits(table)), None)
    if shape is not None and shape.unfold is not None:
        return shape, nested.with_rows(table, shape.unfold(table.rows[0][1]))
    if shape is None or shape.read in (rows.read_question, rows.read_only_column):
        inner = nested.held(table) or nested.opened(table)
        if inner is not None:
            return find_shape(inner)
        if nested.holds_rows(table):
            return None, table
    return shape, table


def asks_and_expects(table: Table, shape: Shape) -> str:
    """What of this table is asked and expected, for a reader."""
    asked_column = only_column(table, shape)
    if asked_column is None:
        return f"{shape.name}: asked is {shape.asks}" + (f"; expected is {shape.expects}" if shape.expects else "")
    asked = f"asked is the column {asked_column!r}"
    expected = "__expected" if shape.expects == "__expected" else expected_column(table.columns, but=asked_column)
    return f"{shape.name}: {asked}" + (
        f"; expected is the column {expected!r}" if shape.expects and expected else _written(table, expected)
    )


def _written(table: Table, expected: str | None) -> str:
    """Says of a column that looks like what is expected that a model wrote it."""
    column, writer = named(table.columns, EXPECTED), named(table.columns, WRITER)
    if column is None or writer is None or expected is not None:
        return ""
    return f"; {column!r} is what a model answered ({writer!r} stands beside it), expected only where that is said"


def only_column(table: Table, shape: Shape) -> str | None:
    """The column that holds the prompts, where it is one as it stands."""
    return asked_columns(table)[0] if shape.read in (rows.read_question, rows.read_promptfoo_csv) else None
