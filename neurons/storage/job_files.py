"""One background job on disk: what it is, how it stands, the rows it finished.

<home>/jobs/<id>/job.json     kind, title, parameters: written once
                 payload.json what is too large for the parameters, such as the prompts: written once
                 state.json   state, progress: replaced atomically as it goes
                 rows.jsonl   one line for each finished row, appended; a row may hold an error; its last entry is a checksum
                 cancel       exists when somebody asked it to stop
                 lock         held while a process works on it: a "running" job whose lock is free was interrupted
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from neurons.core.boundary import checked
from neurons.core.errors import StoreError
from neurons.core.json_text import strict_json
from neurons.core.progress import Standing
from neurons.storage.sealed import unseal, write_sealed

D = TypeVar("D")
_CURE = "delete it"
_SEAL = "sha256"
_SEAL_FORM = re.compile(rf', "{_SEAL}": "([0-9a-f]{{16}})"\}}')
_SEAL_LENGTH = len(f', "{_SEAL}": ""}}') + 16
_FIXED_FIELDS = ("id", "kind", "title", "created", "params")
_STATE_FIELDS = ("state", "done", "total", "message", "errors", "result", "eta_seconds", "seconds", "lines")


@dataclass(frozen=True, kw_only=True)
class Job(Standing):
    """A job as it stands. Its `errors` are rows that failed: `JobRunner.errors` has them."""

    id: str
    kind: str
    created: str
    params: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)
    """What its worker returned, once it is done: `outcome` gives it as the kind's own dataclass."""

    lines: int = 0
    """Of its file of rows, once it is done."""

    def outcome(self, kind: type[D]) -> D:
        """The result as the dataclass that jobs of this kind return. Raises `StoreError` where it holds something else."""
        try:
            return kind(**self.result)
        except TypeError as error:
            raise StoreError(f"the result of job {self.id} is of another version ({error}); run it again") from error


def write_job(folder: Path, job: Job) -> None:
    """Write what never changes of a job. Raises `StoreError`, and `TypeError` or `ValueError` for what JSON cannot hold."""
    fixed = {"id": job.id, "kind": job.kind, "title": job.title, "created": job.created, "params": dict(job.params)}
    write_sealed(folder / "job.json", fixed)


def write_state(folder: Path, job: Job) -> None:
    """Write how a job stands. Raises `StoreError`, and `TypeError` or `ValueError` for a result that JSON cannot hold."""
    message = job.message.encode("utf-8", "backslashreplace").decode("utf-8")  # half a surrogate pair is no reason to fail
    values = asdict(job) | {"message": message}
    write_sealed(folder / "state.json", {name: values[name] for name in _STATE_FIELDS})


def read_job(folder: Path) -> Job:
    """The job as it was last written. Raises `StoreError`."""
    try:
        fixed = unseal((folder / "job.json").read_bytes(), what=f"job {folder.name}", unsealed=_FIXED_FIELDS, cure=_CURE)
        state = unseal((folder / "state.json").read_bytes(), what=f"job {folder.name}", unsealed=_STATE_FIELDS, cure=_CURE)
        job = checked(Job, {**fixed, **state})
        if job.id != folder.name:
            raise StoreError(f"job {folder.name} says that it is {job.id[:40]!r}; {_CURE}")
        return job
    except StoreError:
        raise
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise StoreError(f"job {folder.name} is damaged ({error}); delete it") from error


def write_payload(folder: Path, payload: Any) -> None:
    """Write what is too large for the parameters. Raises `StoreError`, and `TypeError` or `ValueError` for what JSON cannot hold."""
    write_sealed(folder / "payload.json", {"payload": payload})


def read_payload(folder: Path) -> Any:
    """What the job was started with as payload. Raises `StoreError`. Jobs of older versions have it without a checksum."""
    try:
        data = (folder / "payload.json").read_bytes()
        value = json.loads(data)
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"job {folder.name} has lost its payload ({error}); start it again") from error
    if not isinstance(value, dict) or not {"payload", _SEAL} & set(value):  # either name may have been damaged
        return value
    kept = unseal(data, what=f"the payload of job {folder.name}", unsealed=("payload",), cure="start it again")
    if "payload" not in kept:
        raise StoreError(f"job {folder.name} has lost its payload; start it again")
    return kept["payload"]


def append_row(folder: Path, row: Mapping[str, Any]) -> None:
    """Keep a finished row: plain JSON values. It survives a crash from here on. Raises `StoreError`."""
    line = _sealed_row(row)
    try:
        with (folder / "rows.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise StoreError(f"cannot write the job's rows: {error.strerror or error}; free some disk space and resume it") from error


def read_rows(folder: Path) -> tuple[dict[str, Any], ...]:
    """The rows, the last attempt of each. Damaged ones are left out (`damaged_rows` counts them), and a last line cut off by a crash."""
    rows: dict[Any, dict[str, Any]] = {}
    for number, line in enumerate(_lines(folder)):
        row = _row_of(line)
        if row is not None:
            rows[row.get("row", f"line {number}")] = row
    return tuple(rows.values())


def damaged_rows(folder: Path, job: Job) -> int:
    """How many rows were changed since they were written, or are gone since the job ended.

    A job that was broken off may have a last line that a crash cut off. Files of older versions, which have no checksums, are taken
    as they are.
    """
    good, bad = count_rows(folder, whole=job.state == "done")
    return max(bad, job.lines - good)


def count_rows(folder: Path, *, whole: bool = True) -> tuple[int, int]:
    """Lines of rows that are as they were written, and others; without `whole` the last line may have been cut off by a crash."""
    try:
        status = (folder / "rows.jsonl").stat()
    except OSError:
        return 0, 0
    return _count_rows(folder, whole, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=256)
def _count_rows(folder: Path, whole: bool, _mtime: int, _size: int) -> tuple[int, int]:
    """Counted once for each state of the file: the pages ask for every job several times a second."""
    lines = _lines(folder)
    good = sum(_row_of(line) is not None for line in lines)
    known = any(_SEAL_FORM.search(line) for line in lines)
    return good, sum(_row_of(line) is None for line in lines[: None if whole else -1] if line) if known else 0


def _lines(folder: Path) -> list[str]:
    try:
        return (folder / "rows.jsonl").read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return []


def _sealed_row(row: Mapping[str, Any]) -> str:
    if not row or _SEAL in row:
        raise ValueError(f"a row has entries of its own, none named {_SEAL!r}")
    body = strict_json(dict(row)).removesuffix("}")
    return f'{body}, "{_SEAL}": "{_digest(body)}"}}'


def _row_of(line: str) -> dict[str, Any] | None:
    """The row of a line; None where it is none, or not the one that was written."""
    body, end = line[:-_SEAL_LENGTH], _SEAL_FORM.fullmatch(line[-_SEAL_LENGTH:])
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or not isinstance(row.get("row", ""), int | str) or (end is not None and end[1] != _digest(body)):
        return None
    row.pop(_SEAL, None)
    return row


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def mend_rows(folder: Path) -> None:
    """Take away a last line that a crash cut off, so that the next row stands on its own: what is not ended was never acknowledged."""
    path = folder / "rows.jsonl"
    if not path.exists():
        return
    with path.open("rb+") as stream:
        data = stream.read()
        if data and not data.endswith(b"\n"):
            stream.truncate(data.rfind(b"\n") + 1)


def is_free(folder: Path) -> bool:
    """Whether no living process works on the job."""
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    lock.release()
    return True
