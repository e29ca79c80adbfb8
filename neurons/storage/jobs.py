"""Background jobs that survive a restart: progress, cancelling, errors by row, resuming. No streamlit, no model.

Each job is a folder (`neurons.storage.job_files`); deleted ones lie in <home>/jobs/.trash, the last few.
A disk that cannot be written for a while ends nothing but what must write to it: how jobs stand is kept in memory until then.
"""

from __future__ import annotations

import queue
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from neurons.core.boundary import checked
from neurons.core.clock import now
from neurons.core.errors import Cancelled, InvalidInput, NeuronscopeError, NotFound, StoreError
from neurons.core.home import subfolder
from neurons.core.progress import RESUMABLE, JobState, Pace
from neurons.core.turns import told_while_waiting
from neurons.storage import job_files
from neurons.storage.error_reports import unforeseen
from neurons.storage.job_files import Job
from neurons.storage.job_parameters import JobParameters
from neurons.storage.trash import Trash

P = TypeVar("P", bound=JobParameters)
_WRITE_EVERY = 0.3
_LOOK_EVERY = 0.2
_RETRY_EVERY = 1.0
_ID = re.compile(r"[0-9a-f]{12}")
_TRASH_KEPT = 20


class JobContext:
    """What a worker gets: its parameters, what earlier attempts finished, and how to report."""

    def __init__(
        self,
        job: Job,
        folder: Path,
        rows: tuple[dict[str, Any], ...],
        *,
        note: Callable[[Job], None],
        interrupted: Callable[[], bool],
        cancelled: Callable[[], bool],
    ) -> None:
        self.job = job
        self.params = job.params
        self.rows = rows
        """Rows that earlier attempts finished, errors included."""
        self._folder, self._note, self._interrupted, self._cancelled = folder, note, interrupted, cancelled
        self._started = time.monotonic()
        self._before = job.seconds
        self._pace = Pace()
        self._written = self._looked = 0.0

    def parameters(self, kind: type[P]) -> P:
        """The job's parameters as its kind has them. Raises `InvalidInput` that names the field which is wrong."""
        return checked(kind, dict(self.params), what="the parameters of this job", cure="start it again")

    def payload(self) -> Any:
        """What `JobRunner.start` was given as payload. Raises `StoreError` when it is damaged."""
        return job_files.read_payload(self._folder)

    def progress(self, done: int, total: int | None, message: str) -> None:
        """A `Progress`: saves it (a few times a second) and raises `Cancelled` when somebody asked to stop."""
        self.check()
        eta, worked = self._pace.eta(done, total), time.monotonic() - self._started
        self.job = replace(self.job, done=done, total=total, message=message, eta_seconds=eta, seconds=self._before + worked)
        if time.monotonic() - self._written >= _WRITE_EVERY or done == total:
            self._written = time.monotonic()
            self._note(self.job)

    def check(self) -> None:
        """Raise `Cancelled` when somebody asked to stop. Cheap enough for every token."""
        if self._interrupted():
            raise Cancelled("interrupted")
        if time.monotonic() - self._looked >= _LOOK_EVERY:
            self._looked = time.monotonic()
            if self._cancelled():
                raise Cancelled("cancelled")

    def add_row(self, row: Mapping[str, Any]) -> None:
        """Keep a finished row (plain JSON values; "error" in it counts as a failure). It survives a restart from here on."""
        job_files.append_row(self._folder, row)
        if row.get("error"):
            self.job = replace(self.job, errors=self.job.errors + 1)


Worker = Callable[[JobContext], Mapping[str, Any] | None]


def _worked(worker: Worker, context: JobContext) -> Mapping[str, Any] | None:
    """Do the work; a stop also ends its waiting for the model."""

    def told(_before: int) -> None:
        context.check()

    with told_while_waiting(told):
        return worker(context)


