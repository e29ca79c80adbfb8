"""The cards of the Clusters tab: drawn by cluster_cards.js, which tints the strip while a card is hovered or has the focus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from neurons.concepts.clusters import NOISE, Cluster
from neurons.concepts.steers import STRENGTHS
from pages.shared.neuron_link import neuron_address
from pages.shared.palette import PALETTE
from pages.trace.cluster_data import By, Clusters

KEY = "trace.clusters.cards"
SHOWN = 60
"""Cards drawn at once; the noise comes on top."""
_MEMBERS = 4
_FOLDER = Path(__file__).parent
_HINTS: dict[By, str] = {
    "activation": "Sum of the members' strength (activation, 1.0 is as strong as 1 in 100,000 tokens of the atlas's corpus). ",
    "attribution": "Sum of the members' attributions: above 0 the cluster promoted the token, below 0 it suppressed it. ",
}
_COHERENCE = "Coherence: how much more alike the members are (mean cosine) than all neurons clustered; 0 is no better than chance."

_mount = st.components.v2.component(
    "neuronscope_clusters",
    css=(_FOLDER / "cluster_cards.css").read_text("utf-8"),
    js=(_FOLDER / "cluster_cards.js").read_text("utf-8"),
)


def draw(found: Clusters, *, trace_id: str, key: str, by: By, chosen: int | None, height: int) -> None:
    """Draw the cards of `found`; `key` names this clustering, `chosen` the card that is marked. What is clicked is in the session."""
    _mount(key=KEY, data=payload(found, trace_id=trace_id, key=key, by=by, chosen=chosen, height=height), on_event_change=_ignore)


def payload(found: Clusters, *, trace_id: str, key: str, by: By, chosen: int | None, height: int) -> dict[str, Any]:
    """The cards as JSON-able data, the noise last."""
    everything = found.clustering.clusters
    rows = [row for row, cluster in enumerate(everything) if cluster.number != NOISE][:SHOWN]
    rows += [row for row, cluster in enumerate(everything) if cluster.number == NOISE]
    largest = max((abs(cluster.weight) for cluster in everything if cluster.number != NOISE), default=1.0) or 1.0
    return {
        "trace_id": trace_id,
        "key": key,
        "chosen": chosen,
        "height": height,
        "scale": "amount" if by == "activation" else "diverging",
        "unit": by,
        "hint": _HINTS[by] + _COHERENCE,
        "strengthen": f"{STRENGTHS['strengthen']:g}",
        "cards": [_card(found, everything[row], found.tint_CT[row], by, largest) for row in rows],
        "palette": PALETTE,
    }


def _card(found: Clusters, cluster: Cluster, tint_T: np.ndarray[Any, Any], by: By, largest: float) -> dict[str, Any]:
    return {
        "number": cluster.number,
        "label": label_of(cluster),
        "size": len(cluster.sides),
        "coherence": f"{cluster.coherence:.2f}",
        "weight": float(cluster.weight),
        "said": said(cluster.weight, by),
        "length": round(abs(cluster.weight) / largest, 3),
        "tint": [round(float(value), 2) for value in tint_T],
        "members": [[str(side), neuron_address(side), text, said(weight, by)] for side, weight, text in found.members(cluster, _MEMBERS)],
    }


def label_of(cluster: Cluster) -> str:
    """What a cluster is called on the page."""
    return "In no cluster" if cluster.number == NOISE else cluster.label


def said(weight: float, by: By) -> str:
    """A weight as people read it."""
    return f"{weight:.2f}" if by == "activation" else f"{weight:+.4f}"


def _ignore() -> None:
    """A state value needs a callback to be part of the result."""
