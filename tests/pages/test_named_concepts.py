"""The named concepts on the Concepts page: looked through, added, replaced, taken out, undone; their neurons found by a job."""

from __future__ import annotations

import json

import pytest
from streamlit.testing.v1 import AppTest

from neurons.core.errors import InvalidInput
from neurons.describing import atlas_jobs
from neurons.detectors.lexicon import lexicon_folder, load_lexicon
from neurons.detectors.store import open_detectors
from pages.concepts import named_form, named_job, named_list
from pages.shared import job_progress
from tests.detectors.test_own import entry
from tests.support.app_pages import loaded, open_page, plain, select, until
from tests.support.atlases import tiny_corpus
from tests.support.lexicons import letter_lexicon

pytestmark = pytest.mark.usefixtures("app_home")
SENTENCES = "\n".join(f"The kite number {n} rose above the dunes." for n in range(12))


def fill(app: AppTest, **values: str) -> AppTest:
    number = app.session_state["concepts.form.number"]
    for name, value in values.items():
        if name == "field":
            app.selectbox(key=f"concepts.form.{number}.field").set_value(value)
        else:
            kind = app.text_area if name in ("sentences", "near") else app.text_input
            kind(key=f"concepts.form.{number}.{name}").set_value(value)
    return app.button(key=f"concepts.form.{number}.save").click().run()


def table(app: AppTest) -> list[str]:
    return list(next(frame.value for frame in app.dataframe if "known" in frame.value)["key"])


def test_the_named_concepts_are_a_click_away_and_have_an_address() -> None:
    app = open_page("concepts")
    app.button_group(key="concepts.show").set_value("named").run()
    assert not app.exception
    assert app.query_params["show"] == "named"
    assert len(table(app)) == len(load_lexicon().concepts)
    app.text_input(key="concepts.named.words").set_value("baking bread").run()
    assert "baking" in table(app)
    app = select(app, "concepts.named.table", table(app), table(app).index("baking"))
    assert app.query_params["named"] == "baking"
    assert "baking and bread" in plain(app)
    again = open_page("concepts", show="named", named="baking")
    assert "baking and bread" in plain(again)
    assert "is not on this machine" in plain(open_page("concepts", show="named", named="no-such"))


def test_a_concept_is_written_found_in_the_table_and_undone() -> None:
    app = open_page("concepts", show="named")
    fill(app, name="paper kites", field="Sport and games", definition="Flying kites.", words="kite, string", sentences="Too few.")
    assert "sentences: needs 6 or more, and has 1" in plain(app)
    assert not list(lexicon_folder().glob("*.json"))
    fill(app, sentences=SENTENCES)
    assert not app.exception
    assert app.query_params["named"] == "paper-kites"
    [mine] = [c for c in load_lexicon().concepts if c.own]
    assert (mine.field, mine.name, len(mine.entry.sentences)) == ("Sport and games", "paper kites", 12)
    assert "near misses; 12 or more make it sharper" in plain(app)
    app.selectbox(key="concepts.named.field").set_value("Your own").run()
    assert table(app) == ["paper-kites"]
    app.button(key="concepts.named.restore").click().run()
    assert not app.exception
    assert not list(lexicon_folder().glob("*.json"))


def test_a_new_concept_never_takes_anothers_place_by_its_name() -> None:
    app = open_page("concepts", show="named")
    fill(app, name="baking", field="Food and drink", definition="Mine.", words="bun", sentences=SENTENCES)
    assert not app.exception
    assert {"baking", "baking-2"} <= {c.key for c in load_lexicon().concepts}


def test_a_shipped_concept_is_replaced_and_comes_back() -> None:
    app = open_page("concepts", show="named", named="baking")
    app.button(key="concepts.one.edit").click().run()
    number = app.session_state["concepts.form.number"]
    assert app.text_input(key=f"concepts.form.{number}.name").value == "baking and bread"
    fill(app, definition="Buns and rolls.")
    baking = next(c for c in load_lexicon().concepts if c.key == "baking")
    assert (baking.own, baking.entry.definition) == (True, "Buns and rolls.")
    app.button(key="concepts.one.remove").click().run()
    assert not app.exception
    assert not next(c for c in load_lexicon().concepts if c.key == "baking").own
    app.button(key="concepts.named.restore").click().run()
    assert next(c for c in load_lexicon().concepts if c.key == "baking").own


