"""Sets of prompts: read from TXT, CSV, JSONL or pasted text, columns detected and mapped, errors named by row, kept by name.

TXT     one prompt a line, empty lines skipped
CSV     comma, semicolon, tab or bar; a header where the first row looks like one
JSONL   one JSON value a line: a text, an object, or an object with "messages"; a JSON array works too
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from neurons.core.errors import InvalidFile, InvalidInput
from neurons.core.types import Message, Role
from neurons.storage.documents import NamedDocuments
from neurons.storage.tables import RowError, Table, kind_of, read_table, short

MAX_CHARS = 200_000
PROMPT_NAMES = ("prompt", "question", "text", "input", "instruction", "query", "user", "content", "message", "messages", "conversation")
SYSTEM_NAMES = ("system", "system_prompt", "system prompt")
ID_NAMES = ("id", "name", "key", "uid")
TAG_NAMES = ("tags", "tag", "labels", "label", "category", "topic")


@dataclass(frozen=True)
class ColumnMapping:
    """Which column means what. None: there is no such column."""

    prompt: str
    system: str | None = None
    id: str | None = None
    tags: str | None = None


@dataclass(frozen=True)
class PromptRow:
    """One prompt that can be run."""

    row: int
    messages: tuple[Message, ...]
    id: str = ""
    tags: tuple[str, ...] = ()

    @property
    def prompt(self) -> str:
        """The last user message."""
        return next((m.content for m in reversed(self.messages) if m.role == "user"), "")


@dataclass(frozen=True)
class PromptSet:
    """Prompts that can be run, and the rows that cannot."""

    rows: tuple[PromptRow, ...]
    errors: tuple[RowError, ...] = ()
    source: str = ""
    """The file's name, or "pasted"."""


def pasted(text: str) -> PromptSet:
    """One prompt a line. Raises `InvalidFile` when there is none."""
    table = read_table(text.encode("utf-8", errors="surrogatepass"), kind="txt") if text.strip() else None
    if table is None:
        raise InvalidFile("paste at least one prompt, one a line", field="prompts")
    return build(table, ColumnMapping("prompt"), source="pasted")


def guess_mapping(table: Table) -> ColumnMapping:
    """The likeliest meaning of the columns, by their names; the longest text is the prompt when no name fits."""
    by_name = {column.strip().casefold(): column for column in reversed(table.columns)}

    def named(names: Sequence[str]) -> str | None:
        return next((by_name[name] for name in names if name in by_name), None)

    prompt = named(PROMPT_NAMES)
    system, ident, tags = named(SYSTEM_NAMES), named(ID_NAMES), named(TAG_NAMES)
    if prompt is None:
        sample = [values for _, values in table.rows[:50]]
        free = [column for column in table.columns if column not in (system, ident, tags)] or list(table.columns)
        prompt = max(free, key=lambda column: sum(len(v) for row in sample if isinstance(v := row.get(column), str)))
    return ColumnMapping(prompt, system, ident if ident != prompt else None, tags if tags != prompt else None)


def build(table: Table, mapping: ColumnMapping, *, source: str = "") -> PromptSet:
    """The prompts of a table under a mapping; rows that do not fit are listed in `errors`. Raises `InvalidInput` for unknown columns."""
    for what in ("prompt", "system", "id", "tags"):
        column = getattr(mapping, what)
        if column is not None and column not in table.columns:
            raise InvalidInput(f"there is no column {column!r}; the file has {', '.join(table.columns)}", field=what)
    rows, errors = [], list(table.errors)
    for number, values in table.rows:
        try:
            rows.append(_row(number, values, mapping))
        except InvalidInput as error:
            errors.append(RowError(number, str(error)))
    return PromptSet(tuple(rows), tuple(sorted(errors, key=lambda error: error.row)), source)


def load_file(data: bytes, *, name: str, mapping: ColumnMapping | None = None) -> PromptSet:
    """Read, guess the columns (unless given) and build, in one step."""
    table = read_table(data, name=name)
    return build(table, mapping or guess_mapping(table), source=name)


