"""Deleting what the user made, and bringing back what was deleted last."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import streamlit as st

from neurons.storage.documents import NamedDocuments
from neurons.storage.jobs import JobRunner
from pages.shared import server_wide

Undo = Callable[[], object]


def entry(saved: NamedDocuments, name: str) -> Undo:
    """Delete a saved document; returns what brings it back."""
    return partial(saved.restore, saved.delete(name))


def job(runner: JobRunner, job_id: str) -> Undo:
    """Delete a job that has ended; returns what brings it back."""
    runner.delete(job_id)
    return partial(runner.restore, job_id)


def offer(delete: Callable[[], Undo], *, key: str, label: str = "Delete", place: Any = st, **look: Any) -> None:
    """A button that deletes. `look` goes to the button."""
    if place.button(label, key=f"{key}.delete", **{"icon": ":material/delete:", "help": "It can be brought back", **look}):
        with server_wide.errors_shown():
            st.session_state[f"{key}.undo"] = delete()
            st.rerun()


def offer_undo(*, key: str, **look: Any) -> None:
    """A button that brings back what `offer` of the same key deleted last; nothing while there is nothing."""
    undo: Undo | None = st.session_state.get(f"{key}.undo")
    if undo is not None and st.button("Undo delete", icon=":material/undo:", key=f"{key}.restore", **look):
        with server_wide.errors_shown():
            undo()
            st.session_state.pop(f"{key}.undo")
            st.rerun()
