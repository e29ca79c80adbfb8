"""Knowing a model exactly without loading its weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from neurons.core.types import ModelRef
from neurons.models.load import check_config, find_source, load_model
from neurons.models.loaded import LoadedModel
from neurons.models.weights import weights_hash


def model_ref(spec: str) -> ModelRef:
    """Which model `spec` is, from its files; the weights are hashed but not loaded (a GGUF file is). Raises what `load_model` raises."""
    source = find_source(spec)
    if source.kind == "gguf":
        return load_model(spec).ref
    check_config(source)
    config = AutoConfig.from_pretrained(source.path, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        auto: Any = AutoModelForCausalLM
        model = auto.from_config(config, trust_remote_code=False)
    tokenizer = AutoTokenizer.from_pretrained(source.path, local_files_only=True, trust_remote_code=False)
    wrapped = LoadedModel.wrap(model, tokenizer, id=source.spec, name=source.name, weights_hash=weights_hash(source.files))
    return replace(wrapped.ref, device="cpu")
