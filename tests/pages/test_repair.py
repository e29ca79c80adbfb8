"""The Repair page on a tiny random model."""

from __future__ import annotations

import pytest
import torch
from streamlit.testing.v1 import AppTest

from neurons.core.types import Message
from neurons.models.chat import encode_prompt
from neurons.repair.experiments import experiments
from neurons.repair.job import JOB_KIND
from neurons.runs.hooks import run_forward
from pages.shared import job_progress, server_wide
from tests.support.app_pages import loaded, open_page, texts, until

pytestmark = pytest.mark.usefixtures("app_home")


def second_choice() -> str:
    """A letter that the model nearly says instead of what it says."""
    ids = encode_prompt(loaded(), [Message("user", "What is it?")]).ids
    order = run_forward(loaded(), torch.tensor([ids])).logits[0, -1].argsort(descending=True).tolist()
    letters = {loaded().tokenizer.convert_tokens_to_ids(chr(i)): chr(i) for i in range(97, 123)}
    return next(letters[i] for i in order[1:] if i in letters)


def asked(**changes: str) -> AppTest:
    """The page with a repair filled in."""
    app = open_page("repair")
    assert not app.exception
    values = {
        "prompt": "What is it?",
        "wanted": second_choice(),
        "paraphrases": "Tell me what it is.\nIs it?\nIt is what?",
        "controls": "Hello\none two\nabc",
        **changes,
    }
    app.radio(key="repair.controls.source").set_value("My own").run()
    app.selectbox(key="repair.kind").set_value("token")
    for name, value in values.items():
        kind = app.text_input if name in ("wanted", "unwanted") else app.text_area
        kind(key=f"repair.{name}").set_value(value)
    app.number_input(key="repair.budget").set_value(300)
    app.number_input(key="repair.tokens").set_value(2)
    app.toggle(key="repair.compare").set_value(False)
    return app.run()


def test_a_first_visit_says_what_to_do_and_fills_an_example() -> None:
    app = open_page("repair")
    assert not app.exception
    assert "Find the few neurons behind a wrong answer" in texts(app)
    app.button(key="repair.example").click().run()
    assert not app.exception
    assert app.text_input(key="repair.wanted").value == "Ankara"
    assert "Tell me the capital of Turkey." in app.text_area(key="repair.paraphrases").value


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"wanted": ""}, "wanted is empty"),
        ({"paraphrases": "one"}, "1 paraphrases given"),
        ({"controls": "Is it?"}, "is a control and is to change"),
    ],
)
def test_bad_wishes_are_told_before_anything_runs(change: dict[str, str], said: str) -> None:
    app = asked(**change)
    app.button(key="repair.go").click().run()
    assert not app.exception
    assert said in texts(app).replace("\\", "")
    assert not job_progress.runner().list(JOB_KIND)


def test_wordings_and_controls_come_from_a_file() -> None:
    app = open_page("repair")
    app.radio(key="repair.controls.source").set_value("My own").run()
    wordings = b'{"prompt": "Tell me what it is."}\n{"prompt": 3}\n"Is it?"\n'
    app.file_uploader(key="repair.paraphrases.file").set_value(("w.jsonl", wordings, "application/jsonl")).run()
    app.file_uploader(key="repair.controls.file").set_value(("c.csv", b"id,question\n1,Hello\n2,one two\n", "text/csv")).run()
    assert not app.exception
    assert "1 left out" in texts(app)
    app.button(key="repair.paraphrases.set.go").click().run()
    app.button(key="repair.controls.set.go").click().run()
    assert not app.exception
    assert app.text_area(key="repair.paraphrases").value == "Tell me what it is.\nIs it?"
    assert app.text_area(key="repair.controls").value == "Hello\none two"


def test_a_search_from_start_to_result() -> None:
    app = asked()
    app.button(key="repair.go").click().run()
    assert not app.exception
    (job,) = job_progress.runner().list(JOB_KIND)
    ended = job_progress.runner().wait(job.id, timeout=120)
    assert ended.state == "done", ended.message
    app = open_page("repair", job=job.id)
    assert not app.exception
    assert app.metric
    assert "Held-out wordings fixed" in [m.label for m in app.metric]
    assert experiments().names() == ("What is it?",)
    app.button(key="repair.delete").click().run()
    assert not experiments().names()
    app.button(key="repair.restore").click().run()
    assert experiments().names() == ("What is it?",)


def test_the_unsteered_answers_can_be_seen_first() -> None:
    app = asked()
    app.button(key="repair.check").click().run()
    until(lambda: not any(job.running for job in server_wide.server().tasks()))
    app.run()
    assert not app.exception
    assert set(app.dataframe[0].value["Part"]) == {"searched with", "held out", "control"}


def test_a_control_that_is_wrong_already_is_refused() -> None:
    app = asked(controls="Hello => no such answer\none two\nabc")
    app.button(key="repair.check").click().run()
    until(lambda: not any(job.running for job in server_wide.server().tasks()))
    app.run()
    assert not app.exception
    assert "control 'Hello' is answered wrong without any steer" in texts(app).replace("\\", "")
