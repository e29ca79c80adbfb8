"""What a server of many days has to do by itself: let go of closed tabs, and end when it is told to although work goes on."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from streamlit import runtime

from neurons.core.tasks import Tasks

EVERY = 10.0
KEPT_SECONDS = 80.0
"""How long a tab that has gone may come back to what it had: its uploads and tables stay in memory for so long. Streamlit forgets such a
tab after 120 s without closing it, and then nobody can: so it has to be less than that, by more than `EVERY`."""
GRACE = 5.0
"""Seconds that work in progress has to end in, once the server was told to."""
SAVING = 20.0
"""Seconds that answers under way have before that: they are stopped and saved, and a token of a large model takes long."""
WORK: list[Tasks] = []
"""The work that is stopped, and whose results are saved, before the server ends."""
_log = logging.getLogger(__name__)
_started = threading.Lock()
_told = threading.Event()


def start() -> None:
    """Begin, once for each process. The threads are daemons."""
    if not _started.acquire(blocking=False):
        return
    threading.Thread(target=_end_with_the_main_thread, name="neuronscope-end", daemon=True).start()
    threading.Thread(target=_sweep, name="neuronscope-sweep", daemon=True).start()


def _end_with_the_main_thread() -> None:
    """Once the main thread has ended, as on SIGTERM, end the process although threads of pages still compute."""
    threading.main_thread().join()
    time.sleep(GRACE)
    os._exit(0)


def end_in_time() -> None:
    """Have a signal that ends the server save the answers under way, then end it within `GRACE`, whatever it waits for; a second one
    does not wait for answers. To be called where the server has set its own.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        usual = signal.getsignal(number)
        if callable(usual) and usual is not signal.default_int_handler:
            signal.signal(number, _ending(usual))


def _ending(usual: Callable[[int, FrameType | None], Any]) -> Callable[[int, FrameType | None], Any]:
    def end(number: int, frame: FrameType | None) -> Any:
        timer = threading.Timer(GRACE, os._exit, (0,))
        timer.daemon = True
        timer.start()
        return usual(number, frame)

    def save_and_end(number: int) -> None:
        for tasks in WORK:
            tasks.end(SAVING)
        end(number, None)

    def handler(number: int, frame: FrameType | None) -> Any:
        if _told.is_set() or not any(tasks.saving() for tasks in WORK):
            return end(number, frame)
        _told.set()
        return threading.Thread(target=save_and_end, args=(number,), name="neuronscope-save", daemon=True).start()

    return handler


def _sweep() -> None:
    gone: dict[str, float] = {}
    while True:
        time.sleep(EVERY)
        if runtime.exists() and close_gone(gone, time.monotonic()):
            time.sleep(2)  # they are closed by the server's own thread; what they held is in circles
            gc.collect()
            _give_back()


def close_gone(gone: dict[str, float], now: float) -> list[str]:
    """Close the sessions whose tab has gone for `KEPT_SECONDS`; returns their ids. `gone` remembers since when each was seen so.

    Streamlit drops them only when the next tab goes; what an old garbage collection has frozen it never drops.
    """
    server: Any = runtime.get_instance()
    try:
        left = [info.session.id for info in server._session_mgr._session_storage.list()]
        loop = server._async_objs.eventloop
    except AttributeError:  # another version of Streamlit: its own way has to do
        return []
    for name in set(gone) - set(left):
        del gone[name]
    for name in left:
        gone.setdefault(name, now)
    old = [name for name, since in gone.items() if now - since >= KEPT_SECONDS]
    for name in old:
        del gone[name]
        loop.call_soon_threadsafe(_closed, server.close_session, name)
    return old


def _give_back() -> None:
    """Have the C library return what was freed to the machine, where it can be asked to."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _closed(close: Callable[[str], None], name: str) -> None:
    close(name)
    _log.debug("session %s was closed", name)
