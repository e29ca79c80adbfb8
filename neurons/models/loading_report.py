"""Whether the files' tensors and the model's are the same ones: what is missing, of another shape, or read by nothing is named.

transformers fills a missing tensor with random numbers and leaves an unknown one out, and goes on: the answers are plausible and wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from neurons.core.errors import ModelError
from neurons.models.findings import Finding

_COMPUTED = re.compile(r"(inv_freq|position_ids|masked_bias|attn\.bias|attention\.bias|num_batches_tracked|embed_positions\.weights)$")
"""Constants that old files hold and that the code computes itself."""
_SHARD = re.compile(r"^(.+)-(\d{5})-of-(\d{5})\.(safetensors|bin)$")
_SHOWN = 4


def check_shards(folder: Path, files: Iterable[Path]) -> None:
    """Raise `ModelError` where the folder holds a part of the weights that its index does not name, or lacks one."""
    read = {file.name for file in files}
    parts = {entry.name: match for entry in folder.iterdir() if (match := _SHARD.match(entry.name))}
    for series in {match[4] for match in parts.values()} & {name.rpartition(".")[2] for name in read if _SHARD.match(name)}:
        named = {name for name, match in parts.items() if match[4] == series}
        if unread := sorted(named - read):
            raise ModelError(f"{_few(unread)} in {folder} would not be read: the index does not name it; fetch the model again")
        counts = {(match[1], int(match[3])) for match in parts.values() if match[4] == series}
        for stem, count in counts:
            there = {int(match[2]) for match in parts.values() if match[1] == stem and match[4] == series}
            if missing := sorted(set(range(1, count + 1)) - there):
                raise ModelError(f"part {missing[0]} of {count} of the weights is missing in {folder}; fetch the model again")
    if "model.safetensors" in {entry.name for entry in folder.iterdir()} and read and "model.safetensors" not in read:
        raise ModelError(
            f"{folder} holds the weights twice, in model.safetensors and in the parts that its index names; remove one of the two"
        )


def check_encoder(name: str, config: Any) -> None:
    """Raise `ModelError` for an encoder-decoder: loaded as a decoder alone it would answer without ever seeing an input text."""
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"{name} ({config.model_type}) is an encoder-decoder: it answers a text that its encoder reads, and Neuronscope runs decoders "
            "only; choose a model that is a decoder alone"
        )


def report(name: str, model: nn.Module, info: Mapping[str, Any]) -> Finding:
    """What transformers says of loading `model`, as one finding. Raises `ModelError` naming the tensors that are wrong."""
    mismatched = sorted(str(entry[0] if isinstance(entry, tuple | list) else entry) for entry in info.get("mismatched_keys", ()))
    if mismatched:
        shapes = {str(entry[0]): f"{list(entry[1])} in the files, {list(entry[2])} in the model" for entry in info["mismatched_keys"]}
        raise ModelError(
            f"{name}: {_few(mismatched)} has another shape ({shapes[mismatched[0]]}); its config.json is not that of its weights"
        )
    if errors := list(info.get("error_msgs", ())):
        raise ModelError(f"{name} cannot be loaded: {str(errors[0])[:300]}")
    missing = sorted(map(str, info.get("missing_keys", ())))
    if missing:
        raise ModelError(
            f"{name}: the files lack {len(missing)} of the model's tensors ({_few(missing)}), which would be random numbers; "
            "fetch the model again, or mend its config.json (its number of layers, tie_word_embeddings)"
        )
    unread = sorted(key for key in map(str, info.get("unexpected_keys", ())) if not _COMPUTED.search(key))
    if wrong := [key for key in unread if _belongs(model, key)]:
        raise ModelError(
            f"{name}: {len(wrong)} tensors of the files are read by nothing ({_few(wrong)}), so the model would not be the one that was "
            "trained; mend its config.json (its number of layers, its biases), or fetch it again"
        )
    count = len(list(model.parameters()))
    if unread:
        kinds = sorted({".".join(key.split(".")[:2]) for key in unread})
        return Finding(
            "weights", "note", f"all {count} tensors are the files'; left unread, outside the decoder: {_few(kinds)}", len(unread)
        )
    return Finding("weights", "right", f"all {count} tensors are the files', none is missing, and none of the files' is left unread", 0.0)


def _belongs(model: nn.Module, key: str) -> bool:
    """Whether an unread tensor would change the decoder: it lies in a list of layers, or in a module that the model has."""
    modules = dict(model.named_modules())
    parent = key.rpartition(".")[0]
    bare = {name.partition(".")[2] for name in modules}
    if parent in modules or (parent and parent in bare):
        return True
    layers = [name for name, module in modules.items() if isinstance(module, nn.ModuleList)]
    tails = {tail for name in layers for tail in (name, name.partition(".")[2]) if tail}
    if key.startswith(("encoder.", "model.encoder.")):
        return True
    return any(key.startswith(f"{tail}.") for tail in tails)


def _few(names: list[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
