"""Many prompts at once: from a file or pasted, run in the background, each answer a trace of a named set."""

from __future__ import annotations

import streamlit as st

from neurons.prompts.runs import run_names
from neurons.prompts.sets import PromptSet, save_set
from pages.prompts import prompt_input, run_list
from pages.shared import address_state, browser_history, deleting, in_view, job_progress, sampling_settings, server_wide, steer_state

_RUN = "prompts.run"
_MARK = "prompts.run.mark"


class RunState(address_state.PageState):
    """The run whose answers are shown."""

    run: address_state.Named = None


def page() -> None:
    """Draw the page."""
    with server_wide.errors_shown():
        left, right = st.columns([1, 1.5], gap="medium")
        with left:
            server_wide.loading_notice()
            found = prompt_input.draw()
            deleting.offer_undo(key="prompts.saved")
            if found is not None:
                _start(found)
        with right:
            _runs()


def _start(found: PromptSet) -> None:
    """Name the run, choose what goes with it, begin."""
    stem = found.source.rsplit(".", 1)[0]
    begun = st.session_state.get("prompts.begun", 0)  # each run gets a fresh name
    name = st.text_input("Name of the run", value=run_list.free_name(stem), key=f"prompts.name.{stem}.{begun}", max_chars=200)
    cards = [steer for steer in steer_state.steers() if not steer.is_noop]
    count = len(cards)
    paired = st.toggle(
        f"Also steered, with the {count} steer{'' if count == 1 else 's'} of the Steer tab",
        key="prompts.paired",
        disabled=not cards,
        help="Each prompt is answered twice, without and with the steers"
        if cards
        else "Make steers in the Steer tab of the Trace page first",
    )
    record = st.toggle(
        "Keep activations", value=True, key="prompts.record", help="Without them the traces are small; they can be computed again"
    )
    with st.popover(sampling_settings.label(), icon=":material/tune:"):
        sampling_settings.draw()
    run, save = st.columns(2)
    if run.button("Run", type="primary", icon=":material/play_arrow:", key="prompts.go", width="stretch", disabled=not found.rows):
        with server_wide.errors_shown():
            steers = cards if paired else []
            run_list.start(
                found,
                run=name,
                sampling=sampling_settings.sampling(),
                steers=steers,
                system=sampling_settings.system_prompt(),
                record=record,
            )
            st.session_state["prompts.begun"] = begun + 1
            st.session_state[_MARK] = f"{begun + 1}"
            _show(name.strip())
    if save.button("Save the set", icon=":material/bookmark_add:", key="prompts.save", width="stretch", disabled=not found.rows):
        with server_wide.errors_shown():
            save_set(name, found, replace=False)
            st.toast("The set is saved; find it under Saved set.", icon=":material/bookmark_added:")


def _runs() -> None:
    """The run in the address, else the newest: its progress and its answers."""
    jobs = [str(job.params.get("run")) for job in job_progress.runner().list("prompts")]
    names = list(dict.fromkeys([*jobs, *reversed(run_names(server_wide.store()))]))
    if not names:
        with st.container(border=True):
            st.markdown(
                "**No prompts have been run yet.** Upload a file at the left, or paste some lines: each prompt is answered in the "
                "background, while you go on working, and its answer becomes a trace. What cannot be read is listed by row."
            )
        return
    asked = address_state.read(RunState).run
    if asked is not None and asked not in names:
        browser_history.unknown("the run", asked, "The newest one is shown.")
    if asked in names and (st.session_state.get(_RUN) not in names or st.session_state.get(f"{_RUN}.seen") != asked):
        st.session_state[_RUN] = st.session_state[f"{_RUN}.seen"] = asked
    if st.session_state.get(_RUN) not in names:
        st.session_state[_RUN] = names[0]
    in_view.bring(st.session_state.get(_MARK, ""), key="prompts.view")
    chosen = st.selectbox("Run", names, key=_RUN)
    if chosen != asked:
        _show(chosen, rerun=False)
    job = run_list.job_of(chosen)
    if job is not None:
        job_progress.show(job, key=f"prompts.{job.id}")
    run_list.draw_results(chosen, key="prompts.results")


def _show(run: str, *, rerun: bool = True) -> None:
    st.query_params["run"] = st.session_state[f"{_RUN}.seen"] = run
    if rerun:
        st.session_state.pop(_RUN, None)
        st.session_state.pop(f"{_RUN}.seen", None)
        st.rerun()
