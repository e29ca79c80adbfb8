"""Loading a model that is known to come out right: checked at its first load, refused with the check's sentence where it does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from neurons.checking.check import ModelCheck, check_model, known_check
from neurons.core.errors import ModelError
from neurons.core.progress import Progress, no_progress
from neurons.models import load as files
from neurons.models.breakage import load_errors
from neurons.models.loaded import LoadedModel


def load_model(
    spec: str = files.DEFAULT, *, device: str | None = None, dtype: str | None = None, progress: Progress = no_progress
) -> LoadedModel:
    """Load `spec`: "default", a hub id, a folder with config.json and weights, or a .gguf file.

    `device`: "cpu", "cuda", "cuda:1", "mps"; None takes a GPU where there is one. `dtype`: "float32", "bfloat16" or "float16";
    None is bfloat16 on CUDA and float32 elsewhere. A model that was never loaded is checked first (a few seconds for the default).
    Raises what `neurons.models.load.load_model` raises, and `ModelError` with the check's sentence for a model that failed it.
    """
    return checked(files.load_model(spec, device=device, dtype=dtype, progress=progress), progress=progress)


def checked(loaded: LoadedModel, *, progress: Progress = no_progress) -> LoadedModel:
    """`loaded`, run as its check found right. Raises `ModelError` where the check failed."""
    with load_errors(loaded.ref.name, Path(loaded.ref.id), loaded.ref.device):
        check = known_check(loaded) or check_model(loaded, progress=progress)
    if check.refusal:
        raise ModelError(
            f"{loaded.ref.name} is not used: {check.refusal}. `neuronscope models check {loaded.ref.id}` lists all that was found"
        )
    return as_checked(loaded, check)


def as_checked(loaded: LoadedModel, check: ModelCheck) -> LoadedModel:
    """`loaded` with what its check found."""
    return replace(loaded, findings=check.findings, running=check.running)
