"""What is known of a model's neurons in words: what the user wrote, else the atlas's descriptions."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from neurons.atlas.store import open_atlas, open_folder
from neurons.core.errors import NeuronscopeError
from neurons.core.types import ModelRef
from neurons.descriptions.edits import Edits


def known_descriptions(ref: ModelRef) -> Mapping[str, str]:
    """Description of each described neuron side by its name such as "17:803+"; empty where nothing is known.

    Edits that cannot be read are left out (the Neurons page says what is wrong with them). Raises `StoreError` for a damaged atlas.
    """
    atlas = open_atlas(ref)
    own: dict[str, str] = {}
    with suppress(NeuronscopeError):
        own = {str(side): text for side, text in Edits.of(ref if atlas is None else atlas.ref).written().items()}
    entry = None if atlas is None else atlas.manifest.get("descriptions")
    return own if atlas is None or entry is None else ChainMap(own, _table(atlas.folder, entry["table"]))


@lru_cache(maxsize=3)
def _table(folder: Path, _table_name: str) -> dict[str, str]:
    """The table of an atlas; another table, another name."""
    table = open_folder(folder).descriptions()
    if table is None:
        return {}
    names = table["layer"].astype(str) + ":" + table["index"].astype(str) + table["polarity"].astype(str)
    return dict(zip(names, table["description"].fillna("").astype(str), strict=True))
