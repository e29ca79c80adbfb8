"""What is known of a model's neurons in words: what the user wrote, else the atlas's headlines, and its descriptions below them."""

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
from neurons.descriptions.old_headlines import headlines_of


def known_headlines(ref: ModelRef) -> Mapping[str, str]:
    """At most eight plain words on each described neuron side, by its name such as "17:803+"; empty where nothing is known.

    A text that the user wrote stands in its place, whole. Edits that cannot be read are left out (the Neurons page says what is wrong with
    them). Raises `StoreError` for a damaged atlas.
    """
    return _known(ref, 0)


def known_descriptions(ref: ModelRef) -> Mapping[str, str]:
    """The line of detail of each described neuron side, otherwise as `known_headlines`."""
    return _known(ref, 1)


def _known(ref: ModelRef, which: int) -> Mapping[str, str]:
    atlas = open_atlas(ref)
    own: dict[str, str] = {}
    with suppress(NeuronscopeError):
        own = {str(side): text for side, text in Edits.of(ref if atlas is None else atlas.ref).written().items()}
    entry = None if atlas is None else atlas.manifest.get("descriptions")
    return own if atlas is None or entry is None else ChainMap(own, _tables(atlas.folder, entry["table"])[which])


@lru_cache(maxsize=3)
def _tables(folder: Path, _table_name: str) -> tuple[dict[str, str], dict[str, str]]:
    """(headlines, descriptions) of an atlas; another table, another name."""
    table = open_folder(folder).descriptions()
    if table is None:
        return {}, {}
    names = table["layer"].astype(str) + ":" + table["index"].astype(str) + table["polarity"].astype(str)
    texts = (headlines_of(table), table["description"].fillna("").astype(str))
    found = [dict(zip(names, column, strict=True)) for column in texts]
    return found[0], found[1]
