"""A tiny model's atlas over real English, described: what the tests of descriptions and concepts share."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np

from neurons.atlas.collect import collect, prepare
from neurons.atlas.collection import Collection, merge
from neurons.atlas.corpus import Corpus, Cutting, Document, Source, build_corpus
from neurons.atlas.finalise import FinaliseSettings, finalise
from neurons.atlas.store import Atlas, open_folder
from neurons.models.chat import encode_text
from neurons.models.loaded import LoadedModel
from tests.support.atlases import SETTINGS
from tests.support.tiny_models import tiny_model

DESCRIBE = {"tokens": 6_000, "held_tokens": 2_500}


def english_corpus(loaded: LoadedModel, *, documents: int = 48) -> Corpus:
    """The built-in text in pieces, as documents of two domains."""
    text = resources.files("neurons.atlas").joinpath("data/calibration.txt").read_text(encoding="utf-8")
    size = min(400, len(text) // documents)
    made = [Document(n % 2, f"piece {n}", text=text[n * size : (n + 1) * size]) for n in range(documents)]
    sources = (Source("first", "prose", "public domain", "built-in text"), Source("second", "notes", "public domain", "built-in text"))
    return build_corpus(
        made,
        sources,
        encode=lambda piece: encode_text(loaded, piece, bos=False),
        start_ids=encode_text(loaded, ""),
        n_vocab=loaded.ref.n_vocab,
        cutting=Cutting(held_out=0.25),
    )


def tiny_atlas(folder: Path, *, seed: int = 0) -> tuple[LoadedModel, Atlas]:
    """A tiny Llama (3 layers x 48 neurons, a token a byte) and its collected, undescribed atlas."""
    loaded = tiny_model("llama", seed=seed)
    work = folder / "collection"
    prepare(loaded, english_corpus(loaded), work, settings=replace(SETTINGS, exemplars=24, extremes=128))
    collect(loaded, work)
    merge(work)
    return loaded, open_folder(finalise(loaded, Collection(work), folder / "atlas", settings=FinaliseSettings(probe=False)))


def letter_pairs(texts: list[str]) -> np.ndarray:
    """Embeddings without the embedder: hashed letter pairs, unit length. Deterministic; enough where meaning is not what is tested."""
    out = np.zeros((len(texts), 384), dtype=np.float32)
    for row, text in enumerate(texts):
        for a, b in zip(f" {text}", f"{text} ", strict=True):
            out[row, (ord(a) * 31 + ord(b)) % 384] += 1
    return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12)
