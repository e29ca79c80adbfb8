"""The list of traces as a SQLite file: an index for searching, rebuilt from the folders whenever it is lost or corrupt.

It knows nothing that the folders do not know. Every call opens its own connection, so threads and processes may share it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from neurons.core.dates import utc
from neurons.core.errors import InvalidInput, StoreError
from traces.schema import ActivationState, TraceRecord

SCHEMA_VERSION = 1
Sort = Literal["created", "name", "prompt", "model_name", "answer_tokens", "seconds", "bytes"]
SORTS: tuple[str, ...] = ("created", "name", "prompt", "model_name", "answer_tokens", "seconds", "bytes")
_PREVIEW = 600


@dataclass(frozen=True)
class TraceSummary:
    """One row of the list of traces."""

    id: str
    created: str
    name: str
    note: str
    tags: tuple[str, ...]
    pinned: bool
    model_id: str
    model_name: str
    weights_hash: str
    prompt: str
    """The last user message, at most 600 characters."""
    answer: str
    """At most 600 characters."""
    finish_reason: str
    prompt_tokens: int
    answer_tokens: int
    temperature: float
    seed: int
    steers: int
    """How many steers were on."""
    set_name: str | None
    set_row: int | None
    baseline_id: str | None
    seconds: float
    activations: ActivationState
    bytes: int
    """On disk, tensors and attributions included."""
    tensor_bytes: int
    """What evicting the activations would free."""
    tensors_at: float
    """When the activations were written (Unix time): the oldest are evicted first."""
    trashed: bool = False
    example: bool = False

    @property
    def title(self) -> str:
        """The name, else the prompt's first line."""
        return self.name or (self.prompt.strip().splitlines() or ["(empty prompt)"])[0][:80]


_COLUMNS = tuple(field.name for field in fields(TraceSummary))
_CREATE = f"""
CREATE TABLE IF NOT EXISTS traces (
  id TEXT PRIMARY KEY, {", ".join(name for name in _COLUMNS if name != "id")}, haystack TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_created ON traces (created);
CREATE INDEX IF NOT EXISTS by_set ON traces (set_name, set_row);
"""


def summarise(
    record: TraceRecord,
    *,
    activations: ActivationState,
    size: int,
    tensor_size: int,
    tensors_at: float,
    trashed: bool = False,
    example: bool = False,
) -> TraceSummary:
    """The row of a record."""
    return TraceSummary(
        id=record.id,
        created=record.created,
        name=record.name,
        note=record.note,
        tags=record.tags,
        pinned=record.pinned,
        model_id=record.model.id,
        model_name=record.model.name,
        weights_hash=record.model.weights_hash,
        prompt=record.prompt[:_PREVIEW],
        answer=record.answer[:_PREVIEW],
        finish_reason=record.finish_reason,
        prompt_tokens=len(record.prompt_ids),
        answer_tokens=len(record.answer_ids),
        temperature=record.sampling.temperature,
        seed=record.sampling.seed,
        steers=sum(1 for steer in record.steers if steer.enabled),
        set_name=record.set_name,
        set_row=record.set_row,
        baseline_id=record.baseline_id,
        seconds=record.seconds,
        activations=activations,
        bytes=size,
        tensor_bytes=tensor_size,
        tensors_at=tensors_at,
        trashed=trashed,
        example=example,
    )


def haystack_of(record: TraceRecord) -> str:
    """Everything the search looks at, case-folded."""
    parts = [
        record.id,
        record.name,
        record.note,
        *record.tags,
        record.model.name,
        record.model.id,
        record.set_name or "",
        record.created[:10],
    ]
    parts += [message.content for message in record.messages] + [record.answer]
    return "\n".join(parts).casefold()


