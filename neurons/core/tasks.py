"""Work in threads of this process, for what is shown while it is done and ends with the process; `storage.jobs` has what survives it.

Each kind of work is a dataclass of its own that derives from `Task` and says what is to be remembered of it and what it results in.
"""

from __future__ import annotations

import logging
import queue
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from neurons.core.errors import Cancelled, NeuronscopeError
from neurons.core.progress import JobState, Pace, Standing
from neurons.core.turns import told_while_waiting

R = TypeVar("R")
T = TypeVar("T", bound="Task[Any]")
_KEPT = 50
_log = logging.getLogger(__name__)


@dataclass(eq=False, kw_only=True)
class Task(Generic[R]):
    """One piece of work and how it stands. `R` is what it results in."""

    keeps_what_is_done: ClassVar[bool] = False
    """Whether work that is stopped saves what it has, so that a program which is told to end waits for it."""

    what: str
    """What a person is told while it runs, such as "loading the model"."""
    id: str = field(default_factory=lambda: secrets.token_hex(4))
    done: int = 0
    total: int | None = None
    message: str = ""
    before: int = 0
    """How many others have their turn at the model before this."""
    stopping: threading.Event = field(default_factory=threading.Event)
    _eta: float | None = None
    _pace: Pace = field(default_factory=Pace)
    _begun: float = field(default_factory=time.monotonic)
    _ended: float | None = None
    _future: Future[R] | None = None

    def progress(self, done: int, total: int | None, message: str) -> None:
        """A `Progress` for the engine. Raises `Cancelled` once `stop` was called."""
        self.done, self.total, self.message, self._eta = done, total, message, self._pace.eta(done, total)
        self.check()

    def wait_in_line(self, before: int) -> None:
        """Keep how many have their turn first. Raises `Cancelled` once `stop` was called."""
        self.before = before
        if before:
            self.check()

    def check(self) -> None:
        """Raise `Cancelled` once `stop` was called."""
        if self.stopping.is_set():
            raise Cancelled(f"stopped: {self.what}")

    def stop(self) -> None:
        """Ask the work to end at its next check."""
        self.stopping.set()

    @property
    def running(self) -> bool:
        """Whether it has not ended; it may be waiting for a thread."""
        return self._future is None or not self._future.done()

    def standing(self) -> Standing:
        """How it stands now."""
        return Standing(
            title=self.what,
            state=self._state(),
            done=self.done,
            total=self.total,
            message=in_line(self.before) or self.message,
            eta_seconds=self._eta if self.running else None,
            seconds=(self._ended or time.monotonic()) - self._begun,
            stopping=self.running and self.stopping.is_set(),
        )

    def _state(self) -> JobState:
        if self._future is None or not (self._future.running() or self._future.done()):
            return "queued"
        if self.running:
            return "running"
        error = self.error()
        if error is None:
            return "done"
        return "cancelled" if isinstance(error, Cancelled) else "failed"

    def wait(self, seconds: float) -> bool:
        """Wait until it ends, at most so long. Whether it has."""
        if self._future is not None:
            wait([self._future], timeout=seconds)
        return not self.running

    def error(self) -> NeuronscopeError | None:
        """Why it failed or was stopped; None where it did not, or has not ended."""
        if self.running or self._future is None:
            return None
        error = self._future.exception()
        return error if isinstance(error, NeuronscopeError) else None

    def result(self) -> R:
        """What the work resulted in, or its error raised. Ask only once it has ended."""
        if self._future is None or self.running:
            raise RuntimeError(f"{self.what} has not ended")
        return self._future.result()

    def let_go(self) -> None:
        """Forget what is needed only while it runs; called when the model it used is replaced."""


class Tasks:
    """The threads of one server and the tasks they did last."""

    def __init__(self, *, threads: int = 4, unforeseen: Callable[[BaseException, str], str] | None = None) -> None:
        """`unforeseen`: what a person is told of an error that nobody foresaw, given what was being done; it may keep a report."""
        self._queue: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._tasks: dict[str, Task[Any]] = {}
        self._guard = threading.Lock()
        self._unforeseen = unforeseen or _plainly
        for number in range(threads):  # daemons: a program that is told to end does not wait for them
            threading.Thread(target=self._work, name=f"neuronscope-{number}", daemon=True).start()

    def start(self, task: Task[R], work: Callable[[], R]) -> None:
        """Do `work` in a thread as `task`. An error that nobody foresaw is logged and told as a `NeuronscopeError`."""
        with self._guard:
            ended = [name for name, old in self._tasks.items() if not old.running]
            for name in ended[: max(0, len(self._tasks) - _KEPT)]:
                del self._tasks[name]
            self._tasks[task.id] = task
            future: Future[R] = Future()
            task._future = future
        self._queue.put(lambda: _run(future, task, work, self._unforeseen))

    def _work(self) -> None:
        while True:
            self._queue.get()()

    def find(self, task_id: str | None, kind: type[T]) -> T | None:
        """A task by its id, as long as it is remembered and of this kind."""
        found = self._tasks.get(task_id or "")
        return found if isinstance(found, kind) else None

    def running(self, kind: type[T], fits: Callable[[T], bool]) -> T | None:
        """A task of this kind that `fits` and has not ended: whoever wants the same waits for it."""
        return next((task for task in self.all() if isinstance(task, kind) and task.running and fits(task)), None)

    def saving(self) -> bool:
        """Whether something runs whose results would be lost if the program ended now."""
        return any(task.keeps_what_is_done and task.running for task in self.all())

    def end(self, seconds: float) -> None:
        """Stop everything, as when the program is told to end, and wait at most `seconds` for what saves what it has done."""
        deadline = time.monotonic() + seconds
        for task in self.all():
            task.stop()
        for task in self.all():
            if task.keeps_what_is_done:
                task.wait(max(0.0, deadline - time.monotonic()))

    def all(self) -> tuple[Task[Any], ...]:
        """Every remembered task, oldest first."""
        with self._guard:
            return tuple(self._tasks.values())


def _plainly(error: BaseException, doing: str) -> str:
    return f"{doing} failed unexpectedly: {type(error).__name__}: {error}"


def in_line(before: int) -> str:
    """Where work stands that waits for the model; "" where it does not wait."""
    return "" if not before else f"waiting for the model: {before} {'is' if before == 1 else 'are'} before you"


def _run(future: Future[R], task: Task[R], work: Callable[[], R], unforeseen: Callable[[BaseException, str], str]) -> None:
    """Do the work and keep its result or error in the future, whatever it raises."""
    future.set_running_or_notify_cancel()
    try:
        future.set_result(_do(task, work, unforeseen))
    except BaseException as error:  # noqa: BLE001  # a thread that serves others goes on; who asks for the result is told
        future.set_exception(_alone(error))


def _alone(error: BaseException) -> BaseException:
    """`error` and its causes without their frames, which would keep a run's tensors for as long as the task is remembered."""
    one: BaseException | None = error
    for _ in range(20):
        if one is None:
            break
        one.__traceback__ = None
        one = one.__cause__ or one.__context__
    return error


def _do(task: Task[R], work: Callable[[], R], unforeseen: Callable[[BaseException, str], str]) -> R:
    try:
        with told_while_waiting(task.wait_in_line):
            return work()
    except NeuronscopeError:
        raise
    except Exception as error:
        _log.exception("%s failed", task.what)
        raise NeuronscopeError(unforeseen(error, task.what)) from error
    finally:
        task._ended = time.monotonic()
