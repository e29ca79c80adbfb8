"""The parameters of every kind of job: files of older versions are read as before, what is wrong is named by its field."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from neurons.atlas.build import BuildSettings
from neurons.atlas.plan import CollectSettings
from neurons.core.boundary import checked
from neurons.core.errors import InvalidInput
from neurons.core.types import Sampling
from neurons.describing.atlas_jobs import AskParameters, BuildParameters, DescribeParameters, ExportParameters, ScoreParameters
from neurons.prompts.runs import RunParameters
from neurons.repair.job import RepairParameters
from neurons.statistics.job import ComparisonParameters
from neurons.storage.job_parameters import JobParameters
from neurons.storage.jobs import JobContext, JobRunner

_SAMPLING = {"temperature": 0.0, "top_p": 1.0, "top_k": 0, "max_new_tokens": 4, "seed": 0}
_STEER = {"name": "s", "neurons": ["1:3+"], "mode": "scale", "strength": 0.5, "tokens": "all", "enabled": True, "values": None}
_ENDPOINT = {"base_url": "http://localhost:1", "model": "m", "candidates": 2, "concurrency": 1, "requests_per_minute": 0.0, "price_in": 0.0}
_KEPT = CollectSettings(extremes=8, exemplars=2, per_document=1, tokens=4, previous=2, occurrences=3, body=9, block=2, batch=1)
_BUILD = {"corpus": ["default"], "column": None, "licence": "not stated", "tokens": 100, "conversations": 0, "held_out": 0.1, "probe": True}
_REPAIR = {
    "name": "",
    "prompt": "What is the capital of Turkey?",
    "wanted": "Ankara",
    "unwanted": {"regex": "Istan.ul"},
    "paraphrases": ["Name the capital of Turkey.", "Turkey's capital?"],
    "controls": ["What is 2 + 2?", {"prompt": "Capital of Japan?", "expected": "Tokyo"}],
    "heldout": 0.5,
    "max_neurons": 20,
    "max_new_tokens": 20,
    "control_tokens": 12,
    "seed": 0,
    "system": None,
    "tokens": "question",
    "within": ["1:3+"],
}
WRITTEN: list[tuple[type[JobParameters], dict[str, Any]]] = [
    (RepairParameters, {"spec": _REPAIR, "model": "abc", "name": "capital", "budget": 500, "compare": False}),
    (RunParameters, {"run": "r", "model": "default", "device": None, "dtype": None, "sampling": _SAMPLING, "steers": [_STEER]}),
    (
        ComparisonParameters,
        {
            "prompts": [{"id": "1", "messages": [{"role": "user", "content": "a"}], "expected": {"contains": ["x", "y"]}}],
            "steers": [_STEER],
            "criterion": {"regex": "a"},
            "token": None,
            "seeds": 1,
            "random_sets": 0,
            "sampling": _SAMPLING,
            "model": "abc",
        },
    ),
    (BuildParameters, {"settings": {**_BUILD, "memory_bytes": 1000, "collect": asdict(_KEPT)}, "model": "abc"}),
    (DescribeParameters, {"tokens": 100, "held": 50, "secondary": False, "model": "abc"}),
    (ScoreParameters, {"tokens": 100, "secondary": True, "model": "abc"}),
    (AskParameters, {"endpoint": _ENDPOINT, "neurons": "", "limit": 3, "model": "abc"}),
    (ExportParameters, {"what": "atlas", "format": "zip", "count": 24, "model": "abc"}),
]


@pytest.mark.parametrize(("kind", "written"), WRITTEN, ids=lambda value: getattr(value, "__name__", ""))
def test_files_of_older_versions_are_read(kind: type[JobParameters], written: dict[str, Any]) -> None:
    read = checked(kind, {**written, "of a newer version": 1})
    assert read.model == written["model"]
    assert read.weights_hash == ("" if kind is RunParameters else "abc")


def test_what_is_read_is_what_was_written() -> None:
    repair, run, comparison, build = (checked(kind, written) for kind, written in WRITTEN[:4])
    assert isinstance(repair, RepairParameters)
    assert isinstance(run, RunParameters)
    assert isinstance(comparison, ComparisonParameters)
    assert isinstance(build, BuildParameters)
    spec = repair.spec.to_spec()
    assert (repair.name, repair.budget, repair.compare, spec.prompt, len(spec.controls)) == (
        "capital",
        500,
        False,
        _REPAIR["prompt"],
        2,
    )
    assert run.sampling == Sampling(max_new_tokens=4)
    expected = comparison.to_spec().prompts[0].expected
    assert expected is not None
    assert expected.texts == ("x", "y")
    assert build.settings == BuildSettings(tokens=100, memory_bytes=1000, collect=_KEPT)
    assert checked(BuildParameters, build.to_json()) == build


@pytest.mark.parametrize(
    ("kind", "change", "field"),
    [
        (RepairParameters, {"spec": {**_REPAIR, "wanted": ""}}, "wanted"),
        (RepairParameters, {"budget": "many"}, "budget"),
        (RunParameters, {"sampling": {**_SAMPLING, "top_k": "x"}}, "sampling"),
        (ComparisonParameters, {"prompts": [{"id": "1"}]}, "prompts"),
        (ComparisonParameters, {"steers": [{"neurons": ["nowhere"]}]}, "neurons"),
        (BuildParameters, {"settings": {"tokens": "all"}}, "settings"),
        (DescribeParameters, {"tokens": None}, "tokens"),
        (AskParameters, {"endpoint": {"model": "m"}}, "endpoint"),
        (ExportParameters, {"what": "everything"}, "what"),
    ],
)
def test_what_is_wrong_is_named_by_its_field(kind: type[JobParameters], change: dict[str, Any], field: str) -> None:
    written = next(values for one, values in WRITTEN if one is kind)
    with pytest.raises(InvalidInput) as error:
        checked(kind, {**written, **change})
    assert error.value.field == field


def test_a_job_whose_parameters_are_wrong_fails_with_the_field_and_what_to_do(tmp_path: Path) -> None:
    def work(context: JobContext) -> dict[str, Any]:
        return {"tokens": context.parameters(ScoreParameters).tokens}

    runner = JobRunner(tmp_path / "jobs")
    try:
        runner.register("score", work)
        good = runner.start("score", ScoreParameters(tokens=7).to_json(), title="good")
        bad = runner.start("score", {"tokens": "seven"}, title="bad")
        assert runner.wait(good.id, timeout=60).result == {"tokens": 7}
        ended = runner.wait(bad.id, timeout=60)
        assert ended.state == "failed"
        assert ended.message.startswith("the parameters of this job: tokens: ")
        assert ended.message.endswith("start it again")
    finally:
        runner.close()
