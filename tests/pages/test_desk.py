"""What a person typed, chose and put on cards is there again after a reload and by a copied link; links that lead nowhere say so."""

from __future__ import annotations

from dataclasses import replace

import pytest
from streamlit.testing.v1 import AppTest

from neurons.core.steers import Steer, TokenScope
from neurons.core.types import NeuronSide
from neurons.tours.tours import TOURS
from pages.serving.lost import home_of
from pages.shared import address, sampling_settings, server_wide, steer_state
from pages.tours import way_back
from tests.support.app_pages import PATIENCE, SHORT, open_page, plain, saved, select
from tests.support.page_list import page_list
from traces.schema import TraceRecord

SOME = Steer((NeuronSide.parse("1:3"),), "set", 0.0)

pytestmark = pytest.mark.usefixtures("app_home")


def kept_page(name: str, **query: str) -> AppTest:
    """A page as the navigation draws it, in a session of its own."""
    script = (
        f"from pages.shared import browser_history, desk\nfrom pages.{page_list()[name][2]} import page\n"
        f"desk.bring({name!r})\nbrowser_history.lost()\npage()\ndesk.keep({name!r})"
    )
    app = AppTest.from_string(script, default_timeout=PATIENCE)
    for key, value in query.items():
        app.query_params[key] = value
    return app.run()


def reloaded(app: AppTest, name: str) -> AppTest:
    """The same address in a fresh session."""
    return kept_page(name, **asked(app))


def asked(app: AppTest) -> dict[str, str]:
    """The parameters of the address."""
    return {key: value[0] if isinstance(value, list) else value for key, value in app.query_params.items()}


def test_an_untouched_page_has_a_plain_address() -> None:
    for name in ("prompts", "repair", "experiments", "models"):
        assert address.PARAMETER not in kept_page(name).query_params, name


def test_the_forms_of_repair_and_statistics_and_pasted_prompts_come_back() -> None:
    app = kept_page("repair")
    app.text_area(key="repair.prompt").set_value("What is <b>it</b>?").run()
    app.selectbox(key="repair.kind").set_value("regex").run()
    app.toggle(key="repair.compare").set_value(False).run()
    again = reloaded(app, "repair")
    assert not again.exception
    assert again.text_area(key="repair.prompt").value == "What is <b>it</b>?"
    assert again.selectbox(key="repair.kind").value == "regex"
    assert again.toggle(key="repair.compare").value is False

    app = kept_page("experiments")
    app.text_area(key="stats.prompts").set_value("one\ntwo").run()
    app.number_input(key="stats.random").set_value(4).run()
    again = reloaded(app, "experiments")
    assert (again.text_area(key="stats.prompts").value, again.number_input(key="stats.random").value) == ("one\ntwo", 4)

    app = kept_page("prompts")
    app.button_group(key="prompts.source").set_value("Paste").run()
    app.text_area(key="prompts.text").set_value("a\nb").run()
    assert reloaded(app, "prompts").text_area(key="prompts.text").value == "a\nb"


def test_a_link_to_another_page_names_the_desk_from_the_start(record: TraceRecord) -> None:
    app = kept_page("trace", trace=record.id)
    app.session_state["steer.cards"] = (steer_state.Card("ab12", SOME, SOME.neurons),)
    app.run()
    script = "from pages.compare.side_by_side import pair_link\npair_link('a1', 'b2')"
    linked = AppTest.from_string(script, default_timeout=PATIENCE)
    linked.session_state[address.DESK] = name = asked(app)[address.PARAMETER]
    [link] = linked.run().get("page_link")
    assert link.proto.query_string == f"a=a1&b=b2&kept={name}"
    linked.session_state[address.DESK] = ""
    [link] = linked.run().get("page_link")
    assert link.proto.query_string == "a=a1&b=b2"


def test_steer_cards_and_settings_come_back_with_a_reload(record: TraceRecord) -> None:
    app = kept_page("trace", trace=record.id)
    steer = Steer((NeuronSide.parse("1:3"), NeuronSide.parse("0:2-")), "add", 0.5, TokenScope("answer"), "mine", False)
    app.session_state[steer_state._CARDS] = (steer_state.Card("x", steer, steer.neurons),)
    app.run()
    app.number_input(key="sampling.temperature").set_value(0.5).run()
    app.number_input(key="sampling.seed").set_value(3).run()
    again = reloaded(app, "trace")
    assert [card.steer for card in again.session_state[steer_state._CARDS]] == [steer]
    assert again.session_state[sampling_settings._SAMPLING] == replace(SHORT, temperature=0.5, seed=3)


def test_what_a_run_that_broke_off_had_filled_in_is_told_to_the_browser_again(record: TraceRecord) -> None:
    """A browser takes a field that it is told nothing of for empty, and says so with the next press."""
    steer = Steer((NeuronSide.parse("1:3"), NeuronSide.parse("0:2-")), "add", 0.5, TokenScope("answer"), "mine")
    app = AppTest.from_string(
        "import streamlit as st\nfrom pages.shared import desk\nfrom pages.trace_page import page\n"
        "desk.bring('trace')\npage()\n"
        "if st.session_state.get('breaks'):\n    st.session_state['breaks'] = False\n    st.rerun()\n"
        "desk.keep('trace')\ndesk.drawn('trace')",
        default_timeout=PATIENCE,
    )
    app.query_params["trace"] = record.id
    app.session_state["trace.tab"] = "Steer"
    app.session_state["breaks"] = True
    app.session_state[steer_state._CARDS] = (steer_state.Card("x", steer, steer.neurons),)
    app.run()
    assert not app.exception
    switch, name, neurons = app.toggle(key="steer.x.on"), app.text_input(key="steer.x.name"), app.multiselect(key="steer.x.neurons")
    assert (switch.proto.set_value, switch.proto.value) == (True, True)
    assert (name.proto.set_value, name.proto.value) == (True, "mine")
    assert (neurons.proto.set_value, list(neurons.proto.raw_values)) == (True, ["1:3+", "0:2-"])
    app.run()
    assert not app.toggle(key="steer.x.on").proto.set_value, "what the browser knows is not told again: half-typed text would go"


