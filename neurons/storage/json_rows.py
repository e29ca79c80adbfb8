"""JSON and JSON Lines as rows: one value a line, an array, one object, or objects one after the other; pretty-printed or not."""

from __future__ import annotations

import json
import re
from ast import literal_eval
from collections.abc import Iterator
from typing import Any

from neurons.core.errors import InvalidFile
from neurons.core.outside_json import parse_json

Numbered = tuple[int, Any]
MAX_ERRORS = 10_000
"""Lines of one file that may be wrong: beyond, it is no JSON Lines, and a list of its errors helps nobody."""


_TURNS = re.compile(r"\s*\[\s*\{")
_NO_COMMA = re.compile(r"\}\s+\{")
"""Between the turns of an array that NumPy wrote."""
_LONGEST_CELL = 1_000_000


def read_json(text: str) -> tuple[list[Numbered], list[tuple[int, str]]]:
    """(number, value) of every row, and number and reason of those that are not JSON.

    Numbers are lines where the file has one value per line, else they count the values. A list of messages is one row. Lines end at line
    feeds alone: JSON allows other line separators within a text. Raises `InvalidFile` when nothing can be read.
    """
    whole = _whole(text)
    if whole is not None:
        return whole, []
    values: list[Numbered] = []
    errors: list[tuple[int, str]] = []
    for number, line in _lines(text):
        try:
            values.append((number, parse_json(line, what="it")))
        except InvalidFile as error:
            errors.append((number, str(error).removeprefix("it is ")))
            if len(errors) > MAX_ERRORS:
                raise InvalidFile(
                    f"more than {MAX_ERRORS:,} lines of the file are not JSON; the first, line {errors[0][0]}, says: {errors[0][1]}",
                    field="file",
                ) from error
    if errors and not any(isinstance(value, dict | list) for _, value in values):
        first = errors[0][1]
        sequence = _sequence(text)
        if sequence is not None:
            return sequence, []
        if text.lstrip()[:1] == "[" or not values:
            raise InvalidFile(f"no row of the file can be read; the first says: {_complaint(text) or first}", field="file")
    return values, errors


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Number and text of the lines that are not blank, one at a time: a file of 100 MB is not kept twice."""
    start, number = 0, 1
    while start <= len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        line = text[start:end]
        if line.strip():
            yield number, line
        start, number = end + 1, number + 1


def _whole(text: str) -> list[Numbered] | None:
    """The file as one JSON value, or None."""
    try:
        return numbered(parse_json(text, what="it"))
    except InvalidFile:
        return None


def numbered(value: Any) -> list[Numbered]:
    """The rows of one value: an array's items, unless these are the turns of one conversation; else the value itself."""
    return list(enumerate(value, 1)) if isinstance(value, list) and not _is_conversation(value) else [(1, value)]


def _is_conversation(value: list[Any]) -> bool:
    """Whether the whole array is one conversation, in OpenAI's or ShareGPT's turns."""
    turns = [turn.keys() for turn in value if isinstance(turn, dict)]
    if len(turns) < len(value) or not turns:
        return False
    openai = all("role" in keys for keys in turns) and any("content" in keys for keys in turns)
    return openai or all({"from", "value"} <= keys for keys in turns)


def turns_in(cell: Any) -> Any:
    """A conversation that a cell holds as text, JSON's or Python's (as pandas writes lists into CSV), as its turns; all else as it is."""
    if not isinstance(cell, str) or not _TURNS.match(cell) or len(cell) > _LONGEST_CELL:
        return cell
    for read in (json.loads, literal_eval, lambda text: literal_eval(_NO_COMMA.sub("}, {", text))):
        try:
            value = read(cell)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(value, list) and _is_conversation(value):
            return value
    return cell


def _sequence(text: str) -> list[Numbered] | None:
    """Values one after the other, each over several lines, or None."""
    decoder = json.JSONDecoder()
    blank = re.compile(r"\s*")
    values: list[Numbered] = []
    at = 0
    while at < len(text):
        at = blank.match(text, at).end()  # type: ignore[union-attr]  # it matches nothing at all, too
        if at == len(text):
            break
        begin = at
        try:
            _, at = decoder.raw_decode(text, at)
            value = parse_json(text[begin:at], what="it")
        except (ValueError, RecursionError):
            return None
        values.append((len(values) + 1, value))
    return values or None


def _complaint(text: str) -> str:
    try:
        parse_json(text, what="it")
    except InvalidFile as error:
        return str(error).removeprefix("it is ")
    return ""
