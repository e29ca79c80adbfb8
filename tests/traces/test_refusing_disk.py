"""A disk that is full, or a home that may only be read: what can be done is done, the rest says so in a line."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from neurons.core.errors import StoreError
from tests.support.faults import Disk, watched
from tests.support.trace_runs import make_arrays, make_record
from traces import TraceStore

ROOT = Path(__file__).parents[2]


def fill(root: Path) -> list[str]:
    store = TraceStore(root, examples=None)
    ids = []
    for number in range(4):
        record = make_record(name=f"trace {number}")
        ids.append(store.save(record, make_arrays(record)).id)
    store.delete(ids[3])
    return ids


@contextmanager
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing new can be written, by this program or by SQLite; renames and removals work, as on a full disk."""

    def act(step: int, name: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)

    real = sqlite3.connect

    def connect(name: object, *args: object, **options: object) -> sqlite3.Connection:
        connection = real(name, *args, **options)
        if name != ":memory:" and "immutable" not in str(name):
            connection.execute("PRAGMA query_only = 1")  # a write is refused as on a read-only disk
        return connection

    with monkeypatch.context() as patch, watched(Disk(act, ("open", "create"))):
        patch.setattr(sqlite3, "connect", connect)
        patch.setattr("filelock.FileLock.acquire", lambda self, *args, **options: None)  # its file is there already
        patch.setattr("filelock.FileLock.release", lambda self, *args, **options: None)
        yield


def cure(root: Path, ids: list[str]) -> None:
    """List, show, delete, evict and purge on a full disk."""
    store = TraceStore(root, examples=None)
    assert {row.id for row in store.list()} == set(ids[:3])
    assert store.load(ids[0]).name == "trace 0"
    assert store.summary(ids[0]).name == "trace 0"
    store.delete(ids[1])
    assert {row.id for row in store.list(trashed=True)} == {ids[1], ids[3]}
    assert store.purge() == 2
    assert {row.id for row in store.list()} == {ids[0], ids[2]}
    assert store.usage().traces == 2


def test_a_full_disk_does_not_block_its_own_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = fill(tmp_path / "traces")
    with full_disk(monkeypatch):
        cure(tmp_path / "traces", ids)
        store = TraceStore(tmp_path / "traces", examples=None)
        with pytest.raises(StoreError, match="space"):
            store.save(make_record())
    again = TraceStore(tmp_path / "traces", examples=None)
    assert {row.id for row in again.list()} == {ids[0], ids[2]}
    assert all(again.verify(row.id).ok for row in again.list())


def test_eviction_works_on_a_full_disk(tmp_path: Path) -> None:
    """The note that says so finds no space before the activations are gone, and finds some after."""
    (first, *_), root = fill(tmp_path / "traces"), tmp_path / "traces"
    store = TraceStore(root, examples=None)
    target = root / first / "tensors.zarr" / "activations"

    def act(step: int, name: str) -> None:
        if target.exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)

    with watched(Disk(act, ("open", "create"))):
        assert store.evict(first) > 0
    assert store.activation_state(first) == "evicted"
    assert store.verify(first).ok


@contextmanager
def mounted(place: Path, options: str) -> Iterator[Path]:
    """A real file system of its own."""
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("a file system can be mounted by root only")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "small", "size=1m,nr_inodes=4k") as place:
        yield place


def test_a_real_full_disk_does_not_block_its_own_cure(small_disk: Path) -> None:
    ids = fill(small_disk / "traces")
    with (small_disk / "filler").open("wb", buffering=0) as stream, suppress(OSError):
        while True:
            stream.write(b"x" * 512)
    cure(small_disk / "traces", ids)
    store = TraceStore(small_disk / "traces", examples=None)
    record = make_record(n_prompt=900)
    with pytest.raises(StoreError, match="space"):
        store.save(record, make_arrays(record))
    store.evict(ids[0])
    (small_disk / "filler").unlink()
    assert {ids[0], ids[2]} <= {row.id for row in TraceStore(small_disk / "traces", examples=None).list()}
    assert TraceStore(small_disk / "traces", examples=None).activation_state(ids[0]) == "evicted"


def run(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NEURONSCOPE_HOME": str(home)}
    command = [sys.executable, "-m", "neurons.cli.main", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)


READING = [
    ["traces", "list"], ["traces", "list", "--trash"], ["traces", "show", "last"], ["traces", "verify"], ["traces", "usage"],
    ["concept", "list"], ["atlas", "info"],
]  # fmt: skip
WRITING = [["traces", "tag", "last", "x"], ["traces", "delete", "last"], ["traces", "purge", "--yes"], ["traces", "evict", "last"]]


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A home that may only be read: by its permissions, or for root, whom they do not stop, by its file system."""
    if os.getuid() == 0:
        with mounted(tmp_path / "mounted", "size=8m") as place:
            fill(place / "home" / "traces")
            subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
            yield place / "home"
        return
    fill(tmp_path / "home" / "traces")
    folders = [path for path in (tmp_path / "home", *(tmp_path / "home").rglob("*")) if path.is_dir()]
    for folder in folders:
        folder.chmod(0o500)
    yield tmp_path / "home"
    for folder in folders:
        folder.chmod(0o700)


@pytest.mark.slow
def test_a_home_that_may_only_be_read_can_be_read(read_only: Path) -> None:
    for words in READING:
        done = run(read_only, *words)
        assert done.returncode == 0, (words, done.stderr)
        assert "Traceback" not in done.stderr
    for words in WRITING:
        done = run(read_only, *words)
        assert done.returncode == 1, (words, done.stderr)
        assert done.stderr.startswith("error: "), done.stderr
        assert len(done.stderr.splitlines()) == 1
