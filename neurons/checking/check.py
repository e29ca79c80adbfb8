"""The check at first load: done once for the weights, the files beside them and this version of transformers, and kept on disk."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import transformers
from pydantic import TypeAdapter, ValidationError

from neurons.checking.chat import check_chat, check_vocabulary
from neurons.checking.loop import check_loop
from neurons.checking.methods import check_methods
from neurons.checking.writes import check_tokens, check_writes
from neurons.core.errors import ModelError
from neurons.core.home import subfolder
from neurons.core.progress import Progress, no_progress
from neurons.models.findings import Finding, Running
from neurons.models.load import DEFAULT, load_model
from neurons.models.loaded import LoadedModel
from neurons.storage.files import write_atomic

VERSION = 2
"""Of what the check asks; a change has every model checked anew."""


@dataclass(frozen=True)
class ModelCheck:
    """What the check of one model found."""

    version: int
    key: str
    """Names the weights, the files beside them, the version of transformers, the data type and the kind of device."""
    name: str
    weights_hash: str
    transformers: str
    dtype: str
    device: str
    findings: tuple[Finding, ...]
    """Everything asked, in order."""
    running: Running
    """How the model has to be run."""
    seconds: float

    @property
    def refusal(self) -> str:
        """Why the model is not usable here; "" where it is."""
        return next((finding.said for finding in self.findings if finding.status == "refused"), "")


_CHECKS = TypeAdapter(ModelCheck)


def check_model(loaded: LoadedModel, *, progress: Progress = no_progress) -> ModelCheck:
    """Check a loaded model, whatever is kept of an earlier check, and keep what is found. `progress` may raise `Cancelled`."""
    start = time.perf_counter()
    running = Running()
    findings = [*loaded.findings, check_vocabulary(loaded)]
    if not _refused(findings):
        running, found = check_loop(loaded, progress)
        findings += found
    steps = (check_tokens, check_writes)
    for step in steps:
        if not _refused(findings):
            findings.append(step(replace(loaded, running=running), progress))
    if not _refused(findings):
        running, found = check_methods(loaded, running, progress)
        findings += found
    if not _refused(findings):
        findings += check_chat(loaded, progress)
    ref = loaded.ref
    check = ModelCheck(
        VERSION,
        check_key(loaded),
        ref.name,
        ref.weights_hash,
        transformers.__version__,
        ref.dtype,
        loaded.device.type,
        tuple(findings),
        running,
        time.perf_counter() - start,
    )
    place = _place(loaded, check.key)
    place.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(place, _CHECKS.dump_json(check, indent=1))
    return check


def check_spec(
    spec: str, *, device: str | None = None, dtype: str | None = None, again: bool = False, progress: Progress = no_progress
) -> ModelCheck:
    """The check of the model that `spec` names, done now where it never was (or `again`). Files that cannot be loaded are a finding too.

    Raises `InvalidInput` for a bad argument or a damaged GGUF file.
    """
    try:
        loaded = load_model(spec, device=device, dtype=dtype, progress=progress)
    except ModelError as error:
        return ModelCheck(
            VERSION, "", spec, "", transformers.__version__, "", "", (Finding("weights", "refused", str(error)),), Running(), seconds=0.0
        )
    return (None if again else known_check(loaded)) or check_model(loaded, progress=progress)


def known_check(loaded: LoadedModel) -> ModelCheck | None:
    """What an earlier check of this model found, or None: never checked, or by another version."""
    path = _place(loaded, check_key(loaded))
    try:
        check: ModelCheck = _CHECKS.validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
    return check if check.version == VERSION else None


def check_key(loaded: LoadedModel) -> str:
    """Names everything that the findings rest on."""
    config, tokenizer = loaded.model.config, loaded.tokenizer
    generation = loaded.model.generation_config
    parts = [
        loaded.ref.weights_hash,
        transformers.__version__,
        loaded.ref.dtype,
        loaded.device.type,
        config.to_json_string(use_diff=False),
        generation.to_json_string(use_diff=False) if generation else "",
        str(tokenizer.chat_template),
        type(tokenizer).__name__,
        str(sorted((token_id, str(token)) for token_id, token in tokenizer.added_tokens_decoder.items())),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _place(loaded: LoadedModel, key: str) -> Path:
    """The default model's check lies with it; other folders are their owners'."""
    folder = subfolder("models") / DEFAULT if loaded.ref.id == DEFAULT else subfolder("settings")
    return folder / "checks" / f"{key[:32]}.json"


def _refused(findings: Sequence[Finding]) -> bool:
    return any(finding.status == "refused" for finding in findings)
