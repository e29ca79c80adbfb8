"""The Steer tab: cards and their widgets, where steers come from, saving and files, running, and what is refused where it was typed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from streamlit.testing.v1 import AppTest

from neurons.concepts.concept_steers import FADE
from neurons.concepts.direction import steer_from_examples
from neurons.concepts.sets import Concept, SavedConcepts
from neurons.concepts.strength import known_best
from neurons.core.errors import InvalidInput
from neurons.core.steers import Steer, TokenScope
from neurons.core.types import NeuronSide
from neurons.runs.steering import dump_steers
from neurons.tracing.sweeps import sweep
from pages.prompts import run_list
from pages.shared import job_progress, server_wide, steer_state
from pages.steer import pair_run, sources
from tests.support.app_pages import PATIENCE, loaded, saved, texts, until
from traces.schema import TraceRecord

pytestmark = pytest.mark.usefixtures("app_home")

_SCRIPT = """
from pages.steer import steer_tab
from pages.shared import trace_context
steer_tab.draw(trace_context.current())
"""
SOME = Steer((NeuronSide(1, 3), NeuronSide(2, 7, "-")), "scale", 25.0, name="loud")


def open_tab(record: TraceRecord, *steers: Steer) -> AppTest:
    app = AppTest.from_string(_SCRIPT, default_timeout=PATIENCE)
    app.query_params["trace"] = record.id
    app.session_state["steer.cards"] = tuple(steer_state.Card(f"c{n}", steer, steer.neurons) for n, steer in enumerate(steers))
    app.session_state["trace.sampling"] = record.sampling
    return app.run()


def cards(app: AppTest) -> list[Steer]:
    return [card.steer for card in app.session_state["steer.cards"]]


def test_no_steers_says_what_to_do(record: TraceRecord) -> None:
    app = open_tab(record)
    assert not app.exception
    assert "Add a steer first" in texts(app)
    assert app.button(key="steer.go").disabled


def test_a_card_changes_its_steer(record: TraceRecord) -> None:
    app = open_tab(record, SOME)
    assert not app.exception
    app.slider(key="steer.c0.slider").set_value(2.5).run()
    assert cards(app)[0].strength == 2.5
    assert app.number_input(key="steer.c0.number").value == 2.5
    app.number_input(key="steer.c0.number").set_value(900.0).run()
    assert cards(app)[0].strength == 900
    assert app.slider(key="steer.c0.slider").value == 4
    app.toggle(key="steer.c0.on").set_value(False).run()
    app.text_input(key="steer.c0.name").set_value("*quiet*").run()
    assert (cards(app)[0].enabled, cards(app)[0].name) == (False, "*quiet*")
    assert "Off: does nothing" in texts(app)
    app.button_group(key="steer.c0.mode").set_value("set").run()
    assert cards(app)[0].mode == "set"
    assert app.slider(key="steer.c0.slider").value == 2


def test_polarity_of_a_card_and_back(record: TraceRecord) -> None:
    app = open_tab(record, SOME)
    app.button_group(key="steer.c0.polarity").set_value("-").run()
    assert {side.polarity for side in cards(app)[0].neurons} == {"-"}
    app.button_group(key="steer.c0.polarity").set_value("as picked").run()
    assert cards(app)[0].neurons == SOME.neurons


def test_token_ranges_are_checked_where_they_are_typed(record: TraceRecord) -> None:
    app = open_tab(record, SOME)
    app.selectbox(key="steer.c0.scope").set_value("ranges").run()
    assert "No ranges yet" in texts(app)
    app.text_input(key="steer.c0.ranges").set_value("9:3").run()
    assert "not a token range" in texts(app)
    app.text_input(key="steer.c0.ranges").set_value("3:9, answer").run()
    assert cards(app)[0].tokens == TokenScope("ranges", ((3, 9),), with_answer=True)
    app.selectbox(key="steer.c0.scope").set_value("answer").run()
    assert cards(app)[0].tokens == TokenScope("answer")


def test_neurons_are_removed_and_typed_one_by_one(record: TraceRecord) -> None:
    app = open_tab(record, SOME)
    app.multiselect(key="steer.c0.neurons").unselect("1:3+").run()
    assert cards(app)[0].neurons == (NeuronSide(2, 7, "-"),)
    assert "Neurons (1)" in app.multiselect(key="steer.c0.neurons").label


def test_remove_and_undo_keep_the_order(record: TraceRecord) -> None:
    other = Steer((NeuronSide(0, 1),), name="second")
    app = open_tab(record, SOME, other)
    app.button(key="steer.c0.delete").click().run()
    assert cards(app) == [other]
    app.button(key="steer.undo").click().run()
    assert cards(app) == [SOME, other]
    app.button(key="steer.clear").click().run()
    assert cards(app) == []
    app.button(key="steer.undo").click().run()
    app.button(key="steer.undo").click().run()
    assert cards(app) == [SOME, other]


def test_typed_neurons_become_a_card_or_an_error_beside_the_field(record: TraceRecord) -> None:
    app = open_tab(record)
    app.text_input(key="steer.typed.text").set_value("1:3, 99:1")
    app.button[_index(app, "Add")].click().run()
    assert "layers 0 to 2" in texts(app)
    assert not cards(app)
    app.text_input(key="steer.typed.text").set_value("1:3 2:7-")
    app.button[_index(app, "Add")].click().run()
    assert cards(app)[0].neurons == (NeuronSide(1, 3), NeuronSide(2, 7, "-"))


def _index(app: AppTest, label: str) -> int:
    return next(n for n, button in enumerate(app.button) if button.label == label)


@pytest.mark.parametrize("text", ["", "seventeen", "1:3, x", "![a](http://b.c/d)", "9999999999:1"])
def test_what_is_not_a_neuron_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        steer_state.read_neurons(text, loaded())


def test_saved_steers_come_back(record: TraceRecord) -> None:
    app = open_tab(record, SOME)
    app.text_input(key="steer.saved.name").set_value("my steers")
    app.button(key="steer.saved.save").click().run()
    assert sources.saved_steers().names() == ("my steers",)
    app.selectbox(key="steer.saved").set_value("my steers").run()
    app.button(key="steer.saved.add").click().run()
    assert cards(app) == [SOME, SOME]
    app.button(key="steer.saved.delete").click().run()
    assert sources.saved_steers().names() == ()
    app.button(key="steer.saved.restore").click().run()
    assert sources.saved_steers().names() == ("my steers",)


def test_a_file_round_trip_and_a_file_of_another_model(record: TraceRecord) -> None:
    text = json.dumps(dump_steers([SOME], loaded().ref))
    assert sources._read("s.json", text.encode(), loaded().ref) == (SOME,)
    other = json.loads(text)
    other["model"]["n_layers"] = 99
    with pytest.raises(InvalidInput, match="load that model first"):
        sources._read("s.json", json.dumps(other).encode(), loaded().ref)
    with pytest.raises(InvalidInput):
        sources._read("s.json", b"\xff\xfe\x00", loaded().ref)


def test_run_steered_shows_both_and_marks_a_stale_result(record: TraceRecord) -> None:
    app = open_tab(record, SOME)
    app.button(key="steer.go").click().run()
    job = server_wide.server().tasks()[-1]
    until(lambda: not job.running)
    assert job.error() is None
    app.run()
    assert not app.exception
    baseline, steered, used = app.session_state["steer.done"]
    assert used == (SOME,)
    store = server_wide.store()
    assert store.load(baseline).answer_ids == record.answer_ids
    assert store.load(steered).baseline_id == baseline
    assert "Stale" not in texts(app)
    app.toggle(key="steer.c0.on").set_value(False).run()
    assert "Stale" in texts(app)


def test_a_stopped_pair_keeps_what_both_had_written(record: TraceRecord) -> None:
    with loaded().lock:
        app = open_tab(record, SOME)
        app.button(key="steer.go").click().run()
        app.button(key="steer.stop").click().run()
        assert "Stopping after this token" in texts(app)
    task = server_wide.server().tasks()[-1]
    until(lambda: not task.running)
    app.run()
    assert not app.exception
    baseline, steered, _ = app.session_state["steer.done"]
    assert [server_wide.store().load(one).finish_reason for one in (baseline, steered)] == ["cancelled", "cancelled"]


def test_a_steer_that_breaks_the_model_is_said_where_it_was_started(record: TraceRecord) -> None:
    wild = Steer((NeuronSide(0, 1),), "set", 1000.0, values=(9e5,))
    huge = Steer(tuple(NeuronSide(layer, i) for layer in range(3) for i in range(48)), "set", 1000.0, values=(9e5,) * 144)
    app = open_tab(record, wild, huge)
    app.button(key="steer.go").click().run()
    job = server_wide.server().tasks()[-1]
    until(lambda: not job.running)
    app.run()
    assert not app.exception


def test_own_steers_of_a_steered_trace_are_offered() -> None:
    steered = saved("again", steers=[SOME])[0]
    app = open_tab(steered)
    app.button(key="steer.own").click().run()
    assert cards(app) == list(steered.steers)


def test_why_steers_are_not_ready() -> None:
    assert "Add a steer" in pair_run.ready(())
    assert "same" in pair_run.ready((Steer((), "set"),))
    assert pair_run.ready((SOME,)) == ""


def test_a_saved_concept_becomes_a_card_and_words_without_an_atlas_say_what_is_missing(record: TraceRecord) -> None:

    SavedConcepts().save("capitals", Concept.of(SOME.neurons, ref=loaded().ref))
    app = open_tab(record)
    app.selectbox(key="steer.concept").set_value("capitals").run()
    app.button(key="steer.concept.strengthen").click().run()
    assert not app.exception
    assert cards(app)[0].neurons == SOME.neurons
    assert cards(app)[0].strength == 0.75
    app.selectbox(key="steer.concept").set_value(None).run()
    app.text_input(key="steer.concept.words").set_value("court and law").run()
    app.button(key="steer.concept.suppress").click().run()
    assert not app.exception
    assert "atlas" in texts(app)
    assert len(cards(app)) == 1


def test_a_concept_of_the_lexicon_is_previewed_made_and_its_strength_found(record: TraceRecord) -> None:
    app = open_tab(record)
    app.text_input(key="steer.concept.words").set_value("Dogs").run()
    assert not app.exception
    assert "not measured yet" in texts(app)
    app.button(key="steer.concept.strengthen").click().run()
    until(lambda: not any(task.running for task in server_wide.server().tasks()))
    app.run()
    assert not app.exception
    [steer] = cards(app)
    assert (steer.name, steer.mode, steer.fade) == ("Strengthen dogs", "add", FADE)
    # the tiny model's answers are noise: no concept shows, and the card says so before it is run
    best = known_best(loaded().ref, steer)
    assert best is not None
    assert best.strength == steer.strength == 1
    assert best.shown < 1
    assert f"Tried on three open questions at {steer.strength:g}, this concept hardly showed" in texts(app)
    # other strengths are tried, and the best of them goes on the card
    uid = app.session_state["steer.cards"][0].uid
    app.session_state["steer.cards"] = (replace(app.session_state["steer.cards"][0], steer=replace(steer, strength=1.9)),)
    app.session_state["steer.more.find"] = True
    app.run()
    assert f"Above {steer.strength:g}, the strength found for it" in texts(app)
    app.button(key="steer.find.go").click().run()
    until(lambda: not any(task.running for task in server_wide.server().tasks()))
    app.run()
    assert not app.exception
    app.button(key="steer.find.use").click().run()
    found = known_best(loaded().ref, steer)
    assert found is not None
    assert cards(app)[0].strength == found.strength
    assert "the strength found for it" not in texts(app)
    assert app.session_state["steer.cards"][0].uid == uid


def added_from_examples(app: AppTest) -> AppTest:
    app.button(key="FormSubmitter:steer.examples-Add").click().run()
    until(lambda: not any(task.running for task in server_wide.server().tasks()))
    return app.run() if "steer.examples.task" in app.session_state else app  # a quick task was shown at once: its error stands once


def test_a_steer_from_examples_keeps_its_values_when_a_neuron_is_taken_away(record: TraceRecord) -> None:
    app = open_tab(record)
    app.text_area(key="steer.examples.texts").set_value("only one")
    app = added_from_examples(app)
    assert "at least 2 example texts" in texts(app)
    app.text_area(key="steer.examples.texts").set_value("the sea is blue\nships sail on the sea")
    app.number_input(key="steer.examples.count").set_value(4)
    app = added_from_examples(app)
    assert not app.exception
    (made,) = cards(app)
    expected = steer_from_examples(loaded(), ["the sea is blue", "ships sail on the sea"], neurons=4, name="From examples")
    assert made == expected
    assert "the steer's own values" in texts(app)
    assert expected.values is not None
    kept = steer_state._changed(expected, {"neurons": expected.neurons[1:3]})
    assert kept.values == expected.values[1:3]
    assert steer_state._changed(expected, {"neurons": (NeuronSide(0, 1),)}).values is None


def test_a_card_is_one_line_until_it_is_opened_and_says_what_the_slider_says(record: TraceRecord) -> None:
    valued = Steer((NeuronSide(1, 3),), "set", 0.5, name="*mine*", values=(4.0,))
    app = open_tab(record, valued, SOME)
    first, second = (expander for expander in app.expander if "neuron" in expander.label)
    assert not first.proto.expanded
    assert first.label == "**\\*mine\\*** Holds 1 neuron at 0.5 x the steer's own values at every token."
    assert second.label.startswith("**loud** Multiplies 2 neurons by 25")
    assert app.slider(key="steer.c0.slider").label == "Strength (x the values it came with)"
    app.toggle(key="steer.c0.on").set_value(False).run()
    assert "Off: does nothing" in next(e.label for e in app.expander if "mine" in e.label)


def test_a_tours_steer_takes_the_place_of_the_cards_and_undo_brings_them_back(record: TraceRecord) -> None:
    script = _SCRIPT + "\nimport streamlit as st\nif st.button('tour', key='tour'):\n"
    script += "    from pages.shared import steer_state\n    from neurons.core.steers import Steer\n"
    script += "    from neurons.core.types import NeuronSide\n"
    script += "    steer_state.replace_all([Steer((NeuronSide(0, 1),), 'scale', 0.0, name='of the tour')])\n    st.rerun()\n"
    app = AppTest.from_string(script, default_timeout=PATIENCE)
    app.query_params["trace"] = record.id
    app.session_state["steer.cards"] = (steer_state.Card("c0", SOME, SOME.neurons),)
    app.run()
    app.button(key="tour").click().run()
    assert [steer.name for steer in cards(app)] == ["of the tour"]
    app.button(key="steer.undo").click().run()
    assert {steer.name for steer in cards(app)} == {"of the tour", "loud"}


def test_pasted_lines_are_a_prompt_set(record: TraceRecord) -> None:
    app = open_tab(record, SOME)
    app.session_state["steer.more.set"] = True
    app.run()
    app.text_area(key="steer.set.text").set_value("one\ntwo").run()
    app.button(key="steer.set.go").click().run()
    assert not app.exception
    run = app.session_state["steer.set.run"]
    job = run_list.job_of(run)
    assert job is not None
    until(lambda: not job_progress.runner().get(job.id).active)
    assert list(run_list.results(run)["prompt"]) == ["one", "two"]


_SWEEP = """
from pages.steer import strength_sweep
from pages.shared import trace_context
strength_sweep.draw(trace_context.current())
"""


def open_sweep(record: TraceRecord, *steers: Steer) -> AppTest:
    app = AppTest.from_string(_SWEEP, default_timeout=PATIENCE)
    app.query_params["trace"] = record.id
    app.session_state["steer.cards"] = tuple(steer_state.Card(f"c{n}", steer, steer.neurons) for n, steer in enumerate(steers))
    app.session_state["trace.sampling"] = record.sampling
    return app.run()


def test_a_sweep_shows_what_the_engine_finds_and_goes_stale(record: TraceRecord) -> None:
    app = open_sweep(record, SOME, replace(SOME, enabled=False))
    assert not app.exception
    assert "1 that is off or without neurons is left out" in texts(app)
    app.slider(key="steer.sweep.reach").set_value((0.0, 2.0))
    app.number_input(key="steer.sweep.points").set_value(3)
    app.number_input(key="steer.sweep.tokens").set_value(2)
    app.button(key="steer.sweep.go").click().run()
    until(lambda: not any(task.running for task in server_wide.server().tasks()))
    app.run()
    assert not app.exception
    truth = sweep(
        loaded(),
        pair_run.messages_of(record, same_model=True),
        (SOME,),
        [0.0, 1.0, 2.0],
        sampling=replace(record.sampling, max_new_tokens=2),
        offset=max(0, int(app.number_input(key=next(w.key for w in app.number_input if w.key.startswith("steer.sweep.offset"))).value)),
    )
    table = app.dataframe[0].value
    assert table["strength"].tolist() == [0.0, 1.0, 2.0]
    assert table["answer"].tolist() == [point.answer for point in truth.points]
    assert table["rank"].tolist() == [point.rank for point in truth.points]
    assert "Stale" not in texts(app)
    app.session_state["steer.cards"] = ()
    assert "Stale: the cards were changed after this sweep." in texts(app.run())


def test_a_followed_text_that_is_no_single_token_is_told(record: TraceRecord) -> None:
    app = open_sweep(record, SOME)
    app.text_input(key="steer.sweep.token").set_value("several words and more").run()
    app.button(key="steer.sweep.go").click().run()
    assert not app.exception
    assert len(app.error) == 1
    assert not any(task.running for task in server_wide.server().tasks())
    assert open_sweep(record).button(key="steer.sweep.go").disabled, "there is nothing to sweep"
