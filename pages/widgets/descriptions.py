"""What is known of neurons in words: the descriptions of the model's atlas, where there is one."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping

import streamlit as st

from neurons.atlas.store import Atlas, open_atlas
from neurons.describe.edits import Edits
from neurons.errors import NeuronscopeError, StoreError
from neurons.types import ModelRef


def descriptions_for(ref: ModelRef) -> Mapping[str, str]:
    """Description of each described neuron side of a model, by its name such as "17:803+": the user's own, else the atlas's."""
    try:
        atlas = open_atlas(ref)
    except StoreError:  # the Atlas page says what is wrong with it
        return {}
    own = _own(atlas.ref if atlas is not None else ref)
    entry = atlas.manifest.get("descriptions") if atlas is not None else None
    if atlas is None or entry is None:
        return own
    return ChainMap(own, _read(str(atlas.folder), entry["table"], atlas))


def _own(ref: ModelRef) -> dict[str, str]:
    """What the user wrote, by the neuron's name."""
    try:
        edits = Edits.of(ref)
    except NeuronscopeError:  # the Neurons page says what is wrong with them
        return {}
    return {str(side): text for side in edits.sides() if (text := edits.get(side).description) is not None}


@st.cache_resource(show_spinner="Reading the descriptions", max_entries=3)
def _read(folder: str, name: str, _atlas: Atlas) -> dict[str, str]:
    table = _atlas.descriptions()
    if table is None:
        return {}
    names = table["layer"].astype(str) + ":" + table["index"].astype(str) + table["polarity"].astype(str)
    return dict(zip(names, table["description"].fillna("").astype(str), strict=True))
