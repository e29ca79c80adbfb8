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
from neurons.models import default
from neurons.models.gguf import GGUFHeader, read_gguf_header
from neurons.models.hub import cached_snapshot, fetch_snapshot, is_hub_id
from neurons.models.recent import remember
from neurons.models.weights import DTYPE_BYTES, parameter_count, predicted_bytes, read_json, weight_files, weights_hash

if TYPE_CHECKING:
    from neurons.models.findings import Finding
    from neurons.models.loaded import LoadedModel

DEFAULT = "default"
_SHORT_DTYPES = {"fp32": "float32", "f32": "float32", "bf16": "bfloat16", "fp16": "float16", "half": "float16"}
_CAUSAL_ENDINGS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")


@dataclass(frozen=True)
class Source:
    """Where a model's files are, after fetching."""

    spec: str
    """What the user typed, a path made absolute."""
    kind: Literal["default", "hub", "folder", "gguf"]
    path: Path
    """The folder, or the GGUF file."""
    name: str
    """What to call it on a page."""

    @property
    def files(self) -> list[Path]:
        """The weight files."""
        return [self.path] if self.kind == "gguf" else weight_files(self.path)


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
    header = read_gguf_header(source.path) if source.kind == "gguf" else None
    if header is None:
        check_config(source)
    _check_memory(source, header, chosen_dtype, chosen_device)
    progress(0, 3, f"loading {source.name}: libraries")
    loaded = _load(source, header, chosen_device, chosen_dtype, progress)
    if source.kind in ("folder", "gguf"):
        remember(source.spec)
    progress(3, 3, f"{source.name} is ready")
    return loaded


def find_source(spec: str, *, progress: Progress = no_progress, fetch: bool = True) -> Source:
    """Find the files of `spec`, downloading them where `fetch` allows. Raises `ModelError` that names the fix."""
    spec = spec.strip()
    if spec in ("", DEFAULT):
        folder = default.default_folder(progress=progress) if fetch else _cached_default()
        return Source(DEFAULT, "default", folder, default.MODEL_NAME)
    path = Path(os.path.expanduser(spec))
    if spec.lower().endswith(".gguf"):
        return Source(str(path.absolute()), "gguf", path.absolute(), path.stem)
    if path.is_dir():
        return Source(str(path.absolute()), "folder", path.absolute(), path.absolute().name)
    if path.is_file():
        raise InvalidFile(f"{spec} is a file but not a .gguf file; name a model folder, a .gguf file or a hub id", field="model")
    if spec.startswith(("/", ".", "~")) or not is_hub_id(spec):
        raise ModelError(f"there is no model folder {spec}, and it is not a hub id (owner/name); check the path")
    if (cached := cached_snapshot(spec)) is not None:
        return Source(spec, "hub", cached, spec)
    if not fetch:
        raise ModelError(f"{spec} is not in this machine's cache; fetch it with `neuronscope models fetch {spec}`")
    return Source(spec, "hub", fetch_snapshot(spec, progress=progress), spec)


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
    architectures = [str(name) for name in config.get("architectures") or []]
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

    from neurons.models.loaded import LoadedModel
    from neurons.models.memory import keep_freed_memory
    from neurons.models.quiet import quiet_transformers

    keep_freed_memory()
    try:
        with quiet_transformers():
            model, tokenizer, findings = _read(source, header, getattr(torch, dtype), progress)
            model.to(torch.device(device))
    except torch.OutOfMemoryError as error:
        raise ModelError(f"{source.name} does not fit into the memory of {device}; choose a smaller model or another device") from error
    except (OSError, ValueError, KeyError, IndexError, TypeError, ImportError, AttributeError, NotImplementedError, RuntimeError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{source.name} cannot be loaded from {source.path}: {_first_line(error)}") from error
    digest = weights_hash(source.files, progress=progress)
    return LoadedModel.wrap(model, tokenizer, id=source.spec, name=source.name, weights_hash=digest, findings=findings)


def _read(source: Source, header: GGUFHeader | None, dtype: Any, progress: Progress) -> tuple[Any, Any, tuple[Finding, ...]]:
    """The model and its tokenizer as transformers reads them, with what the files say beyond that, and what is to be said of it."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from neurons.models import gguf_rope
    from neurons.models.loading_report import check_encoder, check_shards, report

    folder = source.path if header is None else source.path.parent
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    if header is not None:
        options["gguf_file"] = source.path.name
    slow = " (a GGUF file takes about a minute)" if header else ""
    if header is None:
        check_shards(folder, source.files)
    progress(1, 3, f"loading {source.name}: tokenizer{slow}")
    config = AutoConfig.from_pretrained(folder, **options)
    check_encoder(source.name, config)
    scaled = gguf_rope.scale_config(header, config) if header else False
    tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    progress(2, 3, f"loading {source.name}: weights{slow}")
    auto: Any = AutoModelForCausalLM
    model, info = auto.from_pretrained(
        folder, config=config, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True, **options
    )
    findings = [report(source.name, model, info)]
    if header is not None:
        divided = gguf_rope.divide_frequencies(header, model)
        findings.append(gguf_rope.finding(scaled=scaled, divided=divided))
        _end_tokens(header, model)
    return model, tokenizer, tuple(findings)


def _end_tokens(header: GGUFHeader, model: Any) -> None:
    """The file's end of turn and end of message end an answer too; transformers reads its end of text alone."""
    known = model.generation_config.eos_token_id
    ends = list(known) if isinstance(known, list | tuple) else [known]
    ends += [header.metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom")]
    model.generation_config.eos_token_id = list(dict.fromkeys(int(end) for end in ends if end is not None)) or None


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:300]}" if text else type(error).__name__
