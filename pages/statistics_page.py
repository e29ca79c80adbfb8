"""Statistics: a steer over a set of prompts, with and without, counted, with intervals; and every experiment that was kept."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from neurons.core.errors import InvalidInput
from neurons.core.steers import Steer
from neurons.prompts.files import pasted
from neurons.prompts.sets import load_set, saved_sets
from neurons.repair.experiments import experiments, save_statistics
from neurons.runs.steering import parse_steers, positions_note
from neurons.statistics.comparison import FORMAT, ComparisonSpec, from_prompt_set
from neurons.statistics.criteria import Criterion
from neurons.statistics.job import JOB_KIND, spec_from_json, spec_to_json
from neurons.storage.job_files import Job
from pages.shared import (
    address,
    address_state,
    browser_history,
    deleting,
    desk,
    filled,
    in_view,
    job_progress,
    progress_row,
    sampling_settings,
    server_wide,
    steer_state,
    untrusted,
)
from pages.statistics import comparison_result
from pages.steer import sources

_RUN = "stats.run"
_MARK = "stats.mark"
_SOURCE = "stats.source.seen"
_KINDS = {
    "expected": "what its prompt says is expected",
    "none": "nothing",
    "contains": "a text",
    "regex": "a regular expression",
    "equals": "exactly a text",
}


def page() -> None:
    """Draw the page."""
    left, right = st.columns([1, 1.6], gap="medium")
    with left:
        server_wide.loading_notice()
        with server_wide.errors_shown():
            _form()
    with right, server_wide.errors_shown():
        _results()


def _form() -> None:
    text = _prompts()
    steers = _steers()
    kind = st.selectbox("An answer should hold", list(_KINDS), index=2, format_func=_KINDS.__getitem__, key="stats.kind")
    wanted = st.text_input("Text to look for", key="stats.text", placeholder="Ankara", disabled=kind in ("none", "expected"))
    token = st.text_input("Compare the probability of this first token (optional)", key="stats.token", placeholder=" Ankara")
    left, right = st.columns(2)
    sampling = sampling_settings.sampling()
    greedy = sampling.greedy
    seeds = left.number_input(
        "Seeds per prompt", 1, 1000, 1, key="stats.seeds", disabled=greedy, help="Greedy decoding gives the same answer for every seed"
    )
    draws = right.number_input(
        "Random sets", 0, 100, 3, key="stats.random", help="Random neurons matched in number and layer, for comparison"
    )
    with st.popover(sampling_settings.label(), icon=":material/tune:"):
        sampling_settings.draw()
    loaded = server_wide.model()
    if st.button("Compare", type="primary", icon=":material/query_stats:", key="stats.go", width="stretch", disabled=loaded is None):
        criterion = None if kind in ("none", "expected") else Criterion(wanted, kind).check("criterion")  # type: ignore[arg-type]
        found = load_set(text.removeprefix("set:")) if text.startswith("set:") else pasted(text)
        prompts = from_prompt_set(found, criterion)
        if kind == "expected" and not any(prompt.expected for prompt in prompts):
            raise InvalidInput("no prompt of this set says what is expected; choose what an answer should hold", field="criterion")
        if kind == "none":
            prompts = tuple(replace(prompt, expected=None) for prompt in prompts)
        spec = ComparisonSpec(
            prompts=prompts,
            steers=steers,
            criterion=criterion,
            token=token or None,
            seeds=1 if greedy else int(seeds),
            random_sets=int(draws),
            sampling=sampling,
        ).check()
        job = job_progress.start(JOB_KIND, spec_to_json(spec), title=f"{len(spec.prompts)} prompts, {len(steers)} steers")
        st.query_params["job"] = st.session_state[_MARK] = job.id
        st.session_state.pop(_RUN, None)
        st.rerun()


def _prompts() -> str:
    """The prompts, one per line, or "set:" and the name of a saved set."""
    names = list(saved_sets().names())
    desk.still_offered("stats.source", [filled.TYPED, *names])
    source = st.selectbox("Prompts", [filled.TYPED, *names], key="stats.source", help="Sets are uploaded and saved on the Prompts page")
    if source != filled.TYPED:
        found = load_set(source)
        if st.session_state.get(_SOURCE) != source and any(row.expected is not None for row in found.rows):
            st.session_state["stats.kind"] = "expected"
        st.session_state[_SOURCE] = source
        st.caption(untrusted.escape(f"{found.asked}; {found.account}" if found.asked else found.account))
        return f"set:{source}"
    return str(
        st.text_area(
            "One prompt per line",
            key="stats.prompts",
            height=130,
            placeholder="What is the capital of Turkey?\nWhat is the capital of Brazil?",
        )
    )


def _steers() -> tuple[Steer, ...]:
    """The steers of the Steer tab's cards, or saved ones."""
    cards = tuple(s for s in steer_state.steers() if not s.is_noop)
    saved = list(sources.saved_steers().names())
    options = [*([filled.CARDS] if cards else []), *saved]
    if not options:
        st.caption("There is no steer yet: make one in the Steer tab of the Trace page, or find one on the Repair page.")
        return ()
    desk.still_offered("stats.steer", options)
    chosen = st.selectbox("Steer", options, key="stats.steer")
    loaded = server_wide.model()
    from_cards = bool(cards) and chosen == options[0]
    steers = cards if from_cards else parse_steers(sources.saved_steers().load(chosen), ref=loaded.ref if loaded else None)
    if note := positions_note(steers):
        st.caption(untrusted.escape(untrusted.sentence(note)))
    return steers


