"""The one row that shows work in the background, of whatever kind: how far it is, how long it takes, a stop; and how it ended.

It is drawn from a `Standing` alone, which says the state in one place for everything on the page.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from neurons.core.progress import Standing
from neurons.core.tasks import Task
from pages.shared import untrusted

Body = Callable[[], None]
_LOOK_EVERY = 0.6
_STATES = {
    "queued": "waiting for its turn",
    "running": "running",
    "done": "done",
    "failed": "failed",
    "cancelled": "stopped",
    "interrupted": "interrupted by a restart",
}


def state_text(now: Standing) -> str:
    """Where work stands, in a few words of our own."""
    counted = f", {now.done:,} of {now.total:,}" if now.total else ""
    failed = f", {now.errors} failed" if now.errors else ""
    return f"{'stopping' if now.stopping else _STATES[now.state]}{counted}{failed}"


def ended_text(now: Standing) -> str:
    """How work ended, for a list that is drawn beside the row; of what goes on only that it does, since its row alone keeps up with it."""
    return "in progress" if now.active else state_text(now)


def time_text(seconds: float) -> str:
    """Seconds as people say them: "40 s", "3 min", "2 h 5 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def watch(task: Task[Any], *, key: str, stop: bool = True, body: Body | None = None, on_end: Body | None = None) -> bool:
    """Draw a running task's row (and `body` below it, which may show what is there so far). True once it has ended.

    When it ends, `on_end` is called and the whole page runs again.
    """
    if task.running:
        live(task.standing, task.stop if stop else None, key=key, body=body, on_end=on_end)
        return False
    return True


@st.fragment(run_every=_LOOK_EVERY)
def live(
    look: Callable[[], Standing],
    stop: Callable[[], None] | None,
    *,
    key: str,
    body: Body | None = None,
    on_end: Body | None = None,
    stop_help: str | None = None,
) -> None:
    """The row of work that goes on; it looks again by itself. Without `stop` it has no button."""
    now = look()
    if not now.active:
        if on_end is not None:
            on_end()
        st.rerun()
    left, right = st.columns([5, 1], vertical_alignment="center")
    eta = f", about {time_text(now.eta_seconds)} left" if now.eta_seconds is not None else ""
    left.progress(now.fraction, text=f"{untrusted.escape(untrusted.sentence(now.title))}: {state_text(now)}{eta}")
    message = untrusted.escape(now.message)
    left.caption(f"{message} · {time_text(now.seconds)} so far" if message else f"{time_text(now.seconds)} so far")
    if stop is not None:
        right.button(
            "Stop",
            icon=":material/stop_circle:",
            key=f"{key}.stop",
            on_click=stop,
            disabled=now.stopping,
            width="stretch",
            help=stop_help,
        )
    if body is not None:
        body()


def ended(now: Standing, *, key: str) -> None:
    """The row of work that has ended: how, in which time, and why it failed."""
    said = f": {now.message}" if now.state == "failed" else ""
    tone: untrusted.Kind = "negative" if now.state == "failed" else ""
    parts: list[untrusted.Part] = [
        (now.title, "strong"),
        (f"  {state_text(now)} in {time_text(now.seconds)}", "muted"),
        (said, tone),
    ]
    untrusted.draw(parts, key=f"{key}.ended")
