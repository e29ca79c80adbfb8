"""Tables as CSV, JSON Lines and Parquet, read back by pandas, polars, duckdb and our own import: values, types, missing ones, any text."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pytest

from neurons.core.errors import InvalidInput
from neurons.storage.formula_guard import guarded, unguarded
from neurons.storage.table_files import csv_text, frame_csv, frame_parquet, write_rows
from neurons.storage.tables import read_table

TEXTS = (
    "plain",
    "with, comma and \"quotes\" and 'more'",
    "line\nbreak",
    "carriage\rreturn",
    "both\r\nof them",
    "=HYPERLINK(\"http://x\")",
    "+1-555",
    "-5 degrees",
    "@everyone",
    "\ttabbed",
    "\rreturned",
    "'quoted'",
    "'=already guarded",
    "''--twice",
    "東京 🧑‍🚀 עברית żółć",
    "separators\u2028and\u0085more\u001f",
    "<script>alert(1)</script>",
    "nan",
    "NULL",
    "007",
    "1e5",
    " space around ",
)  # fmt: skip
ROWS = [
    {
        "row": n,
        "text": text,
        "score": 0.1 * n - 1 if n % 3 else math.nan,
        "met": n % 2 == 0,
        "note": None if n % 4 else text,
        "side": "+-"[n % 2],
    }
    for n, text in enumerate(TEXTS)
]
FRAME = pd.DataFrame(ROWS)
Reader = Callable[[Path], list[dict[str, Any]]]


def by_pandas(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return pd.read_parquet(path).to_dict("records")
    if path.suffix == ".jsonl":
        return pd.read_json(path, lines=True, dtype=False, precise_float=True).to_dict("records")
    return pd.read_csv(path, dtype={"text": str, "note": str}, keep_default_na=False, na_values={"score": [""], "note": [""]}).to_dict(
        "records"
    )


def by_polars(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return pl.read_parquet(path).to_dicts()
    if path.suffix == ".jsonl":
        return pl.read_ndjson(path).to_dicts()
    return pl.read_csv(path, schema_overrides={"text": pl.String, "note": pl.String}).to_dicts()


def by_duckdb(path: Path) -> list[dict[str, Any]]:
    how = {
        ".parquet": f"read_parquet('{path}')",
        ".jsonl": f"read_json('{path}', format='newline_delimited')",
        ".csv": f"read_csv('{path}', header=true, quote='\"', escape='\"', delim=',', types={{'text': 'VARCHAR', 'note': 'VARCHAR'}})",
    }[path.suffix]
    found = duckdb.sql(f"select * from {how}")
    return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]


def missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def check(found: list[dict[str, Any]], *, text: Callable[[str], str] = str) -> None:
    assert [row["row"] for row in found] == [row["row"] for row in ROWS]
    for got, given in zip(found, ROWS, strict=True):
        assert text(got["text"]) == given["text"]
        assert bool(got["met"]) == given["met"]
        assert got["side"] == given["side"], "a neuron's side is no formula"
        assert missing(got["score"]) if math.isnan(given["score"]) else got["score"] == given["score"]
        assert missing(got["note"]) if given["note"] is None else text(got["note"]) == given["note"]


@pytest.mark.parametrize("reader", [by_pandas, by_polars, by_duckdb])
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_every_reader_gets_what_was_written(tmp_path: Path, ending: str, reader: Reader) -> None:
    path = tmp_path / f"t.{ending}"
    assert write_rows(path, ROWS) == len(ROWS)
    check(reader(path), text=unguarded if ending == "csv" else str)


@pytest.mark.parametrize("reader", [by_pandas, by_polars, by_duckdb])
@pytest.mark.parametrize(("ending", "make"), [("csv", frame_csv), ("parquet", frame_parquet)])
def test_downloads_of_the_app_are_the_same(tmp_path: Path, ending: str, make: Callable[[pd.DataFrame], bytes], reader: Reader) -> None:
    path = tmp_path / f"t.{ending}"
    path.write_bytes(make(FRAME))
    check(reader(path), text=unguarded if ending == "csv" else str)


def test_our_own_import_takes_the_guards_away() -> None:
    table = read_table(csv_text(ROWS).encode(), name="t.csv", header=True)
    assert not table.errors
    assert [row["text"] for _, row in table.rows] == list(TEXTS)
    assert "apostrophe" in " ".join(table.notes)
    rows = read_table(b"prompt\nit's\n'tis\n", name="t.csv").rows
    assert [row["prompt"] for _, row in rows] == ["it's", "'tis"]


@pytest.mark.parametrize("text", [*TEXTS, "", "'", "+", "-", "'+", "''-"])
def test_a_guard_is_undone_exactly(text: str) -> None:
    assert unguarded(guarded(text)) == text
    assert text in "+-" or guarded(text)[0] not in "=+-@\t\r"


def test_empty_cells_stay_empty_and_every_return_is_quoted() -> None:
    text = csv_text([{"a": "", "b": None, "c": math.nan, "d": "x\ry"}])
    assert text == 'a,b,c,d\r\n,,,"x\ry"\r\n'
    assert next(csv.DictReader(io.StringIO(text, newline=""))) == {"a": "", "b": "", "c": "", "d": "x\ry"}


def test_what_is_no_text_or_number(tmp_path: Path) -> None:
    rows = [
        {"list": ["a", "=1"], "np": np.float32(1.5), "half": "\ud83d", "when": pd.Timestamp("2026-01-02T03:04:05Z"), "mixed": "x"},
        {"list": [], "np": np.float32("nan"), "half": "", "when": pd.NaT, "mixed": {"a": math.inf}},
    ]
    (first, second) = csv.DictReader(io.StringIO(csv_text(rows), newline=""))
    assert json.loads(first["list"]) == ["a", "=1"]
    assert (first["np"], first["half"], first["when"]) == ("1.5", "\ufffd", "2026-01-02T03:04:05+00:00")
    assert (second["np"], second["when"], second["mixed"]) == ("", "", '{"a": null}')
    write_rows(tmp_path / "m.parquet", rows)
    assert pl.read_parquet(tmp_path / "m.parquet")["mixed"].to_list() == ["x", '{"a": null}']
    write_rows(tmp_path / "m.jsonl", rows)
    assert json.loads((tmp_path / "m.jsonl").read_text(encoding="utf-8").split("\n")[1])["mixed"] == {"a": None}


def test_tables_without_rows(tmp_path: Path) -> None:
    assert write_rows(tmp_path / "e.csv", []) == 0
    assert frame_csv(FRAME[:0]).decode() == ",".join(FRAME.columns) + "\r\n"
    assert len(pd.read_parquet(io.BytesIO(frame_parquet(FRAME[:0])))) == 0
    with pytest.raises(InvalidInput, match=r"\.jsonl, \.csv or \.parquet"):
        write_rows(tmp_path / "e.xlsx", [])


STRANGE = (
    "", "a character 0: \x00.", "\ufeffmark", "\x1b[31mred", "right\u202eleft", "\\N", "#no comment", "'''=three", "e\u0301", "\u200bz",
    "half \ud83d",
)  # fmt: skip


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_strange_characters_come_back_everywhere(tmp_path: Path, ending: str) -> None:
    """Half a character is the replacement mark in every format: duckdb refuses a JSON file that escapes one."""
    path = tmp_path / f"x{ending}"
    write_rows(path, ({"row": n, "text": text, "parts": [text, n]} for n, text in enumerate(STRANGE)))
    source = f"read_csv('{path}', all_varchar=true, header=true)" if ending == ".csv" else f"'{path}'"
    found = [row[0] or "" for row in duckdb.sql(f"select text from {source} order by row::int").fetchall()]
    wanted = [text.replace("\ud83d", "\ufffd") for text in STRANGE]
    assert [unguarded(text) if ending == ".csv" else text for text in found] == wanted
    if ending != ".parquet":
        assert [row["text"] for _, row in read_table(path.read_bytes(), name=path.name).rows] == wanted


def test_lists_of_several_kinds_are_json_in_parquet() -> None:
    frame = pd.DataFrame({"mixed": [["a", 1], []], "even": [[1, 2], []], "large": [2**70, 1]})
    back = pd.read_parquet(io.BytesIO(frame_parquet(frame)))
    assert list(back["mixed"]) == ['["a", 1]', "[]"]
    assert list(back["even"][0]) == [1, 2]
    assert [int(value) for value in back["large"]] == [2**70, 1]


def test_rows_that_differ_never_lose_a_column() -> None:
    with pytest.raises(ValueError, match=r"\['b'\] is not in the first"):
        csv_text([{"a": 1}, {"a": 2, "b": 3}])
    assert csv_text([{"a": 1, "b": 2}, {"a": 3}]) == "a,b\r\n1,2\r\n3,\r\n"
