"""The rotary position code of a GGUF file as its header and tensors say: transformers reads the base frequency and ignores the rest.

rope.scaling.type linear   frequencies are divided by rope.scaling.factor
rope.scaling.type yarn     as the paper has it (arXiv 2309.00071), with the header's figures
rope_freqs                 a tensor of one divisor a frequency: every Llama 3.1 and later
rope_factors_short, _long  longrope's divisors, for texts within the original context and beyond it
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from neurons.core.errors import UnsupportedModel
from neurons.models.findings import Finding
from neurons.models.gguf import GGUFHeader

FREQUENCIES, SHORT, LONG = "rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight"


def scale_config(header: GGUFHeader, config: Any) -> bool:
    """Put the header's scaling into the configuration, before the model is built. True where it has one.

    Raises `UnsupportedModel` for one that transformers cannot do.
    """
    said = {key.partition(".rope.scaling.")[2]: value for key, value in header.metadata.items() if ".rope.scaling." in key}
    kind = str(said.get("type", "none"))
    factors = LONG in header.tensors
    older = header.metadata.get(f"{header.architecture}.rope.scale_linear")
    if kind == "none" and older not in (None, 0, 1, 1.0):
        kind, said = "linear", {"factor": older}
    if kind == "none" and not factors:
        return False
    if factors:
        found = _tensors(header, (SHORT, LONG))
        scaling: dict[str, Any] = {"rope_type": "longrope", "short_factor": found[SHORT].tolist(), "long_factor": found[LONG].tolist()}
        if "attn_factor" in said:
            scaling["attention_factor"] = said["attn_factor"]
    elif kind in ("linear", "yarn"):
        scaling = {"rope_type": kind, "factor": float(said.get("factor", 1.0))}
        if kind == "yarn":
            renamed = {"yarn_beta_fast": "beta_fast", "yarn_beta_slow": "beta_slow", "attn_factor": "attention_factor"}
            scaling |= {ours: float(said[theirs]) for theirs, ours in renamed.items() if theirs in said}
    else:
        raise UnsupportedModel(
            f"{header.path.name} scales its positions by {kind!r}, which is not known for GGUF files; load the model's own folder instead"
        )
    if "original_context_length" in said and scaling["rope_type"] != "linear":
        scaling["original_max_position_embeddings"] = int(said["original_context_length"])
    _merge(header, config, scaling)
    return True


def _merge(header: GGUFHeader, config: Any, scaling: dict[str, Any]) -> None:
    params = dict(config.rope_parameters or {})
    if not any(isinstance(value, dict) for value in params.values()):
        config.rope_parameters = {**params, **scaling}
    elif "full_attention" in params:  # the layers with a sliding window keep their own, unscaled
        config.rope_parameters = {**params, "full_attention": {**params["full_attention"], **scaling}}
    else:
        raise UnsupportedModel(
            f"{header.path.name} scales its positions, and its layers have several position codes; load the model's folder"
        )


def divide_frequencies(header: GGUFHeader, model: nn.Module) -> bool:
    """Divide the model's frequencies by the file's `rope_freqs`. True where it has them. Raises `UnsupportedModel` where none fit."""
    if FREQUENCIES not in header.tensors:
        return False
    divisors = _tensors(header, (FREQUENCIES,))[FREQUENCIES]
    homes: list[Any] = [module for module in model.modules() if isinstance(getattr(module, "inv_freq", None), Tensor)]
    if not homes or any(home.inv_freq.shape != divisors.shape for home in homes):
        shapes = ", ".join(str(list(home.inv_freq.shape)) for home in homes) or "none"
        raise UnsupportedModel(
            f"{header.path.name} has {FREQUENCIES} with {len(divisors)} divisors and the model's frequencies are {shapes}: they cannot be "
            "applied; load the model's own folder instead of the GGUF file"
        )
    for home in homes:
        for name in ("inv_freq", "original_inv_freq"):
            frequencies = getattr(home, name, None)
            if isinstance(frequencies, Tensor):
                setattr(home, name, frequencies / divisors.to(frequencies))
    return True


def finding(*, scaled: bool, divided: bool) -> Finding:
    """What the check says of a GGUF file's position code."""
    parts = [text for given, text in ((scaled, "the header's scaling"), (divided, "the tensor rope_freqs")) if given]
    if not parts:
        return Finding("positions", "right", "the file scales no positions")
    return Finding("positions", "otherwise", f"{' and '.join(parts)} of the GGUF file, which transformers leaves out, are applied")


def _tensors(header: GGUFHeader, names: tuple[str, ...]) -> dict[str, Tensor]:
    """Tensors of the file by name, float32. Raises `UnsupportedModel` where one is missing."""
    from gguf import GGUFReader, dequantize

    there = {tensor.name: tensor for tensor in GGUFReader(header.path).tensors if tensor.name in names}
    if missing := [name for name in names if name not in there]:
        raise UnsupportedModel(f"{header.path.name} lacks {missing[0]}, which its other position tensors need; load the model's own folder")
    return {name: torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy()).flatten() for name, tensor in there.items()}
