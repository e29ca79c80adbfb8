"""Taking descriptions from elsewhere into a model's atlas, and knowing a model exactly without loading its weights."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from neurons.atlas.store import Atlas, atlas_folder, open_atlas, open_folder
from neurons.atlas.writer import MANIFEST, AtlasWriter
from neurons.models.load import check_config, find_source, load_model
from neurons.models.loaded import LoadedModel
from neurons.models.weights import weights_hash
from neurons.types import ModelRef

_KEY = ["layer", "index", "polarity"]


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


def own_copy(ref: ModelRef) -> Path:
    """The folder of the user's own atlas of this model, made from the shipped one where there is none. It may still hold no atlas."""
    target = atlas_folder(ref)
    found = open_atlas(ref)
    if not (target / MANIFEST).exists() and found is not None and not found.info.near:
        partial = target.with_name(target.name + ".copy")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(found.folder, partial)
        partial.rename(target)
    return target


def import_descriptions(table: pd.DataFrame, ref: ModelRef, *, author: str) -> Atlas:
    """Put imported descriptions into the model's atlas; one without figures is made where there is none. Imported rows replace older ones.

    The embeddings of the older table go: they are computed again when they are needed.
    """
    target = own_copy(ref)
    table = table.assign(author=author)
    if not (target / MANIFEST).exists():
        writer = AtlasWriter(target)
        writer.commit({"model": asdict(ref), "tokens": 0, "documents": 0, "sources": [], "settings": {}, "complete": True})
    atlas = open_folder(target)
    old = atlas.descriptions()
    if old is not None:
        replaced = pd.MultiIndex.from_frame(old[_KEY]).isin(pd.MultiIndex.from_frame(table[_KEY]))
        table = pd.concat([old[~replaced], table], ignore_index=True)
    return atlas.with_descriptions(table, meta={"imported": author})
