"""Load a model: the embedded default, a hub id, a local folder or a GGUF file. Never runs a model's own code.

Knows sources, devices and data types. Does not know neurons (sites.py) or text (chat.py).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import psutil

from neurons.core.errors import InvalidFile, InvalidInput, ModelError
from neurons.core.home import subfolder
from neurons.core.progress import Progress, no_progress
from neurons.models import adapters, default, plausible
from neurons.models.breakage import load_errors, reading
from neurons.models.gguf import GGUFHeader, read_gguf_header
from neurons.models.hub import cached_snapshot, fetch_snapshot, is_hub_id
from neurons.models.recent import remember
from neurons.models.weights import DTYPE_BYTES, parameter_count, predicted_bytes, read_json, weight_files, weights_hash
from neurons.storage.files import check_source

if TYPE_CHECKING:
    from neurons.models.loaded import LoadedModel

DEFAULT = "default"
SourceKind = Literal["default", "hub", "folder", "gguf", "adapter"]
_SHORT_DTYPES = {"fp32": "float32", "f32": "float32", "bf16": "bfloat16", "fp16": "float16", "half": "float16"}
_LONGEST_SPEC = 2000
_CAUSAL_ENDINGS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")


@dataclass(frozen=True)
class Source:
    """Where a model's files are, after fetching."""

    spec: str
    """What the user typed, a path made absolute."""
    kind: SourceKind
    path: Path
    """The folder, or the GGUF file."""
    name: str
    """What to call it on a page."""
    base: Source | None = None
    """What an adapter is merged into."""

    @property
    def files(self) -> list[Path]:
        """The weight files; of an adapter, its base's."""
        if self.base is not None:
            return self.base.files
        return [self.path] if self.kind == "gguf" else weight_files(self.path)

    @property
    def whole(self) -> Source:
        """What has the configuration and the architecture: an adapter's base, else itself."""
        return self.base or self

    def weights_hash(self, progress: Progress = no_progress) -> str:
        """SHA-256 that says which weights these are, hex; of an adapter, which base with which adapter."""
        digest = weights_hash(self.files, progress=progress)
        return digest if self.base is None else adapters.read_adapter(self.path).digest(digest, progress)


def load_model(
    spec: str = DEFAULT, *, device: str | None = None, dtype: str | None = None, progress: Progress = no_progress
) -> LoadedModel:
    """Load `spec`: "default", a hub id, a folder with config.json and weights, or a .gguf file.

    Its files are held against what transformers made of them; `neurons.checking.load` also runs it to see that it comes out right.

    `device`: "cpu", "cuda", "cuda:1", "mps"; None takes a GPU where there is one. `dtype`: "float32", "bfloat16" or "float16";
    None is bfloat16 on CUDA and float32 elsewhere (bfloat16 is ten times slower on CPUs without instructions for it).

    Raises `InvalidInput` for a bad argument, `InvalidFile` for a damaged GGUF file, `UnsupportedModel` where no neurons are
    found, and `ModelError` otherwise: unknown id, no network, not a causal language model, too large for the memory, tensors that
    are missing, of another shape or left unread.
    """
    chosen_device = pick_device(device)
    chosen_dtype = pick_dtype(dtype, chosen_device)
    source = find_source(spec, progress=progress)
    with load_errors(source.name, source.path, chosen_device):
        header = read_gguf_header(source.whole.path) if source.whole.kind == "gguf" else None
        check_numbers(source.whole, header)
        _check_memory(source, header, chosen_dtype, chosen_device)
        progress(0, 3, f"loading {source.name}: libraries")
        loaded = _load(source, header, chosen_device, chosen_dtype, progress)
    if source.kind in ("folder", "gguf", "adapter"):
        remember(source.spec)
    progress(3, 3, f"{source.name} is ready")
    return loaded


