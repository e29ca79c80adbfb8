"""Where the folders of a trace store are: the user's own, the trash, the examples; and the lock between processes."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

from filelock import FileLock, Timeout

from neurons.core.errors import InvalidInput, NotFound, StoreError
from neurons.core.types import Environment, ModelRef, Sampling
from traces.schema import TraceRecord, check_id, from_json_text, with_meta

RECORD = "trace.json"
META = "meta.json"
TRASH = ".trash"
WORK = ".work"
HIDDEN = ".hidden"
_STALE_SECONDS = 3600.0


class TraceFolders:
    """The folders below `root` and the read-only `examples`."""

    def __init__(self, root: Path, *, examples: Path | None) -> None:
        self.root = root
        self.examples = examples
        self.trash = root / TRASH
        self.work = root / WORK
        self.hidden = root / HIDDEN
        try:
            for folder in (root, self.trash, self.work, self.hidden):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot use {root}: {error.strerror}; set NEURONSCOPE_HOME to a folder you can write") from error

    def names(self, folder: Path | None) -> tuple[str, ...]:
        """Ids of the trace folders in `folder`."""
        if folder is None or not folder.is_dir():
            return ()
        with os.scandir(folder) as entries:
            return tuple(
                entry.name
                for entry in entries
                if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False) and is_id(entry.name)
            )

    def example(self, trace_id: str) -> Path | None:
        """The example with this id."""
        folder = self.examples / trace_id if self.examples is not None else None
        return folder if folder is not None and (folder / RECORD).is_file() else None

    def is_example(self, folder: Path) -> bool:
        """Whether a trace's folder is one of the read-only examples."""
        return self.examples is not None and folder.parent == self.examples

    def locate(self, trace_id: str, *, trashed: bool = False) -> Path | None:
        """The trace's folder: the user's own, with `trashed` also the trash, else an example that is not hidden."""
        if not is_id(trace_id):
            return None
        for folder in (self.root / trace_id, self.trash / trace_id) if trashed else (self.root / trace_id,):
            if folder.is_dir():
                return folder
        example = self.example(trace_id)
        return example if example is not None and (trashed or not (self.hidden / trace_id).exists()) else None

    def find(self, trace_id: str, *, trashed: bool = False) -> Path:
        """As `locate`, but raises `NotFound`."""
        folder = self.locate(trace_id, trashed=trashed)
        if folder is None:
            raise NotFound(f"there is no trace {trace_id[:80]!r}; `neuronscope traces list` shows them")
        return folder

    def own(self, trace_id: str) -> Path:
        """The trace's folder, after an example was copied to the user's own traces so that it can be changed."""
        folder = self.find(trace_id)
        if not self.is_example(folder):
            return folder
        bench = self.work / f"copy-{trace_id}-{os.getpid()}"
        shutil.rmtree(bench, ignore_errors=True)
        shutil.copytree(folder, bench)
        bench.rename(self.root / trace_id)
        return self.root / trace_id

    def read_record(self, folder: Path) -> TraceRecord:
        """The record with its changeable part. Raises `StoreError` when it is damaged."""
        try:
            record = from_json_text((folder / RECORD).read_bytes(), what=f"{folder.name}/{RECORD}")
            meta_path = folder / META
            meta = json.loads(meta_path.read_bytes()) if meta_path.exists() else {}
            return with_meta(record, meta if isinstance(meta, dict) else {})
        except (InvalidInput, OSError, ValueError) as error:
            raise StoreError(f"trace {folder.name} is damaged: {error}; import it again or delete it") from error

    def sweep(self) -> None:
        """Remove unfinished folders that nobody has touched for an hour."""
        for path in (self.work).iterdir():
            try:
                if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                    shutil.rmtree(path, ignore_errors=True)
            except FileNotFoundError:
                continue

    def lock(self) -> FileLock:
        """Held while folders change; works between threads and processes."""
        return _Lock(self.root / ".lock")


class _Lock(FileLock):
    """A lock between processes and threads that gives up with a message."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, timeout=60)

    def __enter__(self) -> _Lock:
        try:
            self.acquire()
        except Timeout as error:
            raise StoreError(f"another program has held {self.lock_file} for a minute; stop it, or try again") from error
        return self


def is_id(text: str) -> bool:
    """Whether this could be the id of a trace."""
    try:
        check_id(text)
    except InvalidInput:
        return False
    return True


def unreadable(trace_id: str) -> TraceRecord:
    """What the list shows for a folder whose record cannot be read, so that it can be deleted."""
    model = ModelRef("?", "?", "?", "", "?", "?", 1, 1, 1, 1)
    environment = Environment("?", "?", "?", "?", "?", 0, "?", "?")
    answer = "(damaged: run verify, or delete it)"
    return TraceRecord(trace_id, "1970-01-01T00:00:00.000Z", model, environment, (), (), (), (), (), answer, "error", Sampling())
