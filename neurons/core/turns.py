"""The lock of something that many share and one uses at a time: first come, first served, and whoever waits can see its place and stop.

`threading.RLock` promises no order, shows nobody a place, and cannot be left while waiting.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

_LOOK_EVERY = 0.25
_told = threading.local()

Waiting = Callable[[int], None]
"""Called with how many are before this thread, a few times a second while it waits, and with 0 once it has its turn. May raise."""


@contextmanager
def told_while_waiting(told: Waiting) -> Iterator[None]:
    """Call `told` whenever this thread waits for a turn in the block, at whatever lock. What it raises ends the waiting."""
    before = getattr(_told, "call", None)
    _told.call = told
    try:
        yield
    finally:
        _told.call = before


class Turns:
    """A re-entrant lock that is handed on in the order of asking."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._queue: deque[_Place] = deque()
        self._owner: int | None = None
        self._depth = 0

    @property
    def waiting(self) -> int:
        """How many threads wait for their turn."""
        return len(self._queue)

    def acquire(self, *, blocking: bool = True) -> bool:
        """Wait for this thread's turn; with `blocking` off, False where it would have to wait.

        Raises what `told_while_waiting` raises; then the turn is not taken.
        """
        me = threading.get_ident()
        with self._guard:
            if self._owner == me:
                self._depth += 1
                return True
            if self._owner is None and not self._queue:
                self._owner, self._depth = me, 1
                return True
            if not blocking:
                return False
            place = _Place(me)
            self._queue.append(place)
            self._hand_on()
        try:
            self._wait(place)
        except BaseException:
            with self._guard:
                if place.turn.is_set():
                    self._owner, self._depth = None, 0
                else:
                    self._queue.remove(place)
                self._hand_on()
            raise
        return True

    def release(self) -> None:
        """Give the turn back. Raises `RuntimeError` in a thread that does not have it."""
        with self._guard:
            if self._owner != threading.get_ident():
                raise RuntimeError("this thread does not have its turn")
            self._depth -= 1
            if not self._depth:
                self._owner = None
                self._hand_on()

    def __enter__(self) -> Turns:
        self.acquire()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()

    def _hand_on(self) -> None:
        """Give a free turn to who has waited longest. The guard is held."""
        if self._owner is None and self._queue:
            place = self._queue.popleft()
            self._owner, self._depth = place.thread, 1
            place.turn.set()

    def _wait(self, place: _Place) -> None:
        told: Waiting | None = getattr(_told, "call", None)
        if told is None:
            place.turn.wait()
            return
        while not place.turn.wait(_LOOK_EVERY):
            with self._guard:
                before = self._queue.index(place) + 1 if place in self._queue else 0
            told(before)
        told(0)


class _Place:
    """One thread's place in the line."""

    def __init__(self, thread: int) -> None:
        self.thread = thread
        self.turn = threading.Event()
