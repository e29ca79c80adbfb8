"""The Prompts and Models pages: input and its errors, a run to the end, its table, resuming, model cards and switching."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from neurons.core.errors import InvalidInput
from neurons.core.steers import Steer
from neurons.core.types import NeuronSide
from neurons.prompts import runs
from neurons.prompts.files import load_file, pasted
from neurons.prompts.sets import saved_sets
from pages import models_page
from pages.prompts import run_list
from pages.shared import job_progress, progress_row, server_wide
from tests.support.app_pages import PATIENCE, SHORT, loaded, open_page, plain, texts, until
from tests.support.tiny_models import tiny_tokenizer, tiny_torch_model

pytestmark = pytest.mark.usefixtures("app_home")
LOUD = Steer((NeuronSide(1, 3), NeuronSide(2, 7)), "scale", 40.0, name="loud")


def run_all(text: str, run: str, *steers: Steer) -> str:
    """Run pasted prompts to the end; returns the job's id."""
    job = run_list.start(pasted(text), run=run, sampling=SHORT, steers=steers, system=None, record=False)
    until(lambda: not job_progress.runner().get(job.id).active)
    return job.id


def paste(app: AppTest, text: str) -> AppTest:
    app.button_group(key="prompts.source").set_value("Paste").run()
    return app.text_area(key="prompts.text").set_value(text).run()


def test_an_empty_page_says_what_to_do() -> None:
    app = open_page("prompts")
    assert not app.exception
    assert "No prompts have been run yet" in texts(app)


def test_upload_maps_columns_and_lists_bad_rows() -> None:
    app = open_page("prompts")
    data = b"id,question\n1,what?\n2,\n3,a,b,c\n"
    app.file_uploader(key="prompts.file").set_value(("q.csv", data, "text/csv")).run()
    assert not app.exception
    assert "1 prompt can be run" in texts(app)
    assert app.text_input[0].label == "Name of the run"
    assert "asked is the column 'question'" in texts(app).replace("\\", "")
    app.radio[0].set_value("columns of my choice").run()
    assert "Choose the column that holds the prompt" in texts(app)
    next(box for box in app.selectbox if box.label == "Prompt").set_value("id").run()
    assert "2 prompts can be run" in texts(app)


def test_an_unknown_file_is_shown_with_the_choice() -> None:
    app = open_page("prompts")
    app.file_uploader(key="prompts.file").set_value(("q.csv", b"topic,style\nbees,short\nants,long\n", "text/csv")).run()
    assert not app.exception
    assert "can be run" not in texts(app)
    box = next(box for box in app.text_input if box.label == "Or a template")
    box.set_value("A {style} text about {topic}").run()
    assert not app.exception
    assert "2 prompts can be run" in texts(app)
    table = next(frame for frame in app.dataframe if "prompt" in frame.value)
    assert list(table.value["prompt"]) == ["A short text about bees", "A long text about ants"]


@pytest.mark.parametrize(
    ("name", "data", "said"), [("a.txt", b"", "empty"), ("b.csv", b"PK\x03\x04zzz", "zip or Excel"), ("c.txt", b"a\0b", "binary")]
)
def test_a_bad_file_is_said_below_its_field(name: str, data: bytes, said: str) -> None:
    app = open_page("prompts")
    app.file_uploader(key="prompts.file").set_value((name, data, "text/plain")).run()
    assert not app.exception
    assert said in texts(app)


def test_pasted_prompts_run_and_the_address_finds_them() -> None:
    app = open_page("prompts")
    app.session_state["trace.sampling"] = SHORT
    paste(app, "one\ntwo")
    next(box for box in app.text_input if box.label == "Name of the run").set_value("my run").run()
    app.button(key="prompts.go").click().run()
    assert not app.exception
    job = run_list.job_of("my run")
    assert job is not None
    until(lambda: not job_progress.runner().get(job.id).active)
    app = open_page("prompts", run="my run")
    assert "2 prompts answered" in texts(app)
    table = next(frame for frame in app.dataframe if "answer" in frame.value)
    assert list(table.value["prompt"]) == ["one", "two"]


def test_back_from_another_page_shows_the_run_that_the_address_names() -> None:
    run_all("one", "older")
    run_all("two", "newer")
    app = AppTest.from_string("from pages.prompts_page import page\npage()", default_timeout=PATIENCE)
    app.session_state["prompts.run.seen"] = app.query_params["run"] = "older"  # the field itself is forgotten with the page
    assert app.run().selectbox(key="prompts.run").value == "older"


def test_a_paired_run_counts_the_answers_that_change() -> None:
    run_all("one\ntwo", "paired", LOUD)
    app = open_page("prompts", run="paired")
    assert not app.exception
    frame = run_list.results("paired")
    differ = int(frame["differs"].sum())
    assert f"{differ} of 2 answers change" in texts(app)
    app.toggle(key="prompts.results.differ").set_value(True).run()
    assert not app.exception


