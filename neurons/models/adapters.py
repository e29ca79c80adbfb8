"""LoRA adapters: a folder in peft's format, merged into the weights of its base. What cannot be merged exactly is refused by name.

Each adapted projection gets W + scale * B A, with scale = alpha / r, or alpha / sqrt(r) where the adapter says so (rslora).
Hu et al. 2021 (arXiv 2106.09685); Kalajdzievski 2023 (arXiv 2312.03732); the files as peft writes them.
"""

from __future__ import annotations

import hashlib
import math
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from neurons.core.boundary import checked
from neurons.core.errors import InvalidInput, ModelError, StoreError
from neurons.core.home import home, subfolder
from neurons.core.json_text import json_text
from neurons.core.percent import percent
from neurons.core.progress import Progress
from neurons.models.findings import Finding
from neurons.models.recent import remembered
from neurons.models.weights import read_json, weights_hash
from neurons.storage.files import write_json

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_BASES = "adapters.json"
_CURE = "merge it with peft, and load the merged folder"
_KEY = re.compile(r"^base_model\.model\.(.+)\.lora_(A|B)\.weight$")
_EXACT_STARTS = (True, False, None, "gaussian", "orthogonal", "eva")
"""Ways to begin the training that leave the base's weights as they are; PiSSA and the like change them."""
_OF_NO_MATTER = frozenset(
    [
        "auto_mapping", "base_model_name_or_path", "eva_config", "ephemeral_gpu_offload", "exclude_modules", "fan_in_fan_out",
        "inference_mode", "layers_pattern", "layers_to_transform", "lora_dropout", "megatron_core", "peft_version", "qalora_group_size",
        "revision", "runtime_config", "target_modules",
    ]
)  # fmt: skip
"""Entries that say how it was trained, or what the tensors' names say as well."""


class _Config(BaseModel):
    """adapter_config.json, as far as it decides the weights. Every other entry has to be empty, or one of no matter."""

    model_config = ConfigDict(extra="allow", frozen=True)
    peft_type: str
    task_type: str | None = None
    r: int = Field(gt=0, le=100_000)
    lora_alpha: float = Field(allow_inf_nan=False)
    use_rslora: bool = False
    rank_pattern: dict[str, int] = {}
    alpha_pattern: dict[str, float] = {}
    bias: str = "none"
    init_lora_weights: bool | str | None = True


@dataclass(frozen=True, eq=False)
class Adapter:
    """A LoRA adapter that can be merged."""

    folder: Path
    base: str
    """What its file names as its base: a hub id or a path; "" where it names none."""
    config: _Config

    def scale(self, module: str, rank: int) -> float:
        """What B A is multiplied by in one module. Raises `ModelError` where its rank is not the one that the file gives it."""
        said = _of(self.config.rank_pattern, module, self.config.r)
        if rank != said:
            raise ModelError(
                f"{self.folder.name}: {module} has rank {rank}, but {CONFIG} says {said}; the adapter's files do not fit each other"
            )
        alpha = float(_of(self.config.alpha_pattern, module, self.config.lora_alpha))
        return alpha / math.sqrt(rank) if self.config.use_rslora else alpha / rank

    def digest(self, base_hash: str, progress: Progress) -> str:
        """SHA-256 that says base + adapter, hex: of the base's weights hash, the adapter's tensors and the numbers that scale them."""
        numbers = self.config.model_dump(include={"r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern"})
        tensors = weights_hash([self.folder / WEIGHTS], progress=progress)
        return hashlib.sha256("\n".join(("lora", base_hash, tensors, json_text(numbers, sort_keys=True))).encode()).hexdigest()


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and no whole model."""
    return (folder / CONFIG).is_file() and not (folder / "config.json").is_file()


def read_adapter(folder: Path) -> Adapter:
    """The adapter of a folder. Raises `ModelError` naming what of it cannot be merged exactly, or is missing."""
    said = read_json(folder / CONFIG)
    try:
        config = checked(_Config, said, what=str(folder / CONFIG))
    except InvalidInput as error:
        raise ModelError(str(error)) from error
    kind = config.peft_type.upper()
    refused = {
        f"its kind is {kind}": kind != "LORA",
        f"its task is {config.task_type}": config.task_type not in (None, "CAUSAL_LM"),
        f"its training began with {config.init_lora_weights!r}, which changes the base": config.init_lora_weights not in _EXACT_STARTS,
        f"it has biases of its own (bias is {config.bias!r})": config.bias != "none",
        **{f"{name} is {str(value)[:60]}": bool(value) and name not in _OF_NO_MATTER for name, value in (config.model_extra or {}).items()},
    }
    if why := [text for text, wrong in refused.items() if wrong]:
        raise ModelError(f"the adapter {folder.name} cannot be merged exactly: {'; '.join(why)}; {_CURE}")
    if not (folder / WEIGHTS).is_file():
        raise ModelError(f"the adapter {folder} has no {WEIGHTS}; save it again with peft (it writes safetensors)")
    return Adapter(folder, str(said.get("base_model_name_or_path") or ""), config)


def base_candidates(adapter: Adapter) -> tuple[str, ...]:
    """Where the base may be, the likeliest first: as somebody said, as the adapter names it, a folder of that name loaded before."""
    said = _bases().get(str(adapter.folder))
    named = adapter.base
    path = Path(named).expanduser()
    near = [str(place) for place in (path, adapter.folder / path) if named and place.is_dir()]
    alike = [folder for folder in remembered() if named and Path(folder).name == path.name and Path(folder).is_dir()]
    return tuple(dict.fromkeys([*([said] if said else []), *near, *([named] if named else []), *alike]))


def remember_base(folder: Path, base: str) -> None:
    """Keep what somebody said is the adapter's base, for every load after this. Where nothing can be written, it is not kept."""
    with suppress(StoreError):
        write_json(subfolder("settings") / _BASES, {"bases": {**_bases(), str(folder): base}})


