"""The Neurons page by AppTest: a tiny model, its described atlas, and what stands on the page against what stands in the atlas."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from neurons.atlas.project import project_outputs, project_side
from neurons.atlas.reading import neuron_acts
from neurons.atlas.store import Atlas, atlas_folder, open_folder
from neurons.concepts.neighbours import by_places, by_weights
from neurons.concepts.search import Filters, SearchIndex, open_search
from neurons.concepts.sets import SavedConcepts
from neurons.core.types import NeuronSide
from neurons.describing.explainer import DescribeSettings, describe_atlas
from neurons.descriptions.edits import Edits
from neurons.models.chat import encode_text, token_text
from neurons.models.loaded import LoadedModel
from neurons.storage.sealed import SEAL, seal
from neurons.tracing.scan import scan_traces, text_acts
from neurons.tracing.sentence import visible
from pages.browse import neuron_list
from pages.shared import server_wide
from pages.shared.neuron_link import neuron_address
from tests.support.app_pages import open_page, saved, select, texts, until
from tests.support.descriptions import DESCRIBE, letter_pairs, tiny_atlas

S = NeuronSide.parse


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> tuple[LoadedModel, Path]:
    """A tiny model and the folder of its described atlas."""
    folder = tmp_path_factory.mktemp("neurons-page")
    loaded, atlas = tiny_atlas(folder)
    return loaded, describe_atlas(loaded, atlas, settings=DescribeSettings(**DESCRIBE), encode=letter_pairs, work=folder / "work").folder


@pytest.fixture
def bare(described: tuple[LoadedModel, Path], app_home: Path) -> LoadedModel:
    """The server with that model, without its atlas."""
    server_wide.server().adopt(described[0], "tiny")
    return described[0]


@pytest.fixture
def ready(described: tuple[LoadedModel, Path], bare: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> Atlas:
    """The server with that model and its atlas; queries are embedded the way the atlas was."""
    shutil.copytree(described[1], atlas_folder(bare.ref))
    for user in ("neurons.concepts.search", "pages.browse.neuron_list"):
        monkeypatch.setattr(f"{user}.embed_query", lambda text: letter_pairs([text])[0])
    monkeypatch.setattr(neuron_list, "embedder", lambda: None)
    return open_folder(atlas_folder(bare.ref))


def settle(app: AppTest) -> AppTest:
    """Run on until no work for a neuron is left."""
    until(lambda: all(not job.running for job in server_wide.server().tasks()))
    return app.run()


def given(app: AppTest, key: str) -> Any:
    """What a component of ours was given to draw."""
    found = [element for element in app.get("bidi_component") if element.proto.id.endswith(f"-{key}")]
    assert len(found) == 1, [element.proto.id for element in app.get("bidi_component")]
    return json.loads(found[0].proto.json)


def words(app: AppTest, key: str) -> str:
    """The text of a plain component."""
    return "".join(text for text, _ in given(app, key)["parts"])


def view(name: str, side: str = "1:5+") -> AppTest:
    """A neuron's page with a view chosen."""
    app = open_page("neurons", neuron=side, view=name)
    assert not app.exception
    return app


# -- the list -----------------------------------------------------------------------------------------------------------------


def test_the_list_holds_every_side_with_the_values_of_the_atlas(ready: Atlas) -> None:
    app = open_page("neurons")
    assert not app.exception
    table, truth = app.dataframe[0].value, ready.descriptions()
    assert truth is not None
    assert len(table) == len(truth) == 2 * ready.n_layers * ready.n_neurons
    names = truth["layer"].astype(str) + ":" + truth["index"].astype(str) + truth["polarity"]
    truth = truth.set_index(names).loc[table.index]
    for column in ("layer", "index", "polarity", "headline", "writes", "description", "second", "kind"):
        assert list(table[column]) == list(truth[column]), column
    for column in ("score", "null", "ceiling"):
        assert np.array_equal(table[column], truth[column], equal_nan=True), column
    scores = table["score"].dropna().to_numpy()
    assert (np.diff(scores) <= 0).all()
    assert table["score"].notna().to_numpy()[: len(scores)].all()
    assert f"{ready.tokens:,} tokens" in texts(app)


