"""How the rows of known kinds of files are read: which columns are which, and a row as what is asked and expected.

`neurons.prompts.shapes` says which of these a file is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from neurons.core.errors import InvalidInput
from neurons.core.types import Message
from neurons.prompts import promptfoo
from neurons.prompts.values import Asked, conversation, expected_of, id_of, messages_of, tags_of, text_of, with_system
from neurons.storage.column_names import ASKED, BESIDE, EXPECTED, ID, SPEAKER, SYSTEM, TAGS, WRITER, WRITTEN, plain_name
from neurons.storage.tables import Table

Row = Mapping[str, Any]
_LOOKED_AT = 50
_ASKED = frozenset(plain_name(name) for name in ASKED)
_MARKED = ("label", "kto tag")
"""What says of an answer, as KTO's data sets do, whether it is a good one."""
_CHOICE = re.compile(r"(sol|solution|ans|answer|option|choice|ending|candidate|alternative) ?([0-9]|[a-e])")
"""A column that holds one of several answers to choose from."""


# -- looking at columns ------------------------------------------------------------------------------------------------


def named(columns: Sequence[str], names: Sequence[str]) -> str | None:
    """The column with the first of these names."""
    by_name = {plain_name(column): column for column in reversed(columns)}
    return next((by_name[plain_name(name)] for name in names if plain_name(name) in by_name), None)


def get(row: Row, *names: str) -> Any:
    column = named(tuple(row), names)
    return None if column is None else row[column]


def expected_column(columns: Sequence[str], *, but: str | None = None) -> str | None:
    """The column that says what is expected, none that a model wrote; `but` is another column than that."""
    rest = [column for column in columns if but is None or plain_name(column) != plain_name(but)]
    written = WRITTEN if named(columns, WRITER) is not None else ()
    return named(rest, [name for name in EXPECTED if name not in written])


def _expected_in(row: Row, *, but: str | None = None) -> Any:
    column = expected_column(tuple(row), but=but)
    if column is None or (plain_name(column) in WRITTEN and str(get(row, *_MARKED)).casefold() == "false"):
        return None
    return row[column]


def has(*names: str) -> Callable[[Table], bool]:
    return lambda table: all(named(table.columns, (name,)) is not None for name in names)


def holds(table: Table, name: str, kind: type | tuple[type, ...]) -> bool:
    """Whether the column is there and holds this kind of value wherever it holds one."""
    values = [value for _, row in table.rows[:_LOOKED_AT] if (value := get(row, name)) is not None]
    return bool(values) and all(isinstance(value, kind) for value in values)


def asked_columns(table: Table) -> list[str]:
    return [column for column in table.columns if plain_name(column) in _ASKED]


def is_lone_question(table: Table) -> bool:
    """One column that holds the prompts, none without which the question is not whole, and none that says who speaks."""
    asked = asked_columns(table)
    if len(asked) != 1 or not _can_be_asked(table, asked[0]):
        return False
    names = {plain_name(column) for column in table.columns}
    if names & set(SPEAKER):
        return False
    parts = {name for name in names if name in BESIDE or name.startswith(("option", "choice"))} | ({"a", "b"} & names)
    chosen = [found[1] for name in names if (found := _CHOICE.fullmatch(name)) is not None]
    return not (parts or len(chosen) > len(set(chosen))) or plain_name(asked[0]) in ("prompt", "prompts")


def _can_be_asked(table: Table, column: str) -> bool:
    """Whether a column holds anything else than objects and lists that are no conversation."""
    values = [value for _, row in table.rows[:_LOOKED_AT] if (value := row.get(column)) is not None]
    return not values or not all(
        isinstance(value, Mapping) or (isinstance(value, list) and value and not any(isinstance(item, Mapping) for item in value))
        for value in values
    )


def _facts(row: Row) -> dict[str, Any]:
    return {"id": id_of(get(row, *ID)), "tags": tags_of(get(row, *TAGS))}


def _joined(*parts: Any, by: str) -> tuple[Message, ...]:
    texts = [text_of(part, "prompt") for part in parts if part not in (None, "") and str(part).strip()]
    return (Message("user", text_of(by.join(texts), "prompt")),)


