"""The neighbours of a neuron side, each a link, and the cluster it belongs to among its nearest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import streamlit as st

from neurons.concepts.neighbours import Neighbour, by_description, by_meaning, by_places, by_weights
from neurons.core.errors import InvalidInput, NotFound
from neurons.core.types import NeuronSide
from pages.browse import background, link_list
from pages.browse.background import NeuronTask
from pages.browse.exemplars import key_of
from pages.shared import neuron_table, progress_row, untrusted
from pages.shared.neuron_facts import Known
from pages.shared.neuron_link import neuron_address, opposite, show_here

if TYPE_CHECKING:  # it brings a library that takes seconds to import: only when a cluster is asked for
    from neurons.concepts.clusters import Clustering

TOP = 8
NEAREST = 300
NOISE = -1
RELATIONS = {
    "meaning": ("Alike in meaning", "Cosine of the readings: they fire on texts about the same things"),
    "description": ("Described alike", "Cosine of what the descriptions say"),
    "places": ("Fires at the same places", "Share of this neuron's strongest places in the corpus that are the other's too"),
    "output": ("Writes alike", "Cosine of the output weights: what they add to the model's stream. A negative one names the other side"),
    "input": ("Reads alike", "Cosine of the input weights: what they look for. A negative one names the other side"),
    "gate": ("Gated alike", "Cosine of the gates' weights: when they are open at all"),
}


def draw(found: Known, side: NeuronSide) -> None:
    """Lists of neighbours, computed in the background, and the cluster on demand."""
    other = opposite(side)
    _list(
        "opposite", "The other side", "What the same neuron does with the opposite sign", [_link(found, Neighbour(other, 1.0), figure="")]
    )

    def begin(*, again: bool = False) -> NeuronTask[dict[str, tuple[Neighbour, ...]]]:
        return background.ensure(
            key_of(found, side, "near"), "looking for neighbours", lambda task: neighbours(found, side, task), again=again
        )

    task = begin()
    if not progress_row.watch(task, key="neurons.near") or not background.ended(task, key="neurons.near", retry=lambda: begin(again=True)):
        return
    lists = task.result()
    columns = st.columns(2, gap="medium")
    for number, (name, near) in enumerate(lists.items()):
        title, told = RELATIONS[name]
        with columns[number % 2]:
            _list(name, title, told, [_link(found, one) for one in near])
    if found.index is None:
        st.caption("Neighbours by meaning and description are known once this model's atlas has descriptions.")
    else:
        _cluster(found, side)


def neighbours(found: Known, side: NeuronSide, task: NeuronTask[Any] | None = None) -> dict[str, tuple[Neighbour, ...]]:
    """Every relation that the atlas and the model can tell."""
    index, atlas, loaded = found.index, found.figures, found.loaded
    lists: dict[str, tuple[Neighbour, ...]] = {}
    gated = loaded.sites[side.layer].input_rows()[1] is not None
    for done, name in enumerate(RELATIONS):
        if task is not None:
            task.progress(done, len(RELATIONS), "relations looked at")
        if name in ("meaning", "description"):
            if index is not None:
                try:
                    lists[name] = (by_meaning if name == "meaning" else by_description)(index, side, top=TOP)
                except (InvalidInput, NotFound):  # described without embeddings, or this side is not
                    continue
        elif name == "places":
            if atlas is not None:
                lists[name] = by_places(atlas, side, top=TOP)
        elif name != "gate" or gated:
            lists[name] = by_weights(loaded, side, kind=name, top=TOP)
    return lists


def _link(found: Known, near: Neighbour, *, figure: str | None = None) -> link_list.Link:
    shown = f"{near.nearness:.2f}" if figure is None else figure
    return link_list.Link(str(near.side), neuron_address(near.side), shown, found.headline(near.side))


def _list(name: str, title: str, told: str, rows: Sequence[link_list.Link]) -> None:
    st.markdown(f"**{title}**", help=told)
    if not rows:
        st.caption("None.")
        return
    clicked = link_list.draw(rows, key=f"neurons.near.{name}", title=title)
    if clicked is not None:
        show_here(NeuronSide.parse(clicked))


def _cluster(found: Known, side: NeuronSide) -> None:
    key = key_of(found, side, "cluster")
    task = background.peek(key)

    def begin() -> None:
        background.ensure(key, "clustering its nearest neurons", lambda task: _clustered(found, side, task), again=True)

    st.markdown(
        "**Its cluster**",
        help=f"Its {NEAREST} nearest neurons, by their surest concept; those without one by HDBSCAN over their meanings",
    )
    if task is None or (not task.running and task.left):
        st.button(
            f"Cluster its {NEAREST} nearest", icon=":material/bubble_chart:", key="neurons.cluster.begin", on_click=begin,
            help="Which of its neighbours belong together with it, and what they share",
        )  # fmt: skip
        return
    if not progress_row.watch(task, key="neurons.cluster") or not background.ended(task, key="neurons.cluster", retry=begin):
        return
    _show_cluster(found, side, task.result())


def _clustered(found: Known, side: NeuronSide, task: NeuronTask[Clustering]) -> Clustering:
    from neurons.concepts.clusters import cluster_sides
    from neurons.detectors.store import open_detectors

    assert found.index is not None
    near = by_meaning(found.index, side, top=NEAREST)
    return cluster_sides(
        found.index, [side, *(one.side for one in near)], weights=[1.0, *(one.nearness for one in near)],
        detectors=open_detectors(found.loaded.ref), progress=task.progress,
    )  # fmt: skip


def _show_cluster(found: Known, side: NeuronSide, clustering: Clustering) -> None:
    settings = clustering.settings
    how = (
        f"{clustering.sides} neurons, {sum(c.number != NOISE for c in clustering.clusters)} clusters, {clustering.noise} in none "
        f"(at least {settings.min_size} in a cluster, density over {settings.min_samples} neighbours, "
        f"{settings.breadth}, {settings.components} dimensions)."
    )
    mine = next((c for c in clustering.clusters if side in c.sides), None)
    if mine is None or mine.number == NOISE:
        st.caption(f"It belongs to no cluster of its nearest: {how} {untrusted.escape(clustering.note)}")
        return
    untrusted.draw(
        [(mine.label, "strong"), (f"   {len(mine.sides)} neurons, coherence {mine.coherence:.2f}", "muted")], key="neurons.cluster.label"
    )
    st.caption(f"{how} Coherence is how much more alike its members are than all that were clustered.")
    rows = [link_list.Link(str(one), neuron_address(one), "", found.headline(one)) for one in mine.sides if one != side][:30]
    clicked = link_list.draw(rows, key="neurons.cluster.sides", title="Members of the cluster")
    if clicked is not None:
        show_here(NeuronSide.parse(clicked))
    with st.container(horizontal=True):
        neuron_table.buttons(mine.sides, key="neurons.cluster", ref=found.loaded.ref)
