"""The Statistics page: a comparison from start to result, and one that was kept, old rows and failed ones included."""

from __future__ import annotations

from typing import Any

import pytest

from neurons.core.steers import Steer
from neurons.core.types import NeuronSide
from neurons.repair.experiments import experiments, save_statistics
from neurons.statistics.comparison import ComparisonSpec, Conversation
from neurons.statistics.criteria import Criterion
from neurons.statistics.job import JOB_KIND as STATISTICS
from pages.shared import job_progress
from pages.shared.steer_state import Card
from tests.support.app_pages import loaded, open_page, plain, select, texts

pytestmark = pytest.mark.usefixtures("app_home")


def test_a_comparison_from_start_to_result() -> None:
    app = open_page("experiments")
    assert "One answer proves nothing" in texts(app)
    app.session_state["steer.cards"] = ()

    steer = Steer((NeuronSide(1, 3),), "scale", -4.0)
    app.session_state["steer.cards"] = (Card("a", steer, steer.neurons),)
    app.run()
    app.text_area(key="stats.prompts").set_value("one\ntwo\nthree")
    app.text_input(key="stats.text").set_value("a")
    app.number_input(key="stats.random").set_value(1)
    app.button(key="stats.go").click().run()
    assert not app.exception
    (job,) = job_progress.runner().list(STATISTICS)
    assert job_progress.runner().wait(job.id, timeout=120).state == "done"
    app = open_page("experiments", job=job.id)
    assert not app.exception
    assert app.metric
    app.text_input(key="stats.name").set_value("kept").run()
    app.button(key="stats.keep").click().run()
    assert experiments().names() == ("kept",)
    app.button(key="stats.delete").click().run()
    assert not app.exception
    assert not job_progress.runner().list(STATISTICS)
    assert app.selectbox(key="stats.run").value == "kept"
    app.button(key="stats.delete").click().run()
    assert not experiments().names()
    assert "One answer proves nothing" in texts(app)
    app.button(key="stats.restore").click().run()
    assert experiments().names() == ("kept",)


def test_a_comparison_without_a_steer_is_refused() -> None:
    app = open_page("experiments")
    app.text_area(key="stats.prompts").set_value("one")
    app.text_input(key="stats.text").set_value("a")
    app.button(key="stats.go").click().run()
    assert not app.exception
    assert "the steers change nothing" in texts(app).replace("\\", "")


def _facts(answer: str, met: bool, **more: Any) -> dict[str, Any]:
    return {"answer": answer, "met": met, "kl": 0.5, "length": 3, "repetition": 0.0, **more}


def test_a_kept_comparison_shows_its_rows_and_what_met_the_criterion() -> None:
    rows = [
        {
            "row": f"{n}/0",
            "prompt_id": str(n),
            "prompt": f"question {n}",
            "seed": 0,
            "plain": _facts("no", False),
            "steered": _facts("it is Ankara indeed", True, met_at=[6, 12]),
            "random 1": _facts("no", False),
        }
        for n in range(3)
    ]
    rows.append({"row": "3/0", "prompt_id": "3", "prompt": "question 3", "seed": 0, "error": "the prompt is too long"})
    spec = ComparisonSpec((Conversation("0", ()),), (Steer((NeuronSide(1, 3),), "scale", 0.0),), Criterion("Ankara"))
    save_statistics("kept", spec, rows, loaded().ref)
    app = open_page("experiments")
    assert not app.exception
    assert "The criterion is met by 100% of the steered answers against 0%" in plain(app)
    assert "Random neurons of the same layers" in plain(app)
    [pairs] = [frame.value for frame in app.dataframe if "outcome" in frame.value]
    assert pairs["outcome"].fillna("").tolist() == ["fixed"] * 3 + [""]
    assert pairs["error"].tolist()[-1] == "the prompt is too long"
    app = select(app, "stats.pairs", [str(row["row"]) for row in rows], 1)
    assert "it is Ankara indeed" in plain(app)


def test_a_damaged_row_is_named() -> None:
    spec = ComparisonSpec((Conversation("0", ()),), (Steer((NeuronSide(1, 3),), "scale", 0.0),), Criterion("Ankara"))
    save_statistics("broken", spec, [{"row": "0/0", "prompt_id": "0", "seed": "first", "plain": 3}], loaded().ref)
    app = open_page("experiments")
    assert not app.exception
    assert "the rows of a comparison: 0." in texts(app).replace("\\", "")