def test_filters_narrow_sort_and_stay_in_the_address(ready: Atlas) -> None:
    index = open_search(ready.ref)
    app = open_page("neurons", layers="1:2", side="-", clear="1", order="layer and index", kind="token,nonsense")
    assert not app.exception
    kept = index.keep(Filters(layers=(1, 2), polarity="-", clear_only=True, kinds=("token",)))
    table = app.dataframe[0].value
    assert 0 < len(table) == int(kept.sum())
    assert set(table["polarity"]) == {"-"}
    assert list(zip(table["layer"], table["index"], strict=True)) == sorted(zip(table["layer"], table["index"], strict=True))
    app.number_input(key="neurons.score").set_value(0.3).run()
    assert (app.dataframe[0].value["score"] >= 0.3).all()
    assert app.query_params["score"] == "0.3"
    assert app.query_params["layers"] == "1:2"
    app.text_input(key="neurons.word").set_value("no such word anywhere").run()
    assert "No neuron passes" in texts(app)
    app.text_input(key="neurons.word").set_value("").run()
    app.slider(key="neurons.layers").set_value((0, 2)).run()
    assert "layers" not in app.query_params


def test_search_ranks_as_the_engine_does(ready: Atlas) -> None:
    app = open_page("neurons", q="the house")
    assert not app.exception
    app = settle(app)
    hits = open_search(ready.ref).search("the house", top=40)
    table = app.dataframe[0].value
    assert list(table["neuron"][:40]) == [str(hit.side) for hit in hits]
    assert np.allclose(table["similarity"][:40], [hit.similarity for hit in hits], atol=1e-4)
    assert app.selectbox(key="neurons.order").value == "fits the search"
    app.selectbox(key="neurons.order").set_value("layer and index").run()
    assert app.query_params["order"] == "layer and index"
    assert app.dataframe[0].value["layer"].is_monotonic_increasing
    assert set(app.dataframe[0].value["neuron"]) == set(table["neuron"])
    app.text_input(key="neurons.q").set_value("").run()
    assert app.selectbox(key="neurons.order").value == "best described"
    app.text_input(key="neurons.q").set_value("a river").run()
    assert app.selectbox(key="neurons.order").value == "fits the search"
    assert dict(app.query_params) == {"q": "a river"}


def test_a_name_typed_into_the_search_offers_that_neuron(ready: Atlas) -> None:
    app = open_page("neurons", q="2:7-")
    assert app.button(key="neurons.named").label == "Open neuron 2:7-"
    assert len(app.dataframe[0].value) == len(open_search(ready.ref).table)


def test_few_rows_are_shown_and_all_are_counted(ready: Atlas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neuron_list, "SHOWN", (10, 100, 150_000))
    app = open_page("neurons", order="worst described")
    assert len(app.dataframe[0].value) == 10
    assert "the first 10 are shown" in texts(app)
    best = open_page("neurons").dataframe[0].value["score"]
    assert app.dataframe[0].value["score"].max() <= best.min()
    app.selectbox(key="neurons.shown").set_value(150_000).run()
    assert len(app.dataframe[0].value) == len(open_search(ready.ref).table)


def test_ticked_rows_are_kept_and_steered(ready: Atlas) -> None:
    app = open_page("neurons")
    table = app.dataframe[0].value
    assert app.button(key="neurons.suppress").disabled
    select(app, "neurons.table", list(table.index), 0, 2)
    assert app.button(key="neurons.open").disabled
    names = tuple(S(table["neuron"].iloc[n]) for n in (0, 2))
    app.button(key="neurons.strengthen").click().run()
    steer = app.session_state["steer.cards"][0].steer
    assert (steer.neurons, steer.mode, steer.strength) == (names, "set", 0.75)
    app.text_input(key="neurons.concept").set_value("two").run()
    app.button(key="neurons.concept.save").click().run()
    assert SavedConcepts().load("two").sides == names


def test_what_the_user_says_is_in_the_list(ready: Atlas) -> None:
    edits = Edits.of(ready.ref)
    edits.describe(S("0:3+"), "my own words")
    edits.vote(S("0:4-"), -1)
    app = open_page("neurons", order="yours first")
    table = app.dataframe[0].value
    assert dict(zip(table["neuron"][:2], table["yours"][:2], strict=True)) == {"0:4-": "wrong", "0:3+": "edited"}
    assert table.loc["0:3+", "description"] == "my own words"
    app = open_page("neurons", word="my own")
    assert list(app.dataframe[0].value["neuron"]) == ["0:3+"]


# -- names --------------------------------------------------------------------------------------------------------------------


def test_a_link_without_a_name_shows_the_list(ready: Atlas) -> None:
    app = open_page("neurons", neuron="")
    assert not app.error
    assert len(app.dataframe[0].value) == len(open_search(ready.ref).table)


