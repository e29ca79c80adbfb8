"""Files of prompts as tables: format, encoding, delimiter and header detected; rows that cannot be read named one by one."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from charset_normalizer import from_bytes

from neurons.core.errors import InvalidFile

Format = Literal["txt", "csv", "jsonl"]
MAX_BYTES = 100 << 20
MAX_ROWS = 100_000
KNOWN_COLUMNS = frozenset(
    [
        "prompt",
        "question",
        "text",
        "input",
        "instruction",
        "query",
        "user",
        "content",
        "message",
        "messages",
        "conversation",
        "system",
        "system_prompt",
        "id",
        "name",
        "key",
        "uid",
        "tags",
        "tag",
        "labels",
        "label",
        "category",
        "topic",
        "answer",
        "expected",
        "target",
        "output",
        "response",
    ]
)


@dataclass(frozen=True)
class RowError:
    """Why one row cannot be used."""

    row: int
    """From 1: the line of a TXT or JSONL file, the record of a CSV file (its header not counted)."""
    message: str


@dataclass(frozen=True)
class Table:
    """A file as read, before its columns are given a meaning."""

    format: Format
    encoding: str
    columns: tuple[str, ...]
    rows: tuple[tuple[int, Mapping[str, Any]], ...]
    """(row number, column to value)."""
    errors: tuple[RowError, ...]
    """Rows that could not be read at all."""
    delimiter: str = ""
    header: bool = False
    """Whether a CSV file's first row was taken as column names."""


def read_table(
    data: bytes, *, name: str = "", kind: Format | None = None, header: bool | None = None, encoding: str | None = None
) -> Table:
    """Read an uploaded file. `kind` None goes by the name's ending, else by the content; `encoding` None is detected.

    Raises `InvalidFile` when the whole file is no use.
    """
    if len(data) > MAX_BYTES:
        raise InvalidFile(f"the file has {len(data) / 1e6:.0f} MB; the limit is {MAX_BYTES >> 20} MB: split it", field="file")
    text, encoding = _decode(data) if encoding is None else _decode_as(data, encoding)
    if not text.strip():
        raise InvalidFile("the file is empty", field="file")
    kind = kind or _kind(name, text)
    if kind == "txt":
        rows = [
            (number, {"prompt": line})
            for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1)
            if line.strip()
        ]
        return Table("txt", encoding, ("prompt",), _limited(rows), ())
    return _read_csv(text, encoding, header) if kind == "csv" else _read_jsonl(text, encoding)


def short(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:120]


