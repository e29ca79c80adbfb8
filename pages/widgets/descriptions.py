"""What is known of neurons in words: the descriptions of the model's atlas, where there is one."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from neurons.atlas.store import Atlas, open_atlas
from neurons.errors import StoreError
from neurons.types import ModelRef


def descriptions_for(ref: ModelRef) -> Mapping[str, str]:
    """Description of each described neuron side of a model, by its name such as "17:803+"; empty without an atlas."""
    try:
        atlas = open_atlas(ref)
    except StoreError:  # the Atlas page says what is wrong with it
        return {}
    entry = atlas.manifest.get("descriptions") if atlas is not None else None
    if atlas is None or entry is None:
        return {}
    return _read(str(atlas.folder), entry["table"], atlas)


@st.cache_resource(show_spinner="Reading the descriptions", max_entries=3)
def _read(folder: str, name: str, _atlas: Atlas) -> Mapping[str, str]:
    table = _atlas.descriptions()
    if table is None:
        return {}
    names = table["layer"].astype(str) + ":" + table["index"].astype(str) + table["polarity"].astype(str)
    return dict(zip(names, table["description"].fillna("").astype(str), strict=True))
