"""Background jobs that survive a restart: progress, cancelling, errors by row, resuming. No streamlit, no model.

<home>/jobs/<id>/job.json     kind, title, parameters: written once
                 payload.json what is too large for the parameters, such as the prompts: written once
                 state.json   state, progress: replaced atomically as it goes
                 rows.jsonl   one line a finished row, appended; a row may hold an error
                 cancel       exists when somebody asked it to stop
                 lock         held while a process works on it: a "running" job whose lock is free was interrupted
<home>/jobs/.trash/<id>       deleted jobs, the last few
"""

from __future__ import annotations

import json
import os
import queue
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from neurons.core.errors import Cancelled, InvalidInput, NeuronscopeError, NotFound, StoreError
from neurons.core.home import subfolder
from neurons.storage.files import write_json

JobState = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]
ACTIVE: tuple[JobState, ...] = ("queued", "running")
RESUMABLE: tuple[JobState, ...] = ("failed", "cancelled", "interrupted")
_WRITE_EVERY = 0.3
_LOOK_EVERY = 0.2
_ID = re.compile(r"[0-9a-f]{12}")
_TRASH_KEPT = 20


@dataclass(frozen=True)
class Job:
    """A job as it stands."""

    id: str
    kind: str
    title: str
    created: str
    params: Mapping[str, Any] = field(default_factory=dict)
    state: JobState = "queued"
    done: int = 0
    total: int | None = None
    """None while it is not known."""
    message: str = ""
    """What it is doing, or why it ended."""
    errors: int = 0
    """Rows that failed. `JobRunner.rows` has them."""
    result: Mapping[str, Any] = field(default_factory=dict)
    eta_seconds: float | None = None
    """Estimated time left; None while it cannot be told."""
    seconds: float = 0.0
    """Time worked so far, over all resumptions."""

    @property
    def active(self) -> bool:
        return self.state in ACTIVE

    @property
    def fraction(self) -> float:
        """0 to 1."""
        return min(1.0, self.done / self.total) if self.total else 0.0


class JobContext:
    """What a worker gets: its parameters, what earlier attempts finished, and how to report."""

    def __init__(self, job: Job, folder: Path, rows: tuple[dict[str, Any], ...], stop: threading.Event) -> None:
        self.job = job
        self.params = job.params
        self.rows = rows
        """Rows that earlier attempts finished, errors included."""
        self._folder, self._stop = folder, stop
        self._started = self._step = time.monotonic()
        self._before = job.seconds
        self._first_done: int | None = None
        self._written = self._looked = 0.0

    def payload(self) -> Any:
        """What `JobRunner.start` was given as payload. Raises `StoreError` when it is damaged."""
        return _read_payload(self._folder)

    def progress(self, done: int, total: int | None, message: str) -> None:
        """A `Progress`: saves it (a few times a second) and raises `Cancelled` when somebody asked to stop."""
        self.check()
        now = time.monotonic()
        if total is None:
            self._first_done = None
        elif self._first_done is None or done < self.job.done:  # a step of the work that counts anew
            self._first_done, self._step = done, now
        worked = now - self._started
        fresh = 0 if self._first_done is None else done - self._first_done
        eta = (now - self._step) / fresh * (total - done) if total is not None and fresh > 0 else None
        self.job = replace(self.job, done=done, total=total, message=message, eta_seconds=eta, seconds=self._before + worked)
        if time.monotonic() - self._written >= _WRITE_EVERY or done == total:
            self._written = time.monotonic()
            _write_state(self._folder, self.job)

    def check(self) -> None:
        """Raise `Cancelled` when somebody asked to stop. Cheap enough for every token."""
        if self._stop.is_set():
            raise Cancelled("interrupted")
        if time.monotonic() - self._looked >= _LOOK_EVERY:
            self._looked = time.monotonic()
            if (self._folder / "cancel").exists():
                raise Cancelled("cancelled")

    def add_row(self, row: Mapping[str, Any]) -> None:
        """Keep a finished row (plain JSON values; "error" in it counts as a failure). It survives a restart from here on."""
        line = json.dumps(dict(row), ensure_ascii=False, allow_nan=False)
        try:
            with (self._folder / "rows.jsonl").open("a", encoding="utf-8") as stream:
                stream.write(line + "\n")
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise StoreError(f"cannot write the job's rows: {error.strerror or error}; free some disk space and resume it") from error
        if row.get("error"):
            self.job = replace(self.job, errors=self.job.errors + 1)


Worker = Callable[[JobContext], Mapping[str, Any] | None]


