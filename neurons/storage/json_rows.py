"""JSON and JSON Lines as rows: one value a line, an array, one object, or objects one after the other; pretty-printed or not."""

from __future__ import annotations

import json
from typing import Any

from neurons.core.errors import InvalidFile

Numbered = tuple[int, Any]


def read_json(text: str) -> tuple[list[Numbered], list[tuple[int, str]]]:
    """(number, value) of every row, and number and reason of those that are not JSON.

    Numbers are lines where the file has a value a line, else they count the values. A list of messages is one row. Lines end at line
    feeds alone: JSON allows other line separators within a text. Raises `InvalidFile` when nothing can be read.
    """
    whole = _whole(text)
    if whole is not None:
        return whole, []
    values: list[Numbered] = []
    errors: list[tuple[int, str]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            values.append((number, json.loads(line)))
        except (ValueError, RecursionError) as error:
            errors.append((number, f"not JSON: {str(error)[:200]}"))
    if errors and not any(isinstance(value, dict | list) for _, value in values):
        first = errors[0][1]
        sequence = _sequence(text)
        if sequence is not None:
            return sequence, []
        if text.lstrip()[:1] == "[" or not values:
            raise InvalidFile(f"no row of the file can be read; the first says: {_complaint(text) or first}", field="file")
    return values, errors


def _whole(text: str) -> list[Numbered] | None:
    """The file as one JSON value, or None."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return numbered(value)


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


def _sequence(text: str) -> list[Numbered] | None:
    """Values one after the other, each over several lines, or None."""
    decoder = json.JSONDecoder()
    values: list[Numbered] = []
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return None
        values.append((len(values) + 1, value))
    return values or None


def _complaint(text: str) -> str:
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        return f"not JSON: {str(error)[:200]}"
    return ""
