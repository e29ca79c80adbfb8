"""Finding the neurons of every named concept in the loaded model: what is known, and the job that looks for them."""

from __future__ import annotations

import streamlit as st

from neurons.core.errors import InvalidFile
from neurons.core.types import ModelRef
from neurons.describing import atlas_jobs
from neurons.detectors.store import Detectors
from neurons.storage.job_parameters import JobParameters
from pages.concepts import named_list
from pages.shared import job_progress, server_wide, untrusted


def draw() -> None:
    """What is known of the loaded model, the newest job, and a button for another."""
    loaded = server_wide.model()
    if loaded is None:
        st.caption("The model is still loading.")
        return
    made = named_list.detectors()
    said, current = standing(loaded.ref, made)
    with st.container(border=True):
        untrusted.draw(said, key="concepts.detectors.said", size="0.9rem")
        jobs = atlas_jobs.jobs_of(job_progress.runner(), loaded.ref, atlas_jobs.FIND)
        if jobs and (jobs[0].active or not current):
            job_progress.show(jobs[0], key="concepts.detectors")
        if jobs and jobs[0].active:
            st.caption("It goes on when you leave this page. After a stop or an interruption it resumes where it was.")
            return
        if st.button(
            "Find each concept's neurons",
            icon=":material/troubleshoot:",
            type="secondary" if current else "primary",
            key="concepts.detectors.go",
            help="Runs every sentence of the lexicon through the model: minutes on a GPU, a quarter of an hour and more on a small "
            "computer. It can be stopped and resumed. Until it ends, the neurons known so far are used.",
        ):
            with server_wide.errors_shown():
                start(loaded.ref)
                st.rerun()


def standing(ref: ModelRef, made: Detectors | None) -> tuple[str, bool]:
    """What is known of this model's named concepts, in a sentence or two; and whether that is of the lexicon as it is now."""
    if made is None:
        return f"Which neurons of {ref.name} mean the named concepts is not known yet.", False
    known = f"{ref.name}: the neurons of {int(made.found.sum()):,} of {len(made):,} named concepts are known"
    if note := made.note_for(ref):
        return f"{known}; {note}.", False
    try:
        lexicon = named_list.lexicon()
    except InvalidFile:
        return f"{known}.", True
    if made.lexicon == lexicon.fingerprint:
        return f"{known}.", True
    new = len({concept.key for concept in lexicon.concepts} - set(made.keys))
    gone = len(set(made.keys) - {concept.key for concept in lexicon.concepts})
    parts = [f"{count} {what}" for count, what in ((new, "added"), (gone, "removed")) if count]
    changes = " and ".join(parts) or "texts changed"
    return f"{known}. The lexicon was changed since ({changes}): find the neurons again, so that the changes count.", False


def start(ref: ModelRef) -> None:
    """Queue the job. Raises `InvalidInput` while the model loads or another job works on this model, `InvalidFile` for a bad lexicon."""
    named_list.lexicon()
    runner = job_progress.runner()
    atlas_jobs.check_free(runner, ref)
    for job in atlas_jobs.jobs_of(runner, ref, atlas_jobs.FIND):
        runner.delete(job.id)
    job_progress.start(atlas_jobs.FIND, JobParameters().to_json(), title=f"Neurons of the named concepts in {ref.name}")