# -- reading rows ------------------------------------------------------------------------------------------------------


def read_question(row: Row) -> Asked:
    column = next((name for name in row if plain_name(name) in _ASKED), None)
    if column is None:
        raise InvalidInput("it has nothing that is asked")
    messages, answer = messages_of(row[column], column)
    expected = expected_of(_expected_in(row, but=column))
    return Asked(with_system(messages, get(row, *SYSTEM)), expected or answer, **_facts(row))


def read_only_column(row: Row) -> Asked:
    (column,) = row
    return Asked((Message("user", text_of(row[column], "row")),))


def _turns(value: Any) -> Any:
    """Turns that do not say who speaks: texts one after the other, as LIMA and UltraChat have them, or pairs of input and output."""
    if not isinstance(value, list) or not value:
        return value
    if all(isinstance(turn, str) for turn in value):
        return [{"role": ("user", "assistant")[n % 2], "content": turn} for n, turn in enumerate(value)]
    if all(isinstance(turn, Mapping) and set(turn) == {"input", "output"} for turn in value):
        return _turns([turn[name] for turn in value for name in ("input", "output")])
    return value


def read_messages(row: Row) -> Asked:
    messages, answer = conversation(_turns(get(row, "messages", "conversations", "conversation", "items", "data")))
    told = expected_of(get(row, *EXPECTED[:12]))
    answer = None if get(row, *WRITER) else answer  # LMSYS, WildChat: what a model said
    return Asked(with_system(messages, get(row, *SYSTEM)), answer or told, **_facts(row))


def read_batch(row: Row) -> Asked:
    body = get(row, "body")
    if not isinstance(body, Mapping):
        raise InvalidInput("the body is not an object")
    given = body.get("messages", body.get("input", body.get("prompt")))
    messages, answer = messages_of(given, "body's prompt")
    return Asked(with_system(messages, body.get("instructions")), answer, id_of(get(row, "custom_id")))


def read_preference(row: Row) -> Asked:
    given, preferred = get(row, "input"), get(row, "preferred_output")
    asked = given.get("messages") if isinstance(given, Mapping) else None
    if not isinstance(asked, list):
        raise InvalidInput('its input has no list of "messages"')
    messages, answer = conversation([*asked, *(preferred if isinstance(preferred, list) else [])])
    return Asked(messages, answer)


def read_chosen(row: Row) -> Asked:
    """The turns that both answers follow. The better of two is no mark of a right one."""
    messages, _ = messages_of(get(row, "chosen"), "chosen")
    return Asked(messages, None, **_facts(row))


def read_evals(row: Row) -> Asked:
    messages, answer = messages_of(get(row, "input"), "input")
    return Asked(messages, expected_of(get(row, "ideal")) or answer, **_facts(row))


def read_first_turn(row: Row) -> Asked:
    turns, reference = get(row, "turns"), get(row, "reference")
    first = turns[0] if isinstance(turns, list) and turns else None
    text = text_of(first.get("content") if isinstance(first, Mapping) else first, "first turn")
    expected = expected_of(reference[0] if isinstance(reference, list) and reference else reference)
    return Asked((Message("user", text),), expected, **_facts(row))


def read_alpaca(row: Row) -> Asked:
    messages = (*_history(get(row, "history")), *_joined(get(row, "instruction"), get(row, "input", "context"), by="\n"))
    return Asked(with_system(messages, get(row, *SYSTEM)), expected_of(_expected_in(row)), **_facts(row))


def _history(pairs: Any) -> tuple[Message, ...]:
    """Earlier turns as pairs of question and answer, as LLaMA-Factory keeps them. Raises `InvalidInput` for anything else."""
    if not pairs:
        return ()
    if not isinstance(pairs, list) or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        raise InvalidInput("its history is no list of pairs of question and answer")
    texts = [text_of(text, "history") for pair in pairs for text in pair]
    return tuple(Message("assistant" if n % 2 else "user", text) for n, text in enumerate(texts))


