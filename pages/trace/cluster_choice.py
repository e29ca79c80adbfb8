"""What a person did to the cards of the Clusters tab, known before the rest of the Trace page is drawn.

A chosen cluster tints the tokens of the strip and narrows the Neurons table, until it is let go.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from neurons.concepts.clusters import Cluster
from neurons.concepts.sets import Concept, SavedConcepts
from neurons.concepts.steers import STRENGTHS, Action
from neurons.core.errors import NeuronscopeError
from neurons.core.names import MAX_NAME
from neurons.core.steers import Steer
from neurons.core.types import ModelRef
from pages.shared import server_wide, steer_state, untrusted
from pages.shared.strip import Strip
from pages.shared.trace_context import TraceContext
from pages.trace import cluster_cards, cluster_data
from pages.trace.cluster_data import By, Question

_CHOSEN = "trace.clusters.chosen"
_HEARD = "trace.clusters.heard"
_ASKED = "trace.clusters.asked"
_MOST = 500  # neurons in one steer


@dataclass(frozen=True, eq=False)
class Chosen:
    """The group of neurons that was clicked."""

    trace_id: str
    key: str
    """Of the clustering it belongs to."""
    number: int
    label: str
    by: By
    names: frozenset[str]
    tint_T: np.ndarray[Any, Any]
    what: str = "cluster"
    """What it is: a cluster or a concept."""


def note_asked(key: str, question: Question) -> None:
    """Remember what the cards on the page show, so that a click on one of them can be understood."""
    st.session_state[_ASKED] = (key, question)


def chosen(trace_id: str) -> Chosen | None:
    """The chosen cluster of this trace."""
    kept: Chosen | None = st.session_state.get(_CHOSEN)
    return kept if kept is not None and kept.trace_id == trace_id else None


def choose(one: Chosen) -> None:
    """Tint the strip and narrow the tables by a group of neurons."""
    st.session_state[_CHOSEN] = one


def let_go() -> None:
    """Choose no group any more."""
    st.session_state.pop(_CHOSEN, None)


def hear(context: TraceContext) -> None:
    """Do what was clicked since the last run: choose a cluster, steer it, keep it."""
    event = (st.session_state.get(cluster_cards.KEY) or {}).get("event")
    asked = st.session_state.get(_ASKED)
    if not isinstance(event, dict) or asked is None or event.get("nonce") == st.session_state.get(_HEARD):
        return
    st.session_state[_HEARD] = event.get("nonce")
    key, question = asked
    if event.get("trace_id") != context.id or event.get("key") != key:
        return
    try:
        found = cluster_data.clusters(question, context.record.model)
    except NeuronscopeError:
        return  # the tab meets it again, and shows it there
    row = next((row for row, one in enumerate(found.clustering.clusters) if one.number == event.get("number")), None)
    if row is None:
        return
    cluster, action = found.clustering.clusters[row], event.get("action")
    if action == "choose":
        now = chosen(context.id)
        if now is not None and (now.key, now.number) == (key, cluster.number):
            let_go()
        else:
            names = frozenset(map(str, cluster.sides))
            label = cluster_cards.label_of(cluster)
            choose(Chosen(context.id, key, cluster.number, label, question.by, names, found.tint_CT[row]))
    elif action in ("suppress", "strengthen"):
        steer(cluster, action)
    elif action == "keep":
        keep(cluster, context.record.model, context.id)


def steer(cluster: Cluster, action: Action) -> None:
    """A card in the Steer tab."""
    sides = cluster.sides[:_MOST]
    steer_state.add(Steer(sides, "set", STRENGTHS[action], name=f"{action.capitalize()} {cluster.label}"[:120]))
    most = f" (the strongest of {len(cluster.sides):,})" if len(sides) < len(cluster.sides) else ""
    st.toast(f"{action.capitalize()}: {len(sides)} neurons{most} are on a new card in the Steer tab.", icon=":material/tune:")


def keep(cluster: Cluster, ref: ModelRef, trace_id: str) -> None:
    """A concept named after the cluster's label."""
    save(cluster.label, Concept.of(cluster.sides, ref=ref, origin=f"cluster of trace {trace_id}"))


def save(label: str, concept: Concept) -> None:
    """Save a concept of the user's own under a free name made from `label`."""
    saved = SavedConcepts()
    wanted = " ".join(label.split())[: MAX_NAME - 8] or "concept"
    name = next(text for n in range(1, 10_000) if (text := wanted if n == 1 else f"{wanted} {n}") not in saved)
    try:
        saved.save(name, concept)
    except NeuronscopeError as error:
        server_wide.show_error(error)
        return
    st.toast(f"Kept {len(concept.sides)} neurons as the concept “{untrusted.escape(name)}”.", icon=":material/bookmark_added:")


def tinted(context: TraceContext, shown: Strip) -> Strip:
    """The strip with the tint of the chosen cluster, where one is chosen."""
    now = chosen(context.id)
    if now is None or len(now.tint_T) != len(shown.pieces):
        return shown
    hint = f"How strongly the {now.what} “{now.label}” fires at each token, its strongest token in full colour."
    if now.by == "attribution":
        hint = f"What the {now.what} “{now.label}” did at each token for the target: blue promoted it, orange suppressed it."
    ends = ("none", f"{now.what} active") if now.by == "activation" else ("suppressing", "promoting")
    return replace(
        shown, tint_T=now.tint_T, scale="amount" if now.by == "activation" else "diverging", low=ends[0], high=ends[1], hint=hint
    )


def line_height(context: TraceContext) -> int:
    """Pixels that the line of `narrowed` takes: 0 while no cluster is chosen."""
    return 56 if chosen(context.id) is not None else 0


def narrowed(context: TraceContext, frame: pd.DataFrame, *, key: str) -> pd.DataFrame:
    """Only the chosen cluster's rows of a table of neurons, with a line above that says so and lets it go."""
    now = chosen(context.id)
    if now is None:
        return frame
    kept = frame[frame["neuron"].isin(now.names)]
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"{key}.cluster"):
        here = f": {kept['neuron'].nunique():,} of its {len(now.names):,} neurons are here."
        untrusted.draw(
            [(f"Only the {now.what} ", "muted"), (now.label, "selection"), (here, "muted")],
            key=f"{key}.cluster.name",
            size="0.85rem",
        )
        st.button("Show all", icon=":material/filter_alt_off:", key=f"{key}.cluster.clear", on_click=let_go, help="Show all neurons again")
    return kept
