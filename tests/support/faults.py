"""A disk that refuses, or a process that dies, at a chosen step: the calls that change files are counted and made to fail."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

RENAMES = ("rename", "replace")
CHANGES = (*RENAMES, "mkdir", "unlink", "rmdir", "fsync", "open", "create")
"""`open` is any os.open that makes or empties a file, `create` any open() for writing."""


class Disk:
    """Counts steps; `act` is called at each step with its number and name, and may raise or end the process."""

    def __init__(self, act: Callable[[int, str], None], kinds: tuple[str, ...] = CHANGES) -> None:
        self.act, self.kinds = act, kinds
        self.steps = 0
        self.armed = True

    def step(self, name: str) -> None:
        if self.armed and name in self.kinds:
            self.steps += 1
            self.act(self.steps, name)


@contextmanager
def watched(disk: Disk) -> Iterator[Disk]:
    """Put the counter around the calls of `os` and `open` for this process, every thread included."""
    kept = {name: getattr(os, name) for name in ("rename", "replace", "mkdir", "unlink", "rmdir", "fsync", "open")}
    kept_open = io.open

    def counted(name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            disk.step(name)
            return kept[name](*args, **kwargs)

        return call

    def open_low(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        fresh = flags & os.O_TRUNC or (flags & os.O_CREAT and not os.path.exists(path))  # a file that is there needs no space
        if fresh:
            disk.step("open")
        return int(kept["open"](path, flags, *args, **kwargs))

    def open_high(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if not isinstance(file, int) and set(mode) & set("wax+"):
            disk.step("create")
        return kept_open(file, mode, *args, **kwargs)

    changed = {**{name: counted(name) for name in kept}, "open": open_low}
    for name, call in changed.items():
        setattr(os, name, call)
    io.open = open_high
    try:
        yield disk
    finally:
        for name, call in kept.items():
            setattr(os, name, call)
        io.open = kept_open


def failing_at(step: int, number: int) -> Disk:
    """A disk that refuses one call with the error `number`, such as errno.ENOSPC."""

    def act(now: int, name: str) -> None:
        if now == step:
            raise OSError(number, os.strerror(number), name)

    return Disk(act)


def dying_at(step: int, kinds: tuple[str, ...]) -> Disk:
    """A process that is killed just before a step."""

    def act(now: int, name: str) -> None:
        if now == step:
            os.kill(os.getpid(), signal.SIGKILL)

    return Disk(act, kinds)
