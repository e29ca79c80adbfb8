"""Small corpora and collections that the atlas tests share. Real files, real models, no network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from neurons.atlas.collect import collect, open_plan, prepare, shard_folder
from neurons.atlas.corpus import Corpus, Cutting, Document, Source, build_corpus
from neurons.atlas.plan import CollectSettings
from neurons.atlas.state import CollectState
from neurons.models.loaded import LoadedModel

SETTINGS = CollectSettings(block=8, batch=4, body=100, tokens=50, previous=30, occurrences=20, extremes=32, exemplars=6)
SOURCES = (
    Source("letters", "prose", "public domain", "made for tests"),
    Source("talk", "chat", "made by the model", "tests", generated=True),
)


def tiny_corpus(documents: int = 40, *, seed: int = 1, held_out: float = 0.1) -> Corpus:
    """Random byte documents of 20 to 900 tokens, half of them with a shared prefix."""
    rng = np.random.default_rng(seed)
    made = [
        Document(n % 2, f"document {n}", ids=tuple(rng.integers(0, 200, rng.integers(20, 900)).tolist()), prefix=10 if n % 2 else 0)
        for n in range(documents)
    ]
    return build_corpus(made, SOURCES, encode=lambda text: [], start_ids=[], n_vocab=259, cutting=Cutting(held_out=held_out))


def collected(loaded: LoadedModel, corpus: Corpus, folder: Path, settings: CollectSettings = SETTINGS) -> Path:
    """A whole collection in one shard."""
    prepare(loaded, corpus, folder, settings=settings)
    return collect(loaded, folder)


def load_state(folder: Path, shard: int = 0, shards: int = 1) -> CollectState:
    """A shard's state as it lies on disk."""
    state = CollectState(*open_plan(folder), torch.device("cpu"))
    assert state.load(shard_folder(folder, shard, shards))
    return state


def assert_same_state(one: CollectState, two: CollectState) -> None:
    """Bit for bit."""
    first, second = one._arrays(), two._arrays()
    for name, arrays in first.items():
        for layer, (a, b) in enumerate(zip(arrays, second[name], strict=True)):
            assert np.array_equal(a, b), (name, layer)
    assert np.array_equal(one.done_blocks, two.done_blocks)