class JobRunner:
    """The jobs of one folder and the threads that work on them. One per server (or command); close it when done.

    Threads are daemons: a program that ends leaves its running jobs behind as "interrupted", to be resumed.
    """

    def __init__(self, folder: Path | None = None, *, threads: int = 1) -> None:
        self.folder = folder if folder is not None else subfolder("jobs")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._trash = Trash(self.folder / ".trash", keep=_TRASH_KEPT)
        self._workers: dict[str, Worker] = {}
        self._stop = threading.Event()
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._guard = threading.RLock()
        self._locks: dict[str, FileLock] = {}
        self._working: set[str] = set()
        self._asked: set[str] = set()
        """Jobs asked to stop while the disk would not take the note."""
        self._unwritten: dict[str, Job] = {}
        """How jobs stand where the disk refused to take it; written when it can be."""
        self._threads = [threading.Thread(target=self._work, name=f"neuronscope-job-{n}", daemon=True) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    def register(self, kind: str, worker: Worker) -> None:
        """Say how jobs of a kind are done. The worker skips the rows in `context.rows`, reports, and returns its result."""
        self._workers[kind] = worker

    def start(self, kind: str, params: Mapping[str, Any], *, title: str, payload: Any = None) -> Job:
        """Queue a new job. `params` are read with every look at the job: keep them small; `payload` is read by the worker alone.

        Raises `InvalidInput` for a kind nobody registered or values that JSON cannot hold, `StoreError` where nothing can be written.
        """
        if kind not in self._workers:
            known = ", ".join(self._workers) or "none"
            raise InvalidInput(f"there are no jobs of kind {kind!r} here; this program does {known}", field="kind")
        job = Job(id=secrets.token_hex(6), kind=kind, title=title, created=now(), params=params)
        folder = self.folder / job.id
        try:
            folder.mkdir()
            if payload is not None:
                job_files.write_payload(folder, payload)
            job_files.write_job(folder, job)
            self._take(job.id)
            job_files.write_state(folder, job)
        except BaseException as error:
            self._release(job.id)
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, OSError) and not isinstance(error, StoreError):
                raise StoreError(
                    f"{folder} cannot be made: {error.strerror or error}; free some space, or move NEURONSCOPE_HOME"
                ) from error
            if isinstance(error, ValueError | TypeError) and not isinstance(error, NeuronscopeError):
                raise InvalidInput(f"the job's parameters cannot be kept as JSON: {error}") from error
            raise
        self._queue.put(job.id)
        return job

    def resume(self, job_id: str) -> Job:
        """Queue a cancelled, failed or interrupted job again; finished rows stay finished, failed rows are tried again."""
        self._write_what_waits()
        job = self.get(job_id)
        if job.state not in RESUMABLE:
            raise InvalidInput(f"job {job_id} is {job.state}; only a cancelled, failed or interrupted job can be resumed", field="job")
        if job.kind not in self._workers:
            raise InvalidInput(f"jobs of kind {job.kind!r} are not done here; resume it where it was started", field="job")
        if job_id in self._unwritten:
            raise StoreError(f"job {job_id} cannot go on: its folder cannot be written; free some disk space first")
        job = replace(job, state="queued", message="waiting", eta_seconds=None, stopping=False)
        self._take(job_id)
        try:
            self._forget_cancel(job_id)
            job_files.write_state(self.folder / job_id, job)
        except BaseException:
            self._release(job_id)
            raise
        self._queue.put(job_id)
        return job

    def cancel(self, job_id: str) -> None:
        """Ask a job to stop, whichever process runs it. What it finished stays."""
        if not self.get(job_id).active:
            return
        try:
            (self.folder / job_id / "cancel").touch()
        except OSError as error:
            if job_id not in self._locks:
                raise StoreError(f"job {job_id} cannot be asked to stop: {error.strerror or error}; free some space") from error
            self._asked.add(job_id)

    def get(self, job_id: str) -> Job:
        """The job as it stands now. Raises `NotFound`, `StoreError`."""
        job, before = self._written(job_id), None
        while job.active:
            stopping = self._is_asked(job_id)
            if job_id in self._locks or not job_files.is_free(self._folder(job_id)):
                return replace(job, stopping=stopping)
            if job == before:
                found: JobState = "cancelled" if stopping else "interrupted"
                return replace(job, state=found, message="stopped by a restart: resume it", eta_seconds=None)
            job, before = self._written(job_id), job  # it may have ended between the two looks
        damaged = job_files.damaged_rows(self._folder(job_id), job)
        told = f"{job.message}; lines of its rows that were changed on disk or are gone: {damaged}; run it again".removeprefix("; ")
        return replace(job, errors=job.errors + damaged, message=told) if damaged else job

    def _written(self, job_id: str) -> Job:
        return self._unwritten.get(job_id) or job_files.read_job(self._folder(job_id))

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
        return job_files.read_rows(self._folder(job_id))

    def payload(self, job_id: str) -> Any:
        """What `start` was given as payload. Raises `NotFound`, `StoreError`."""
        return job_files.read_payload(self._folder(job_id))

    def errors(self, job_id: str) -> tuple[dict[str, Any], ...]:
        """The rows that failed."""
        return tuple(row for row in self.rows(job_id) if row.get("error"))

    def delete(self, job_id: str) -> None:
        """Move a job that is not running to the trash. Its traces stay. Raises `InvalidInput`, `NotFound`."""
        folder = self._folder(job_id)
        with suppress(StoreError):  # a damaged job is not running
            if self.get(job_id).active:
                raise InvalidInput(f"job {job_id} is still running; cancel it first", field="job")
        self._write_what_waits()
        self._trash.put(folder, job_id)
        if self._unwritten.pop(job_id, None) is not None:
            self._release(job_id)

    def restore(self, job_id: str) -> Job:
        """Bring a deleted job back. Raises `NotFound` when it is gone."""
        if not _ID.fullmatch(job_id) or job_id not in self._trash:
            raise NotFound(f"there is no deleted job {job_id[:80]!r}; only the last {_TRASH_KEPT} are kept")
        self._trash.put_back(job_id, self.folder / job_id)
        return self.get(job_id)

    def wait(self, job_id: str, *, timeout: float | None = None, on_change: Callable[[Job], None] | None = None) -> Job:
        """Block until the job ends (or `timeout` seconds pass); `on_change` sees it a few times a second."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            job = self.get(job_id)
            if on_change is not None:
                on_change(job)
            if (not job.active and job_id not in self._working) or (deadline is not None and time.monotonic() >= deadline):
                return job
            time.sleep(0.1)

    def close(self) -> None:
        """Stop working: running jobs become "interrupted" and can be resumed."""
        self._stop.set()
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join(timeout=60)
        self._write_what_waits()

    # -- the threads -----------------------------------------------------------------------------------------------

    def _take(self, job_id: str) -> None:
        """Hold the job's lock until its work ends, so that other programs see that somebody has it."""
        lock = FileLock(self.folder / job_id / "lock", timeout=5, thread_local=False)
        try:
            lock.acquire()
        except Timeout as error:
            raise InvalidInput(f"job {job_id} is being worked on by another program; wait for it or cancel it", field="job") from error
        self._locks[job_id] = lock

    def _release(self, job_id: str) -> None:
        with self._guard, suppress(OSError):
            if (lock := self._locks.pop(job_id, None)) is not None:
                lock.release()

    def _work(self) -> None:
        while True:
            try:
                job_id = self._queue.get(timeout=_RETRY_EVERY if self._unwritten else None)
            except queue.Empty:
                self._write_what_waits()
                continue
            if job_id is None:
                return
            self._working.add(job_id)
            try:
                if not self._stop.is_set():
                    self._attempt(job_id)
            finally:
                with self._guard:
                    if job_id not in self._unwritten:
                        self._release(job_id)
                    self._working.discard(job_id)

    def _attempt(self, job_id: str) -> None:
        """Do a job to its end, whatever that is: nothing that happens in it may end the thread."""
        folder = self.folder / job_id
        context: JobContext | None = None
        job = Job(id=job_id, kind="", title="", created="")
        try:
            job = replace(self.get(job_id), state="running", message="starting", errors=0, lines=0)
            job_files.mend_rows(folder)
            rows = tuple(row for row in job_files.read_rows(folder) if not row.get("error"))
            context = JobContext(
                job, folder, rows, note=self._note, interrupted=self._stop.is_set, cancelled=lambda: self._is_asked(job_id)
            )
            self._note(job)
            context.check()
            result = _worked(self._workers[job.kind], context)
            lines, _ = job_files.count_rows(folder)
            ended = replace(context.job, state="done", message="done", result=dict(result or {}), lines=lines)
        except BaseException as error:  # noqa: BLE001  # a thread must report what no code foresaw, or the job would look alive for ever
            ended = self._broken(job if context is None else context.job, error)
        self._note(replace(ended, eta_seconds=None, stopping=False))
        with suppress(OSError):
            self._forget_cancel(job_id)

    def _broken(self, job: Job, error: BaseException) -> Job:
        if isinstance(error, Cancelled):
            stopped = self._stop.is_set()
            return replace(job, state="interrupted" if stopped else "cancelled", message="stopped: what is finished is kept")
        if isinstance(error, NeuronscopeError):
            return replace(job, state="failed", message=str(error))
        return replace(job, state="failed", message=unforeseen(error, job.title or "a job"))

    def _note(self, job: Job) -> None:
        """Write how a job stands; where the disk refuses, keep it in memory until it does not."""
        try:
            job_files.write_state(self.folder / job.id, job)
        except StoreError:
            self._unwritten[job.id] = job
            return
        except (TypeError, ValueError) as error:
            self._note(replace(job, state="failed", result={}, message=f"its result cannot be kept as JSON: {error}"))
            return
        self._unwritten.pop(job.id, None)

    def _write_what_waits(self) -> None:
        """Write how ended jobs stand that the disk did not take before, and let go of them."""
        with self._guard:
            for job_id, job in list(self._unwritten.items()):
                if job_id in self._working:
                    continue
                self._note(job)
                if job_id not in self._unwritten:
                    self._release(job_id)

    def _is_asked(self, job_id: str) -> bool:
        return job_id in self._asked or (self.folder / job_id / "cancel").exists()

    def _forget_cancel(self, job_id: str) -> None:
        self._asked.discard(job_id)
        (self.folder / job_id / "cancel").unlink(missing_ok=True)

    def _folder(self, job_id: str) -> Path:
        folder = self.folder / job_id
        if not _ID.fullmatch(job_id) or not (folder / "job.json").is_file():
            raise NotFound(f"there is no job {job_id[:80]!r}; it may have been deleted")
        return folder
