"""Taking descriptions from elsewhere into a model's atlas."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurons.atlas.store import Atlas, atlas_folder, open_atlas, open_folder
from neurons.atlas.writer import AtlasWriter
from neurons.concepts.embed import embedder
from neurons.concepts.space import ConceptSpace
from neurons.core.errors import NotFound
from neurons.core.progress import Progress, no_progress
from neurons.core.types import ModelRef
from neurons.descriptions.kinds import IMPORTED
from neurons.storage.files import atomic_folder, disk_errors
from neurons.storage.manifest import MANIFEST

_KEY = ["layer", "index", "polarity"]
_TEXTS = {"description": "", "second": "", "kind": IMPORTED, "peaks": "", "theme": "", "source": IMPORTED}
_NUMBERS = ("score", "null", "ceiling", "auprc", "auprc_null", "check")


def own_copy(ref: ModelRef) -> Path:
    """The folder of the user's own atlas of this model, made from the shipped one where there is none. It may still hold no atlas."""
    target = atlas_folder(ref)
    found = open_atlas(ref)
    if not (target / MANIFEST).exists() and found is not None and not found.info.near:
        with disk_errors(target), atomic_folder(target) as copy:
            shutil.copytree(found.folder, copy, dirs_exist_ok=True)
    return target


def own_atlas(ref: ModelRef) -> Atlas:
    """The user's atlas of exactly this model, copied from the shipped one first where there is none. Raises `NotFound`."""
    folder = own_copy(ref)
    if not (folder / MANIFEST).exists():
        raise NotFound(f"there is no atlas of exactly {ref.name}; build one with `neuronscope atlas build`")
    return open_folder(folder, ref=ref)


def _complete(table: pd.DataFrame) -> pd.DataFrame:
    """With every column that a described atlas has."""
    missing: dict[str, Any] = {**_TEXTS, **dict.fromkeys(_NUMBERS, np.float32(np.nan))}
    table = table.assign(**{name: value for name, value in missing.items() if name not in table})
    return table.fillna(_TEXTS)


def import_descriptions(table: pd.DataFrame, ref: ModelRef, *, author: str, progress: Progress = no_progress) -> Atlas:
    """Put imported descriptions into the model's atlas; one without figures is made where there is none. Imported rows replace older ones.

    The new table can be searched: descriptions are embedded (a few hundred a second), readings of the older one stay.
    """
    target = own_copy(ref)
    table = _complete(table.assign(author=author))
    if not (target / MANIFEST).exists():
        writer = AtlasWriter(target)
        writer.commit({"model": asdict(ref), "tokens": 0, "documents": 0, "sources": [], "settings": {}, "complete": True})
    atlas = open_folder(target)
    old = atlas.descriptions()
    arrays = atlas.embeddings()
    rows = 0 if old is None else len(old)
    if old is not None:
        # Readings belong to rows: what is replaced keeps its place, what is new comes after.
        both = pd.concat([old, table], ignore_index=True)
        both["place"] = both.groupby(_KEY, sort=False).ngroup()
        table = both.drop_duplicates(_KEY, keep="last").sort_values("place").drop(columns="place").reset_index(drop=True)
    known = "vector" in arrays and len(table) == rows
    space = ConceptSpace.load(dict(arrays)) if known else ConceptSpace.without_readings(len(table))
    space = space.described(table["description"].fillna("").tolist(), lambda texts: embedder().encode(texts, progress=progress))
    others = arrays if known else {}
    return atlas.with_descriptions(table, arrays={**others, **space.arrays()}, meta={"imported": author})
