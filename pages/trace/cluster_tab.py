"""The Clusters tab of the Trace page: the neurons of the open trace, grouped by what they do."""

from __future__ import annotations

import hashlib

import streamlit as st

from neurons.atlas.store import Atlas
from neurons.concepts.density import FORMER, NOISE, ClusterSettings
from neurons.core.errors import NeuronscopeError, NotFound
from neurons.core.percent import percent
from neurons.detectors.store import detectors_stamp
from neurons.tracing.words import meant_positions
from pages.shared import atlas_index, server_wide, strip, untrusted
from pages.shared.trace_context import TraceContext
from pages.trace import attribution_view, cluster_cards, cluster_choice, cluster_data, cluster_tree
from pages.trace.cluster_data import Clusters, Question
from traces.store import Evicted

TOP = 1_000
MOST = 5_000
_DEFAULT = ClusterSettings()
_BREADTHS = {"broad": "Broad", "fine": "Fine"}
_BREADTH = "trace.clusters.method"  # earlier versions kept leaf or eom under this name
_TREE = "trace.clusters.tree"
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
        st.caption("What is clustered is what caused the token.")
        attribution_view.missing(context)
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
        st.caption(f"{hidden:,} weaker clusters are not drawn: choose Broad, raise the smallest size, or take fewer neurons.")
    cluster_tree.draw(found.clustering.tree, key=f"{_TREE}.{key}", stem=f"clusters-{context.id}")


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
    tokens = meant_positions(context.record, context.ranges) if by == "activation" else ()
    root, known = server_wide.server().store.root.as_posix(), detectors_stamp(context.record.model)
    return Question(root, context.id, by, tokens, key, top, settings, atlas_index.stamp(atlas), known)


def _parameters() -> tuple[int, ClusterSettings]:
    """Broad or fine; the rest is folded away, and what it is now stands on the button."""
    state = st.session_state
    top = state.get("trace.clusters.top", TOP)
    size = state.get("trace.clusters.size", _DEFAULT.min_size)
    samples = state.get("trace.clusters.samples", _DEFAULT.min_samples)
    breadth = _breadth()
    components = state.get("trace.clusters.components", _DEFAULT.components)
    label = f"{top:,} neurons, at least {size} in a cluster, density over {samples}, {components} dimensions"
    with st.popover(label, icon=":material/tune:", key="trace.clusters.parameters", help="How the clusters are found; change it here"):
        top = st.slider(
            "Neurons", 50, MOST, TOP, 50, key="trace.clusters.top", persist_state="session", help="The strongest ones are clustered"
        )
        size = st.slider(
            "Smallest cluster", 2, 50, _DEFAULT.min_size, key="trace.clusters.size", persist_state="session",
            help="Of a field, and of a group found by likeness (min_cluster_size): smaller ones are noise",
        )  # fmt: skip
        samples = st.slider(
            "Density over", 1, 25, _DEFAULT.min_samples, key="trace.clusters.samples", persist_state="session",
            help="min_samples: how many neighbours make a place dense; higher calls more neurons noise",
        )  # fmt: skip
        components = st.slider(
            "Dimensions", 5, 100, _DEFAULT.components, 5, key="trace.clusters.components", persist_state="session",
            help="Principal components of the meanings in which distances are taken",
        )  # fmt: skip
    return top, ClusterSettings(size, samples, breadth, components)


def _breadth() -> str:
    """Broad or fine, above the folded parameters."""
    state = st.session_state
    if state.get(_BREADTH) in FORMER:
        state[_BREADTH] = FORMER[state[_BREADTH]]
    chosen = st.segmented_control(
        "Clusters", list(_BREADTHS), default=_DEFAULT.breadth, format_func=_BREADTHS.__getitem__, key=_BREADTH, required=True,
        persist_state="session",
        help="Neurons are grouped by the concept they are most surely for. Broad: by its field, such as food. Fine: by the concept itself "
        "where at least 3 share it, such as fruit. Neurons without a sure concept are then grouped by likeness (HDBSCAN).",
    )  # fmt: skip
    return chosen or _DEFAULT.breadth


def _about(context: TraceContext, atlas: Atlas, question: Question, found: Clusters) -> None:
    clustering = found.clustering
    groups = sum(cluster.number >= 0 for cluster in clustering.clusters)
    if question.by == "attribution":
        where = f"with the largest attribution for token {attribution_view.focus(context)[0]}"
    else:
        where = f"most active at token {strip.spoken(context.ranges)}" if context.ranges else "most active at any word"
    share = sum(cluster.share for cluster in clustering.clusters if cluster.number == NOISE)
    noise = f"{clustering.noise:,} belong to no cluster (noise), with {percent(share)} of the {question.by}"
    st.caption(
        f"The {clustering.sides:,} neurons {where}: {groups} cluster{'s' if groups != 1 else ''}, {noise}. "
        f"By {question.by}: the view above decides. Hover a card to see where it acts; click it to filter the Neurons tab."
    )
    if clustering.note:
        st.caption(f":material/info: {untrusted.escape(clustering.note)}.")
    if atlas.info.note:
        st.caption(f":material/info: The atlas: {atlas.info.note}.".replace("$", "\\$"))
