"""What the Neurons page reads of an atlas, each part once per server: the atlas, its search, and the table of all neuron sides."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import streamlit as st

from neurons.atlas.store import Atlas, open_atlas
from neurons.concepts.search import SearchIndex
from neurons.core.errors import NotFound
from neurons.core.json_text import json_text
from neurons.core.types import ModelRef, NeuronSide
from neurons.descriptions.edits import Edit, Edits
from neurons.descriptions.kinds import UNCLEAR
from neurons.models.loaded import LoadedModel
from pages.shared.neuron_link import neuron_address

YOURS = {1: "right", -1: "wrong", 0: ""}


@dataclass(frozen=True)
class Known:
    """The model and what is known of its neurons. Parts are read when first asked for."""

    loaded: LoadedModel
    atlas: Atlas | None
    stamp: str
    """Names the atlas as it is now, descriptions included; "" without one."""
    edits: Edits

    @cached_property
    def index(self) -> SearchIndex | None:
        """The descriptions with the user's edits, or None when there are none."""
        return index_of(self.atlas, self.stamp, self.edits) if self.atlas is not None else None

    @property
    def figures(self) -> Atlas | None:
        """The atlas, where it holds more than descriptions."""
        return self.atlas if self.atlas is not None and self.atlas.has_figures else None

    def row(self, side: NeuronSide) -> pd.Series | None:
        """What the table says of one side, or None."""
        if self.index is None:
            return None
        try:
            return self.index.table.iloc[self.index.row(side)]
        except NotFound:
            return None

    def headline(self, side: NeuronSide) -> str:
        """Its headline; "" where there is none."""
        row = self.row(side)
        return str(row["headline"]) if row is not None else (self.edits.get(side).description or "")

    def described(self, side: NeuronSide) -> str:
        """Its description; "" where there is none."""
        row = self.row(side)
        return str(row["description"]) if row is not None else (self.edits.get(side).description or "")


def known(loaded: LoadedModel) -> Known:
    """What is known of a model's neurons. Raises `StoreError` when its atlas is damaged."""
    atlas = open_atlas(loaded.ref)
    if atlas is None:
        return Known(loaded, None, "", Edits.of(loaded.ref))
    stamp = stamp_of(atlas, loaded.ref)
    return Known(loaded, _atlas(stamp, atlas), stamp, Edits.of(atlas.ref))


def stamp_of(atlas: Atlas, ref: ModelRef) -> str:
    """Names an atlas as it is now, descriptions included, and the model it is shown for."""
    return hashlib.sha256(json_text([str(atlas.folder), ref.weights_hash, atlas.manifest], sort_keys=True).encode()).hexdigest()


def index_of(atlas: Atlas, stamp: str, edits: Edits) -> SearchIndex | None:
    """The descriptions of an atlas with the user's edits, or None when there are none. One per server, whichever page asks."""
    try:
        base = _index(stamp, atlas)
    except NotFound:
        return None
    return _edited(stamp, _texts(edits), base, edits)


@st.cache_resource(show_spinner=False, max_entries=3)
def _atlas(stamp: str, _atlas: Atlas) -> Atlas:
    return _atlas


@st.cache_resource(show_spinner="Reading the descriptions of all neurons", max_entries=3)
def _index(stamp: str, _atlas: Atlas) -> SearchIndex:
    return SearchIndex(_atlas)


@st.cache_resource(show_spinner=False, max_entries=3)
def _edited(stamp: str, texts: str, _base: SearchIndex, _edits: Edits) -> SearchIndex:
    return _base.refreshed(_edits)


def _texts(edits: Edits) -> str:
    """What the edits change in the table."""
    return json_text([[str(side), edits.get(side).description] for side in edits.sides()])


def frame(found: Known) -> pd.DataFrame:
    """All described sides as the table shows them, indexed by name; shared, so not to be written to."""
    assert found.index is not None
    edits = found.edits
    marks = {str(side): mark for side in edits.sides() if (mark := marked(edits.get(side)))}
    return _frame(found.stamp, _texts(edits), json_text(marks), found.index)


def marked(edit: Edit) -> str:
    """The user's marks on a side in a few words."""
    said = (YOURS[edit.vote], "locked" if edit.locked else "", "edited" if edit.description is not None and not edit.locked else "")
    return ", ".join(word for word in (*said, "note" if edit.note else "") if word)


@st.cache_resource(show_spinner="Preparing the table of all neurons", max_entries=3)
def _frame(stamp: str, texts: str, marks: str, _index: SearchIndex) -> pd.DataFrame:
    table = _index.table
    name = table["layer"].astype(str) + ":" + table["index"].astype(str) + table["polarity"].astype(str)
    numbers = {column: table[column].to_numpy(np.float32) if column in table else np.nan for column in ("score", "null", "ceiling")}
    shown = pd.DataFrame(
        {
            "neuron": name,
            "layer": table["layer"],
            "index": table["index"],
            "polarity": table["polarity"],
            "headline": table["headline"].fillna(""),
            "writes": table["writes"].fillna(""),
            "description": table["description"].fillna(""),
            "second": table.get("second", pd.Series("", index=table.index)).fillna(""),
            "kind": table.get("kind", UNCLEAR),
            **numbers,
        }
    )
    shown["excess"] = shown["score"] - shown["null"]
    told = json.loads(marks)
    shown["yours"] = [told.get(side, "") for side in name] if told else ""
    shown["address"] = [neuron_address(side) for side in name]
    return shown.set_index(pd.Index(name.to_numpy(object)))