class JobRunner:
    """The jobs of one folder and the threads that work on them. One a server (or a command); close it when done.

    Threads are daemons: a program that ends leaves its running jobs behind as "interrupted", to be resumed.
    """

    def __init__(self, folder: Path | None = None, *, threads: int = 1) -> None:
        self.folder = folder if folder is not None else subfolder("jobs")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._trash = self.folder / ".trash"
        self._workers: dict[str, Worker] = {}
        self._stop = threading.Event()
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._locks: dict[str, FileLock] = {}
        self._threads = [threading.Thread(target=self._work, name=f"neuronscope-job-{n}", daemon=True) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    def register(self, kind: str, worker: Worker) -> None:
        """Say how jobs of a kind are done. The worker skips the rows in `context.rows`, reports, and returns its result."""
        self._workers[kind] = worker

    def start(self, kind: str, params: Mapping[str, Any], *, title: str, payload: Any = None) -> Job:
        """Queue a new job. `params` are read with every look at the job: keep them small; `payload` is read by the worker alone.

        Raises `InvalidInput` for a kind nobody registered or values that JSON cannot hold.
        """
        if kind not in self._workers:
            known = ", ".join(self._workers) or "none"
            raise InvalidInput(f"there are no jobs of kind {kind!r} here; this program does {known}", field="kind")
        job = Job(secrets.token_hex(6), kind, title, datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"), params)
        folder = self.folder / job.id
        folder.mkdir()
        try:
            if payload is not None:
                write_json(folder / "payload.json", payload)
            write_json(folder / "job.json", {"id": job.id, "kind": kind, "title": title, "created": job.created, "params": dict(params)})
        except (ValueError, TypeError) as error:
            shutil.rmtree(folder)
            raise InvalidInput(f"the job's parameters cannot be kept as JSON: {error}") from error
        self._take(job.id)
        _write_state(folder, job)
        self._queue.put(job.id)
        return job

    def resume(self, job_id: str) -> Job:
        """Queue a cancelled, failed or interrupted job again; finished rows stay finished, failed rows are tried again."""
        job = self.get(job_id)
        if job.state not in RESUMABLE:
            raise InvalidInput(f"job {job_id} is {job.state}; only a cancelled, failed or interrupted job can be resumed", field="job")
        if job.kind not in self._workers:
            raise InvalidInput(f"jobs of kind {job.kind!r} are not done here; resume it where it was started", field="job")
        self._take(job_id)
        (self.folder / job_id / "cancel").unlink(missing_ok=True)
        job = replace(job, state="queued", message="waiting", eta_seconds=None)
        _write_state(self.folder / job_id, job)
        self._queue.put(job_id)
        return job

    def cancel(self, job_id: str) -> None:
        """Ask a job to stop, whichever process runs it. What it finished stays."""
        if self.get(job_id).active:
            (self.folder / job_id / "cancel").touch()

    def get(self, job_id: str) -> Job:
        """The job as it stands now. Raises `NotFound`, `StoreError`."""
        folder = self._folder(job_id)
        try:
            fixed = json.loads((folder / "job.json").read_bytes())
            state = json.loads((folder / "state.json").read_bytes())
            job = Job(**fixed, **state)
        except (OSError, ValueError, TypeError) as error:
            raise StoreError(f"job {job_id} is damaged ({error}); delete it") from error
        if job.active and job_id not in self._locks and self._is_free(folder):
            cancelled = (folder / "cancel").exists()
            found: JobState = "cancelled" if cancelled else "interrupted"
            job = replace(job, state=found, message="stopped by a restart: resume it", eta_seconds=None)
        return job

    def list(self, kind: str | None = None) -> tuple[Job, ...]:
        """All readable jobs, newest first."""
        jobs = []
        for folder in self.folder.iterdir():
            if _ID.fullmatch(folder.name):
                with suppress(StoreError, NotFound):
                    jobs.append(self.get(folder.name))
        return tuple(sorted((j for j in jobs if kind in (None, j.kind)), key=lambda job: (job.created, job.id), reverse=True))

    def rows(self, job_id: str) -> tuple[dict[str, Any], ...]:
        """The finished rows in order; a row that was tried again counts with its last attempt."""
        return _read_rows(self._folder(job_id))

    def errors(self, job_id: str) -> tuple[dict[str, Any], ...]:
        """The rows that failed."""
        return tuple(row for row in self.rows(job_id) if row.get("error"))

    def delete(self, job_id: str) -> None:
        """Move a job that is not running to the trash. Its traces stay. Raises `InvalidInput`, `NotFound`."""
        folder = self._folder(job_id)
        with suppress(StoreError):  # a damaged job is not running
            if self.get(job_id).active:
                raise InvalidInput(f"job {job_id} is still running; cancel it first", field="job")
        self._trash.mkdir(exist_ok=True)
        os.utime(folder)  # when it was deleted
        folder.replace(self._trash / job_id)
        for old in sorted(self._trash.iterdir(), key=lambda path: path.stat().st_mtime)[:-_TRASH_KEPT]:
            shutil.rmtree(old, ignore_errors=True)

    def restore(self, job_id: str) -> Job:
        """Bring a deleted job back. Raises `NotFound` when it is gone."""
        source = self._trash / job_id
        if not _ID.fullmatch(job_id) or not source.is_dir():
            raise NotFound(f"there is no deleted job {job_id[:80]!r}; only the last {_TRASH_KEPT} are kept")
        source.replace(self.folder / job_id)
        return self.get(job_id)

    def wait(self, job_id: str, *, timeout: float | None = None, on_change: Callable[[Job], None] | None = None) -> Job:
        """Block until the job ends (or `timeout` seconds pass); `on_change` sees it a few times a second."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            job = self.get(job_id)
            if on_change is not None:
                on_change(job)
            if (not job.active and job_id not in self._locks) or (deadline is not None and time.monotonic() >= deadline):
                return job
            time.sleep(0.1)

    def close(self) -> None:
        """Stop working: running jobs become "interrupted" and can be resumed."""
        self._stop.set()
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join(timeout=60)

    # -- the threads -----------------------------------------------------------------------------------------------

    def _take(self, job_id: str) -> None:
        """Hold the job's lock until its work ends, so that other programs see that somebody has it."""
        lock = FileLock(self.folder / job_id / "lock", timeout=5, thread_local=False)
        try:
            lock.acquire()
        except Timeout as error:
            raise InvalidInput(f"job {job_id} is being worked on by another program; wait for it or cancel it", field="job") from error
        self._locks[job_id] = lock

    def _work(self) -> None:
        while (job_id := self._queue.get()) is not None:
            try:
                if not self._stop.is_set():
                    self._attempt(self.folder / job_id)
            finally:
                self._locks.pop(job_id).release()

    def _attempt(self, folder: Path) -> None:
        _mend_rows(folder)
        rows = tuple(row for row in _read_rows(folder) if not row.get("error"))
        job = replace(self.get(folder.name), state="running", message="starting", errors=0)
        context = JobContext(job, folder, rows, self._stop)
        _write_state(folder, job)
        try:
            context.check()
            result = self._workers[job.kind](context)
            ended = replace(context.job, state="done", message="done", result=dict(result or {}))
        except Cancelled:
            stopped = self._stop.is_set()
            ended = replace(context.job, state="interrupted" if stopped else "cancelled", message="stopped: what is finished is kept")
        except NeuronscopeError as error:
            ended = replace(context.job, state="failed", message=str(error))
        except Exception as error:  # noqa: BLE001  # a thread must report what no code foresaw, or the job would look alive for ever
            ended = replace(context.job, state="failed", message=f"unexpected {type(error).__name__}: {error}")
        _write_state(folder, replace(ended, eta_seconds=None))
        (folder / "cancel").unlink(missing_ok=True)

    def _folder(self, job_id: str) -> Path:
        folder = self.folder / job_id
        if not _ID.fullmatch(job_id) or not (folder / "job.json").is_file():
            raise NotFound(f"there is no job {job_id[:80]!r}; it may have been deleted")
        return folder

    @staticmethod
    def _is_free(folder: Path) -> bool:
        """Whether no living process works on the job."""
        lock = FileLock(folder / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        lock.release()
        return True


_STATE_FIELDS = ("state", "done", "total", "message", "errors", "result", "eta_seconds", "seconds")


def _write_state(folder: Path, job: Job) -> None:
    values = asdict(job)
    write_json(folder / "state.json", {name: values[name] for name in _STATE_FIELDS})


def _read_payload(folder: Path) -> Any:
    try:
        return json.loads((folder / "payload.json").read_bytes())
    except (OSError, ValueError) as error:
        raise StoreError(f"job {folder.name} has lost its payload ({error}); start it again") from error


def _mend_rows(folder: Path) -> None:
    """End a line that a crash cut off, so that the next row stands on its own."""
    path = folder / "rows.jsonl"
    if path.exists() and path.stat().st_size:
        with path.open("rb+") as stream:
            stream.seek(-1, os.SEEK_END)
            if stream.read(1) != b"\n":
                stream.write(b"\n")


def _read_rows(folder: Path) -> tuple[dict[str, Any], ...]:
    """The rows, the last attempt of each; a last line cut off by a crash is left out."""
    try:
        lines = (folder / "rows.jsonl").read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return ()
    rows: dict[Any, dict[str, Any]] = {}
    for number, line in enumerate(lines):
        with suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict):
                rows[row.get("row", f"line {number}")] = row
    return tuple(rows.values())