def find_source(spec: str, *, progress: Progress = no_progress, fetch: bool = True) -> Source:
    """Find the files of `spec`, downloading them where `fetch` allows. Raises `ModelError` that names the fix."""
    spec = spec.strip()
    if spec in ("", DEFAULT):
        folder = default.default_folder(progress=progress) if fetch else _cached_default()
        return Source(DEFAULT, "default", folder, default.MODEL_NAME)
    if len(spec) > _LONGEST_SPEC or not spec.isprintable():
        raise ModelError(f"{spec[:60]!r} names no model: it is too long or holds characters that no name has")
    path = Path(os.path.expanduser(spec))
    if spec.lower().endswith(".gguf"):
        return Source(str(path.absolute()), "gguf", path.absolute(), path.stem)
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
        for file in path.iterdir() if is_folder else ():
            check_source(file)
    except OSError as error:  # a part of the path is longer than names may be
        raise ModelError(f"{spec[:60]!r} cannot be looked up: {error.strerror}; check the path") from error
    if is_folder and adapters.is_adapter(path):
        return _adapter_source(path.absolute(), progress)
    if is_folder:
        return Source(str(path.absolute()), "folder", path.absolute(), path.absolute().name)
    if is_file:
        raise InvalidFile(f"{spec} is a file but not a .gguf file; name a model folder, a .gguf file or a hub id", field="model")
    if spec.startswith(("/", ".", "~")) or not is_hub_id(spec):
        raise ModelError(f"there is no model folder {spec}, and it is not a hub id (owner/name); check the path")
    if (cached := cached_snapshot(spec)) is not None:
        return Source(spec, "hub", cached, spec)
    if not fetch:
        raise ModelError(f"{spec} is not in this machine's cache; fetch it with `neuronscope models fetch {spec}`")
    return Source(spec, "hub", fetch_snapshot(spec, progress=progress), spec)


def _adapter_source(folder: Path, progress: Progress) -> Source:
    """The adapter with its base, which has to be on this machine. Raises `ModelError` that asks for the base."""
    adapter = adapters.read_adapter(folder)
    for spec in adapters.base_candidates(adapter):
        try:
            base = find_source(spec, progress=progress, fetch=False)
        except (ModelError, InvalidFile):
            continue
        if base.kind == "adapter":
            raise ModelError(f"{folder.name} is an adapter of {spec}, which is an adapter itself; merge that one with peft first")
        return Source(str(folder), "adapter", folder, f"{folder.name} on {base.name}", base)
    named = f"of {adapter.base}, which is not on this machine" if adapter.base else "that does not name its base"
    raise ModelError(
        f"{folder} is an adapter {named}; fetch the base (`neuronscope models fetch`), or say where it is: "
        f"`neuronscope models check {folder} --base BASE` (kept for every load after that)"
    )


def pick_device(device: str | None) -> str:
    """The device to use. Raises `InvalidInput` for one that this machine does not have."""
    import torch

    if device in (None, "", "auto"):
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        kind = torch.device(str(device)).type
    except RuntimeError as error:
        raise InvalidInput(f"{device!r} is not a device; use auto, cpu, cuda, cuda:0 or mps", field="device") from error
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    index = torch.device(str(device)).index or 0
    if not available.get(kind, False) or (kind == "cuda" and index >= torch.cuda.device_count()):
        raise InvalidInput(f"this machine has no device {device}; use cpu or auto", field="device")
    return str(device)


def pick_dtype(dtype: str | None, device: str) -> str:
    """The data type to use. Raises `InvalidInput` for another than the three."""
    if dtype in (None, "", "auto"):
        return "bfloat16" if device.startswith("cuda") else "float32"
    name = _SHORT_DTYPES.get(str(dtype), str(dtype))
    if name not in DTYPE_BYTES:
        raise InvalidInput(f"{dtype!r} is not a data type; use auto, float32, bfloat16 or float16", field="dtype")
    return name


