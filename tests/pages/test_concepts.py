"""The Concepts page on a tiny model with a described atlas: made every way, combined, renamed, deleted, brought back, steered with."""

from __future__ import annotations

import json

import pytest
from streamlit.testing.v1 import AppTest

from neurons.concepts.contrast import contrast
from neurons.concepts.search import SearchIndex
from neurons.concepts.sets import Concept, SavedConcepts
from neurons.concepts.steers import default_size
from neurons.core.quantile_table import STEER_LEVEL
from neurons.core.types import NeuronSide
from pages.concepts import concept_list
from pages.shared import server_wide
from pages.shared.neuron_link import neuron_address
from tests.support.app_pages import loaded, open_page, plain, select, texts, until
from tests.support.described_pages import installed

pytestmark = pytest.mark.usefixtures("app_home")
S = NeuronSide.parse


def kept(name: str, *neurons: str) -> Concept:
    concept = Concept.of(map(S, neurons), ref=loaded().ref, origin="hand-picked")
    SavedConcepts().save(name, concept)
    return concept


def way(app: AppTest, name: str) -> AppTest:
    return app.button_group(key="concepts.way").set_value(name).run()


def members(app: AppTest) -> list[str]:
    """The neurons of the table on the right."""
    return list(next(frame.value for frame in app.dataframe if "link" in frame.value)["neuron"])


def save(app: AppTest, name: str) -> AppTest:
    number = app.session_state["concepts.drafts"]
    app.text_input(key=f"concepts.draft.{number}.name").set_value(name).run()
    return app.button(key=f"concepts.draft.{number}.save").click().run()


def test_a_first_visit_says_what_a_concept_is() -> None:
    app = open_page("concepts")
    assert not app.exception
    assert "A concept is a set of neurons" in texts(app)


def test_search_without_an_atlas_leads_to_the_atlas_page() -> None:
    app = open_page("concepts")
    app.text_input(key="concepts.search.text").set_value("law")
    next(button for button in app.button if button.label == "Search").click().run()
    assert not app.exception
    assert "Search needs the model's atlas" in texts(app)


@pytest.mark.usefixtures("described")
def test_words_find_what_the_engine_finds_and_are_saved() -> None:
    app = open_page("concepts")
    app.text_input(key="concepts.search.text").set_value("the river")
    app.number_input(key="concepts.search.top").set_value(12)
    next(button for button in app.button if button.label == "Search").click().run()
    assert not app.exception
    truth = [hit.side for hit in SearchIndex(installed()).search("the river", top=12)]
    assert members(app) == [str(side) for side in truth]
    assert not SavedConcepts().list()
    save(app, "rivers")
    assert not app.exception
    saved = SavedConcepts().load("rivers")
    assert saved.sides == tuple(truth)
    assert saved.weights_hash == loaded().ref.weights_hash
    assert saved.similarity[str(truth[0])] > 0
    assert app.query_params["concept"] == "rivers"
    table = next(frame.value for frame in app.dataframe if "link" in frame.value)
    row = SearchIndex(installed()).table.iloc[SearchIndex(installed()).row(truth[0])]
    assert table["headline"].iloc[0] == row["headline"]
    extreme = installed().quantile(STEER_LEVEL)[int(truth[0].polarity == "-"), truth[0].layer, truth[0].index]
    assert table["extreme"].iloc[0] == pytest.approx(float(extreme))
    assert table["link"].iloc[0] == neuron_address(truth[0])


@pytest.mark.usefixtures("described")
def test_only_ticked_neurons_are_saved() -> None:
    app = way(open_page("concepts"), "typed")
    app.text_area(key="concepts.typed.text").set_value("0:1, 1:2-, 2:3")
    next(button for button in app.button if button.label == "Show them").click().run()
    number = app.session_state["concepts.drafts"]
    select(app, f"concepts.draft.{number}.table", ["0:1+", "1:2-", "2:3+"], 1, 2)
    save(app, "two of three")
    assert SavedConcepts().load("two of three").sides == (S("1:2-"), S("2:3"))


def test_typed_neurons_that_are_not_there_are_refused() -> None:
    app = way(open_page("concepts"), "typed")
    app.text_area(key="concepts.typed.text").set_value("0:1, 99:2")
    next(button for button in app.button if button.label == "Show them").click().run()
    assert not app.exception
    assert "has layers 0 to 2" in plain(app)
    assert "concepts.draft" not in app.session_state


def test_examples_are_contrasted_in_the_background() -> None:
    app = way(open_page("concepts"), "examples")
    app.button(key="concepts.examples.go").click().run()
    assert "at least 2 example texts" in plain(app)
    examples, counter = ["aaa bbb aaa", "aab baa aaa", "baba aaa"], ["1 2 3", "4 5 6 7", "89 10"]
    app.text_area(key="concepts.examples").set_value("\n".join(examples))
    app.text_area(key="concepts.counter").set_value("\n".join(counter))
    app.button(key="concepts.examples.go").click().run()
    until(lambda: not any(job.running for job in server_wide.server().tasks()))
    app.run()
    assert not app.exception
    truth = contrast(loaded(), examples, counter)
    assert members(app) == [str(one.side) for one in truth.found if one.effect > truth.chance_effect]
    assert f"best effect is {truth.chance_effect:.2f}" in plain(app)
    save(app, "letters")
    assert SavedConcepts().load("letters").origin == "3 examples against 3"


