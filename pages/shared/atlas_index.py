"""The search index of a model's atlas, built once per server and shared by every page that looks neurons up by what they do."""

from __future__ import annotations

import streamlit as st

from neurons.atlas.store import Atlas, open_atlas
from neurons.concepts.search import SearchIndex
from neurons.core.errors import NeuronscopeError, NotFound
from neurons.core.home import home
from neurons.core.types import ModelRef
from neurons.descriptions.edits import Edits
from pages.shared import address, neuron_facts


def stamp(atlas: Atlas) -> str:
    """What identifies an atlas, its descriptions and the user's edits of them."""
    edits = max((path.stat().st_mtime_ns for path in (home() / "descriptions").glob("*.json")), default=0)
    table = (atlas.manifest.get("descriptions") or {}).get("table", "")
    return f"{atlas.folder}/{atlas.manifest.get('created')}/{table}/{edits}"


def atlas_of(ref: ModelRef) -> Atlas:
    """The model's atlas. Raises `NotFound` when it has none, or none with descriptions; `StoreError` when it is damaged."""
    atlas = open_atlas(ref)
    if atlas is None:
        raise NotFound(f"there is no atlas of {ref.name} yet")
    if "descriptions" not in atlas.manifest:
        raise NotFound(f"the atlas of {ref.name} has no descriptions yet")
    return atlas


def open_index(ref: ModelRef) -> SearchIndex:
    """The index of the model's atlas with the user's edits. Raises what `atlas_of` raises."""
    atlas = atlas_of(ref)
    index = neuron_facts.index_of(atlas, neuron_facts.stamp_of(atlas, ref), Edits.of(atlas.ref))
    if index is None:
        raise NotFound(f"the atlas of {ref.name} has no descriptions yet")
    return index


def missing(error: NeuronscopeError, *, what: str) -> None:
    """Say that `what` needs a described atlas, and lead to the page that makes one."""
    st.info(f"{what} needs the model's atlas, with descriptions.", icon=":material/map:")
    st.text(str(error))
    address.link("atlas", "Build, describe or import one on the Atlas page", icon=":material/map:")