def read_passage(row: Row) -> Asked:
    messages = _joined(get(row, "context", "passage"), get(row, "question"), by="\n\n")
    return Asked(messages, expected_of(_expected_in(row)), **_facts(row))


def read_goal(row: Row) -> Asked:
    goal = text_of(get(row, "goal"), "goal")
    return Asked((Message("user", goal),), expected_of(get(row, "target")), **_facts(row))


def read_harmbench(row: Row) -> Asked:
    messages = _joined(get(row, "ContextString"), get(row, "Behavior"), by="\n\n---\n\n")
    return Asked(messages, None, id_of(get(row, "BehaviorID")), tags_of(get(row, "SemanticCategory")))


def squad_rows(file: Row) -> list[Row]:
    """A row for each question. What cannot be answered from its paragraph has no answers, and so nothing expected."""
    return [
        {"id": item.get("id"), "context": part["context"], "question": item["question"], "answers": item.get("answers")}
        for article in file["data"]
        for part in article["paragraphs"]
        for item in part["qas"]
    ]


def instruction_rows(task: Row) -> list[Row]:
    return [
        {"definition": task["Definition"], **instance} if isinstance(instance, Mapping) else {"definition": None}
        for instance in task["Instances"]
    ]


def read_instruction(row: Row) -> Asked:
    definition = row["definition"]
    parts = definition if isinstance(definition, list) else [definition]
    return Asked(_joined(*parts, text_of(row.get("input"), "input"), by="\n\n"), expected_of(row.get("output")), id_of(row.get("id")))


def big_bench_rows(task: Row) -> list[Row]:
    prefix, choice = str(task.get("task_prefix") or ""), str(task.get("choice_prefix", "\n  choice: "))
    offered = bool(task.get("append_choices_to_input", True))
    return [{**example, "__prefix": prefix, "__choice": choice, "__offered": offered} for example in task["examples"]]


def read_big_bench(row: Row) -> Asked:
    scores = row.get("target_scores")
    text = text_of(row.get("input"), "input")
    if isinstance(scores, Mapping) and row["__offered"]:
        text += "".join(f"{row['__choice']}{choice}" for choice in scores)
    best = _best(scores) if isinstance(scores, Mapping) and scores else None
    return Asked((Message("user", text_of(row["__prefix"] + text, "input")),), expected_of(row.get("target", best)))


def _best(scores: Mapping[str, Any]) -> list[str]:
    """The choices of the highest score. Raises `InvalidInput` where scores are no numbers."""
    if not all(isinstance(score, int | float) for score in scores.values()):
        raise InvalidInput("its target scores are not all numbers")
    return [key for key, score in scores.items() if score == max(scores.values())]


def read_lm_eval(row: Row) -> Asked:
    arguments, target = row.get("arguments"), row.get("target")
    if isinstance(arguments, Mapping):
        arguments = [list(value.values()) if isinstance(value, Mapping) else value for value in arguments.values()]
    requests = [request for request in arguments if isinstance(request, list) and request] if isinstance(arguments, list) else []
    if not requests:
        raise InvalidInput("it has no arguments")
    chosen = str(target).strip()
    if len(requests[0]) > 1 and isinstance(requests[0][1], str) and chosen.isdecimal() and len(chosen) < 10 and int(chosen) < len(requests):
        target = requests[int(chosen)][1]  # of continuations to choose from, the target is the number
    return Asked(messages_of(requests[0][0], "first argument")[0], expected_of(target), id_of(row.get("doc_id")))


def read_promptfoo_row(row: Row) -> Asked:
    messages, answer = messages_of(row["prompt"], "prompt")
    return Asked(messages, row["expected"] or answer, id_of(row["id"]))


def read_promptfoo_csv(row: Row) -> Asked:
    cells = [value for name, value in row.items() if name.startswith("__expected")]
    expected = next((found for cell in cells if (found := promptfoo.expected_cell(cell)) is not None), None)
    asked = read_question({name: value for name, value in row.items() if not name.startswith("__")})
    return replace(asked, expected=expected)