@pytest.mark.parametrize(("how", "expected"), [("union", ["0:1+", "0:2+", "0:3+"]), ("intersection", ["0:2+"]), ("difference", ["0:1+"])])
def test_two_concepts_are_combined(how: str, expected: list[str]) -> None:
    kept("a", "0:1", "0:2")
    kept("b", "0:2", "0:3")
    app = way(open_page("concepts"), "two")
    app.radio(key="concepts.two.how").set_value(how).run()
    assert f"2 and 2 neurons give {len(expected)}" in texts(app)
    app.button(key="concepts.two.go").click().run()
    assert not app.exception
    save(app, "c")
    assert [str(side) for side in SavedConcepts().load("c").sides] == expected
    assert SavedConcepts().load("c").origin == f"{how} of a and b"


def test_rename_note_delete_and_undo() -> None:
    concept = kept("*first*", "0:1", "1:4-")
    app = open_page("concepts", concept="*first*")
    assert not app.exception
    app.text_area(key="concepts.note.text.*first*").set_value("what it is").run()
    app.button(key="concepts.note.go").click().run()
    app.text_input(key="concepts.rename.text.*first*").set_value("second").run()
    app.button(key="concepts.rename.go").click().run()
    assert not app.exception
    assert app.query_params["concept"] == "second"
    assert SavedConcepts().load("second").note == "what it is"
    app.button(key="concepts.delete").click().run()
    assert not SavedConcepts().list()
    app.button(key="concepts.restore").click().run()
    assert not app.exception
    assert SavedConcepts().load("second").sides == concept.sides
    assert app.query_params["concept"] == "second"


def test_a_name_that_is_taken_is_refused_in_place() -> None:
    kept("a", "0:1")
    kept("b", "0:2")
    app = open_page("concepts", concept="a")
    app.text_input(key="concepts.rename.text.a").set_value("b").run()
    app.button(key="concepts.rename.go").click().run()
    assert not app.exception
    assert "there is already an entry 'b'" in plain(app)


def test_neurons_are_taken_out() -> None:
    kept("a", "0:1", "0:2", "0:3")
    app = open_page("concepts", concept="a")
    select(app, "concepts.members.a", ["0:1+", "0:2+", "0:3+"], 1)
    app.button(key="concepts.remove").click().run()
    assert [str(side) for side in SavedConcepts().load("a").sides] == ["0:1+", "0:3+"]


def test_what_was_kept_from_the_lexicon_is_steered_by_its_sentences() -> None:
    SavedConcepts().save("dogs", Concept.of([NeuronSide(0, 1)], ref=loaded().ref, origin="lexicon"))
    app = open_page("concepts", concept="dogs")
    app.button(key="concepts.by_name.suppress").click().run()
    until(lambda: not any(task.running for task in server_wide.server().tasks()))
    app.run()
    assert not app.exception
    [card] = app.session_state["steer.cards"]
    assert (card.steer.name, card.steer.mode) == ("Suppress dogs", "cap")
    SavedConcepts().save("mine", Concept.of([NeuronSide(0, 1)], ref=loaded().ref, origin="hand-picked"))
    assert "concepts.by_name.suppress" not in {button.key for button in open_page("concepts", concept="mine").button}


@pytest.mark.usefixtures("described")
def test_steering_with_a_concept() -> None:
    names = [f"1:{n}" for n in range(40)]
    concept = kept("a", *names)
    app = open_page("concepts", concept="a")
    assert not app.exception
    assert app.number_input(key="concepts.strengthen.size.a").value == default_size("strengthen", loaded().ref) == 5
    assert app.number_input(key="concepts.suppress.size.a").value == default_size("suppress", loaded().ref) == 20
    app.number_input(key="concepts.strengthen.strength.a").set_value(0.5).run()
    app.button(key="concepts.strengthen").click().run()
    app.button(key="concepts.suppress").click().run()
    assert not app.exception
    strong, weak = (card.steer for card in app.session_state["steer.cards"])
    assert (strong.neurons, strong.mode, strong.strength) == (concept.sides[:5], "set", 0.5)
    assert (weak.neurons, weak.mode, weak.strength) == (concept.sides[:20], "set", 0.0)
    extreme = abs(installed().quantile(STEER_LEVEL)[0, 1, :40])
    assert f"here {extreme.min():.2f} to {extreme.max():.2f} in size" in texts(app)


def test_a_concept_of_another_model_is_not_steered() -> None:
    SavedConcepts().save("far", Concept((S("30:1"),), model="other", weights_hash="ff" * 32))
    app = open_page("concepts", concept="far")
    assert not app.exception
    assert "belong to another model" in texts(app)
    assert not [button for button in app.button if button.key == "concepts.suppress"]


def test_files_are_imported_and_bad_ones_named() -> None:
    concept = kept("a", "0:1", "2:5-")
    exported = json.dumps({"name": "a", **concept.to_json()}).encode()
    for name, data, said in (
        ("a.json", exported, "2 neurons, kept as 'a 2'"),
        ("list.json", b'["0:1+", "1:2-"]', "2 neurons, kept as 'list'"),
        ("bad.json", b"{", "it is not JSON"),
        ("binary.json", b"\xff\xfe\x00", "it is not UTF-8 text"),
        ("shape.json", b'{"neurons": 3}', "a concept is"),
        ("word.json", b'["one"]', "is not a neuron"),
        ("empty.json", b"[]", "has no neurons"),
    ):
        became = concept_list.take(name, data)
        assert said in "".join(part[0] for part in became)
    assert SavedConcepts().load("a 2") == concept
    assert SavedConcepts().load("list").sides == (S("0:1"), S("1:2-"))