def test_a_file_is_taken_or_refused_by_what_is_wrong() -> None:
    def wait() -> None:
        data = json.dumps({"field": "Wind", "concepts": [entry().model_dump()]}).encode()
        assert named_form.take("wind.json", data) == [("wind.json: ", "strong"), ("kites put into Wind", "")]
        [(said, kind)] = named_form.take("bad.json", data.replace(b'"definition"', b'"definitoin"'))
        assert kind == "negative"
        assert "bad.json: concept 'kites': definition: " in said

    app = AppTest.from_function(lambda: None)
    app.run()
    wait()
    assert [c.key for c in load_lexicon().concepts if c.own] == ["kites"]


def test_a_broken_file_of_ones_own_is_named_and_taken_out() -> None:
    (lexicon_folder() / "torn.json").write_bytes(b"{")
    app = open_page("concepts", show="named")
    assert not app.exception
    assert "torn.json" in plain(app)
    app.button(key="concepts.named.aside.torn.json").click().run()
    assert len(table(app)) == len(load_lexicon().concepts)
    app.button(key="concepts.named.restore").click().run()
    assert (lexicon_folder() / "torn.json").read_bytes() == b"{"


def test_the_neurons_are_found_by_a_job_that_stops_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    small = letter_lexicon()
    for place in ("neurons.detectors.build.load_lexicon", "pages.concepts.named_list.load_lexicon"):
        monkeypatch.setattr(place, lambda: small)
    monkeypatch.setattr("neurons.detectors.build.calibration_corpus", lambda *_given, **_named: tiny_corpus())
    monkeypatch.setattr("neurons.detectors.collect.CHUNK", 16)
    named_list._lexicon.clear()
    app = open_page("concepts", show="named")
    assert "is not known yet" in plain(app)
    with loaded().lock:  # no sentence can be run before the job was stopped
        app.button(key="concepts.detectors.go").click().run()
        assert not app.exception
        [job] = atlas_jobs.jobs_of(job_progress.runner(), loaded().ref, atlas_jobs.FIND)
        with pytest.raises(InvalidInput, match="at work"):
            named_job.start(loaded().ref)
        job_progress.runner().cancel(job.id)
    until(lambda: not job_progress.runner().get(job.id).active)
    app.run()
    assert job_progress.runner().get(job.id).state == "cancelled"
    app.button(key="concepts.detectors.resume").click().run()
    until(lambda: not job_progress.runner().get(job.id).active)
    assert job_progress.runner().get(job.id).state == "done", job_progress.runner().get(job.id).message
    made = open_detectors(loaded().ref)
    assert made is not None
    app.run()
    assert f"the neurons of {int(made.found.sum())} of {len(made)} named concepts are known" in plain(app)
    frame = next(frame.value for frame in app.dataframe if "known" in frame.value)
    assert list(frame["known"]) == ["found" if found else "not found" for found in made.found]
    app = open_page("concepts", show="named", named=made.keys[0])
    assert "with chance" in plain(app)
    assert len(next(f.value for f in app.dataframe if "link" in f.value)) == len(made.sides(0))
    named_list._lexicon.clear()


def test_changed_texts_are_said_until_the_neurons_are_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    small = letter_lexicon()
    monkeypatch.setattr("pages.concepts.named_list.load_lexicon", lambda: small)
    named_list._lexicon.clear()
    from neurons.detectors.build import build_detectors

    made = build_detectors(loaded(), small, corpus=tiny_corpus())
    assert named_job.standing(loaded().ref, made)[1]
    monkeypatch.setattr("pages.concepts.named_list.load_lexicon", lambda: letter_lexicon(planted=7))
    named_list._lexicon.clear()
    said, current = named_job.standing(loaded().ref, made)
    assert not current
    assert "1 added" in said
    named_list._lexicon.clear()