@pytest.mark.parametrize("text", ["1:5+", "1:5", "1:5 ", "L1/N5"])
def test_a_neuron_is_named_in_several_ways(ready: Atlas, text: str) -> None:
    assert words(open_page("neurons", neuron=text, view="tokens"), "neurons.title").startswith("Neuron 1:5+")


@pytest.mark.parametrize(("text", "said"), [("banana", "write layer:index"), ("99:0+", "layers 0 to 2"), ("1:48", "neurons 0 to 47")])
def test_a_bad_name_is_explained_above_the_list(ready: Atlas, text: str, said: str) -> None:
    app = open_page("neurons", neuron=text)
    assert not app.exception
    assert said in app.error[0].value.replace("\\", "")
    assert len(app.dataframe[0].value) == len(open_search(ready.ref).table)


def test_addresses() -> None:
    assert neuron_address(S("17:803-")) == "/neurons?neuron=17:803-"
    assert neuron_address("17:803+") == "/neurons?neuron=17:803%2B"


# -- one neuron ---------------------------------------------------------------------------------------------------------------


def test_what_the_atlas_says_of_a_neuron(ready: Atlas) -> None:
    app = settle(view("exemplars"))
    row = open_search(ready.ref).table.iloc[open_search(ready.ref).row(S("1:5+"))]
    assert words(app, "neurons.about.said").startswith(str(row["headline"]))
    assert str(row["description"]) in words(app, "neurons.about.said")
    assert {metric.label: metric.value for metric in app.metric} == {
        "Score": f"{row['score']:.2f}", "Null": f"{row['null']:.2f}", "Ceiling": f"{row['ceiling']:.2f}",
    }  # fmt: skip
    assert str(row["peaks"]) in words(app, "neurons.about.evidence")
    marks = next(frame.value for frame in app.dataframe if "rank" in frame.value)
    quantile = ready.quantiles(1e-3)
    line = marks[marks["share"] == "1 in 1,000"].iloc[0]
    assert line["positive"] == pytest.approx(quantile.value_2LI[0, 1, 5])
    assert line["negative"] == pytest.approx(quantile.value_2LI[1, 1, 5])
    assert line["rank"] == f"{int(quantile.rank)} of {ready.tokens:,}"
    assert "1 in 100,000" not in set(marks["share"]), "there are not that many tokens"
    assert marks.iloc[-1]["positive"] == pytest.approx(ready.extremes(1)[0, 5, 0])
    assert f"{ready.histogram(1, 5).tokens:,} tokens drawn evenly" in texts(app)


@pytest.mark.parametrize("side", ["1:5+", "1:5-"])
def test_exemplars_carry_every_tokens_activation(ready: Atlas, bare: LoadedModel, side: str) -> None:
    shown = given(settle(view("exemplars", side)), "neurons.passages")["passages"]
    truth = ready.exemplars(S(side).layer, S(side).index, S(side).polarity, context=(24, 8))[:24]
    assert len(shown) == len(truth) == 24
    for drawn, one in zip(shown[:4], truth, strict=False):
        assert len(drawn["text"]) == len(drawn["acts"])
        assert drawn["value"] == f"{one.value:.2f}"
        assert drawn["acts"][drawn["peak"]] == pytest.approx(one.value, rel=1e-2)
        if len(drawn["text"]) == len(one.ids):  # no character over several tokens
            [acts_T] = neuron_acts(bare, ready.corpus, [one.sequence], S(side))
            assert np.allclose(drawn["acts"], acts_T[one.start : one.start + len(one.ids)], rtol=1e-2, atol=1e-4)
        assert one.document in drawn["source"]
    assert abs(shown[0]["tint"][shown[0]["peak"]]) == pytest.approx(1, abs=0.01)


def test_exemplars_by_domain_and_over_the_whole_range(ready: Atlas) -> None:
    app = settle(view("exemplars"))
    everything = given(app, "neurons.passages")["passages"]
    app.selectbox(key="neurons.domain").set_value("notes").run()
    some = given(app, "neurons.passages")["passages"]
    assert 0 < len(some) == sum(one["under"] == "notes" for one in everything) < len(everything)
    app.button_group(key="neurons.places").set_value("Whole range").run()
    app = settle(app)
    values = [float(one["value"]) for one in given(app, "neurons.passages")["passages"]]
    assert values == sorted(values, reverse=True)
    assert values[0] > 0 > values[-1]