def test_a_taken_run_name_is_refused() -> None:
    run_all("one", "taken")
    with pytest.raises(InvalidInput, match="choose another name"):
        run_list.start(pasted("two"), run="taken", sampling=SHORT, steers=(), system=None, record=False)


def test_a_stopped_run_is_resumed_from_the_page() -> None:
    job = run_list.start(
        pasted("\n".join(f"prompt {n}" for n in range(30))), run="long", sampling=SHORT, steers=(), system=None, record=False
    )
    until(lambda: job_progress.runner().get(job.id).done >= 2)
    job_progress.runner().cancel(job.id)
    until(lambda: not job_progress.runner().get(job.id).active)
    stopped = job_progress.runner().get(job.id)
    assert stopped.state == "cancelled"
    app = open_page("prompts", run="long")
    app.button(key=f"prompts.{job.id}.resume").click().run()
    until(lambda: not job_progress.runner().get(job.id).active)
    assert job_progress.runner().get(job.id).state == "done"
    assert len(run_list.results("long")) == 30


def test_a_run_of_another_model_is_refused_and_says_so() -> None:

    job = runs.start(
        job_progress.runner(), pasted("one"), runs.RunParameters(run="other", model="some/other-model", weights="0" * 64, sampling=SHORT)
    )
    until(lambda: not job_progress.runner().get(job.id).active)
    ended = job_progress.runner().get(job.id)
    assert ended.state == "failed"
    assert "load that model and resume" in ended.message


def test_sets_are_saved_used_and_deleted_with_undo() -> None:
    app = paste(open_page("prompts"), "one\ntwo")
    next(box for box in app.text_input if box.label == "Name of the run").set_value("kept").run()
    app.button(key="prompts.save").click().run()
    assert saved_sets().names() == ("kept",)
    app.button_group(key="prompts.source").set_value("Saved set").run()
    assert "2 prompts can be run" in texts(app)
    app.button(key="prompts.saved.delete").click().run()
    assert saved_sets().names() == ()
    app.button(key="prompts.saved.restore").click().run()
    assert saved_sets().names() == ("kept",)


def test_times_are_said_as_people_say_them() -> None:
    assert [progress_row.time_text(s) for s in (4, 89, 170, 7500)] == ["4 s", "89 s", "3 min", "2 h 5 min"]


def test_models_page_shows_the_loaded_model_and_switches(tmp_path: Path) -> None:
    other = tmp_path / "other-model"
    tiny_torch_model("qwen2").save_pretrained(other)
    tiny_tokenizer().save_pretrained(other)
    app = open_page("models")
    assert not app.exception
    assert app.dataframe[0].value["name"].iloc[0] == "SmolLM2-135M-Instruct"
    app.text_input(key="models.spec").set_value(str(other)).run()
    assert "switches it for all of them" in texts(app)
    app.button(key="models.load").click().run()
    until(lambda: loaded().ref.architecture == "Qwen2ForCausalLM")
    app.run()
    assert not app.exception
    assert "Checked against plain transformers" in app.expander[0].label
    assert "prompts of 24 and" in plain(app)


def test_a_model_that_comes_while_the_page_is_drawn_is_shown_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other-model"
    tiny_torch_model("qwen3").save_pretrained(other)
    tiny_tokenizer().save_pretrained(other)
    listed = models_page.cached_models

    def slowly(**settings: str | None) -> object:  # a machine with many models takes long to list them
        until(lambda: server_wide.server().loading is None or not server_wide.server().loading.running)
        return listed(**settings)

    app = open_page("models")
    app.text_input(key="models.spec").set_value(str(other)).run()
    monkeypatch.setattr(models_page, "cached_models", slowly)
    app.button(key="models.load").click().run()
    assert not app.exception
    assert "Qwen3ForCausalLM" in plain(app)


def test_a_model_that_does_not_exist_keeps_the_old_one() -> None:
    before = loaded()
    app = open_page("models")
    app.text_input(key="models.spec").set_value("/nowhere/at/all").run()
    assert not app.exception
    app.button(key="models.load").click().run()
    until(lambda: server_wide.server().loading is not None and not server_wide.server().loading.running)
    app.run()
    assert "no model folder" in texts(app)
    assert loaded() is before


def test_what_is_expected_is_counted_before_and_after_the_steer() -> None:
    found = load_file(b"prompt,expected\none,zzz\ntwo,\n", name="q.csv").prompts
    job = run_list.start(found, run="expected", sampling=SHORT, steers=(LOUD,), system=None, record=False)
    until(lambda: not job_progress.runner().get(job.id).active)
    app = open_page("prompts", run="expected")
    assert not app.exception
    assert "As expected:" in texts(app)
    assert "0 of 1" in texts(app)
    table = next(frame for frame in app.dataframe if "outcome" in frame.value)
    assert table.value["outcome"].dropna().to_list() == ["wrong"]
