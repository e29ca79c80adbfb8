"""Work on one neuron in the background: started once for all browsers, and kept.

A session that goes on to another neuron stops what it had started for the one before; coming back starts it again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from neurons.core.errors import Cancelled
from neurons.core.home import home
from neurons.core.tasks import R, Task
from pages.shared import server_wide

_MINE = "neurons.tasks"


@dataclass(eq=False, kw_only=True)
class NeuronTask(Task[R]):
    """Work on one neuron."""

    live: list[tuple[int, NDArray[np.float32]]] = field(default_factory=list)
    """What it has read so far: the rank of an exemplar and the activations at its tokens."""
    left: bool = False
    """It was stopped because its browser went on to another neuron."""


@dataclass(eq=False)
class _Place:
    """Where the task of one key is kept, with its result."""

    guard: threading.Lock = field(default_factory=threading.Lock)
    task: NeuronTask[Any] | None = None


@st.cache_resource(show_spinner=False, max_entries=256)
def _place(home_folder: str, key: tuple[str, ...]) -> _Place:
    return _Place()


def peek(key: tuple[str, ...]) -> NeuronTask[Any] | None:
    """The task of a key, if it was started."""
    return _place(str(home()), key).task


def ensure(key: tuple[str, ...], what: str, work: Callable[[NeuronTask[R]], R], *, again: bool = False) -> NeuronTask[R]:
    """The task of a key, started when there is none (or it was stopped because its browser left; or `again`)."""
    place = _place(str(home()), key)
    with place.guard:
        task: NeuronTask[R] | None = place.task
        if task is None or (not task.running and (again or task.left)):
            task = place.task = NeuronTask(what=what)
            server_wide.server().start(task, partial(work, task))
            st.session_state.setdefault(_MINE, []).append((key, task.id))
    return task


def leave(keep: str) -> None:
    """Stop what this session still has running for anything but the neuron named `keep`."""
    still = []
    for key, task_id in st.session_state.get(_MINE, ()):
        task = server_wide.server().task(task_id, NeuronTask)
        if task is None or not task.running:
            continue
        if keep in key:
            still.append((key, task_id))
        else:
            task.left = True
            task.stop()
    st.session_state[_MINE] = still


def ended(task: NeuronTask[Any], *, key: str, retry: Callable[[], Any]) -> bool:
    """Whether an ended task has its result; else why not, and a button that calls `retry`."""
    error = task.error()
    if error is None:
        return True
    if isinstance(error, Cancelled):
        st.caption("Stopped before it was complete.")
    else:
        server_wide.show_error(error)
    if st.button("Start again", icon=":material/refresh:", key=f"{key}.again"):
        retry()
        st.rerun()
    return False
