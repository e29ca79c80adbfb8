"""How long work tells how far it is, and how it is told to stop."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called as work advances. It may raise `Cancelled`; long functions let that pass after saving what is done."""

    def __call__(self, done: int, total: int | None, message: str) -> None: ...


def no_progress(done: int, total: int | None, message: str) -> None:
    """A `Progress` that ignores what it is told."""