def merge(adapter: Adapter, model: Any) -> Finding:
    """Put the adapter into the weights of `model`, which is of no use where that fails.

    Raises `ModelError` naming a tensor that has no place.
    """
    from safetensors import safe_open

    name = adapter.folder.name
    most = 0.0
    with safe_open(adapter.folder / WEIGHTS, framework="pt") as file:
        pairs = _pairs(adapter, list(file.keys()))
        shared = _shared(model)
        for module, keys in pairs.items():
            target = _projection(name, model, module, shared)
            change = _merge_one(adapter, target, module, file.get_tensor(keys["A"]).float(), file.get_tensor(keys["B"]).float())
            most = max(most, change)
    said = f"{name} is merged into {len(pairs)} projections of its base, which it changes by up to {percent(most)}"
    return Finding("adapter", "note", said, most)


def _projection(name: str, model: Any, module: str, shared: set[int]) -> Any:
    """The projection of that name. Raises `ModelError` where there is none, or where its weights stand elsewhere too."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    try:
        target: Any = model.get_submodule(module)
    except AttributeError:
        raise ModelError(f"the adapter {name} changes {module}, which its base does not have; name the right base") from None
    if not isinstance(target, nn.Linear | Conv1D):
        raise ModelError(f"the adapter {name} changes {module}, a {type(target).__name__}: only projections can be merged; {_CURE}")
    if target.weight.data_ptr() in shared:
        raise ModelError(f"the adapter {name} changes {module}, whose weights the base also uses elsewhere; {_CURE}")
    return target


def _merge_one(adapter: Adapter, target: Any, module: str, a: Any, b: Any) -> float:
    """Add scale * B A to one projection's weights; how large that is beside them."""
    import torch
    from transformers.pytorch_utils import Conv1D

    across = isinstance(target, Conv1D)  # its weights are (in, out)
    wanted = tuple(target.weight.shape[::-1] if across else target.weight.shape)
    if a.dim() != 2 or b.dim() != 2 or a.shape[0] != b.shape[1] or (b.shape[0], a.shape[1]) != wanted:
        raise ModelError(
            f"the adapter {adapter.folder.name} is of another shape at {module} ({list(b.shape)} x {list(a.shape)}, the base has "
            f"{wanted[0]} x {wanted[1]}); name the right base"
        )
    delta = adapter.scale(module, a.shape[0]) * (b @ a)
    if not torch.isfinite(delta).all():
        raise ModelError(f"the adapter {adapter.folder.name} holds numbers that are not finite at {module}; save it again")
    before = target.weight.data.float()
    target.weight.data.copy_(before + (delta.T if across else delta))
    return float(delta.norm() / before.norm().clamp_min(1e-12))


def _pairs(adapter: Adapter, keys: list[str]) -> dict[str, dict[str, str]]:
    """The two tensors of each module that is changed."""
    pairs: dict[str, dict[str, str]] = {}
    for key in sorted(keys):
        found = _KEY.match(key)
        if not found:
            raise ModelError(f"the adapter {adapter.folder.name} holds {key[:120]}, which cannot be merged exactly; {_CURE}")
        pairs.setdefault(found[1], {})[found[2]] = key
    if half := [module for module, two in pairs.items() if len(two) != 2]:
        raise ModelError(f"the adapter {adapter.folder.name} holds only one of the two tensors of {half[0]}; save it again")
    if not pairs:
        raise ModelError(f"the adapter {adapter.folder.name} holds no tensors; save it again")
    return pairs


def _shared(model: Any) -> set[int]:
    """Where weights lie that two names share, such as tied embeddings."""
    places = [tensor.data_ptr() for _, tensor in model.named_parameters(remove_duplicate=False)]
    return {place for place in places if places.count(place) > 1} if len(set(places)) < len(places) else set()


def _of(pattern: dict[str, Any], module: str, usual: Any) -> Any:
    """The entry of the first pattern that fits the module's name, as peft reads them."""
    for name, value in pattern.items():
        with suppress(re.error):
            if re.match(rf"(.*\.)?({name})$", module):
                return value
    return usual


def _bases() -> dict[str, str]:
    """What people said of the bases; a damaged list counts as an empty one."""
    path = home() / "settings" / _BASES
    try:
        known = read_json(path).get("bases", {}) if path.is_file() else {}
    except ModelError:
        return {}
    return {str(folder): str(base) for folder, base in known.items()} if isinstance(known, dict) else {}