# -- one row -----------------------------------------------------------------------------------------------------------


def _row(number: int, values: Mapping[str, Any], mapping: ColumnMapping) -> PromptRow:
    prompt = values.get(mapping.prompt)
    messages = _conversation(prompt) if isinstance(prompt, list) else (Message("user", _text(prompt, mapping.prompt)),)
    system = values.get(mapping.system) if mapping.system else None
    if system not in (None, ""):
        messages = (Message("system", _text(system, "system")), *(m for m in messages if m.role != "system"))
    ident = values.get(mapping.id) if mapping.id else None
    if isinstance(ident, dict | list):
        raise InvalidInput("the id is not a text or number")
    return PromptRow(
        number, messages, "" if ident is None else short(str(ident)), _tags(values.get(mapping.tags) if mapping.tags else None)
    )


def _text(value: Any, what: str) -> str:
    if value is None or (isinstance(value, str) and not value.strip()):
        raise InvalidInput(f"the {what} is empty")
    if not isinstance(value, str):
        raise InvalidInput(f"the {what} is {kind_of(value)}, not a text")
    if len(value) > MAX_CHARS:
        raise InvalidInput(f"the {what} has {len(value):,} characters; the limit is {MAX_CHARS:,}")
    if any(0xD800 <= ord(char) <= 0xDFFF for char in value):
        raise InvalidInput(f"the {what} holds half a character (a lone surrogate)")
    return value.replace("\0", "")


def _conversation(turns: list[Any]) -> tuple[Message, ...]:
    """OpenAI-style messages."""
    messages = []
    for turn in turns:
        if not isinstance(turn, dict) or turn.get("role") not in ("system", "user", "assistant"):
            raise InvalidInput('each message needs a "role" (system, user or assistant) and a "content"')
        messages.append(Message(cast(Role, turn["role"]), _text(turn.get("content"), f"{turn['role']} message")))
    if not messages or messages[-1].role != "user":
        raise InvalidInput("the conversation does not end with the user's turn")
    return tuple(messages)


def _tags(value: Any) -> tuple[str, ...]:
    parts = value if isinstance(value, list) else str(value).replace(";", ",").split(",") if value is not None else []
    return tuple(dict.fromkeys(short(str(part))[:60] for part in parts if str(part).strip()))[:20]


# -- saved sets --------------------------------------------------------------------------------------------------------


def to_json(prompts: PromptSet) -> dict[str, Any]:
    """A set as a document or a job keeps it."""
    rows = [
        {"row": r.row, "id": r.id, "tags": list(r.tags), "messages": [{"role": m.role, "content": m.content} for m in r.messages]}
        for r in prompts.rows
    ]
    return {"source": prompts.source, "rows": rows, "errors": [{"row": e.row, "message": e.message} for e in prompts.errors]}


def from_json(data: Any) -> PromptSet:
    """Read a set back; raises `InvalidInput` for anything else."""
    try:
        rows = tuple(
            PromptRow(int(r["row"]), _conversation(list(r["messages"])), short(str(r.get("id", ""))), _tags(list(r.get("tags", []))))
            for r in data["rows"]
        )
        errors = tuple(RowError(int(e["row"]), str(e["message"])) for e in data.get("errors", []))
        return PromptSet(rows, errors, str(data.get("source", "")))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(f"this is not a prompt set: {error}", field="set") from error


def _checked(data: Any) -> Any:
    return to_json(from_json(data))


def saved_sets() -> NamedDocuments:
    """The saved prompt sets, by name."""
    return NamedDocuments("prompts", check=_checked)


def save_set(name: str, prompts: PromptSet, *, replace: bool = True) -> None:
    """Keep a set under a name. Raises `InvalidInput` for an empty set or a taken name."""
    if not prompts.rows:
        raise InvalidInput("the set has no prompt that can be run", field="prompts")
    saved_sets().save(name, to_json(prompts), replace=replace)


def load_set(name: str) -> PromptSet:
    """A saved set. Raises `NotFound`."""
    return from_json(saved_sets().load(name))
