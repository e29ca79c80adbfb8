"""Tables out: CSV, JSON Lines and Parquet that other programs read as they are meant. The one writer, of commands and downloads alike.

CSV is UTF-8 with a header; texts that a spreadsheet would take for a formula get an apostrophe in front, which every import here
takes away again. A missing value is an empty cell; lists are JSON.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from neurons.core.errors import InvalidInput
from neurons.core.json_text import json_text
from neurons.storage.files import SHARED, atomic_path, disk_errors
from neurons.storage.formula_guard import guarded

ENDINGS = (".csv", ".jsonl", ".parquet")
_LONE = re.compile("[\ud800-\udfff]")


def csv_text(rows: Iterable[Mapping[str, Any]], columns: Sequence[str] | None = None) -> str:
    """The rows as CSV with a header; `columns` None takes the first row's, and a later row that has others is a `ValueError`."""
    stream = io.StringIO(newline="")
    _write_csv(stream, rows, columns)
    return stream.getvalue()


def frame_csv(frame: pd.DataFrame) -> bytes:
    """A table as CSV with a header, without the index."""
    return csv_text(_records(frame), [str(name) for name in frame.columns]).encode("utf-8")


def frame_parquet(frame: pd.DataFrame) -> bytes:
    """A table as one Parquet file, without the index."""
    sink = io.BytesIO()
    _storable(frame).to_parquet(sink, compression="zstd", index=False)
    return sink.getvalue()


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows as JSONL, CSV or Parquet, by the path's ending. Returns how many. Raises `InvalidInput` for another ending."""
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise InvalidInput(f"{path.name}: write to a .jsonl, .csv or .parquet file", field="path")
    with disk_errors(path), atomic_path(path, mode=SHARED) as temporary:
        if ending == ".parquet":
            table = pd.DataFrame([{name: _whole(value) for name, value in row.items()} for row in rows])
            temporary.write_bytes(frame_parquet(table))
            return len(table)
        with temporary.open("w", encoding="utf-8", newline="") as file:
            return _write_csv(file, rows, None) if ending == ".csv" else _write_jsonl(file, rows)


def _write_csv(file: IO[str], rows: Iterable[Mapping[str, Any]], columns: Sequence[str] | None) -> int:
    writer = csv.writer(file, lineterminator="\r\n")  # any other end leaves a carriage return in a cell unquoted
    names = columns
    known: set[str] = set()
    if names is not None:
        writer.writerow(names)
    count = 0
    for row in rows:
        if names is None:
            names = list(row)
            writer.writerow(names)
            known = set(names)
        if columns is None and not known.issuperset(row):
            raise ValueError(f"rows of one CSV file differ: {sorted(set(row) - known)} is not in the first")
        writer.writerow([_cell(row.get(name)) for name in names])
        count += 1
    return count


def _write_jsonl(file: IO[str], rows: Iterable[Mapping[str, Any]]) -> int:
    count = 0
    for row in rows:
        file.write(json_text(_whole(row)) + "\n")
        count += 1
    return count


def _cell(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        return guarded(_whole(value))
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    return guarded(json_text(value))


def _whole(value: Any) -> Any:
    """Texts, those inside lists and objects too, without half characters: UTF-8 cannot hold them and other readers of JSON refuse them."""
    if isinstance(value, Mapping):
        return {_whole(name): _whole(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_whole(one) for one in value]
    return _LONE.sub("\ufffd", value) if isinstance(value, str) else value


def _records(frame: pd.DataFrame) -> Iterable[Mapping[str, Any]]:
    names = [str(name) for name in frame.columns]
    return (dict(zip(names, row, strict=True)) for row in frame.itertuples(index=False, name=None))


def _storable(frame: pd.DataFrame) -> pd.DataFrame:
    """Whole texts only, and a column whose values (or what lists among them hold) are of several kinds as JSON texts."""
    changed = {}
    for name in frame.columns:
        column = frame[name]
        if column.dtype != object:
            continue
        kinds = {type(value) for value in column if isinstance(value, list | dict) or not pd.isna(value)}
        if kinds == {str}:
            changed[name] = column.map(_whole)
        elif (len(kinds) > 1 and not kinds <= {int, float}) or not _has_one_type(column):
            changed[name] = column.map(
                lambda value: _whole(value) if isinstance(value, str) else None if value is None else json_text(value)
            )
    return frame.assign(**changed) if changed else frame


def _has_one_type(column: pd.Series) -> bool:
    """Whether Parquet has a type for all values of a column."""
    try:
        pa.array(column, from_pandas=True)
    except (pa.ArrowException, OverflowError):
        return False
    return True