def test_tokens_are_the_atlas_s(ready: Atlas, bare: LoadedModel) -> None:
    app = view("tokens", "2:9-")
    tables = [frame.value for frame in app.dataframe if "token" in frame.value]
    kinds = (ready.promoted, ready.suppressed, ready.token_stats, ready.previous_stats)
    assert (tables[0]["value"] > 0).all()
    for table, kind in zip(tables, kinds, strict=True):
        stats = kind(2, 9, "-")
        assert list(table["token"]) == [visible(token_text(bare, token)) for token in stats.ids]
        sign = -1 if kind in (ready.promoted, ready.suppressed) else 1  # what the side does to logits when it fires
        assert np.allclose(table["value"], sign * np.array(stats.values))
        assert list(table["count"]) == list(stats.counts)


def test_one_side_is_projected_as_all_are(bare: LoadedModel) -> None:
    ids, values = project_outputs(bare, keep=8)
    for text in ("0:0+", "2:47-"):
        side = S(text)
        promoted, suppressed = project_side(bare, side)
        own = int(side.polarity == "-")
        assert np.allclose(promoted.values, values[own, side.layer, side.index], atol=1e-4)
        assert np.allclose(suppressed.values, values[1 - own, side.layer, side.index], atol=1e-4)
        assert promoted.ids == tuple(ids[own, side.layer, side.index])


def test_neighbours_are_links_and_the_cluster_comes_on_demand(ready: Atlas, bare: LoadedModel) -> None:
    app = settle(view("neighbours"))
    assert not app.exception
    opposite = given(app, "neurons.near.opposite")["rows"]
    assert opposite[0][:2] == ["1:5-", "/neurons?neuron=1:5-"]
    for name, near in (("output", by_weights(bare, S("1:5+"), top=8)), ("places", by_places(ready, S("1:5+"), top=8))):
        rows = given(app, f"neurons.near.{name}")["rows"]
        assert [row[0] for row in rows] == [str(one.side) for one in near]
        assert rows[0][2] == f"{near[0].nearness:.2f}"
    index = open_search(ready.ref)
    first = given(app, "neurons.near.output")["rows"][0]
    assert first[3] == index.table.iloc[index.row(S(first[0]))]["headline"]
    assert {"meaning", "input", "gate"} <= {e.proto.id.rpartition(".")[2] for e in app.get("bidi_component")}
    app.button(key="neurons.cluster.begin").click().run()
    app = settle(app)
    assert not app.exception
    assert "at least 5 in a cluster" in texts(app)


def test_the_traces_in_which_it_fired_most(ready: Atlas, bare: LoadedModel) -> None:
    app = view("traces")
    assert "There are no traces yet" in texts(app)
    records = saved("the sea is deep", "a house", "zebra")
    app.run().button(key="neurons.traces.begin").click().run()
    app = settle(app)
    rows = given(app, "neurons.traces.list")["rows"] if "It fired in 0 " not in texts(app) else []
    peaks = {}
    for record in records:
        acts_T = server_wide.store().read(record.id, "activations", layer=1, neuron=5).ravel().astype(float)[1:]
        if acts_T.max() > 0:
            peaks[record.id] = acts_T.max()
    assert [float(row[2]) for row in rows] == [round(value, 2) for value in sorted(peaks.values(), reverse=True)]
    assert all(row[1].startswith("/?trace=") for row in rows)
    server_wide.store().evict(records[0].id)
    scan = scan_traces(server_wide.store(), bare.ref, S("1:5+"))
    assert (scan.read, scan.evicted, scan.other_models, scan.unreadable) == (2, 1, 0, 0)


def test_ones_own_text(ready: Atlas, bare: LoadedModel) -> None:
    app = view("try")
    app.text_area(key="neurons.try.text").set_value("hello there")
    app.button(key="FormSubmitter:neurons.try-Read it").click().run()
    app = settle(app)
    assert not app.exception
    shown = given(app, "neurons.try.tokens")["passages"][0]
    start = len(encode_text(bare, ""))
    truth = text_acts(bare, encode_text(bare, "hello there"), S("1:5+"))[start:]
    assert "".join(shown["text"]) == "hello there"
    assert np.allclose(shown["acts"], truth, rtol=1e-3, atol=1e-4)
    app.text_area(key="neurons.try.text").set_value("  ")
    app.button(key="FormSubmitter:neurons.try-Read it").click().run()
    assert "the text is empty" in app.error[0].value


