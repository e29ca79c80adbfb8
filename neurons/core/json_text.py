"""JSON as this program writes and prints it: the one writer. What it writes every reader of JSON reads: no NaN, no infinity."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

_LONE = re.compile("[\ud800-\udfff]")


def json_text(value: Any, *, indent: int | None = None, sort_keys: bool = False, ascii_only: bool = False) -> str:
    """`value` as JSON; what JSON does not know is written as `plain` has it: NaN and infinities as null."""
    try:
        text = strict_json(value, indent=indent, sort_keys=sort_keys, ascii_only=ascii_only)
    except (TypeError, ValueError):
        text = strict_json(plain(value), indent=indent, sort_keys=sort_keys, ascii_only=ascii_only)
    return _LONE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)  # half a character, which UTF-8 cannot hold


def strict_json(value: Any, *, indent: int | None = None, sort_keys: bool = False, ascii_only: bool = False) -> str:
    """`value` as JSON, for files in which a number that is none would be a mistake. Raises `ValueError` for NaN and infinities, `TypeError`
    for what is no JSON value.
    """
    return json.dumps(value, indent=indent, sort_keys=sort_keys, ensure_ascii=ascii_only, allow_nan=False)


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: dataclasses and mappings to objects, arrays to lists, NaN and infinities to null."""
    if value is None or isinstance(value, bool | int | str):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=str)
    if isinstance(value, Path | Enum):
        return str(value.value if isinstance(value, Enum) else value)
    if hasattr(value, "tolist"):  # NumPy scalars and arrays, tensors
        return plain(value.tolist())
    if isinstance(value, Sequence) or hasattr(value, "__iter__"):
        return [plain(item) for item in value]
    return str(value)
