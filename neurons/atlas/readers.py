"""The user's own corpus: text, JSONL, CSV and Parquet files, folders of them, or a data set id. What cannot be read is named and counted.

Knows files, not tokens: conversations come out as messages.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow

from neurons.core.errors import InvalidFile, InvalidInput
from neurons.core.types import Message, Role
from neurons.storage.encodings import decode
from neurons.storage.json_rows import turns_in
from neurons.storage.tables import Table, read_table

CONVERSATIONS = ("messages", "conversations")
TEXT_COLUMNS = ("text", "content", "document", "body", "prompt", *CONVERSATIONS)
_ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
}
MIN_CHARACTERS = 40
_PART = 6000
_TABLES = (".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".json")
_UNICODE = ("utf-8", "utf-16", "utf-32")
_HUB = re.compile(r"^(?:hf:)?([A-Za-z0-9][\w.-]*/[\w.-]+)(?::([\w.-]+))?$")


@dataclass(frozen=True)
class Read:
    """One document as read: a text or a conversation."""

    name: str
    text: str = ""
    messages: tuple[Message, ...] = ()
    column: str = field(default="", compare=False)
    """The column or field that it stood in; "" for a whole text."""


@dataclass(frozen=True)
class Skipped:
    """Something that was left out, and why."""

    name: str
    reason: str


def read_corpus(spec: str, *, column: str | None = None, limit: int | None = None) -> Iterator[Read | Skipped]:
    """Documents of a file, a folder or a data set id (`owner/name`, `owner/name:config`), in a fixed order.

    `column` names the text column; by default the first of text, content, document, body, prompt, messages. Raises `InvalidInput` when
    `spec` is none of these, or a data set is asked for without the datasets package.
    """
    path = Path(os.path.expanduser(spec))
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
        if not files:
            raise InvalidFile(f"{path} is an empty folder; put text, JSONL, CSV or Parquet files into it", field="corpus")
        found: Iterator[Read | Skipped] = itertools.chain.from_iterable(_read_file(p, str(p.relative_to(path)), column) for p in files)
    elif path.exists():
        found = _read_file(path, path.name, column)
    elif match := _HUB.match(spec):
        found = _read_hub(match[1], match[2], column)
    else:
        raise InvalidInput(
            f"{spec!r} is no file, folder or data set id (owner/name); give the path of a text, JSONL, CSV or Parquet file", field="corpus"
        )
    return itertools.islice(found, limit)


def _read_file(path: Path, name: str, column: str | None) -> Iterator[Read | Skipped]:
    suffix = path.suffix.lower()
    if path.stat().st_size == 0:
        yield Skipped(name, "the file is empty")
        return
    if suffix == ".parquet":
        yield from _read_parquet(path, name, column)
        return
    try:
        data = path.read_bytes()
        if suffix not in _TABLES:
            yield from _parts(_unicode(data), name)
            return
        table = read_table(data, name=path.name, limit=None)
    except InvalidFile as error:
        yield Skipped(name, str(error))
        return
    except OSError as error:
        yield Skipped(name, f"the file cannot be read: {error.strerror or error}")
        return
    if table.encoding not in _UNICODE:
        yield Skipped(name, _not_unicode(table.encoding))
        return
    yield from _read_rows(table, name, column)


def _unicode(data: bytes) -> str:
    text, encoding = decode(data)
    if encoding not in _UNICODE:
        raise InvalidFile(_not_unicode(encoding), field="corpus")
    return text


def _not_unicode(encoding: str) -> str:
    return f"the file is not UTF-8 (it looks like {encoding}); convert it, for instance with iconv"


def _read_rows(table: Table, name: str, column: str | None) -> Iterator[Read | Skipped]:
    """The rows of a table in the file's order, those that cannot be used among them."""
    what = "line" if table.format == "jsonl" else "row"
    broken = {error.row: error.message for error in table.errors}
    rows = dict(table.rows)
    if table.format == "csv":
        found: list[Mapping[str, Any] | Skipped] = [
            rows[n] if n in rows else Skipped(f"row {n}", broken[n]) for n in sorted(rows.keys() | broken.keys())
        ]
        yield from _rows(found, table.columns, name, column)
        return
    for number in sorted(rows.keys() | broken.keys()):
        label = f"{name}, {what} {number}"
        if number in broken:
            yield Skipped(label, broken[number])
        else:
            yield from _rows([rows[number]], tuple(rows[number]), label, column, numbered=False)


