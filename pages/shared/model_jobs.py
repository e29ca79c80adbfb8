"""Repairs and comparisons as jobs of this server, with the shared model."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from neurons.core.errors import InvalidInput, ModelError
from neurons.core.progress import Progress
from neurons.models.loaded import LoadedModel
from neurons.repair import job as repair_job
from neurons.statistics import comparison
from neurons.storage.job_files import Job
from neurons.storage.jobs import JobRunner
from pages.shared import job_progress, server_wide


def runner() -> JobRunner:
    """The server's job runner, able to repair and to compare."""
    jobs, shared = job_progress.runner(), shared_model(server_wide.server())
    jobs.register(repair_job.JOB_KIND, repair_job.job_worker(shared))
    jobs.register(comparison.JOB_KIND, comparison.job_worker(shared))
    return jobs


def shared_model(server: server_wide.Server) -> Callable[[Mapping[str, Any], Progress], LoadedModel]:
    """How a job gets the server's model: it waits while that loads, and refuses another one than the job was started with."""

    def shared(params: Mapping[str, Any], progress: Progress) -> LoadedModel:
        while (loaded := server.loaded) is None:
            loading = server.loading
            if loading is not None and not loading.running and server.loaded is None:
                raise ModelError(f"the model could not be loaded: {loading.error()}; load one on the Models page and resume")
            progress(0, None, "waiting for the model")
            time.sleep(0.2)
        # Repairs and comparisons name the weights in "model", prompt runs in "weights".
        loaded.require(str(params["weights"] if "weights" in params else params.get("model", "")), "this job")
        return loaded

    return shared


def start(kind: str, params: Mapping[str, Any], *, title: str) -> Job:
    """Queue a job for the shared model. Raises `InvalidInput` while that loads."""
    loaded = server_wide.model()
    if loaded is None:
        raise InvalidInput("the model is still loading; try again in a moment")
    return runner().start(kind, {**params, "model": loaded.ref.weights_hash}, title=title)