def _results() -> None:
    """The comparison in the address, else the newest; kept experiments below the running ones."""
    runner = job_progress.runner()
    jobs = {job.id: job for job in runner.list(JOB_KIND)}
    kept = [e.name for e in experiments().list() if e.content["format"] == FORMAT]
    options = [*(f"job:{i}" for i in jobs), *kept]
    asked = address_state.read(address_state.JobState).job
    if asked is not None and asked not in jobs:
        browser_history.unknown("the comparison", asked, "The newest one is shown." if options else "")
    if not options:
        with st.container(border=True):
            st.markdown(
                "**One answer proves nothing.** Run a steer over many prompts: how often the answer is as wanted with it and without it, "
                "whether the difference is more than chance, what random neurons of the same layers do, and whether the text broke."
            )
        deleting.offer_undo(key="stats")
        return
    if asked in jobs and st.session_state.get(f"{_RUN}.seen") != asked:
        st.session_state[f"{_RUN}.seen"], st.session_state[_RUN] = asked, f"job:{asked}"
    if st.session_state.get(_RUN) not in options:
        st.session_state[_RUN] = options[0]
    titles = {f"job:{j.id}": f"{j.title} ({progress_row.ended_text(j)}, {j.created[:16].replace('T', ' ')})" for j in jobs.values()}
    in_view.bring(st.session_state.get(_MARK, ""), key="stats.view")
    chosen = st.selectbox(
        "Comparison", options, key=_RUN, format_func=lambda key: titles.get(key, key), on_change=address.let_go, args=("job",)
    )
    if chosen.startswith("job:"):
        _job(jobs[chosen.removeprefix("job:")])
    else:
        comparison_result.draw(experiments().load(chosen)["rows"])
        deleting.offer(lambda: deleting.entry(experiments(), chosen), key="stats")
    deleting.offer_undo(key="stats")


def _job(job: Job) -> None:
    """One comparison as a job: how far it is, and what came of it."""
    runner = job_progress.runner()
    job_progress.show(job, key=f"stats.job:{job.id}")
    if job.active:
        return
    if rows := runner.rows(job.id):
        comparison_result.draw(rows)
        _keep(job.id)
    deleting.offer(lambda: deleting.job(runner, job.id), key="stats")


def _keep(job_id: str) -> None:
    """Save a finished comparison under a name."""
    runner, loaded = job_progress.runner(), server_wide.model()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.text_input("Keep it as an experiment named", key="stats.name", max_chars=200)
        if (
            st.button("Keep", icon=":material/bookmark_add:", key="stats.keep", disabled=loaded is None or not name.strip())
            and loaded is not None
        ):
            if name in experiments():
                raise InvalidInput(f"there is an experiment {name!r} already; choose another name", field="name")
            save_statistics(name, spec_from_json(runner.get(job_id).params), runner.rows(job_id), loaded.ref)
            st.toast("Kept.", icon=":material/bookmark_added:")