class Catalogue:
    """The SQLite file at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, timeout=30, isolation_level=None)) as connection:
            connection.row_factory = sqlite3.Row
            yield connection

    def healthy(self) -> bool:
        """Whether the file exists, is whole and has this version's columns."""
        if not self.path.exists():
            return False
        try:
            with self._connect() as connection:
                version = connection.execute("PRAGMA user_version").fetchone()[0]
                return bool(version == SCHEMA_VERSION and connection.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")
        except sqlite3.DatabaseError:
            return False

    def create(self) -> None:
        """Throw the file away and start an empty one."""
        for suffix in ("", "-wal", "-shm", "-journal"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)
        try:
            with self._connect() as connection:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.executescript(_CREATE)
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        except sqlite3.Error as error:
            raise StoreError(f"cannot write the catalogue {self.path}: {error}; free some disk space or check its permissions") from error

    def put(self, rows: Iterable[tuple[TraceSummary, str]]) -> None:
        """Insert or replace rows, each with its haystack."""
        marks = ", ".join("?" for _ in range(len(_COLUMNS) + 1))
        values = [(*(_to_sql(getattr(row, name)) for name in _COLUMNS), haystack) for row, haystack in rows]
        self._write([(f"INSERT OR REPLACE INTO traces ({', '.join(_COLUMNS)}, haystack) VALUES ({marks})", values)])

    def remove(self, ids: Iterable[str]) -> None:
        """Forget rows."""
        self._write([("DELETE FROM traces WHERE id = ?", [(i,) for i in ids])])

    def _write(self, statements: list[tuple[str, list[tuple[Any, ...]]]]) -> None:
        try:
            with self._connect() as connection:
                connection.execute("BEGIN IMMEDIATE")
                for statement, values in statements:
                    connection.executemany(statement, values)
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise StoreError(f"cannot write the catalogue {self.path}: {error}") from error

    def ids(self) -> dict[str, bool]:
        """Every id with whether it is in the trash."""
        return {row["id"]: bool(row["trashed"]) for row in self._rows("SELECT id, trashed FROM traces", ())}

    def get(self, trace_id: str) -> TraceSummary | None:
        """One row."""
        rows = self._rows("SELECT * FROM traces WHERE id = ?", (trace_id,))
        return _from_sql(rows[0]) if rows else None

    def find(
        self,
        query: str = "",
        *,
        model: str | None = None,
        tag: str | None = None,
        set_name: str | None = None,
        baseline_id: str | None = None,
        pinned: bool | None = None,
        since: str | None = None,
        until: str | None = None,
        trashed: bool = False,
        sort: str = "created",
        descending: bool = True,
        limit: int | None = None,
        offset: int = 0,
    ) -> tuple[TraceSummary, ...]:
        """Rows whose text holds every word of `query`; see `TraceStore.list`."""
        if sort not in SORTS:
            raise InvalidInput(f"cannot sort by {sort!r}; use one of {', '.join(SORTS)}", field="sort")
        where, values = ["trashed = ?"], [int(trashed)]
        arguments: list[Any] = list(values)
        for word in query.casefold().split():
            where.append("instr(haystack, ?) > 0")
            arguments.append(word)
        if tag is not None:
            where.append("EXISTS (SELECT 1 FROM json_each(traces.tags) WHERE json_each.value = ?)")
            arguments.append(tag)
        if model is not None:
            where.append("(model_id = ? OR model_name = ? OR weights_hash = ?)")
            arguments += [model] * 3
        for clause, value in (
            ("set_name = ?", set_name),
            ("baseline_id = ?", baseline_id),
            ("pinned = ?", None if pinned is None else int(pinned)),
            ("created >= ?", None if since is None else utc(since, field="since")),
            ("created < ?", None if until is None else utc(until, field="until")),
        ):
            if value is not None:
                where.append(clause)
                arguments.append(value)
        order = f"{sort} {'COLLATE NOCASE ' if sort in ('name', 'prompt', 'model_name') else ''}{'DESC' if descending else 'ASC'}, id"
        statement = f"SELECT * FROM traces WHERE {' AND '.join(where)} ORDER BY {order} LIMIT ? OFFSET ?"
        return tuple(_from_sql(row) for row in self._rows(statement, (*arguments, -1 if limit is None else limit, offset)))

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
            with self._connect() as connection:
                return connection.execute(statement, arguments).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"cannot read the catalogue {self.path}: {error}; run `neuronscope traces list --rebuild`") from error


def _to_sql(value: Any) -> Any:
    if isinstance(value, tuple):
        return json.dumps(value, ensure_ascii=False)
    return int(value) if isinstance(value, bool) else value


def _from_sql(row: sqlite3.Row) -> TraceSummary:
    values = {name: row[name] for name in _COLUMNS}
    values["tags"] = tuple(json.loads(values["tags"]))
    for name in ("pinned", "trashed", "example"):
        values[name] = bool(values[name])
    return TraceSummary(**values)
