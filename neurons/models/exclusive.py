"""One process at a time makes a model's files; the others wait, say so, and then find them there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from neurons.core.progress import Progress


@contextmanager
def one_at_a_time(lock_file: Path, progress: Progress, waiting: str) -> Iterator[None]:
    """Hold the lock while the block runs. `waiting` is told while another process holds it; `progress` may raise `Cancelled`."""
    lock = FileLock(lock_file)
    while True:
        try:
            lock.acquire(timeout=1)
            break
        except Timeout:
            progress(0, None, waiting)
    try:
        yield
    finally:
        lock.release()
