"""The Clusters tab of the Trace page on a tiny model with a described atlas."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from neurons.concepts.active import active_sides
from neurons.concepts.clusters import cluster_sides
from neurons.concepts.density import NOISE, ClusterSettings
from neurons.concepts.search import SearchIndex
from neurons.concepts.sets import SavedConcepts
from neurons.core.percent import percent
from neurons.core.types import NeuronSide
from neurons.tracing.words import word_positions
from pages.shared import server_wide
from pages.shared.neuron_link import neuron_address
from pages.trace import cluster_cards
from tests.support.app_pages import open_page, texts
from tests.support.described_pages import installed
from traces.schema import TraceRecord

pytestmark = pytest.mark.usefixtures("app_home")
SETTINGS = ClusterSettings(3, 2, "broad", 20)


def tab(record: TraceRecord, **query: str) -> AppTest:
    """The Clusters tab with settings that find groups among few neurons; "eom" is what an earlier version kept for "broad"."""
    app = open_page("trace", trace=record.id, **query)
    app.session_state["trace.tab"] = "Clusters"
    for name, value in (("size", 3), ("samples", 2), ("method", "eom"), ("components", 20), ("top", 250)):
        app.session_state[f"trace.clusters.{name}"] = value
    return app.run()


def cards(app: AppTest) -> dict[str, Any]:
    """What the component was told to draw."""
    return dict(json.loads(next(proto.json for proto in protos(app.main) if getattr(proto, "component_name", "") == "neuronscope_cards")))


def protos(block: Any) -> Iterator[Any]:
    for child in block.children.values():
        if hasattr(child, "children"):
            yield from protos(child)
        else:
            yield child.proto


def click(app: AppTest, number: int, action: str, nonce: str) -> AppTest:
    data = cards(app)
    event = {"trace_id": data["trace_id"], "key": data["key"], "number": number, "action": action, "nonce": nonce}
    app.session_state[cluster_cards.KEY] = {"event": event}
    return app.run()


def test_without_an_atlas_it_leads_to_the_atlas_page(record: TraceRecord) -> None:
    app = tab(record)
    assert not app.exception
    assert "needs the model's atlas" in texts(app)


@pytest.mark.usefixtures("described")
def test_cards_are_the_engines_clusters(record: TraceRecord) -> None:
    app = tab(record)
    assert not app.exception
    acts_LTI = server_wide.store().read(record.id, "activations")
    norm_2LI = installed().quantile(1e-5)
    active = active_sides(acts_LTI, norm_2LI, tokens=word_positions(record), top=250)
    truth = cluster_sides(SearchIndex(installed()), active.sides, weights=active.weights, settings=SETTINGS)
    shown = cards(app)["cards"]
    assert [card["size"] for card in shown] == [len(cluster.sides) for cluster in truth.clusters]
    assert [card["number"] for card in shown][-1] == NOISE
    first, cluster = shown[0], truth.clusters[0]
    assert first["label"] == cluster.label
    assert app.session_state["trace.clusters.method"] == "broad"
    assert [card["faint"] for card in shown] == [c.unstable or c.number == NOISE for c in truth.clusters]
    assert f"{percent(cluster.share)} of all" in first["facts"]
    assert cluster.stability is not None
    assert first["facts"].endswith(f"stab{'ility' if cluster.stability >= 0.6 else 'le'} {cluster.stability:.2f}")
    assert f"{percent(truth.clusters[-1].share)} of all" in shown[-1]["facts"]
    assert [button["action"] for button in shown[-1]["buttons"]] == ["suppress", "strengthen", "keep"]
    assert any("part from each other" in expander.label for expander in app.expander)
    assert "neuronscope atlas concepts" in texts(app).replace("\\", "")
    assert [row[0] for row in first["members"]] == [str(side) for side in cluster.sides[:4]]
    assert first["members"][0][1] == neuron_address(cluster.sides[0])
    expected = np.zeros(acts_LTI.shape[1])
    for side in cluster.sides:
        value = acts_LTI[side.layer, :, side.index].astype(float) / norm_2LI[int(side.polarity == "-"), side.layer, side.index]
        expected += np.maximum(value, 0)
    assert np.allclose(first["tint"][1:], (expected / expected[1:].max())[1:], atol=0.006)
    assert f"{truth.noise:,} belong to no cluster (noise)" in texts(app)


@pytest.mark.usefixtures("described")
def test_a_chosen_card_tints_and_filters_until_it_is_let_go(record: TraceRecord) -> None:
    app = tab(record)
    click(app, 0, "choose", "a")
    assert not app.exception
    kept = app.session_state["trace.clusters.chosen"]
    assert kept.number == 0
    assert cards(app)["chosen"] == 0
    app.session_state["trace.tab"] = "Neurons"
    app.session_state["trace.threshold"] = 0.0
    app.run()
    assert set(app.dataframe[0].value["neuron"]) == set(kept.names)
    app.button(key="trace.acts.cluster.clear").click().run()
    assert len(app.dataframe[0].value) > len(kept.names)
    assert "trace.clusters.chosen" not in app.session_state


@pytest.mark.usefixtures("described")
def test_one_click_steers_and_keeps(record: TraceRecord) -> None:
    app = tab(record)
    label = cards(app)["cards"][0]["label"]
    click(app, 0, "suppress", "a")
    click(app, 0, "strengthen", "b")
    click(app, 0, "strengthen", "b")
    steers = [card.steer for card in app.session_state["steer.cards"]]
    assert [(steer.mode, steer.strength) for steer in steers] == [("set", 0.0), ("set", 0.75)]
    click(app, 0, "keep", "c")
    click(app, 0, "keep", "d")
    assert not app.exception
    names = [entry.name for entry in SavedConcepts().list()]
    assert names == [label, f"{label} 2"]
    assert SavedConcepts().load(label).sides == steers[0].neurons
    click(app, NOISE, "suppress", "e")
    assert app.session_state["steer.cards"][-1].steer.name == "Suppress in no cluster"
    assert len(app.session_state["steer.cards"]) == 3


@pytest.mark.usefixtures("described")
def test_selected_tokens_and_parameters_count(record: TraceRecord) -> None:
    app = tab(record, token="2:4")
    assert not app.exception
    assert "at token 2 to 3" in texts(app)
    before = cards(app)
    app.session_state["trace.clusters.size"] = 20
    app.run()
    assert all(card["size"] >= 20 for card in cards(app)["cards"] if card["number"] >= 0)
    assert cards(app)["key"] != before["key"]


@pytest.mark.usefixtures("described")
def test_the_attribution_view_clusters_causes(record: TraceRecord) -> None:
    token = len(record.prompt_ids) + 1
    app = tab(record, token=str(token), view="attribution")
    assert not app.exception
    data = cards(app)
    assert data["scale"] == "diverging"
    stored = next(info for info in server_wide.store().attributions(record.id) if info.target.token == token)
    rows = server_wide.store().attribution(record.id, stored.key).rows()
    member = NeuronSide.parse(data["cards"][0]["members"][0][0])
    total = sum(row.attribution for row in rows if NeuronSide(row.layer, row.index, row.polarity) == member)
    assert data["cards"][0]["members"][0][3] == f"{total:+.4f}"
    assert max(abs(value) for value in data["cards"][0]["tint"]) == 1
