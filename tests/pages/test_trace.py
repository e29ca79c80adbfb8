"""The Trace page run by AppTest with a tiny model: what is shown, what the address says, and what is refused where it was typed."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from neurons.attribution.attribute import DEFAULT, attribute
from neurons.attribution.effect import EffectOptions, measure_effects
from neurons.concepts.sets import SavedConcepts
from neurons.core.steers import Steer, TokenScope
from neurons.core.types import Message, NeuronSide, Sampling
from neurons.tracing.record import run_trace
from neurons.tracing.saved_attributions import MOST_ROWS
from pages.shared import atlas_index, live_answer, server_wide
from pages.trace import attribution_job, attribution_view, chat, pictures
from pages.trace.deciding import deciding, words
from tests.support.app_pages import SHORT, given, loaded, open_page, plain, saved, select, texts, until
from traces.schema import TraceRecord
from traces.store import EXAMPLES, TraceStore

pytestmark = pytest.mark.usefixtures("app_home")


def _select(app: AppTest, record: TraceRecord, *ranges: list[int]) -> AppTest:
    app.session_state["trace.tokens.strip"] = {"selection": {"trace_id": record.id, "ranges": list(ranges)}}
    return app.run()


def _view(app: AppTest, name: str) -> AppTest:
    return app.button_group(key="trace.view").set_value(name).run()


def test_first_visit_shows_an_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_wide.server(), "store", TraceStore(examples=EXAMPLES))  # the page tests' server has none
    app = open_page("trace")
    assert not app.exception
    shown = app.query_params["trace"]
    assert server_wide.store().summary(shown).example
    assert any("Try:" in caption.value for caption in app.caption)


def test_new_conversation_offers_something_to_ask(record: TraceRecord) -> None:
    app = open_page("trace", trace=record.id)
    app.button(key="trace.new").click().run()
    assert not app.exception
    assert "A new conversation" in texts(app)
    assert "Three things to try" in texts(app)
    assert "trace" not in app.query_params


def test_asking_saves_a_trace_and_opens_it(record: TraceRecord) -> None:
    app = open_page("trace", trace=record.id)
    app.session_state["trace.sampling"] = SHORT
    app.toggle(key=f"trace.goes_on.{record.id}").set_value(True).run()
    assert "Sent with the 2 turns before it" in texts(app)
    app.chat_input(key="trace.input").set_value("and you?").run()
    job = live_answer.find(app.query_params["run"], place="trace")
    assert job is not None
    until(lambda: not job.running)
    app.run()
    assert not app.exception
    made = server_wide.store().load(app.query_params["trace"])
    assert [message.role for message in made.messages] == ["user", "assistant", "user"]
    assert made.messages[1].token_ids == record.answer_ids
    assert "run" not in app.query_params


def test_an_empty_question_is_refused_where_it_was_typed(record: TraceRecord) -> None:
    app = open_page("trace", trace=record.id)
    app.chat_input(key="trace.input").set_value("   ").run()
    assert "the prompt is empty" in texts(app).replace("\\", "")
    assert [row.id for row in server_wide.store().list("", limit=50) if not row.example] == [record.id]


def test_turns_go_on_with_their_own_ids(record: TraceRecord) -> None:
    assert chat.conversation(record, same_model=True)[-1] == Message("assistant", record.answer, record.answer_ids)
    assert all(turn.token_ids is None for turn in chat.conversation(record, same_model=False))


def test_activation_view_lists_keeps_and_steers(record: TraceRecord) -> None:
    app = open_page("trace", trace=record.id)
    app.number_input(key="trace.threshold").set_value(0.0).run()
    _select(app, record, [2, 5])
    assert not app.exception
    assert "at token 2 to 4" in texts(app)
    assert app.query_params["token"] == "2:5"
    table = app.dataframe[0].value
    assert {"neuron", "normalised", "activation", "percentile", "text"} <= set(table.columns)
    select(app, "trace.acts.table", list(table.index), 0, 1)
    names = list(table["neuron"][:2])
    app.button(key="trace.acts.suppress").click().run()
    steer = app.session_state["steer.cards"][0].steer
    assert (steer.neurons, steer.mode, steer.strength) == (tuple(NeuronSide.parse(name) for name in names), "set", 0)
    app.text_input(key="trace.acts.concept").set_value("first two").run()
    app.button(key="trace.acts.concept.save").click().run()
    assert SavedConcepts().load("first two").sides == steer.neurons


def test_filters_narrow_the_table(record: TraceRecord) -> None:
    app = open_page("trace", trace=record.id)
    app.number_input(key="trace.threshold").set_value(0.0).run()
    everything = len(app.dataframe[0].value)
    app.selectbox(key="trace.acts.sign").set_value("negative").run()
    negative = app.dataframe[0].value
    assert 0 < len(negative) < everything
    assert (negative["activation"] < 0).all()
    app.slider(key="trace.acts.layers").set_value((0, 0)).run()
    assert set(app.dataframe[0].value["layer"]) == {0}
    app.text_input(key="trace.acts.words").set_value("no such words").run()
    assert "No neuron passes" in texts(app)


def test_attribution_is_computed_stored_and_restricted(record: TraceRecord) -> None:
    app = _view(open_page("trace", trace=record.id), "attribution")
    token = len(record.prompt_ids) + 1
    _select(app, record, [token, token + 1])
    assert not app.exception
    stored = server_wide.store().attributions(record.id)
    assert {info.target.token for info in stored} >= {token}
    table = app.dataframe[0].value
    assert 0 < len(table) <= MOST_ROWS
    assert table["token"].max() < token
    _select(app, record, [1, 3])
    assert set(app.dataframe[0].value["token"]) <= {1, 2}
    assert any(info.sources == "1:3" and info.target.token == token for info in server_wide.store().attributions(record.id))
    app.button(key="trace.sources.all").click().run()
    assert app.dataframe[0].value["token"].nunique() > 2


def test_ticked_rows_are_measured_and_stand_beside_their_estimates(record: TraceRecord) -> None:
    app = _view(open_page("trace", trace=record.id), "attribution")
    token = len(record.prompt_ids) + 1
    _select(app, record, [token, token + 1])
    assert "effect" not in app.dataframe[0].value
    assert app.button(key="trace.effects.go").disabled
    names = list(app.dataframe[0].value.index)
    select(app, "trace.attr.table", names, 0, 2, 3)
    app.button(key="trace.effects.go").click().run()
    until(lambda: all(not task.running for task in server_wide.server().tasks()))
    app.run()
    assert not app.exception
    table = app.dataframe[0].value
    assert list(table.columns).index("effect") >= 0
    assert table["effect"].notna().sum() == 3
    [info] = [info for info in server_wide.store().attributions(record.id) if info.target.token == token]
    found = server_wide.store().attribution(record.id, info.key)
    row = found.rows(1)[0]
    [effect] = measure_effects(loaded(), record.token_ids, info.target, [row], EffectOptions(prompt_tokens=len(record.prompt_ids))).rows
    assert table["effect"].iloc[0] == pytest.approx(effect.effect)
    assert "3 rows measured" in texts(app)
    assert (
        "effect" in open_page("trace", trace=record.id, token=str(token), view="attribution").dataframe[0].value
    )  # in another browser too


def test_paths_lead_upstream_from_a_row(record: TraceRecord) -> None:
    app = _view(open_page("trace", trace=record.id), "attribution")
    token = len(record.prompt_ids) + 1
    _select(app, record, [token, token + 1])
    frame = app.dataframe[0].value
    place = next(number for number, layer in enumerate(frame["layer"]) if layer == 2)
    select(app, "trace.attr.table", list(frame.index), place)
    app.button(key="trace.paths.go").click().run()
    until(lambda: all(not task.running for task in server_wide.server().tasks()))
    app.run()
    assert not app.exception
    edges = app.dataframe[1].value
    assert {"driver", "meaning", "drives", "driven", "drive"} <= set(edges.columns)
    assert edges["drives"].iloc[0].startswith(f"2:{frame['index'].iloc[place]}")
    assert edges["driver"].str.startswith("/neurons?neuron=").all()


def test_contrast_asks_for_the_other_token(record: TraceRecord) -> None:
    app = _view(open_page("trace", trace=record.id), "attribution")
    token = len(record.prompt_ids) + 1
    _select(app, record, [token, token + 1])
    app.selectbox(key="trace.metric").set_value("contrast").run()
    assert not app.exception
    found = [info for info in server_wide.store().attributions(record.id) if info.target.metric == "contrast"]
    assert found
    assert found[0].target.against_id not in (None, record.token_ids[token])


def test_integrated_gradients_are_chosen_and_say_how_far_they_converged(record: TraceRecord) -> None:
    app = _view(open_page("trace", trace=record.id), "attribution")
    token = len(record.prompt_ids) + 1
    _select(app, record, [token, token + 1])
    assert {info.method for info in server_wide.store().attributions(record.id)} == {DEFAULT}
    app.selectbox(key="trace.method").set_value("ig").run()
    assert not app.exception
    assert "converged:" in plain(app).casefold()
    [info] = [info for info in server_wide.store().attributions(record.id) if info.method == "ig"]
    again = attribute(loaded(), record.token_ids, info.target, method="ig", prompt_tokens=len(record.prompt_ids))
    assert app.dataframe[0].value["attribution"].abs().max() == pytest.approx(np.abs(again.attr_LTI).max(), rel=1e-4)
    app.selectbox(key="trace.method").set_value(DEFAULT).run()
    assert "converged" not in plain(app)


def test_a_typed_text_of_several_tokens_is_contrasted_by_its_first_and_that_is_said(record: TraceRecord) -> None:
    token = len(record.prompt_ids) + 1
    app = AppTest.from_string("from pages.trace_page import page\npage()", default_timeout=120)
    app.query_params.update({"trace": record.id, "view": "attribution", "token": str(token)})
    app.session_state["trace.tab"] = "Neurons"
    app.session_state["trace.metric"] = "contrast"
    app.session_state[f"trace.against.{record.id}.{token}"] = "Zwei words"
    app.run()
    assert not app.exception
    assert "contrasted with its first, 'Z'" in plain(app) or "contrasted with its first, ' '" in plain(app)
    found = [info for info in server_wide.store().attributions(record.id) if info.target.metric == "contrast"]
    assert len(found) == 1


@pytest.mark.parametrize("tab", ["Clusters", "Pictures"])
def test_a_tab_says_how_far_the_attribution_is_that_it_waits_for(record: TraceRecord, monkeypatch: pytest.MonkeyPatch, tab: str) -> None:
    monkeypatch.setattr(attribution_job, "PATIENCE", 0.05)
    monkeypatch.setattr(atlas_index, "atlas_of", lambda ref: None)
    monkeypatch.setattr(atlas_index, "stamp", lambda atlas: "none")
    monkeypatch.setattr(pictures.lens_table, "draw", lambda context: None)  # it needs the model, which is taken
    with loaded().lock:  # as if another session's answer had the model
        app = open_page("trace", trace_tab=tab, trace=record.id, view="attribution", token=str(len(record.prompt_ids) + 1))
        assert not app.exception
        assert "Click a token" not in plain(app)
        assert app.button(key="trace.attr.stop")
        app.button(key="trace.attr.stop").click().run()
    job = next(task for task in server_wide.server().tasks() if isinstance(task, attribution_job.Attributing))
    until(lambda: not job.running)


def test_a_probability_that_is_nearly_one_is_explained_in_log_odds_and_that_is_said(
    record: TraceRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attribution_view, "SATURATED", 0.0)  # a random model is sure of nothing
    token = len(record.prompt_ids) + 1
    app = open_page("trace", trace=record.id, view="attribution", token=str(token))
    assert not app.exception
    assert "log odds instead" in plain(app)
    (info,) = server_wide.store().attributions(record.id)
    logit = math.exp(float(server_wide.store().read(record.id, "logprob")[token]))
    assert info.target.metric == "logodds"
    assert info.metric_value == pytest.approx(math.log(logit / (1 - logit)), abs=1e-3)


def test_the_hover_says_the_entropy(record: TraceRecord) -> None:
    app = open_page("trace", trace=record.id)
    bits = float(server_wide.store().read(record.id, "entropy")[3]) / math.log(2)
    assert given(app, "trace.tokens.strip")["note"][3] == f"entropy {bits:.2f} bits before it"


def test_the_first_token_has_no_cause(record: TraceRecord) -> None:
    app = _select(_view(open_page("trace", trace=record.id), "attribution"), record, [0, 1])
    assert not app.exception
    assert "nothing before it" in texts(app)


def test_a_long_attribution_shows_how_far_it_is_and_can_be_stopped(record: TraceRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attribution_job, "PATIENCE", 0.05)
    with loaded().lock:  # as if another session's answer had the model
        app = _view(open_page("trace", trace=record.id), "attribution")
        assert not app.exception
        app.button(key="trace.attr.stop").click().run()
    job = next(task for task in server_wide.server().tasks() if isinstance(task, attribution_job.Attributing))
    until(lambda: not job.running)
    app.run()
    assert "was stopped" in texts(app)
    assert not server_wide.store().attributions(record.id)
    monkeypatch.setattr(attribution_job, "PATIENCE", 60)
    app.button(key="trace.attr.again").click().run()
    assert not app.exception
    assert server_wide.store().attributions(record.id)
    assert "was stopped" not in texts(app)


@pytest.mark.parametrize("view", ["activation", "attribution", "surprisal", "entropy"])
def test_a_link_names_token_and_view(record: TraceRecord, view: str) -> None:
    app = open_page("trace", trace=record.id, token="2:4", view=view)
    assert not app.exception
    assert app.session_state["trace.view"] == view
    assert app.session_state["trace.tokens.selection"]["ranges"] == ((2, 4),)


def test_the_link_to_copy_brings_back_what_the_address_does(record: TraceRecord) -> None:
    app = _select(open_page("trace", trace=record.id, view="surprisal"), record, [3, 4])
    before = app.code[0].value
    app.text_input(key="trace.acts.words").set_value("no such words").run()
    assert app.code[0].value != before
    assert app.code[0].value.endswith(f"?trace={record.id}&token=3&view=surprisal&kept={app.query_params['kept']}")


def test_nonsense_in_the_address_is_survived(record: TraceRecord) -> None:
    app = open_page("trace", trace=record.id, token="x:y", view="magic", run="nothing")
    assert not app.exception
    assert app.session_state["trace.view"] == "activation"
    gone = open_page("trace", trace="000000000000")
    assert not gone.exception
    assert "names the trace “000000000000”, which is not on this machine" in gone.warning[0].value


@pytest.mark.parametrize("view", ["activation", "attribution"])
def test_pictures(record: TraceRecord, view: str) -> None:
    app = open_page("trace", trace=record.id, token=str(len(record.prompt_ids)), view=view)
    app.session_state["trace.tab"] = "Pictures"
    app.run()
    assert not app.exception
    assert "What each layer would say" in texts(app)


def test_evicted_activations_come_back(record: TraceRecord) -> None:
    server_wide.store().evict(record.id)
    app = open_page("trace", trace=record.id)
    assert "were removed to keep the disk budget" in texts(app)
    app.button(key="trace.recompute").click().run()
    assert not app.exception
    assert server_wide.store().activation_state(record.id) == "stored"
    assert len(app.dataframe)


def test_settings_in_range_are_taken_and_others_refused(record: TraceRecord) -> None:
    app = open_page("trace", trace=record.id)
    app.number_input(key="sampling.temperature").set_value(0.7).run()
    app.number_input(key="sampling.seed").set_value(5).run()
    app.number_input(key="sampling.top_p").set_value(0.5).run()
    chosen = app.session_state["trace.sampling"]
    assert (chosen.temperature, chosen.seed, chosen.top_p) == (0.7, 5, 0.5)
    for name, wrong in (("temperature", 99.0), ("seed", -1), ("top_p", 2.0), ("top_k", -3), ("max_new_tokens", 0)):
        app.number_input(key=f"sampling.{name}").set_value(wrong).run()
        assert not app.exception
        assert app.session_state["trace.sampling"].check(), name
        assert getattr(app.session_state["trace.sampling"], name) != wrong


def test_name_and_tags_are_saved(record: TraceRecord) -> None:
    app = open_page("trace", trace=record.id)
    app.text_input(key=f"trace.name.{record.id}").set_value("*my* trace").run()
    app.text_input(key=f"trace.tags.{record.id}").set_value("a, b").run()
    saved_record = server_wide.store().load(record.id)
    assert (saved_record.name, saved_record.tags) == ("*my* trace", ("a", "b"))


def test_a_base_model_says_that_it_completes(record: TraceRecord) -> None:
    template = loaded().tokenizer.chat_template
    loaded().tokenizer.chat_template = None
    try:
        assert "Plain completion" in texts(open_page("trace", trace=record.id))
    finally:
        loaded().tokenizer.chat_template = template


def test_every_listed_page_exists_or_is_left_out() -> None:
    app = AppTest.from_file(str(Path(__file__).parents[2] / "pages" / "navigation.py"), default_timeout=120).run()
    assert not app.exception


def _answered(app: AppTest) -> TraceRecord:
    job = live_answer.find(app.query_params["run"], place="trace")
    assert job is not None
    until(lambda: not job.running)
    app.run()
    assert not app.exception
    return server_wide.store().load(app.query_params["trace"])


def test_the_next_answers_keep_a_steered_trace_s_steers_or_let_them_go() -> None:
    steer = Steer((NeuronSide(1, 3),), "set", 1.0, TokenScope("from question"), "louder", values=(9.0,))
    steered = saved("hello there", steers=[steer])[0]
    assert steered.steers[0].tokens.question is not None
    app = open_page("trace", trace=steered.id)
    app.session_state["trace.sampling"] = SHORT
    app.button(key="trace.again").click().run()
    again = _answered(app)
    assert again.steers == steered.steers
    app.toggle(key=f"trace.goes_on.{again.id}").set_value(True).run()
    app.chat_input(key="trace.input").set_value("and you?").run()
    longer = _answered(app)
    (kept,) = longer.steers
    assert kept.tokens.kind == "from question"
    assert kept.tokens.question is not None
    assert kept.tokens.question[0] > len(steered.token_ids) - 2  # the new question, not the first one
    app.toggle(key=f"trace.steered.{longer.id}").set_value(False).run()
    app.chat_input(key="trace.input").set_value("why?").run()
    assert _answered(app).steers == ()


def test_what_caused_the_answer_asks_for_the_word_that_decided_it() -> None:
    assert deciding(("The", " ", "capital", "\n", " is", " Ankara", "."), (-0.4, -9.0, -0.1, -8.0, -0.1, -2.0, -7.0)) == 5
    assert deciding(("...", "!"), (-1.0, -3.0)) == 0
    assert deciding(("8", "."), ()) == 0
    riddle = "Alice has 2 sisters and 1 brother, Bob. Fill in the blank: The number of Bob's sisters is"
    said = ("The", " number", " of", " Bob", "'s", " sisters", " is", " ", "2", ".")
    assert deciding(said, (-1.6, -0.5, -0.1, -0.6, -0.1, -0.2, -0.3, -0.3, -0.4, -0.5), riddle) == 8, "the number, though it was read"
    minutes = ("The", " time", " it", " takes", " is", " ", "8", " minutes", ".")
    assert deciding(minutes, (-0.4, -1.4, -0.1, -0.1, -0.2, -0.3, -0.9, -0.1, -0.1), "How long does light take?") == 6
    assert deciding(minutes, (-0.4, -1.4, -0.1, -0.1, -0.2, -0.3, -0.9, -0.1, -0.1), "What does light do?") == 1
    assert deciding(("I", "'m", " sorry", " for", " your", " pain"), (-2.0, -0.1, -0.4, -0.2, -0.3, -1.0), "My knee hurts.") == 2
    assert deciding((" Rome", " is", " Paris", "."), (-0.1, -3.0, -0.9, -4.0), "Rome or Paris?") == 2
    sure = ("The", " capital", " of", " Turkey", " is", " Istan", "bul", ".")
    assert deciding(sure, (-3.0, -0.2, -0.1, -0.1, -0.1, -0.01, -0.01, -0.1), "What is the capital of Turkey?") == 5
    assert words(sure)[-1] == (5, 7, "Istanbul")


def test_from_a_wrong_answer_to_repair_and_to_statistics_with_everything_filled_in() -> None:
    steer = Steer((NeuronSide(1, 3),), "set", 1.0, TokenScope("from question"), "louder", values=(9.0,))
    steered = saved("What is the capital of Turkey?", steers=[steer])[0]
    app = open_page("trace", trace=steered.id)
    app.text_input(key=f"trace.wrong.wanted.{steered.id}").set_value("Ankara").run()
    app.button(key="trace.wrong.repair").click().run()
    state = app.session_state
    assert (state["repair.prompt"], state["repair.wanted"]) == ("What is the capital of Turkey?", "Ankara")
    assert "Name the capital of Turkey." in state["repair.paraphrases"]
    app = open_page("trace", trace=steered.id)
    app.button(key="trace.wrong.statistics").click().run()
    assert app.session_state["stats.prompts"].splitlines()[0] == "What is the capital of Turkey?"
    assert app.session_state["steer.cards"][0].steer.neurons == steer.neurons


def test_a_new_question_is_a_new_conversation_unless_somebody_goes_on(record: TraceRecord) -> None:
    app = open_page("trace", trace=record.id)
    assert "A new conversation, no system prompt of yours" in texts(app)
    app.chat_input(key="trace.input").set_value("and you?").run()
    first = _answered(app)
    assert [message.role for message in first.messages] == ["user"]
    app.toggle(key=f"trace.goes_on.{first.id}").set_value(True).run()
    app.chat_input(key="trace.input").set_value("why?").run()
    second = _answered(app)
    assert [message.role for message in second.messages] == ["user", "assistant", "user"]
    assert app.toggle(key=f"trace.goes_on.{second.id}").value  # who goes on goes on going on


def test_a_trace_brings_its_system_prompt_and_settings_and_they_go_on_with_it() -> None:
    settings = Sampling(temperature=0.7, seed=3, max_new_tokens=4)
    talk = (Message("system", "Be brief."), Message("user", "hello"))
    made, _ = run_trace(loaded(), talk, sampling=settings, store=server_wide.store())
    plain = saved("something else")[0]
    app = open_page("trace", trace=made.id)
    assert app.session_state["trace.sampling"] == settings
    assert app.text_area(key="sampling.system").value == "Be brief."
    assert app.number_input(key="sampling.seed").value == 3
    app.button(key="trace.again").click().run()
    again = _answered(app)
    assert again.messages[0] == Message("system", "Be brief.")
    assert again.sampling == replace(settings, seed=4)
    assert app.number_input(key="sampling.seed").value == 4  # the bar says the seed of the answer that is shown
    app.toggle(key=f"trace.goes_on.{again.id}").set_value(True).run()
    app.chat_input(key="trace.input").set_value("more").run()
    longer = _answered(app)
    assert (longer.messages[0].content, longer.sampling) == ("Be brief.", again.sampling)
    app.query_params["trace"] = plain.id
    app.run()
    assert app.text_area(key="sampling.system").value == ""
    assert app.session_state["trace.sampling"] == SHORT


def test_a_system_prompt_typed_for_one_trace_does_not_act_on_the_next(record: TraceRecord) -> None:
    other = saved("something else")[0]
    app = open_page("trace", trace=record.id)
    app.text_area(key="sampling.system").set_value("Speak like a pirate.").run()
    assert "with your system prompt" in texts(app)
    app.query_params["trace"] = other.id
    app.run()
    assert "no system prompt of yours" in texts(app)