def check_numbers(source: Source, header: GGUFHeader | None) -> None:
    """Raise `ModelError` (or `InvalidFile`) for a configuration that no causal language model has."""
    if header is None:
        plausible.check_numbers(str(source.path / "config.json"), check_config(source))
    else:
        own = {name.partition(".")[2]: value for name, value in header.metadata.items() if name.startswith(f"{header.architecture}.")}
        plausible.check_numbers(str(source.path), own)


def check_config(source: Source) -> dict[str, Any]:
    """The model's config.json, or `ModelError`: no config, no weights, not a causal language model, or its own code needed."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if not (source.path / "config.json").is_file():
        found = ", ".join(sorted(entry.name for entry in source.path.iterdir())[:8]) or "nothing"
        raise ModelError(
            f"the folder {source.path} has no config.json (found {found}); name a transformers model's folder, or a .gguf file"
        )
    config = read_json(source.path / "config.json")
    kind = str(config.get("model_type", ""))
    given = config.get("architectures") or []
    architectures = [str(name) for name in given] if isinstance(given, list) else [str(given)]
    what = f"{source.name} ({', '.join(architectures) or kind or 'unnamed architecture'})"
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        if "auto_map" in config:
            raise ModelError(f"{what} needs code of its own, which Neuronscope never runs; choose an architecture that transformers has")
        raise ModelError(f"{what} is not a causal language model that transformers knows; choose a model that generates text")
    if architectures and not any(name.endswith(_CAUSAL_ENDINGS) for name in architectures):
        raise ModelError(f"{what} is not a causal language model: it does not predict the next token; choose a model that generates text")
    files = source.files
    if missing := [file.name for file in files if not file.is_file()]:
        raise ModelError(f"{source.name} is incomplete: {', '.join(missing[:3])} missing in {source.path}; fetch it again")
    if not files:
        raise ModelError(f"the folder {source.path} has no weights (*.safetensors or pytorch_model*.bin); fetch the model again")
    return config


def available_bytes(device: str) -> int:
    """Free memory of `device`, bytes."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def _cached_default() -> Path:
    folder = subfolder("models") / "default"
    if not default.is_complete(folder):
        raise ModelError("the default model is not on this machine yet; fetch it with `neuronscope models fetch`")
    return folder


def _check_memory(source: Source, header: GGUFHeader | None, dtype: str, device: str) -> None:
    parameters = header.parameters if header else parameter_count(source.files)
    if parameters is None:
        return
    needed, free = predicted_bytes(parameters, dtype), available_bytes(device)
    if needed > free:
        smaller = "" if DTYPE_BYTES[dtype] == 2 else " or --dtype bfloat16"
        raise ModelError(
            f"{source.name} has {parameters / 1e9:.2f} billion weights and needs about {needed / 1e9:.1f} GB as {dtype}, "
            f"but {device} has {free / 1e9:.1f} GB free; choose a smaller model{smaller}, or close other programs"
        )


def _load(source: Source, header: GGUFHeader | None, device: str, dtype: str, progress: Progress) -> LoadedModel:
    import torch

    from neurons.models.from_files import read_adapted, read_gguf, read_model
    from neurons.models.loaded import LoadedModel
    from neurons.models.memory import keep_freed_memory
    from neurons.models.quiet import quiet_transformers

    keep_freed_memory()
    base = source.whole
    digest = weights_hash(base.files, progress=progress)
    with quiet_transformers():
        read = (
            read_model(base.name, base.path, base.files, getattr(torch, dtype), progress)
            if header is None
            else read_gguf(base.name, header, digest, getattr(torch, dtype), progress)
        )
        if source.base is not None:
            adapter = adapters.read_adapter(source.path)
            digest = adapter.digest(digest, progress)
            read = read_adapted(adapter, read, progress)
        read.model.to(torch.device(device))
    with reading("the model's neurons"):
        return LoadedModel.wrap(read.model, read.tokenizer, id=source.spec, name=source.name, weights_hash=digest, findings=read.findings)