def test_steering_it_here(ready: Atlas) -> None:
    app = view("steer")
    app.text_area(key="neurons.steer.prompt").set_value("hello")
    app.number_input(key="neurons.steer.tokens").set_value(5)
    app.number_input(key="neurons.steer.strength").set_value(200.0)
    app.button(key="FormSubmitter:neurons.steer-Run both").click().run()
    app = settle(app)
    assert not app.exception
    steered = given(app, "neurons.steer.Steered")["passages"][0]["acts"]
    held = 200 * float(ready.quantile(1e-7)[0, 1, 5])
    assert np.allclose(steered, held, rtol=1e-2), "the steered run's own activations are the ones that were set"
    assert not np.allclose(given(app, "neurons.steer.Unsteered")["passages"][0]["acts"], held, rtol=1e-2)
    assert "Difference" in words(app, "neurons.steer.diff")
    store = server_wide.store()
    kept, baseline = (store.load(row.id) for row in store.list("", limit=2))
    assert (kept.baseline_id, kept.steers[0].strength, baseline.steers) == (baseline.id, 200, ()), "both runs are saved, as a pair"
    assert baseline.messages[-1].content == "hello"
    store.evict(kept.id)
    assert "removed for the disk budget" in texts(app.run())
    app.button(key="neurons.steer.use").click().run()
    assert app.session_state["steer.cards"][0].steer.strength == 200
    app = view("steer")
    app.button(key="FormSubmitter:neurons.steer-Run both").click().run()
    assert "the prompt is empty" in app.error[0].value


def test_vote_edit_lock_note_and_undo(ready: Atlas) -> None:
    app = view("tokens")
    app.button(key="neurons.vote.1").click().run()
    edits = Edits.of(ready.ref)
    assert edits.get(S("1:5+")).vote == 1
    app.text_area(key="neurons.edit.text.1:5+").set_value("the letter *s*")
    app.button(key="FormSubmitter:neurons.edit.form.1:5+-Save").click().run()
    assert words(app, "neurons.about.said").startswith("the letter *s*")
    assert app.metric[0].value == "–"
    app.button(key="neurons.lock").click().run()
    app.text_area(key="neurons.note.text.1:5+").set_value("look again")
    app.button(key="FormSubmitter:neurons.note.form.1:5+-Save").click().run()
    edit = Edits.of(ready.ref).get(S("1:5+"))
    assert (edit.description, edit.locked, edit.note) == ("the letter *s*", True, "look again")
    assert [change.field for change in edit.history] == ["vote", "description", "locked", "note"]
    assert "look again" in words(app, "neurons.about.note")
    for _ in range(4):
        app.button(key="neurons.undo").click().run()
    assert Edits.of(ready.ref).get(S("1:5+")).description is None
    table = SearchIndex(ready).table
    assert words(app, "neurons.about.said").startswith(str(table.iloc[SearchIndex(ready).row(S("1:5+"))]["headline"]))


# -- without an atlas ---------------------------------------------------------------------------------------------------------


def test_without_an_atlas_the_page_says_what_one_is(bare: LoadedModel) -> None:
    app = open_page("neurons")
    assert not app.exception
    assert "This model has no atlas yet" in texts(app)
    app.text_input(key="neurons.open.name").set_value("9:9")
    app.button(key="FormSubmitter:neurons.open-Open").click().run()
    assert "layers 0 to 2" in app.error[0].value.replace("\\", "")


def test_without_an_atlas_a_neuron_can_still_be_opened(bare: LoadedModel) -> None:
    app = view("tokens")
    promoted, _ = project_side(bare, S("1:5+"))
    assert list(app.dataframe[0].value["token"]) == [visible(token_text(bare, token)) for token in promoted.ids]
    app = settle(view("neighbours"))
    assert given(app, "neurons.near.output")["rows"]
    app = view("exemplars")
    assert "this model has none yet" in texts(app)
    app = view("try")
    app.text_area(key="neurons.try.text").set_value("hello")
    app.button(key="FormSubmitter:neurons.try-Read it").click().run()
    assert given(settle(app), "neurons.try.tokens")["passages"][0]["text"]


def test_an_undescribed_atlas_says_so(described: tuple[LoadedModel, Path], bare: LoadedModel) -> None:
    folder = atlas_folder(bare.ref)
    shutil.copytree(described[1], folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["descriptions"], manifest[SEAL]
    (folder / "manifest.json").write_bytes(seal(manifest))
    app = open_page("neurons")
    assert "not described yet" in texts(app)
    app = settle(view("exemplars"))
    assert not app.exception
    assert given(app, "neurons.passages")["passages"]
    assert "No description" in words(app, "neurons.about.none")
