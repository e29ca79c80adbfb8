"""Models of the Hugging Face hub: found in its cache, or downloaded with progress. Never runs a model's own code."""

from __future__ import annotations

import re
import threading
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurons.core.errors import ModelError
from neurons.core.progress import Progress, no_progress
from neurons.models.weights import weight_files

if TYPE_CHECKING:
    from tqdm.auto import tqdm

_PATTERNS = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model")
_IGNORED = ("onnx/*", "openvino/*", "runs/*", "*/checkpoint-*", "original/*", "gguf/*", "consolidated*")
_SECONDS = 20
_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")


def is_hub_id(spec: str) -> bool:
    """Whether `spec` has the form of a hub id, such as gpt2 or meta-llama/Llama-3.1-8B."""
    return bool(_HUB_ID.match(spec)) and len(spec) <= 140 and ".." not in spec and "--" not in spec


def cached_snapshot(model_id: str) -> Path | None:
    """The model's folder in the hub's cache when it is whole, else None. Never touches the network."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import IncompleteSnapshotError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(model_id, local_files_only=True, allow_patterns=list(_PATTERNS)))
    except IncompleteSnapshotError as error:
        folder = Path(error.snapshot_path)
    except LocalEntryNotFoundError:
        return None
    files = weight_files(folder) if (folder / "config.json").is_file() else []
    return folder if files and all(file.is_file() for file in files) else None


def fetch_snapshot(model_id: str, *, progress: Progress = no_progress, into: Path | None = None) -> Path:
    """Download `model_id` (weights as safetensors where it has them) and return its folder.

    `into` is a folder to fill instead of the hub's cache. A download that was cut off goes on where it stopped.
    Raises `ModelError` that says whether the id is unknown, gated, or the network is down.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HTTPError, OfflineModeIsEnabled, RepositoryNotFoundError  # type: ignore[attr-defined]

    if not is_hub_id(model_id):
        raise ModelError(f"{model_id!r} is not a hub id; write owner/name, such as HuggingFaceTB/SmolLM2-135M-Instruct")
    progress(0, None, f"asking the hub for {model_id}")
    try:
        listed = [file.rfilename for file in HfApi().model_info(model_id, timeout=_SECONDS).siblings or []]
        if "config.json" not in listed:
            raise ModelError(f"{model_id} has no config.json; it is not a transformers model (name a .gguf file of it by its path instead)")
        allowed = [*_PATTERNS] if any(fnmatch(name, "*.safetensors") for name in listed) else [*_PATTERNS, "pytorch_model*.bin"]
        bar = _bar_class(progress)
        return Path(snapshot_download(model_id, allow_patterns=allowed, ignore_patterns=list(_IGNORED), local_dir=into, tqdm_class=bar))
    except GatedRepoError as error:
        raise ModelError(f"{model_id} is gated: accept its terms on its page, then log in with `hf auth login`, and try again") from error
    except RepositoryNotFoundError as error:
        raise ModelError(f"the hub has no model {model_id} (or it is private: log in with `hf auth login`); check the spelling") from error
    except OfflineModeIsEnabled as error:
        raise ModelError(f"{model_id} is not in this machine's cache and HF_HUB_OFFLINE is set; unset it, or name a local model") from error
    except (HTTPError, OSError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(
            f"{model_id} is not in this machine's cache and the hub cannot be reached ({type(error).__name__}); "
            "connect to the network, or name the default, a folder or a .gguf file that is here"
        ) from error


def _bar_class(progress: Progress) -> type[tqdm[Any]]:
    """A tqdm that draws nothing and tells `progress` the bytes fetched so far, over all files."""
    from tqdm.auto import tqdm

    guard = threading.Lock()

    class Bar(tqdm):  # type: ignore[misc, type-arg, unused-ignore]
        def __init__(self, *args: Any, **options: Any) -> None:
            # The hub draws three bars: bytes received, bytes written, files. The second is the one with a total.
            self.shown = options.get("unit") == "B" and not str(options.pop("name", "")).endswith(".transfer")
            super().__init__(*args, **{**options, "disable": True})
            self.fetched, self.size = int(options.get("initial") or 0), options.get("total")

        def update(self, n: float | None = 1) -> bool | None:
            with guard:
                self.fetched += int(n or 0)
                if self.shown:
                    progress(self.fetched, int(self.total or self.size or 0) or None, "downloading from the hub")
            return None

    return Bar
