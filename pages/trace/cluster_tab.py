"""The Clusters tab of the Trace page: the neurons of the open trace, grouped by what they do."""

from __future__ import annotations

import hashlib

import streamlit as st

from neurons.atlas.store import Atlas
from neurons.concepts.clusters import ClusterSettings
from neurons.core.errors import NeuronscopeError, NotFound
from pages.shared import atlas_index, server_wide, strip
from pages.shared.trace_context import TraceContext
from pages.trace import attribution_view, cluster_cards, cluster_choice, cluster_data
from pages.trace.cluster_data import Clusters, Question
from traces.store import Evicted

TOP = 1_000
MOST = 5_000
_DEFAULT = ClusterSettings()
_METHODS = {"leaf": "Many fine ones", "eom": "Fewer, broader ones"}
_AROUND = 250  # pixels beside the strip that are not cards


def draw(context: TraceContext) -> None:
    """Parameters, cards, noise; or what is missing."""
    try:
        atlas = atlas_index.atlas_of(context.record.model)
    except NotFound as error:
        atlas_index.missing(error, what="Clustering by what neurons do")
        return
    except NeuronscopeError as error:
        server_wide.show_error(error)
        return
    place = st.container()
    question = _question(context, atlas)
    if question is None:
        st.info("Click a token in the attribution view first: its causes are what is clustered.", icon=":material/account_tree:")
        return
    try:
        question.settings.check()
        found = cluster_data.clusters(question, context.record.model)
    except Evicted:
        st.info("The activations of this trace were removed to keep the disk budget.", icon=":material/inventory_2:")
        st.caption("The Neurons tab computes them again. The attribution view needs none: it clusters what caused a token.")
        return
    except NeuronscopeError as error:
        server_wide.show_error(error)
        return
    key = hashlib.sha256(repr(question).encode()).hexdigest()[:16]
    cluster_choice.note_asked(key, question)
    with place:
        _about(context, atlas, question, found)
    now = cluster_choice.chosen(context.id)
    marked = now.number if now is not None and now.key == key else None
    height = max(220, strip.room_beside() - _AROUND)
    cluster_cards.draw(found, trace_id=context.id, key=key, by=question.by, chosen=marked, height=height)
    hidden = sum(cluster.number >= 0 for cluster in found.clustering.clusters) - cluster_cards.SHOWN
    if hidden > 0:
        st.caption(f"{hidden:,} weaker clusters are not drawn: raise the smallest size, or take fewer neurons.")


def _question(context: TraceContext, atlas: Atlas) -> Question | None:
    """What the view, the selected tokens and the parameters ask for; None while there is no attribution."""
    top, settings = _parameters()
    by: cluster_data.By = "attribution" if context.view == "attribution" else "activation"
    key = ""
    if by == "attribution":
        stored = attribution_view.current(context)
        if stored is None:
            return None
        key = stored.info.key
    tokens = tuple(strip.positions(context.ranges)) if by == "activation" else ()
    return Question(server_wide.server().store.root.as_posix(), context.id, by, tokens, key, top, settings, atlas_index.stamp(atlas))


def _parameters() -> tuple[int, ClusterSettings]:
    """Neurons taken and the settings of HDBSCAN, folded away; what they are now stands on the button."""
    state = st.session_state
    top = state.get("trace.clusters.top", TOP)
    size = state.get("trace.clusters.size", _DEFAULT.min_size)
    samples = state.get("trace.clusters.samples", _DEFAULT.min_samples)
    method = state.get("trace.clusters.method", _DEFAULT.method)
    components = state.get("trace.clusters.components", _DEFAULT.components)
    label = f"HDBSCAN: {top:,} neurons, at least {size} in a cluster, density over {samples}, {method}, {components} dimensions"
    with st.popover(label, icon=":material/tune:", key="trace.clusters.parameters", help="How the clusters are found; change it here"):
        top = st.slider(
            "Neurons", 50, MOST, TOP, 50, key="trace.clusters.top", persist_state="session", help="The strongest ones are clustered"
        )
        size = st.slider(
            "Smallest cluster", 2, 50, _DEFAULT.min_size, key="trace.clusters.size", persist_state="session",
            help="min_cluster_size: smaller groups are noise",
        )  # fmt: skip
        samples = st.slider(
            "Density over", 1, 25, _DEFAULT.min_samples, key="trace.clusters.samples", persist_state="session",
            help="min_samples: how many neighbours make a place dense; higher calls more neurons noise",
        )  # fmt: skip
        method = st.segmented_control(
            "Clusters", list(_METHODS), default=_DEFAULT.method, format_func=_METHODS.__getitem__, key="trace.clusters.method",
            required=True, persist_state="session", help="cluster_selection_method: leaf or eom",
        )  # fmt: skip
        components = st.slider(
            "Dimensions", 5, 100, _DEFAULT.components, 5, key="trace.clusters.components", persist_state="session",
            help="Principal components of the meanings in which distances are taken",
        )  # fmt: skip
    return top, ClusterSettings(size, samples, method or _DEFAULT.method, components)


def _about(context: TraceContext, atlas: Atlas, question: Question, found: Clusters) -> None:
    clustering = found.clustering
    groups = sum(cluster.number >= 0 for cluster in clustering.clusters)
    if question.by == "attribution":
        where = f"with the largest attribution for token {attribution_view.focus(context)[0]}"
    else:
        where = f"most active at token {strip.spoken(context.ranges)}" if context.ranges else "most active at any token but the first"
    noise = f"{clustering.noise:,} belong to no cluster (noise)"
    st.caption(
        f"The {clustering.sides:,} neurons {where}: {groups} cluster{'s' if groups != 1 else ''}, {noise}. "
        f"By {question.by}: the view above decides. Hover a card to see where it acts; click it to filter the Neurons tab."
    )
    if clustering.note:
        st.caption(f":material/info: {clustering.note}.")
    if atlas.info.note:
        st.caption(f":material/info: The atlas: {atlas.info.note}.".replace("$", "\\$"))
