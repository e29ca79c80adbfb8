"""Background work looks the same wherever it is shown, and what a page says of it comes from one look."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from neurons.core.progress import Standing
from neurons.core.steers import Steer
from neurons.core.types import NeuronSide
from neurons.prompts.files import pasted
from neurons.statistics.comparison import ComparisonSpec, from_prompt_set
from neurons.statistics.job import JOB_KIND, spec_to_json
from pages.shared import job_progress, progress_row
from tests.support.app_pages import SHORT, loaded, open_page, texts, until

PAGES = Path(__file__).resolve().parents[2] / "pages"


def test_one_row_shows_progress_and_one_widget_shows_an_answer_as_it_comes() -> None:
    stops = {path.name for path in PAGES.rglob("*.py") if "stop_circle" in path.read_text("utf-8")}
    assert stops == {"progress_row.py", "live_answer.py"}
    looking = {path.name for path in PAGES.rglob("*.py") if "run_every" in path.read_text("utf-8")}
    assert looking == {"progress_row.py", "live_answer.py", "repair_page.py"}, "a repair's best so far is drawn beside its row"


def test_states_are_said_in_words() -> None:
    assert progress_row.state_text(Standing(title="x")) == "waiting for its turn"
    assert progress_row.state_text(Standing(title="x", state="running", done=2, total=1_000, errors=1)) == "running, 2 of 1,000, 1 failed"
    assert progress_row.state_text(Standing(title="x", state="running", stopping=True)) == "stopping"
    assert progress_row.ended_text(Standing(title="x", state="queued")) == "in progress"
    assert progress_row.ended_text(Standing(title="x", state="done", done=3, total=3)) == "done, 3 of 3"


_STALE = """
from pages.shared import job_progress
import streamlit as st
job = st.session_state["job"]
job_progress.show(job, key="one")
st.text("active" if job.active else "ended")
"""


@pytest.mark.usefixtures("app_home")
def test_a_row_says_what_the_rest_of_the_page_says_of_a_job() -> None:
    runner = job_progress.runner()
    runner.register("quick", lambda context: {})
    begun = runner.start("quick", {}, title="Quick")
    runner.wait(begun.id, timeout=60)
    app = AppTest.from_string(_STALE, default_timeout=60)
    app.session_state["job"] = runner.get(begun.id)
    app.run()
    assert not app.exception
    assert "ended" in texts(app)
    assert not any(button.key == "one.stop" for button in app.button)


@pytest.mark.usefixtures("app_home")
def test_the_list_of_comparisons_keeps_up_with_the_row_below_it() -> None:
    app = open_page("experiments")
    with loaded().lock:  # as if an answer had the model
        steer = Steer((NeuronSide(1, 3),), "scale", -4.0)
        spec = ComparisonSpec(prompts=from_prompt_set(pasted("hello")), steers=(steer,), random_sets=0, sampling=SHORT)
        job = job_progress.start(JOB_KIND, spec_to_json(spec), title="1 prompt")
        app.run()
        assert not app.exception
        assert "(in progress, " in app.selectbox(key="stats.run").options[0]
        assert "waiting" not in app.selectbox(key="stats.run").options[0]
    until(lambda: not job_progress.runner().get(job.id).active)
    app.run()
    ended = job_progress.runner().get(job.id)
    assert f"({progress_row.state_text(ended)}, " in app.selectbox(key="stats.run").options[0]
