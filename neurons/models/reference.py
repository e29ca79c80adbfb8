"""Knowing a model exactly without loading its weights, and reading its tokenizer alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from neurons.core.types import ModelRef
from neurons.models.converted import copy_of
from neurons.models.load import check_config, find_source, load_model
from neurons.models.loaded import LoadedModel
from neurons.models.weights import weights_hash


def model_ref(spec: str) -> ModelRef:
    """Which model `spec` is, from its files; the weights are hashed but not loaded (a GGUF file is). Raises what `load_model` raises."""
    source = find_source(spec)
    if source.whole.kind == "gguf":
        return load_model(spec).ref
    check_config(source.whole)
    config = AutoConfig.from_pretrained(source.whole.path, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        auto: Any = AutoModelForCausalLM
        model = auto.from_config(config, trust_remote_code=False)
    tokenizer = tokenizer_of(spec)
    wrapped = LoadedModel.wrap(model, tokenizer, id=source.spec, name=source.name, weights_hash=source.weights_hash())
    return replace(wrapped.ref, device="cpu")


def tokenizer_of(spec: str) -> PreTrainedTokenizerBase:
    """A model's tokenizer, without its weights: of an adapter its own where it brings one, of a GGUF file the copy's where there is one.

    Raises what `find_source` raises.
    """
    source = find_source(spec)
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    folder = source.whole.path
    if source.base is not None and (source.path / "tokenizer_config.json").is_file():
        folder = source.path
    elif source.whole.kind == "gguf":
        copy = copy_of(weights_hash(source.files))
        folder, options = (copy, options) if copy is not None else (folder.parent, {**options, "gguf_file": folder.name})
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, **options)
    return tokenizer
