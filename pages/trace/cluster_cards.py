"""The cards of the Clusters tab."""

from __future__ import annotations

from typing import Any

import numpy as np

from neurons.concepts.clusters import STABLE, Cluster
from neurons.concepts.density import NOISE
from neurons.concepts.steers import STRENGTHS
from neurons.core.percent import percent
from pages.shared.neuron_link import neuron_address
from pages.trace import cards
from pages.trace.cluster_data import By, Clusters

KEY = "trace.clusters.cards"
SHOWN = 60
"""Cards drawn at once; the noise comes on top."""
BUTTONS = (
    cards.Button("suppress", "Suppress", "A steer that holds these neurons at 0, on a card of the Steer tab"),
    cards.Button(
        "strengthen", "Strengthen", f"A steer that holds these neurons at {STRENGTHS['strengthen']:g} of their strongest activation"
    ),
    cards.Button("keep", "Keep", "Save these neurons as a concept"),
)
_MEMBERS = 4
_HINTS: dict[By, str] = {
    "activation": "Sum of the members' strength (activation, 1.0 is as strong as 1 in 100,000 tokens of the atlas's corpus). ",
    "attribution": "Sum of the members' attributions: above 0 the cluster promoted the token, below 0 it suppressed it. ",
}
_COHERENCE = "Coherence: how much more alike the members are (mean cosine) than all neurons clustered; 0 is no better than chance. "
_MADE = {
    "concept": "Its members' strongest concept is sure and is this one, or of this field.",
    "likeness": "Found by likeness (HDBSCAN). Stability: how much of it comes back when a fifth of the other neurons is left out; "
    f"under {STABLE:g} it is unstable.",
    "noise": "None of them has a sure concept, and they resemble no group.",
}


def draw(found: Clusters, *, trace_id: str, key: str, by: By, chosen: int | None, height: int) -> None:
    """Draw the cards of `found`, the noise last; `key` names this clustering, `chosen` the card that is marked."""
    everything = found.clustering.clusters
    rows = [row for row, cluster in enumerate(everything) if cluster.number != NOISE][:SHOWN]
    rows += [row for row, cluster in enumerate(everything) if cluster.number == NOISE]
    largest = max((abs(cluster.weight) for cluster in everything if cluster.number != NOISE), default=1.0) or 1.0
    cards.draw(
        [_card(found, everything[row], found.tint_CT[row], by, largest) for row in rows],
        key=KEY,
        trace_id=trace_id,
        question=key,
        scale="amount" if by == "activation" else "diverging",
        chosen=chosen,
        height=height,
    )


def _card(found: Clusters, cluster: Cluster, tint_T: np.ndarray[Any, Any], by: By, largest: float) -> cards.Card:
    noise, label, size = cluster.number == NOISE, label_of(cluster), len(cluster.sides)
    return cards.Card(
        number=cluster.number,
        label=label,
        aside=f"{size} neuron{'s' if size != 1 else ''}",
        spoken=f"{'Noise' if noise else 'Cluster'}: {label}, {size} neurons",
        facts=_facts(cluster, by),
        hint=_HINTS[by] + ("" if noise else _COHERENCE) + _MADE[cluster.kind],
        tint=cards.rounded(tint_T),
        members=[(str(side), neuron_address(side), text, said(weight, by)) for side, weight, text in found.members(cluster, _MEMBERS)],
        size=size,
        bar=None if noise else round(cluster.weight / largest, 3),
        faint=noise or cluster.unstable,
        buttons=BUTTONS,
    )


def _facts(cluster: Cluster, by: By) -> str:
    """Total and share; how alike; how stable."""
    parts = [f"{by} {said(cluster.weight, by)} ({percent(cluster.share)} of all)"]
    if cluster.number == NOISE:
        return f"Noise: {parts[0]}"
    parts.append(f"coherence {cluster.coherence:.2f}")
    if cluster.stability is not None:
        parts.append(f"{'unstable' if cluster.unstable else 'stability'} {cluster.stability:.2f}")
    return ", ".join(parts)


def label_of(cluster: Cluster) -> str:
    """What a cluster is called on the page."""
    return "In no cluster" if cluster.number == NOISE else cluster.label


def said(weight: float, by: By) -> str:
    """A weight as people read it."""
    return f"{weight:.2f}" if by == "activation" else f"{weight:+.4f}"
