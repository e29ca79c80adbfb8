"""What is written for others goes through one writer of JSON and one of CSV: each knows what the format cannot hold."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

import numpy as np
import pytest

from neurons.core.json_text import json_text, strict_json

ROOT = Path(__file__).resolve().parents[2]
WRITERS = {"neurons/core/json_text.py": {"dumps"}, "neurons/storage/table_files.py": {"writer"}}
"""Where the libraries are called, and nowhere else."""
LIBRARIES = {("json", "dump"), ("json", "dumps"), ("csv", "writer"), ("csv", "DictWriter")}


def calls(path: Path) -> Iterator[str]:
    """json.dump, csv.writer, frame.to_csv and the like, by their last name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            on = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
            if (on, node.func.attr) in LIBRARIES or node.func.attr in ("to_csv", "model_dump_json"):
                yield node.func.attr


def test_json_and_csv_have_one_writer_each() -> None:
    for folder in ("neurons", "traces", "pages", "scripts", "bench"):
        for path in (ROOT / folder).rglob("*.py"):
            name = path.relative_to(ROOT).as_posix()
            assert set(calls(path)) <= WRITERS.get(name, set()), f"{name}: use neurons.core.json_text or neurons.storage.table_files"


class Colour(Enum):
    RED = "red"


def test_json_never_holds_what_is_no_number() -> None:
    value = {
        "a": [math.nan, -math.inf, 1.5],
        "b": np.float32("nan"),
        "c": (np.int64(3), Path("x"), Colour.RED),
        4: {2, 1},
        "ü": "\ud83d\u2028",
    }

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    text = json_text(value)
    assert json.loads(text.encode("utf-8"), parse_constant=refuse) == {
        "a": [None, None, 1.5], "b": None, "c": [3, "x", "red"], "4": [1, 2], "ü": "\ud83d\u2028",
    }  # fmt: skip
    assert '"ü"' in text
    assert json_text({"b": 1, "a": "é"}, sort_keys=True, ascii_only=True) == '{"a": "\\u00e9", "b": 1}'
    with pytest.raises(ValueError, match="JSON"):
        strict_json({"a": math.nan})