def test_filters_and_selection_of_saved_traces_come_back() -> None:
    first, _ = saved("hello there", "good morning")
    app = kept_page("traces")
    app.text_input(key="traces.words").set_value("hello").run()
    select(app, "traces.table", [first.id], 0)
    again = reloaded(app, "traces")
    assert again.text_input(key="traces.words").value == "hello"
    assert again.session_state["traces.picked"] == [first.id]
    assert not again.button(key="traces.open").disabled


@pytest.mark.parametrize("name", ["0123456789abcdef", "../../etc/passwd", "x"])
def test_a_desk_that_is_not_here_says_so(name: str) -> None:
    app = kept_page("repair", kept=name)
    assert not app.exception
    assert "not on this machine" in app.toast[0].value
    assert address.PARAMETER not in app.query_params


@pytest.mark.parametrize(("page", "name"), [("prompts", "run"), ("repair", "job"), ("experiments", "job"), ("tours", "tour")])
def test_a_link_to_what_is_not_here_says_so(page: str, name: str) -> None:
    saved("hello", set_name="a run") if page == "prompts" else None
    app = open_page(page, **{name: "no_such*thing"})
    said = plain(app) + "".join(warning.value for warning in app.warning).replace("\\", "")
    assert "no_such*thing" in said
    assert "not on this machine" in said
    assert not app.exception


def test_a_concept_that_is_not_here_is_named() -> None:
    app = open_page("concepts", concept="no_such*thing")
    assert not app.exception
    assert "no_such*thing" in plain(app)


def test_an_answer_that_is_not_being_written_any_more_says_so(record: TraceRecord) -> None:
    assert "is not being written here" in plain(open_page("trace", trace=record.id, run="abcd1234"))


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/trace", "./?trace=1"),
        ("/trace/", "../?trace=1"),
        ("/nowhere", "./?lost=nowhere"),
        ("/no/where", "../?lost=no%2Fwhere"),
        ("/", None),
        ("/repair", None),
        ("/static/index.js", None),
        ("/_stcore/health", None),
        ("/favicon.png", None),
    ],
)
def test_a_path_without_a_page_leads_to_the_trace_page(path: str, target: str | None) -> None:
    assert home_of(path, "trace=1") == target


def test_a_wrong_path_is_named_as_text(record: TraceRecord) -> None:
    app = kept_page("trace", trace=record.id, lost="no*where*")
    assert "There is no page “no*where*”" in plain(app)
    app.button(key="history.lost").click().run()
    assert "There is no page" not in plain(app)


def test_a_refused_question_is_in_its_field_again(record: TraceRecord) -> None:
    loaded = server_wide.model()
    assert loaded is not None
    text = "word " * (loaded.ref.max_positions + 10)
    app = open_page("trace", trace=record.id)
    app.chat_input[0].set_value(text).run()
    assert app.error
    assert app.chat_input[0].proto.value == text


def test_an_uploaded_file_survives_a_visit_to_another_page() -> None:
    app = open_page("prompts")
    app.file_uploader(key="prompts.file").set_value(("capitals.txt", b"What is the capital of Peru?\nAnd of Chile?\n", "text/plain")).run()
    assert "2 prompts can be run" in plain(app)
    again = open_page("prompts")
    again.session_state["prompts.file.kept"] = app.session_state["prompts.file.kept"]  # the session that goes on, its field emptied
    again.run()
    assert "Still here: capitals.txt" in plain(again)
    assert "2 prompts can be run" in plain(again)
    again.button(key="prompts.file.remove").click().run()
    assert "capitals.txt" not in plain(again)


def test_a_tour_s_step_is_found_again_from_the_page_it_led_to() -> None:
    app = AppTest.from_string(
        "from pages.shared import desk\nfrom pages.tours import way_back\ndesk.bring('trace')\nway_back.draw()\ndesk.keep('trace')",
        default_timeout=PATIENCE,
    )
    assert not app.run().button
    tour = TOURS[0]
    app.session_state[way_back.AT] = [tour.id, 2]
    app.run()
    assert f"step 2 of {len(tour.steps)}" in plain(app)
    again = AppTest.from_string(
        "from pages.shared import desk\nfrom pages.tours import way_back\ndesk.bring('trace')\nway_back.draw()\ndesk.keep('trace')",
        default_timeout=PATIENCE,
    )
    again.query_params.update(asked(app))
    assert f"step 2 of {len(tour.steps)}" in plain(again.run())
    again.button(key="tours.way.end").click().run()
    assert not again.button


def test_a_step_of_a_tour_remembers_itself_and_the_list_forgets() -> None:
    app = open_page("tours", tour=TOURS[0].id, step="2")
    assert list(app.session_state[way_back.AT]) == [TOURS[0].id, 2]
    assert way_back.AT not in open_page("tours").session_state