def kind_of(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    return "a number" if isinstance(value, int | float) else "a list" if isinstance(value, list) else "an object"


def _decode(data: bytes) -> tuple[str, str]:
    """Text and encoding. UTF-8 first, then byte-order marks, then a guess. Raises `InvalidFile` for binary files."""
    if data[:4] == b"PK\x03\x04":
        raise InvalidFile("this is a zip or Excel file; save the sheet as CSV (UTF-8) first", field="file")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        try:
            return data.decode("utf-16"), "utf-16"
        except UnicodeDecodeError as error:
            raise InvalidFile(f"the file says it is UTF-16 but is not ({error.reason}); save it as UTF-8", field="file") from error
    if b"\0" in data[:65_536]:
        raise InvalidFile("the file is binary, not text; use TXT, CSV or JSONL", field="file")
    try:
        return data.decode("utf-8-sig"), "utf-8"
    except UnicodeDecodeError:
        encoding = _guess_encoding(data)
        try:
            return data.decode(encoding), encoding
        except (UnicodeDecodeError, LookupError) as error:
            raise InvalidFile(f"the file mixes encodings (it looked like {encoding}); save it as UTF-8", field="file") from error


def _decode_as(data: bytes, encoding: str) -> tuple[str, str]:
    try:
        return data.decode(encoding), encoding
    except (UnicodeDecodeError, LookupError) as error:
        raise InvalidFile(f"the file cannot be read as {encoding!r}: {error}", field="encoding") from error


def _guess_encoding(data: bytes) -> str:
    """Western Latin text looks much the same in all one-byte encodings: the commonest is taken where it fits."""
    matches = [match.encoding for match in from_bytes(data[: 1 << 20])]
    if not matches:
        raise InvalidFile("the file's encoding was not recognised; save it as UTF-8", field="file")
    latin = ("cp125", "iso8859", "latin", "mac_", "cp437", "cp775", "cp85")
    foreign = ("cp1251", "cp1253", "cp1255", "cp1256", "iso8859_5", "iso8859_7", "mac_cyrillic", "mac_greek")
    return "cp1252" if matches[0].startswith(latin) and matches[0] not in foreign and "cp1252" in matches else matches[0]


def _kind(name: str, text: str) -> Format:
    ending = name.rsplit(".", 1)[-1].casefold() if "." in name else ""
    known: dict[str, Format] = {"txt": "txt", "csv": "csv", "tsv": "csv", "jsonl": "jsonl", "json": "jsonl", "ndjson": "jsonl"}
    if ending in known:
        return known[ending]
    return "jsonl" if text.lstrip()[:1] in ("{", "[") else "txt"


def _limited(rows: list[tuple[int, Any]]) -> tuple[tuple[int, Any], ...]:
    if len(rows) > MAX_ROWS:
        raise InvalidFile(f"the file has {len(rows):,} rows; the limit is {MAX_ROWS:,}: split it", field="file")
    return tuple(rows)


def _read_csv(text: str, encoding: str, header: bool | None) -> Table:
    delimiter = _delimiter(text)
    csv.field_size_limit(MAX_BYTES)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    records: list[list[str]] = []
    broken: RowError | None = None
    try:
        records.extend(cells for cells in reader if any(cell.strip() for cell in cells))
    except csv.Error as error:
        broken = RowError(len(records) + 1, f"line {reader.line_num}: {error}; the rest was not read: is a quote not closed?")
    if not records:
        raise InvalidFile(broken.message if broken else "the file has no rows", field="file")
    has_header = _looks_like_header(records[0]) if header is None else header
    columns = _column_names(records[0]) if has_header else tuple(f"column {n}" for n in range(1, len(records[0]) + 1))
    body = records[1:] if has_header else records
    rows, errors = [], []
    for number, cells in enumerate(body, 1):
        if len(cells) > len(columns) and any(cell.strip() for cell in cells[len(columns) :]):
            errors.append(RowError(number, f"it has {len(cells)} cells, but there are {len(columns)} columns: put the text in quotes"))
            continue
        rows.append((number, dict(zip(columns, cells, strict=False))))
    if broken is not None:
        errors.append(RowError(broken.row - has_header, broken.message))
    return Table("csv", encoding, columns, _limited(rows), tuple(errors), delimiter, has_header)


def _delimiter(text: str) -> str:
    """The separator that splits the first rows into the same number of cells most often; comma when none does."""
    best, score = ",", 0.0
    for candidate in ",;\t|":
        try:
            widths = [len(cells) for _, cells in zip(range(20), csv.reader(io.StringIO(text), delimiter=candidate), strict=False) if cells]
        except csv.Error:
            continue
        if widths and widths[0] > 1:
            agreement = sum(1 for width in widths if width == widths[0]) / len(widths)
            if agreement > score:
                best, score = candidate, agreement
    return best


def _looks_like_header(cells: Sequence[str]) -> bool:
    names = [cell.strip().casefold() for cell in cells]
    if any(name in KNOWN_COLUMNS for name in names):
        return True
    plain = all(name and len(name) <= 30 and not name.replace(".", "").isdigit() and not name.endswith(("?", ".", "!")) for name in names)
    return len(names) > 1 and plain and len(set(names)) == len(names)


def _column_names(cells: Sequence[str]) -> tuple[str, ...]:
    names: list[str] = []
    for number, cell in enumerate(cells, 1):
        name = short(cell) or f"column {number}"
        names.append(name if name not in names else f"{name} ({number})")
    return tuple(names)


def _read_jsonl(text: str, encoding: str) -> Table:
    rows: list[tuple[int, Mapping[str, Any]]] = []
    errors: list[RowError] = []
    for number, value in _json_values(text, errors):
        if isinstance(value, str):
            rows.append((number, {"prompt": value}))
        elif isinstance(value, dict):
            rows.append((number, {str(key): item for key, item in value.items()}))
        elif isinstance(value, list) and value and all(isinstance(turn, dict) for turn in value):
            rows.append((number, {"messages": value}))
        else:
            errors.append(RowError(number, f"it is {kind_of(value) if value is not None else 'null'}, not a text or an object"))
    if not rows:
        raise InvalidFile(
            f"no row of the file can be read; the first says: {errors[0].message}" if errors else "it has no rows", field="file"
        )
    columns = tuple(dict.fromkeys(key for _, row in rows for key in row))
    return Table("jsonl", encoding, columns, _limited(rows), tuple(errors))


def _json_values(text: str, errors: list[RowError]) -> list[tuple[int, Any]]:
    if text.lstrip()[:1] == "[":
        try:
            whole = json.loads(text)
            if isinstance(whole, list) and not all(isinstance(turn, dict) and "role" in turn for turn in whole):
                return list(enumerate(whole, 1))
        except (ValueError, RecursionError):
            whole = None  # one array a line is JSONL, too
    values = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            values.append((number, json.loads(line)))
        except (ValueError, RecursionError) as error:
            errors.append(RowError(number, f"not JSON: {str(error)[:200]}"))
    return values
