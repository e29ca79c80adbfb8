"""Where neurons fire most: in a tooltip over a table's rows, and over the way to a neuron's page."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import streamlit as st

from neurons.atlas.store import Atlas, open_atlas
from neurons.core.errors import NeuronscopeError
from neurons.core.types import ModelRef, NeuronSide
from neurons.models.chat import token_pieces, token_text
from neurons.models.loaded import LoadedModel
from pages.shared import atlas_index, palette, server_wide
from pages.shared.kept import kept
from pages.shared.untrusted import escape

Place = tuple[str, str, str]
"""The text before a peak, the peak's token, the text after it."""
_LINES = 3
_ON_ROWS = 2
ROWS = 100
"""So many of a table's rows show it: those that stand first."""
_CONTEXT = (8, 4)

_mount = st.components.v2.component(
    "neuronscope_row_examples",
    css=Path(__file__).with_name("row_examples.css").read_text("utf-8"),
    js=Path(__file__).with_name("row_examples.js").read_text("utf-8"),
)


def on_rows(names: Iterable[str], ref: ModelRef, *, key: str) -> None:
    """Where the neurons of the table that was drawn before this fire most, over the rows of its first hundred and with the arrow keys."""
    shown = list(dict.fromkeys(names))[:ROWS]
    found = strongest(tuple(shown), ref)
    if found:
        colours = palette.PALETTE[palette.theme()]
        _mount(key=key, data={"places": {name: places[:_ON_ROWS] for name, places in found.items()}, "palette": colours}, height="content")


def tip(side: NeuronSide, ref: ModelRef) -> str:
    """The strongest places of the atlas's corpus, each peak between « and », escaped for Markdown; "" where there are none."""
    places = strongest((str(side),), ref).get(str(side), ())
    return "  \n".join(escape(" ".join(f"{before}«{word}»{after}".split())) for before, word, after in places)


def strongest(names: tuple[str, ...], ref: ModelRef) -> dict[str, tuple[Place, ...]]:
    """The strongest places of neurons named "17:803+", those that the atlas has any of; none while their model is not loaded."""
    loaded = server_wide.model_with(ref.weights_hash)
    try:
        atlas = open_atlas(ref)
        if loaded is None or atlas is None or not atlas.has_figures:
            return {}
        return _strongest(names, ref.weights_hash, atlas_index.stamp(atlas), loaded, atlas)
    except NeuronscopeError:  # the neuron's page says what is wrong
        return {}


@kept()
def _strongest(names: tuple[str, ...], weights: str, stamp: str, _loaded: LoadedModel, _atlas: Atlas) -> dict[str, tuple[Place, ...]]:
    found: dict[str, tuple[Place, ...]] = {}
    for name in names:
        side = NeuronSide.parse(name)
        places = []
        for one in _atlas.exemplars(side.layer, side.index, side.polarity, context=_CONTEXT, most=_LINES):
            pieces = token_pieces(_loaded, one.ids)
            peak = pieces[one.peak] or token_text(_loaded, one.ids[one.peak])  # "" after a character's first token
            places.append(("".join(pieces[: one.peak]), peak, "".join(pieces[one.peak + 1 :])))
        if places:
            found[name] = tuple(places)
    return found
