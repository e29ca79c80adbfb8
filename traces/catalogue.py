"""The list of traces as a SQLite file: an index for searching, rebuilt from the folders whenever it is lost or corrupt.

It knows nothing that the folders do not know. Every call opens its own connection, so threads and processes may share it. Each row
carries a checksum. Where the disk is full or read-only, the list is kept in memory instead, until the disk takes it again.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from neurons.core.dates import utc
from neurons.core.errors import InvalidInput, StoreError
from neurons.core.json_text import json_text
from traces.summary import TraceSummary

SCHEMA_VERSION = 2
SORTS: tuple[str, ...] = ("created", "name", "prompt", "model_name", "answer_tokens", "seconds", "bytes")
_TRY_DISK_EVERY = 5.0
_REFUSALS = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM})


class CatalogueDamaged(StoreError):
    """The file is corrupt, or a row is not what was written. It can be made again from the folders."""


_COLUMNS = tuple(field.name for field in fields(TraceSummary))
_CREATE = f"""
CREATE TABLE IF NOT EXISTS traces (
  id TEXT PRIMARY KEY, {", ".join(name for name in _COLUMNS if name != "id")},
  haystack TEXT NOT NULL, stamp TEXT NOT NULL, seal TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_created ON traces (created);
CREATE INDEX IF NOT EXISTS by_set ON traces (set_name, set_row);
"""


@dataclass(frozen=True)
class Row:
    """What the catalogue keeps of a trace."""

    summary: TraceSummary
    haystack: str
    """What the search looks at."""
    stamp: str
    """Of the files that the row was made from: another one on disk means that the row is stale."""


@dataclass(frozen=True)
class Search:
    """Which rows of the catalogue are asked for, and in what order. None: of any."""

    query: str = ""
    """Every word of it is in the row's prompt, answer, name, note, tags, model or date."""
    model: str | None = None
    """Its id, its name or the hash of its weights."""
    tag: str | None = None
    set_name: str | None = None
    baseline_id: str | None = None
    pinned: bool | None = None
    since: str | None = None
    """ISO date or time, as are those of `until`; the row may be as old as this."""
    until: str | None = None
    """The row is older than this."""
    trashed: bool = False
    sort: str = "created"
    """One of `SORTS`."""
    descending: bool = True
    limit: int | None = None
    offset: int = 0

    def clauses(self) -> tuple[list[str], list[Any]]:
        """The conditions in SQL, and what stands for their question marks."""
        where = ["trashed = ?"]
        found: list[Any] = [int(self.trashed)]
        for word in self.query.casefold().split():
            where.append("instr(haystack, ?) > 0")
            found.append(word)
        if self.tag is not None:
            where.append("EXISTS (SELECT 1 FROM json_each(traces.tags) WHERE json_each.value = ?)")
            found.append(self.tag)
        if self.model is not None:
            where.append("(model_id = ? OR model_name = ? OR weights_hash = ?)")
            found += [self.model] * 3
        for clause, value in (
            ("set_name = ?", self.set_name),
            ("baseline_id = ?", self.baseline_id),
            ("pinned = ?", None if self.pinned is None else int(self.pinned)),
            ("created >= ?", None if self.since is None else utc(self.since, field="since")),
            ("created < ?", None if self.until is None else utc(self.until, field="until")),
        ):
            if value is not None:
                where.append(clause)
                found.append(value)
        return where, found

    def order(self) -> str:
        """The order in SQL. Raises `InvalidInput` for one that is none: it becomes a part of the statement."""
        if self.sort not in SORTS:
            raise InvalidInput(f"cannot sort by {self.sort!r}; use one of {', '.join(SORTS)}", field="sort")
        collation = "COLLATE NOCASE " if self.sort in ("name", "prompt", "model_name") else ""
        return f"{self.sort} {collation}{'DESC' if self.descending else 'ASC'}, id"


class Catalogue:
    """The SQLite file at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._memory: sqlite3.Connection | None = None
        self._one = threading.RLock()
        self._tried = 0.0

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        with self._one:
            memory = self._memory
        if memory is not None:
            with self._one:
                yield memory
            return
        with closing(sqlite3.connect(self.path, timeout=30, isolation_level=None)) as connection:
            connection.row_factory = sqlite3.Row
            yield connection

    def healthy(self) -> bool:
        """Whether the file exists, is whole, has this version's columns, and each row is what was written."""
        if self._memory is None and not self.path.exists():
            return False
        try:
            with self._connect() as connection:
                version = connection.execute("PRAGMA user_version").fetchone()[0]
                whole = version == SCHEMA_VERSION and connection.execute("PRAGMA integrity_check(1)").fetchone()[0] == "ok"
                return bool(whole and all(_sealed(row) for row in connection.execute("SELECT * FROM traces")))
        except (sqlite3.DatabaseError, UnicodeDecodeError):  # the latter where the name of a column was changed
            return False

    def create(self) -> None:
        """Throw the file away and start an empty one; where the disk refuses, one in memory."""
        try:
            for suffix in ("", "-wal", "-shm", "-journal"):
                Path(f"{self.path}{suffix}").unlink(missing_ok=True)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            self._leave_memory()
            with self._connect() as connection:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.executescript(_CREATE)
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        except (sqlite3.Error, OSError):
            self.use_memory(copy=False)

    def use_memory(self, *, copy: bool = True) -> None:
        """Go on in memory, with what can be read of the file."""
        memory = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        with suppress(sqlite3.Error):
            if copy:
                with closing(sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as disk:
                    disk.backup(memory)
        memory.row_factory = sqlite3.Row
        with self._one:
            self._memory, self._tried = memory, time.monotonic()
            if not self.healthy():
                self._memory = memory = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
                memory.row_factory = sqlite3.Row
                memory.executescript(_CREATE)
                memory.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _leave_memory(self) -> None:
        with self._one:
            if self._memory is not None:
                self._memory.close()
            self._memory = None

    def back_on_disk(self) -> bool:
        """Whether the disk takes the list again, looked at every few seconds. Its rows may be stale then."""
        with self._one:
            if self._memory is None or time.monotonic() - self._tried < _TRY_DISK_EVERY:
                return False
            self._tried = time.monotonic()
        try:
            with closing(sqlite3.connect(self.path, timeout=1, isolation_level=None)) as disk:
                disk.execute("BEGIN IMMEDIATE")
                disk.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
                disk.execute("COMMIT")
        except sqlite3.Error:
            return False
        self._leave_memory()
        return True

    def put(self, rows: Iterable[Row]) -> None:
        """Insert or replace rows."""
        marks = ", ".join("?" for _ in range(len(_COLUMNS) + 3))
        self._write(f"INSERT OR REPLACE INTO traces ({', '.join(_COLUMNS)}, haystack, stamp, seal) VALUES ({marks})", map(_to_sql, rows))

    def remove(self, ids: Iterable[str]) -> None:
        """Forget rows."""
        self._write("DELETE FROM traces WHERE id = ?", ((i,) for i in ids))

    def _write(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        values = list(rows)
        try:
            self._write_once(statement, values)
        except sqlite3.OperationalError as error:
            if self._memory is not None or (error.sqlite_errorcode & 0xFF) not in _REFUSALS:
                raise StoreError(f"cannot write the catalogue {self.path}: {error}") from error
            self.use_memory()
            self._write_once(statement, values)
        except sqlite3.DatabaseError as error:
            raise CatalogueDamaged(f"the catalogue {self.path} is damaged: {error}") from error

    def _write_once(self, statement: str, values: list[tuple[Any, ...]]) -> None:
        with self._connect() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.executemany(statement, values)
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def ids(self) -> dict[str, bool]:
        """Every id with whether it is in the trash."""
        return {row["id"]: bool(row["trashed"]) for row in self._rows("SELECT id, trashed FROM traces", ())}

    def stamps(self) -> dict[str, str]:
        """Every id with the stamp of its files."""
        return {row["id"]: row["stamp"] for row in self._rows("SELECT id, stamp FROM traces", ())}

    def get(self, trace_id: str) -> TraceSummary | None:
        """One row."""
        rows = self._rows("SELECT * FROM traces WHERE id = ?", (trace_id,))
        return _from_sql(rows[0]) if rows else None

    def find(self, search: Search) -> tuple[TraceSummary, ...]:
        """The rows that are asked for. Raises `InvalidInput` for an order or a date that is none."""
        where, arguments = search.clauses()
        statement = f"SELECT * FROM traces WHERE {' AND '.join(where)} ORDER BY {search.order()} LIMIT ? OFFSET ?"
        limit = -1 if search.limit is None else search.limit
        return tuple(_from_sql(row) for row in self._rows(statement, (*arguments, limit, search.offset)))

    def starting_with(self, prefix: str, *, limit: int) -> tuple[str, ...]:
        """Ids outside the trash that start with `prefix`."""
        statement = "SELECT id FROM traces WHERE trashed = 0 AND substr(id, 1, ?) = ? ORDER BY id LIMIT ?"
        return tuple(row["id"] for row in self._rows(statement, (len(prefix), prefix, limit)))

    def evictable(self) -> tuple[TraceSummary, ...]:
        """Rows with activations on disk that are not pinned: the trash first, then the oldest tensors first."""
        rows = self._rows("SELECT * FROM traces WHERE activations = 'stored' AND example = 0 AND (pinned = 0 OR trashed = 1)", ())
        return tuple(sorted((_from_sql(row) for row in rows), key=lambda row: (not row.trashed, row.tensors_at, row.id)))

    def total_bytes(self) -> tuple[int, int, int]:
        """(bytes on disk, bytes of activations, rows), examples left out."""
        row = self._rows("SELECT coalesce(sum(bytes), 0), coalesce(sum(tensor_bytes), 0), count(*) FROM traces WHERE example = 0", ())[0]
        return int(row[0]), int(row[1]), int(row[2])

    def distinct(self, column: Literal["model_name", "set_name"], *, trash: bool = False) -> tuple[str, ...]:
        """The values a filter can offer; with `trash` those of deleted traces too."""
        where = f"{column} IS NOT NULL" + ("" if trash else " AND trashed = 0")
        rows = self._rows(f"SELECT DISTINCT {column} FROM traces WHERE {where} ORDER BY 1", ())
        return tuple(row[0] for row in rows)

    def tags(self) -> tuple[str, ...]:
        """Every tag in use."""
        statement = "SELECT DISTINCT json_each.value FROM traces, json_each(traces.tags) WHERE trashed = 0 ORDER BY 1"
        return tuple(row[0] for row in self._rows(statement, ()))

    def _rows(self, statement: str, arguments: tuple[Any, ...]) -> list[sqlite3.Row]:
        try:
            return self._rows_once(statement, arguments)
        except sqlite3.OperationalError as error:
            if self._memory is not None or (error.sqlite_errorcode & 0xFF) not in _REFUSALS:
                raise CatalogueDamaged(
                    f"cannot read the catalogue {self.path}: {error}; run `neuronscope traces list --rebuild`"
                ) from error
            self.use_memory()
            return self._rows_once(statement, arguments)
        except sqlite3.DatabaseError as error:
            raise CatalogueDamaged(f"the catalogue {self.path} is damaged: {error}; run `neuronscope traces list --rebuild`") from error

    def _rows_once(self, statement: str, arguments: tuple[Any, ...]) -> list[sqlite3.Row]:
        with self._connect() as connection:
            return connection.execute(statement, arguments).fetchall()


def _to_sql(row: Row) -> tuple[Any, ...]:
    values = [_plain(getattr(row.summary, name)) for name in _COLUMNS] + [row.haystack, row.stamp]
    return (*values, _seal(values))


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return json_text(value)
    return int(value) if isinstance(value, bool) else value


def _seal(values: Iterable[Any]) -> str:
    return hashlib.blake2b(repr(list(values)).encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def _sealed(row: sqlite3.Row) -> bool:
    try:
        return bool(_seal(row[name] for name in (*_COLUMNS, "haystack", "stamp")) == row["seal"])
    except IndexError:  # a changed bit in the file's own schema: a column has another name
        return False


def _from_sql(row: sqlite3.Row) -> TraceSummary:
    if not _sealed(row):
        raise CatalogueDamaged("a row of the catalogue was changed; run `neuronscope traces list --rebuild`")
    values = {name: row[name] for name in _COLUMNS}
    values["tags"] = tuple(json.loads(values["tags"]))
    for name in ("pinned", "trashed", "example"):
        values[name] = bool(values[name])
    return TraceSummary(**values)
