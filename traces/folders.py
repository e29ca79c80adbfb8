"""Where the folders of a trace store are: the user's own, the trash, the examples; and the lock between processes."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from neurons.core.errors import InvalidInput, NotFound, StoreError
from neurons.core.types import Environment, ModelRef, Sampling
from neurons.storage import journal
from neurons.storage.files import disk_errors, fsync_tree, publish, sweep_leftovers
from neurons.storage.manifest import read_manifest
from neurons.storage.sealed import unseal
from neurons.storage.trash import Trash
from traces.schema import META_FIELDS, TraceRecord, check_id, from_json_text, with_meta

RECORD = "trace.json"
META = "meta.json"
TRASH = ".trash"
WORK = ".work"
HIDDEN = ".hidden"
_CURE = "import the trace again or delete it"
_ROUNDS = 3
"""Times that both places are looked at: a trace that is put back between the two looks is in neither."""


class TraceFolders:
    """The folders below `root` and the read-only `examples`."""

    def __init__(self, root: Path, *, examples: Path | None) -> None:
        self.root = root
        self.examples = examples
        self.trash = Trash(root / TRASH)
        self.work = root / WORK
        self.hidden = root / HIDDEN
        try:
            for folder in (root, self.trash.folder, self.work, self.hidden):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            if not root.is_dir():  # else what is there can still be read
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
        places = (self.root / trace_id, self.trash.path(trace_id)) * _ROUNDS if trashed else (self.root / trace_id,)
        for folder in places:
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
        with disk_errors(self.root / trace_id), suppress(FileExistsError):  # another program has copied it just now
            shutil.copytree(folder, bench)
            fsync_tree(bench)
            publish(bench, self.root / trace_id)
        shutil.rmtree(bench, ignore_errors=True)
        return self.root / trace_id

    def read_record(self, folder: Path) -> TraceRecord:
        """The record with its changeable part, after both were compared with their checksums. Raises `StoreError` when damaged."""
        try:
            data = (folder / RECORD).read_bytes()
            entry = read_manifest(folder).get(RECORD)
            if entry is None or hashlib.sha256(data).hexdigest() != entry.sha256:
                raise StoreError(f"{RECORD} was changed (SHA-256 differs)")
            record = from_json_text(data, what=f"{folder.name}/{RECORD}")
            return with_meta(record, read_meta(folder))
        except (InvalidInput, OSError, ValueError) as error:
            raise StoreError(f"trace {folder.name} is damaged: {error}; {_CURE}") from error

    def recover(self) -> None:
        """Finish what a crash broke off and remove what it left behind. Where nothing can be written, all is left as it is."""
        if journal.has_work(self.work):
            with suppress(StoreError, OSError), self.lock():
                journal.replay(self.root, self.work)
        if not journal.has_work(self.work):
            sweep_leftovers(self.work, everything=True)
        sweep_leftovers(self.root)
        self.trash.sweep()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the lock, and turn what the disk refuses into a `StoreError`."""
        with self.lock(), disk_errors(self.root):
            yield

    def lock(self) -> FileLock:
        """Held while folders change; works between threads and processes."""
        return _Lock(self.root / ".lock")


def read_meta(folder: Path) -> dict[str, Any]:
    """What a person changed of a trace: empty where nothing was. Raises `StoreError` when it is damaged."""
    try:
        data = (folder / META).read_bytes()
    except FileNotFoundError:
        return {}
    return unseal(data, what=META, unsealed=("version", *META_FIELDS), cure=_CURE)


class _Lock(FileLock):
    """A lock between processes and threads that gives up with a message."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, timeout=60)

    def __enter__(self) -> _Lock:
        try:
            self.acquire()
        except Timeout as error:
            raise StoreError(f"another program has held {self.lock_file} for a minute; stop it, or try again") from error
        except OSError as error:
            raise StoreError(
                f"nothing can be changed in {Path(self.lock_file).parent}: {error.strerror or error}; check its permissions and free space"
            ) from error
        return self


def is_id(text: str) -> bool:
    """Whether this could be the id of a trace."""
    try:
        check_id(text)
    except InvalidInput:
        return False
    return True


def unreadable(trace_id: str, why: str) -> TraceRecord:
    """What the list shows for a folder whose record cannot be read, so that it can be deleted."""
    model = ModelRef("?", "?", "?", "", "?", "?", 1, 1, 1, 1)
    environment = Environment("?", "?", "?", "?", "?", 0, "?", "?")
    answer = "(damaged: run verify, or delete it)"
    note = "".join(c if c.isprintable() else " " for c in why)[:500]
    return TraceRecord(trace_id, "1970-01-01T00:00:00.000Z", model, environment, (), (), (), (), (), answer, "error", Sampling(), note=note)
