"""What the model picker shows, from the files alone: nothing is loaded, no network is touched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurons.core.errors import ModelError, NeuronscopeError
from neurons.models import default
from neurons.models.breakage import load_errors
from neurons.models.gguf import read_gguf_header
from neurons.models.load import (
    DEFAULT,
    Source,
    SourceKind,
    available_bytes,
    check_config,
    check_numbers,
    find_source,
    pick_device,
    pick_dtype,
)
from neurons.models.recent import remembered
from neurons.models.weights import parameter_count, predicted_bytes, read_json

_GGUF_KEYS = ("block_count", "feed_forward_length", "expert_count")


@dataclass(frozen=True)
class ModelCard:
    """One model as the picker shows it."""

    spec: str
    """What `load_model` takes."""
    name: str
    kind: SourceKind
    cached: bool
    """Whether it is whole on this machine."""
    architecture: str = ""
    layers: int | None = None
    neurons: int | None = None
    """Over all layers, experts included where the configuration counts them."""
    parameters: int | None = None
    stored_dtype: str = ""
    """What the weights are kept as: float32, bfloat16, Q4_1..."""
    disk_bytes: int | None = None
    dtype: str = ""
    """What they would be loaded as."""
    device: str = ""
    memory_bytes: int | None = None
    """Predicted memory when loaded."""
    free_bytes: int | None = None
    """Free memory of that device now."""
    has_chat_template: bool | None = None
    path: Path | None = None
    problem: str = ""
    """Why it cannot be loaded; empty when nothing is known to be wrong."""

    @property
    def fits(self) -> bool:
        """Whether the predicted memory is free."""
        return self.memory_bytes is None or self.free_bytes is None or self.memory_bytes <= self.free_bytes


def cached_models(*, device: str | None = None, dtype: str | None = None) -> tuple[ModelCard, ...]:
    """The default (fetched or not), text generators in the hub's cache, and folders and files loaded before that still exist."""
    specs = [DEFAULT, *_hub_cache(), *(path for path in remembered() if Path(path).exists())]
    cards = [_card(spec, device, dtype) for spec in specs]
    return tuple(card for card in cards if card.kind != "hub" or not card.problem)


def _card(spec: str, device: str | None, dtype: str | None) -> ModelCard:
    """The card of a model that was here once; of an adapter whose base has gone, one that says so."""
    try:
        return describe(spec, device=device, dtype=dtype)
    except ModelError as error:
        return ModelCard(spec, Path(spec).name, "adapter", cached=False, path=Path(spec), problem=str(error))


def describe(spec: str, *, device: str | None = None, dtype: str | None = None) -> ModelCard:
    """The card of one model. What is wrong with its files stands in `problem`.

    Raises `InvalidInput` for a bad device or data type, `ModelError` for a `spec` that names nothing on this machine
    (the default excepted: its card says that it has to be fetched).
    """
    device = pick_device(device)
    dtype = pick_dtype(dtype, device)
    target: dict[str, Any] = {"device": device, "dtype": dtype, "free_bytes": available_bytes(device)}
    try:
        source = find_source(spec, fetch=False)
    except ModelError as error:
        if spec != DEFAULT:
            raise
        return ModelCard(DEFAULT, default.MODEL_NAME, "default", cached=False, problem=str(error), **target)
    try:
        with load_errors(source.name, source.path, device):
            facts = _gguf_facts(source.whole) if source.whole.kind == "gguf" else _folder_facts(source.whole)
    except NeuronscopeError as error:
        return ModelCard(source.spec, source.name, source.kind, cached=source.path.exists(), path=source.path, problem=str(error), **target)
    parameters = facts["parameters"]
    memory = predicted_bytes(parameters, dtype) if parameters else None
    return ModelCard(source.spec, source.name, source.kind, cached=True, path=source.path, memory_bytes=memory, **facts, **target)


def _folder_facts(source: Source) -> dict[str, Any]:
    config = check_config(source)
    check_numbers(source, None)
    text: dict[str, Any] = {**config, **(config.get("text_config") or {})}
    layers = _first(text, "num_hidden_layers", "n_layer", "num_layers")
    width = _first(text, "moe_intermediate_size", "intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim")
    if width is None and (hidden := _first(text, "hidden_size", "n_embd")):
        width = 4 * hidden
    experts = _first(text, "num_local_experts", "num_experts", "n_routed_experts") or 1
    return {
        "architecture": str((config.get("architectures") or [config.get("model_type", "")])[0]),
        "layers": layers,
        "neurons": layers * width * experts if layers and width else None,
        "parameters": parameter_count(source.files),
        "stored_dtype": str(config.get("dtype") or config.get("torch_dtype") or ""),
        "disk_bytes": sum(file.stat().st_size for file in source.files),
        "has_chat_template": _has_chat_template(source.path),
    }


def _gguf_facts(source: Source) -> dict[str, Any]:
    header = read_gguf_header(source.path)
    check_numbers(source, header)
    layers, width, experts = (_first(header.metadata, f"{header.architecture}.{key}") for key in _GGUF_KEYS)
    experts = experts or 1
    return {
        "architecture": header.architecture,
        "layers": layers,
        "neurons": layers * width * experts if layers and width else None,
        "parameters": header.parameters,
        "stored_dtype": header.quantisation,
        "disk_bytes": header.file_bytes,
        "has_chat_template": "tokenizer.chat_template" in header.metadata,
    }


def _has_chat_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file() or (folder / "chat_template.json").is_file():
        return True
    config = folder / "tokenizer_config.json"
    return config.is_file() and bool(read_json(config).get("chat_template"))


def _hub_cache() -> list[str]:
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repos = scan_cache_dir().repos
    except (CacheNotFound, RuntimeError):  # the second: a user without a home folder
        return []
    return sorted(repo.repo_id for repo in repos if repo.repo_type == "model")


def _first(config: dict[str, Any], *names: str) -> int | None:
    return next((int(config[name]) for name in names if isinstance(config.get(name), int)), None)
