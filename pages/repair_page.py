"""A wrong answer, the answer that is wanted, and the search for the smallest steer that brings it; what the fix is worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from neurons.core.tasks import Task
from neurons.repair.experiments import experiments
from neurons.repair.job import JOB_KIND, Repaired, best_of, job_params
from neurons.repair.problem import Problem, prepare
from neurons.repair.result import FORMAT
from neurons.repair.spec import RepairSpec, is_fixed
from neurons.storage.job_files import Job
from pages.repair import repair_form, repair_result
from pages.shared import address, address_state, browser_history, deleting, in_view, job_progress, progress_row, server_wide, untrusted

_RUN = "repair.run"
_MARK = "repair.mark"


@dataclass(eq=False, kw_only=True)
class Checking(Task[Problem]):
    """The unsteered model being asked all questions of a repair."""

    spec: RepairSpec


def page() -> None:
    """Draw the page."""
    left, right = st.columns([1, 1.4], gap="medium")
    with left:
        server_wide.loading_notice()
        with server_wide.errors_shown():
            form = repair_form.draw(disabled=server_wide.model() is None)
            if form.spec is not None and form.checked:
                _begin_check(form.spec)
            if form.spec is not None and form.searched:
                _begin_search(form.spec, budget=form.budget, compare=form.compare)
        _unsteered()
    with right, server_wide.errors_shown():
        _results()


def _begin_search(spec: RepairSpec, *, budget: int, compare: bool) -> None:
    taken = set(experiments().names()) | {str(job.params.get("name")) for job in job_progress.runner().list(JOB_KIND)}
    asked = " ".join(spec.prompt.split())
    base = asked if len(asked) <= 60 else f"{asked[:59].rstrip()}…"
    name = next(text for n in range(1, 10_000) if (text := base if n == 1 else f"{base} ({n})") not in taken)
    params = job_params(spec, model="", name=name, budget=budget, compare=compare)
    job = job_progress.start(JOB_KIND, params, title=f"Repair: {name}")
    st.query_params["job"] = st.session_state[_MARK] = job.id
    st.session_state.pop(_RUN, None)
    st.rerun()


def _begin_check(spec: RepairSpec) -> None:
    loaded = server_wide.model()
    if loaded is not None:
        task = Checking(what="asking the unsteered model", spec=spec)
        server_wide.server().start(task, lambda: prepare(loaded, spec, progress=task.progress))
        st.session_state["repair.checking"] = task.id


def _unsteered() -> None:
    """The unsteered answers, once they were asked for."""
    task = server_wide.server().task(st.session_state.get("repair.checking"), Checking)
    if task is None or not progress_row.watch(task, key="repair.checking"):
        return
    with server_wide.errors_shown():
        spec, problem = task.spec, task.result()
        rows = [
            {"Part": part, "Right": is_fixed(spec, q.answer) if part != "control" else None, "Prompt": q.prompt, "Answer": q.answer}
            for part, group in (("searched with", problem.train), ("held out", problem.heldout), ("control", problem.controls))
            for q in group
        ]
        st.dataframe(pd.DataFrame(rows), hide_index=True, key="repair.unsteered")
        already = sum(row["Right"] is True for row in rows)
        if already:
            st.caption(f"{already} of the wordings are answered right already; they show less of what a fix is worth.")


def _results() -> None:
    """The repair in the address, else the newest."""
    saved = experiments()
    finished = [e.name for e in saved.list() if e.content["format"] == FORMAT]
    jobs = {job.id: job for job in job_progress.runner().list(JOB_KIND)}
    open_jobs = [job for job in jobs.values() if job.state != "done"]
    options = [*(f"job:{job.id}" for job in open_jobs), *sorted(finished, key=lambda n: last_change(saved, n), reverse=True)]
    asked = address_state.read(address_state.JobState).job
    if asked is not None and asked not in jobs:
        browser_history.unknown("the repair", asked, "The newest one is shown." if options else "")
    if not options:
        _first_time()
        deleting.offer_undo(key="repair")
        return
    if asked in jobs and st.session_state.get(f"{_RUN}.seen") != (asked, jobs[asked].state):
        st.session_state[f"{_RUN}.seen"] = (asked, jobs[asked].state)
        done = jobs[asked].outcome(Repaired).experiment if jobs[asked].state == "done" else None
        st.session_state[_RUN] = done if done in options else f"job:{asked}"
    if st.session_state.get(_RUN) not in options:
        st.session_state[_RUN] = options[0]
    titles = {f"job:{job.id}": f"{job.title} ({progress_row.ended_text(job)})" for job in open_jobs}
    in_view.bring(st.session_state.get(_MARK, ""), key="repair.view")
    chosen = st.selectbox(
        "Repair", options, key=_RUN, format_func=lambda key: titles.get(key, key), on_change=address.let_go, args=("job",)
    )
    if chosen.startswith("job:"):
        job = jobs[chosen.removeprefix("job:")]
        _progress(job)
        if not job.active:
            deleting.offer(lambda: deleting.job(job_progress.runner(), job.id), key="repair")
    else:
        repair_result.draw(saved.load(chosen))
        deleting.offer(lambda: deleting.entry(saved, chosen), key="repair")
    deleting.offer_undo(key="repair")


def last_change(saved: Any, name: str) -> str:
    """When an experiment was saved."""
    return next((e.changed for e in saved.list() if e.name == name), "")


def _progress(job: Job) -> None:
    job_progress.show(job, key=f"repair.{job.id}")
    if job.active:
        _best_so_far(job.id)
    else:
        _best(job.id)


@st.fragment(run_every=1.5)
def _best_so_far(job_id: str) -> None:
    _best(job_id)


def _best(job_id: str) -> None:
    """The best steer so far, usable at any time."""
    best = best_of(job_progress.runner().rows(job_id))
    if best is None:
        st.caption("The best steer so far will stand here. Checking it on the held-out wordings comes last.")
        return
    said = (
        f"Best so far, after round {best.round} and {best.passes:,} forward passes: {best.neurons} neurons turn {best.turned} of "
        f"{best.questions} wordings, {best.unchanged} of {best.controls} controls unchanged."
    )
    untrusted.draw([(said, "strong")], key="repair.best")
    repair_result.offer(best.steers, key="repair.best.use")


def _first_time() -> None:
    with st.container(border=True):
        st.markdown(
            "**Find the few neurons behind a wrong answer.** Give a question that the model answers wrong, the answer you want and some "
            "other wordings. The search looks for the smallest steer that brings the wanted answer and leaves other questions alone, "
            "then tells how many wordings it never saw are fixed as well."
        )
        if st.button("Try it: the capital of Turkey", icon=":material/play_arrow:", key="repair.example"):
            example = {"prompt": "What is the capital of Turkey?", "wanted": "Ankara", "unwanted": "Istanbul"}
            for name, value in example.items():
                st.query_params[name] = value
            st.session_state["repair.propose"] = True
            st.rerun()
