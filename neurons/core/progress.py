"""How long work tells how far it is, how it is told to stop, and what anybody may ask about it meanwhile."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal, Protocol

JobState = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]
ACTIVE: tuple[JobState, ...] = ("queued", "running")
RESUMABLE: tuple[JobState, ...] = ("failed", "cancelled", "interrupted")


class Progress(Protocol):
    """Called as work advances. It may raise `Cancelled`; long functions let that pass after saving what is done."""

    def __call__(self, done: int, total: int | None, message: str) -> None: ...


def no_progress(done: int, total: int | None, message: str) -> None:
    """A `Progress` that ignores what it is told."""


class Repeatable:
    """A `Progress` that can be told again what it was told last: for steps without a count of their own, which may be stopped, too."""

    def __init__(self, progress: Progress, total: int | None, message: str) -> None:
        self._progress = progress
        self._last = (0, total, message)

    def __call__(self, done: int, total: int | None, message: str) -> None:
        self._last = (done, total, message)
        self._progress(done, total, message)

    def again(self, done: int, total: int | None, message: str) -> None:
        """A `Progress` of the steps within: says the last again, whatever it is told itself."""
        self._progress(*self._last)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How a piece of background work stands at one moment. Every row of progress is drawn from this alone."""

    title: str
    state: JobState = "queued"
    done: int = 0
    total: int | None = None
    """None while it is not known."""
    message: str = ""
    """What it is doing, or why it ended."""
    errors: int = 0
    """Parts that failed while the rest went on."""
    eta_seconds: float | None = None
    """Estimated time left; None while it cannot be told."""
    seconds: float = 0.0
    """Time worked so far, over all resumptions."""
    stopping: bool = False
    """Somebody asked it to stop and it has not yet."""

    @property
    def active(self) -> bool:
        return self.state in ACTIVE

    @property
    def fraction(self) -> float:
        """0 to 1."""
        return min(1.0, self.done / self.total) if self.total else 0.0


class Pace:
    """Estimates the time left from how fast the present step of the work has gone."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._first: int | None = None
        self._last = 0

    def eta(self, done: int, total: int | None) -> float | None:
        """Seconds left, None while they cannot be told. A count that falls or loses its total begins a new step."""
        now = time.monotonic()
        if total is None:
            self._first = None
        elif self._first is None or done < self._last:
            self._first, self._begun = done, now
        self._last = done
        fresh = 0 if self._first is None else done - self._first
        return (now - self._begun) / fresh * (total - done) if total is not None and fresh > 0 else None
