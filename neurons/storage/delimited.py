"""CSV and TSV: separator, quoting and header found or told; every line of the file belongs to a row, a header or a reason."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from neurons.core.errors import InvalidFile
from neurons.storage.column_names import header_of
from neurons.storage.formula_guard import unguarded

_SEPARATORS = ",;\t|"
_UNUSED = "\x1f"  # a separator that no text has: one column
_SEP_LINE = re.compile(r'"?sep=(.)"?\r?(?:\n|$)', re.IGNORECASE)
_LINE_END = re.compile(r"\r\n?|\n")
_LONE_RETURN = re.compile(r"\r(?![\r\n])")
_LINES_BEFORE = 10
_MAX_CELL = 100 << 20
_LOOKED_AT = 1 << 20


@dataclass(frozen=True)
class Delimited:
    """A delimited text as read."""

    delimiter: str
    """"" for one column."""
    quoted: bool
    header: bool
    header_in_doubt: bool
    """The first row may or may not name the columns: it was taken as a header, and somebody should say."""
    columns: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, Any]], ...]
    errors: tuple[tuple[int, str], ...]
    """Rows that cannot be used: number and reason."""
    notes: tuple[str, ...] = ()
    """What a reader should know besides."""


def read_delimited(text: str, *, tabs: bool = False, header: bool | None = None, quotes: bool | None = None) -> Delimited:
    """Read a CSV or TSV text. `tabs`: the file is named as tab-separated. `quotes` None: cells may be quoted, but not between tabs.

    Raises `InvalidFile` when there is no row.
    """
    told = _SEP_LINE.match(text)
    body = text[told.end() :] if told else text
    kept = _stand_in(body)
    body = _LONE_RETURN.sub(kept, body) if kept else body
    delimiter = told[1] if told else "\t" if tabs else _delimiter(body, quotes=quotes)
    if delimiter == _UNUSED and header is None:
        _check_no_table_below(body)
    quoted = delimiter != "\t" if quotes is None else quotes
    records, broken = _records(body, delimiter, quoted=quoted)
    records = [[cell.replace(kept, "\r") for cell in cells] for cells in records] if kept else records
    if not records:
        raise InvalidFile(broken[0] if broken else "the file has no rows", field="file")
    looks = header_of(records[0])
    has_header = looks != "no" if header is None else header
    columns = _column_names(records[0]) if has_header else tuple(f"column {n}" for n in range(1, len(records[0]) + 1))
    rows, errors, guards = [], [], 0
    for number, cells in enumerate(records[has_header:], 1):
        if len(cells) > len(columns) and any(cell.strip() for cell in cells[len(columns) :]):
            advice = "put the text in quotes" if quoted else "is a tab within a text?"
            many = "1 column" if len(columns) == 1 else f"{len(columns)} columns"
            errors.append((number, f"it has {len(cells)} cells, but there {'is' if len(columns) == 1 else 'are'} {many}: {advice}"))
            continue
        texts = [unguarded(cell) for cell in cells] if quoted else cells
        guards += sum(text != cell for text, cell in zip(texts, cells, strict=True))
        rows.append((number, dict(zip(columns, texts, strict=False))))
    errors += enumerate(broken, len(records) + 1 - has_header)
    shown = "" if delimiter == _UNUSED else delimiter
    notes = (*_notes(records[has_header:], shown, quoted=quoted), *_said_of_guards(guards))
    return Delimited(shown, quoted, has_header, header is None and looks == "in doubt", columns, tuple(rows), tuple(errors), notes)


def _stand_in(text: str) -> str:
    """A character for the carriage returns that are part of a cell: lone ones in a file whose lines end otherwise, as pandas writes them.

    "" where there are none.
    """
    first = _LINE_END.search(text)
    if first is None or first[0] == "\r" or not _LONE_RETURN.search(text):
        return ""
    return next(char for char in map(chr, range(0xE000, 0xF900)) if char not in text)


def _check_no_table_below(text: str) -> None:
    """Refuse a table below lines of a title or of comments: read as one column, its header and its rows would be asked."""
    lines = [line for line in text[:_LOOKED_AT].split("\n") if line.strip()]
    if header_of(lines[:1]) == "yes":
        return
    for number in range(1, min(len(lines) - 1, _LINES_BEFORE + 1)):
        for candidate in _SEPARATORS:
            records, broken = _records("\n".join(lines[number:]), candidate, quoted=candidate != "\t")
            even = len({len(cells) for cells in records}) == 1 and len(records) > 1 and len(records[0]) > 1
            if even and not broken and header_of(records[0]) == "yes":
                names = ", ".join(map(repr, records[0][:4]))
                raise InvalidFile(
                    f"line {number + 1} looks like the names of the columns ({names}), but is not the first: take out what stands "
                    "before it, or say --no-header for one column",
                    field="header",
                )


def _reader(text: str, delimiter: str, *, quoted: bool) -> Any:
    csv.field_size_limit(_MAX_CELL)
    how: dict[str, Any] = {"strict": True} if quoted else {"quoting": csv.QUOTE_NONE}
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, **how)


def _records(text: str, delimiter: str, *, quoted: bool) -> tuple[list[list[str]], list[str]]:
    """The rows that are not blank, and, after one that breaks off, a reason for each line from there on."""
    reader = _reader(text, delimiter, quoted=quoted)
    records: list[list[str]] = []
    before = 0
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                records.append(cells)
            before = reader.line_num
    except csv.Error as error:
        lost = [n for n, line in enumerate(io.StringIO(text, newline=""), 1) if n > before and line.strip()]
        rest = f"not read, for line {before + 1} breaks off"
        first = f"line {before + 1}: {error}; the rest was not read: is a quote not closed?"
        return records, [first, *(f"line {n}: {rest}" for n in lost[1:])]
    return records, []


def _delimiter(text: str, *, quotes: bool | None) -> str:
    """The separator under which the first row is a header, or under which every row has as many cells; else the text is one column."""
    sample = text[:_LOOKED_AT]
    fits: list[tuple[int, str]] = []
    for candidate in _SEPARATORS:
        records, _ = _records(sample, candidate, quoted=candidate != "\t" if quotes is None else quotes)
        records = records[:-1] if len(sample) < len(text) and len(records) > 1 else records
        if not records or len(records[0]) < 2:
            continue
        named = header_of(records[0]) == "yes"
        even = all(len(cells) == len(records[0]) for cells in records)
        if named or even:
            fits.append((len(records[0]) + (1000 if named and even else 500 if named else 0), candidate))
    return max(fits, key=lambda fit: fit[0])[1] if fits else _UNUSED


def _notes(records: Sequence[Sequence[str]], delimiter: str, *, quoted: bool) -> tuple[str, ...]:
    if not quoted:
        count = sum(1 for cells in records for cell in cells if len(cell) > 2 and cell[0] == cell[-1] == '"')
        cells = "1 cell stands" if count == 1 else f"{count:,} cells stand"
        return (f"{cells} in quotes, kept as they are; --quotes takes them away",) if count else ()
    hidden = sum(1 for cells in records for cell in cells if "\n" in cell and delimiter and _holds_rows(cell, len(cells), delimiter))
    held = "1 cell holds lines that look" if hidden == 1 else f"{hidden:,} cells hold lines that look"
    return (f"{held} like rows of their own: is a quote not closed? --no-quotes reads each line as a row",) if hidden else ()


def _said_of_guards(count: int) -> tuple[str, ...]:
    cells = "1 cell begins" if count == 1 else f"{count:,} cells begin"
    return (f"{cells} with an apostrophe that keeps a spreadsheet from taking it for a formula; it was taken away",) if count else ()


def _holds_rows(cell: str, width: int, delimiter: str) -> bool:
    """Whether a line in the middle of a cell has as many cells as the table."""
    return width > 1 and any(line.count(delimiter) == width - 1 for line in cell.split("\n")[1:-1])


def _column_names(cells: Sequence[str]) -> tuple[str, ...]:
    """A name for each column, no two the same: the second "id" is "id (2)", unless another column is called that."""
    written = [" ".join("".join(c if c.isprintable() else " " for c in cell).split())[:120] for cell in cells]
    plain = [text or f"column {number}" for number, text in enumerate(written, 1)]
    names: dict[str, None] = {}
    told = set(plain)
    for number, wanted in enumerate(plain, 1):
        name, count = wanted, number
        while name in names or (name != wanted and name in told):
            name, count = f"{wanted} ({count})", count + 1
        names[name] = None
    return tuple(names)
