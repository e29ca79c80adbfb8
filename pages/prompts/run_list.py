"""Prompt sets as background jobs of this server: starting one, what came of it as a table, and its summary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from neurons.core.clock import now
from neurons.core.errors import InvalidInput, NeuronscopeError
from neurons.core.percent import column_share, percent
from neurons.core.steers import Steer
from neurons.core.types import Sampling
from neurons.prompts import runs
from neurons.prompts.sets import PromptSet, from_json
from neurons.statistics.outcomes import judged, tally
from neurons.storage.job_files import Job
from pages.shared import address, job_progress, server_wide
from pages.shared.kept import kept
from pages.shared.tables import choose_rows, downloads, matching

_HEIGHT = 420


def start(prompts: PromptSet, *, run: str, sampling: Sampling, steers: Sequence[Steer], system: str | None, record: bool) -> Job:
    """Queue a run with the shared model. Raises `InvalidInput`."""
    loaded = server_wide.model()
    if loaded is None:
        raise InvalidInput("the model is still loading; try again in a moment")
    if run.strip() in runs.run_names(server_wide.store()):
        raise InvalidInput(f"there is a run named {run.strip()!r} already; choose another name", field="run")
    return runs.start(
        job_progress.runner(),
        prompts,
        runs.RunParameters(
            run=run, model=loaded.ref.id, weights=loaded.ref.weights_hash, sampling=sampling, system=system or None, record=record
        ),
        steers,
    )


def free_name(stem: str) -> str:
    """A run's name that is not taken: the stem and the time."""
    return f"{stem[:60] or 'prompts'} {now()[:16].replace('T', ' ')}"


def job_of(run: str) -> Job | None:
    """The newest job of a run, if it is remembered."""
    return next((job for job in job_progress.runner().list(runs.KIND) if job.params.get("run") == run), None)


@st.cache_data(show_spinner="Reading the answers", max_entries=8)
def _results(root: str, run: str, ids: tuple[str, ...]) -> pd.DataFrame:
    """`ids` are part of the key: the table changes when traces come or go."""
    return runs.results(server_wide.store(), run)


def results(run: str) -> pd.DataFrame:
    """One row per prompt, see `prompt_runs.results`."""
    store = server_wide.store()
    return _results(store.root.as_posix(), run, tuple(row.id for row in store.list(set_name=run)))


@kept()
def _asked(root: str, job_id: str) -> PromptSet:
    """The prompts of a job, which never change. Raises `NotFound`, `StoreError`."""
    return from_json(job_progress.runner().payload(job_id))


def _with_expected(frame: pd.DataFrame, run: str) -> pd.DataFrame:
    """The results with what their prompts say is expected, where the run's prompts are still known and say so."""
    job = job_of(run)
    if job is None:
        return frame
    try:
        return judged(frame, _asked(server_wide.store().root.as_posix(), job.id))
    except NeuronscopeError:  # the prompts were deleted or damaged: the answers stand all the same
        return frame


def draw_results(run: str, *, key: str) -> None:
    """Summary, filters, table, and what can be done with a row."""
    frame = _with_expected(results(run), run)
    if frame.empty:
        st.caption("No answers yet. They appear here as they come; press Refresh, or wait for the end.")
        st.button("Refresh", icon=":material/refresh:", key=f"{key}.refresh")
        return
    paired = "differs" in frame.columns
    st.markdown(_summary(frame, paired=paired))
    counted = tally(frame)
    if counted is not None:
        st.markdown(f"**As expected:** {counted.sentence}")
    left, middle, right = st.columns([2.6, 1.4, 1.2], vertical_alignment="bottom")
    words = left.text_input("Search", key=f"{key}.words", placeholder="words in prompt or answers", icon=":material/search:")
    shown = matching(frame, words, [name for name in ("prompt", "answer", "steered_answer", "name") if name in frame])
    if paired and middle.toggle("Only rows that differ", key=f"{key}.differ"):
        shown = shown[shown["differs"].fillna(False).astype(bool)]
    right.button("Refresh", icon=":material/refresh:", key=f"{key}.refresh", width="stretch")
    picked = choose_rows(
        _cut(shown), key=f"{key}.table", identity=list(shown["trace"]), columns=_columns(shown, paired=paired), height=_HEIGHT
    )
    with st.container(horizontal=True):
        row = shown.iloc[picked[0]] if picked else None
        if st.button("Open", icon=":material/open_in_new:", disabled=row is None, key=f"{key}.open") and row is not None:
            address.go("trace", trace=str(row["trace"]))
        both = paired and row is not None and isinstance(row["steered"], str)
        if paired and st.button("Compare", icon=":material/compare:", disabled=not both, key=f"{key}.compare") and row is not None:
            address.go("compare", a=str(row["trace"]), b=str(row["steered"]))
        downloads(frame, f"prompts-{run}"[:80], key=f"{key}.file")


def _summary(frame: pd.DataFrame, *, paired: bool) -> str:
    """One sentence of numbers."""
    cut = int((frame["ended"] == "length").sum())
    said = f"**{len(frame):,} prompt{'' if len(frame) == 1 else 's'} answered**"
    said += f", {cut:,} cut at the token limit" if cut else ""
    if not paired:
        return f"{said}."
    pairs = frame[frame["steered"].notna()]
    differ = int(pairs["differs"].astype(bool).sum())
    share = differ / len(pairs) if len(pairs) else 0.0
    mean = float(pairs["changed_words"].mean()) if len(pairs) else 0.0
    changed = f"**{differ:,} of {len(pairs):,} answers change ({percent(share)})** with the steers"
    return f"{said}. {changed}; on average {percent(mean)} of the words."


def _cut(frame: pd.DataFrame) -> pd.DataFrame:
    """Texts short enough for a cell."""
    texts = [name for name in ("prompt", "answer", "steered_answer") if name in frame]
    if "changed_words" in frame:
        frame = frame.assign(changed_words=frame["changed_words"].astype(float).map(column_share))
    return frame.assign(
        **{name: frame[name].map(lambda text: " ".join(str(text).split())[:200] if isinstance(text, str) else "") for name in texts}
    )


def _columns(frame: pd.DataFrame, *, paired: bool) -> dict[str, Any]:
    columns: dict[str, Any] = {"row": st.column_config.NumberColumn("Row", width=45, help="Its place in the file")}
    if paired:
        columns["differs"] = st.column_config.CheckboxColumn("Differs", width=55, help="Whether the two answers have different tokens")
        columns["changed_words"] = st.column_config.NumberColumn(
            "Changed", format="percent", width=65, help="Share of the words of both answers that are not in common"
        )
    if frame["name"].map(bool).any():
        columns["name"] = st.column_config.TextColumn("Id", width=60)
    if "outcome" in frame:
        columns["outcome"] = st.column_config.TextColumn(
            "Outcome",
            width=65,
            help="Did the expected answer come, without and with the steers? Fixed, broken, right or wrong both times",
        )
    elif "right" in frame:
        columns["right"] = st.column_config.CheckboxColumn("Right", width=50, help="The answer holds what is expected")
    columns["prompt"] = st.column_config.TextColumn("Prompt", width=180)
    if "expected" in frame:
        columns["expected"] = st.column_config.TextColumn("Expected", width=90)
    columns["answer"] = st.column_config.TextColumn("Unsteered" if paired else "Answer", width=200 if paired else 380)
    if paired:
        columns["steered_answer"] = st.column_config.TextColumn("Steered", width=200)
    columns["ended"] = st.column_config.TextColumn("Ended", width=70, help="stop: the model ended it; length: cut at the token limit")
    return columns
