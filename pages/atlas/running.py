"""The jobs on the loaded model's atlas: starting one, finding the newest."""

from __future__ import annotations

from neurons.core.types import ModelRef
from neurons.describing import atlas_jobs
from neurons.storage.job_files import Job
from neurons.storage.job_parameters import JobParameters
from pages.shared import job_progress, server_wide


def start(kind: str, params: JobParameters, *, title: str) -> Job:
    """Queue a job for the shared model. Raises `InvalidInput` while that loads, or while one of its kind works on this model's atlas."""
    loaded = server_wide.model()
    if loaded is not None and kind in atlas_jobs.WRITING:
        atlas_jobs.check_free(job_progress.runner(), loaded.ref)
    return job_progress.start(kind, params.to_json(), title=title)


def jobs_of(ref: ModelRef, *kinds: str) -> list[Job]:
    """This model's jobs of these kinds, newest first."""
    return atlas_jobs.jobs_of(job_progress.runner(), ref, *kinds)
