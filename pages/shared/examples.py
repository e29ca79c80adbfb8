"""Where a neuron fires most, in a few lines for a tooltip."""

from __future__ import annotations

from neurons.atlas.store import Atlas, open_atlas
from neurons.core.errors import NeuronscopeError
from neurons.core.types import ModelRef, NeuronSide
from neurons.models.chat import decode
from neurons.models.loaded import LoadedModel
from pages.shared import atlas_index, server_wide
from pages.shared.kept import kept
from pages.shared.untrusted import escape

_SHOWN = 3
_CONTEXT = (8, 4)


def tip(side: NeuronSide, ref: ModelRef) -> str:
    """The strongest places of the atlas's corpus, each peak between « and », escaped for Markdown; "" where there are none."""
    loaded = server_wide.model_with(ref.weights_hash)
    try:
        atlas = open_atlas(ref)
        if loaded is None or atlas is None or not atlas.has_figures:
            return ""
        return _tip(str(side), ref.weights_hash, atlas_index.stamp(atlas), loaded, atlas)
    except NeuronscopeError:  # the neuron's page says what is wrong
        return ""


@kept()
def _tip(name: str, weights: str, stamp: str, _loaded: LoadedModel, _atlas: Atlas) -> str:
    side = NeuronSide.parse(name)
    lines = []
    for one in _atlas.exemplars(side.layer, side.index, side.polarity, context=_CONTEXT)[:_SHOWN]:
        parts = (one.ids[: one.peak], one.ids[one.peak : one.peak + 1], one.ids[one.peak + 1 :])
        before, word, after = (decode(_loaded, ids) for ids in parts)
        lines.append(escape(" ".join(f"{before}«{word}»{after}".split())))
    return "  \n".join(lines)