def _read_parquet(path: Path, name: str, column: str | None) -> Iterator[Read | Skipped]:
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        yield Skipped(name, f"is no Parquet file: {error}")
        return
    yield from _rows(
        ({str(key): value for key, value in row.items()} for row in table.to_dict("records")), tuple(map(str, table.columns)), name, column
    )


def _read_hub(dataset: str, config: str | None, column: str | None) -> Iterator[Read | Skipped]:
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise InvalidInput(f"{dataset}: data sets need the datasets package; install neuronscope[datasets]", field="corpus") from error
    try:
        rows = load_dataset(dataset, config, split="train", streaming=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise InvalidInput(f"the data set {dataset} cannot be loaded: {error}", field="corpus") from error
    first = next(iter(rows), None)
    if first is None:
        raise InvalidInput(f"the data set {dataset} is empty", field="corpus")
    yield from _rows(rows, tuple(first), dataset, column)


def _rows(
    rows: Iterable[Mapping[str, Any] | Skipped], columns: Sequence[str], name: str, column: str | None, *, numbered: bool = True
) -> Iterator[Read | Skipped]:
    chosen = column if column in columns else next((c for c in TEXT_COLUMNS if c in columns), None) if column is None else None
    if chosen is None:
        yield Skipped(
            name, f"has no column {column!r}" if column else f"has no text column; its columns are {', '.join(map(str, columns)) or 'none'}"
        )
        return
    for number, row in enumerate(rows, start=1):
        label = f"{name}, row {number}" if numbered else name
        if isinstance(row, Skipped):
            yield Skipped(f"{name}, {row.name}", row.reason)
        else:
            yield _document(turns_in(row.get(chosen)) if chosen in CONVERSATIONS else row.get(chosen), label, chosen)


def _document(value: Any, name: str, column: str) -> Read | Skipped:
    if isinstance(value, str):
        return (
            Read(name, text=value, column=column)
            if len(value.strip()) >= MIN_CHARACTERS
            else Skipped(name, f"is shorter than {MIN_CHARACTERS} characters")
        )
    turns = list(value) if isinstance(value, Sequence) or hasattr(value, "tolist") else []
    messages = [_message(turn) for turn in turns]
    if messages and all(message is not None for message in messages):
        return Read(name, messages=tuple(message for message in messages if message is not None), column=column)
    return Skipped(name, "is neither a text nor a list of messages with role and content")


def _message(turn: Any) -> Message | None:
    if not isinstance(turn, Mapping):
        return None
    given = str(turn.get("role", turn.get("from")))
    role = _ROLES.get(given)
    content = turn.get("content", turn.get("value"))
    return Message(role, content) if role is not None and isinstance(content, str) else None


def _parts(text: str, name: str) -> Iterator[Read | Skipped]:
    """A long text in parts cut at empty lines, so that some of it can be held out."""
    if len(text.strip()) < MIN_CHARACTERS:
        yield Skipped(name, f"is shorter than {MIN_CHARACTERS} characters")
        return
    at, number = 0, 0
    while at < len(text):
        stop = text.find("\n\n", at + _PART)
        stop = len(text) if stop < 0 else stop
        if len(text[at:stop].strip()) >= MIN_CHARACTERS:
            yield Read(f"{name}, part {number + 1}" if number or stop < len(text) else name, text=text[at:stop])
            number += 1
        at = stop
