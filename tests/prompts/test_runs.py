"""Prompt sets run as jobs, and sweeps of a steer's strength, on a tiny model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neurons.core.errors import Cancelled, InvalidInput, InvalidSteer
from neurons.core.steers import Steer
from neurons.core.types import NeuronSide, Sampling
from neurons.models.loaded import LoadedModel
from neurons.prompts import runs
from neurons.prompts.files import load_file
from neurons.prompts.runs import RunParameters
from neurons.storage.jobs import JobRunner
from neurons.tracing.record import run_trace
from neurons.tracing.sweeps import forced_divergence, sweep
from traces.schema import TraceRecord
from traces.store import TraceStore

CSV = b"prompt,id,tags\nOne?,a,x\n,b,\nTwo?,c,\n" + b"z" * 600 + b",long,\nThree?,d,\n"
SETTINGS = Sampling(temperature=0.7, seed=3, max_new_tokens=5)
STEER = Steer(tuple(NeuronSide(2, i) for i in range(48)), "set", 1.0, values=(3.0,) * 48)


@pytest.fixture
def runner(tmp_path: Path, tiny: LoadedModel, store: TraceStore) -> Iterator[JobRunner]:
    made = JobRunner(tmp_path / "jobs")
    runs.register(made, lambda params, progress: tiny, lambda: store)
    yield made
    made.close()


def test_each_prompt_becomes_a_trace_and_failures_stop_nothing(runner: JobRunner, store: TraceStore) -> None:
    prompts = load_file(CSV, name="x.csv").prompts
    job = runner.wait(runs.start(runner, prompts, RunParameters(run="first", sampling=SETTINGS, system="Be kind.")).id, timeout=60)
    assert (job.state, job.done, job.total, job.errors) == ("done", 4, 4, 2)
    errors = {row["row"]: row["error"] for row in runner.errors(job.id)}
    assert errors[2] == "the prompt is empty"
    assert "positions" in errors[4]
    rows = store.list(set_name="first", sort="created", descending=False)
    assert [(row.set_row, row.name, row.tags) for row in rows] == [(1, "a", ("x",)), (3, "c", ()), (5, "d", ())]
    record = store.load(rows[0].id)
    assert record.messages[0].content == "Be kind."
    assert record.sampling == SETTINGS
    assert job.result["rows"] == 3
    table = runs.results(store, "first")
    assert table["row"].tolist() == [1, 3, 5]
    assert "steered" not in table
    assert runs.run_names(store) == ("first",)


def test_pairs_and_their_summary(runner: JobRunner, store: TraceStore) -> None:
    prompts = load_file(b"One?\nTwo?\n", name="x.txt").prompts
    job = runner.wait(runs.start(runner, prompts, RunParameters(run="steered", sampling=SETTINGS), [STEER]).id, timeout=60)
    assert job.state == "done"
    table = runs.results(store, "steered")
    assert len(table) == 2
    assert table.differs.all()
    found = runs.summary(store, "steered")
    assert (found.rows, found.pairs, found.differ, found.differ_rate) == (2, 2, 2, 1.0)
    assert found.mean_changed_words is not None
    for row in table.itertuples():
        assert store.load(row.steered).baseline_id == row.trace
        assert store.load(row.steered).steers == (STEER,)
    noop = replace(STEER, mode="scale", values=None)
    runner.wait(runs.start(runner, prompts, RunParameters(run="noop", sampling=SETTINGS), [noop]).id, timeout=60)
    assert runs.summary(store, "noop").differ == 0
    assert runs.summary(store, "noop").pairs == 2


class StopsAfterTwo(TraceStore):
    """A store whose second trace asks the run to stop, and then gives it time to notice."""

    saves = 0
    stop: Callable[[], None]

    def save(self, *args: Any, **options: Any) -> TraceRecord:
        saved = super().save(*args, **options)
        self.saves += 1
        if self.saves == 2:
            self.stop()
            time.sleep(2)  # a worker looks for the request a few times a second
        return saved


@pytest.mark.slow
def test_resume_does_only_what_is_left(tmp_path: Path, tiny: LoadedModel) -> None:
    runner = JobRunner(tmp_path / "jobs")
    store = StopsAfterTwo(tmp_path / "traces", examples=None)
    runs.register(runner, lambda params, progress: tiny, lambda: store)
    prompts = load_file("\n".join(f"Question {n}?" for n in range(1, 7)).encode(), name="x.txt").prompts
    store.stop = lambda: runner.cancel(runner.list()[0].id)
    job = runs.start(runner, prompts, RunParameters(run="long", sampling=SETTINGS))
    stopped = runner.wait(job.id, timeout=60)
    assert stopped.state == "cancelled"
    assert [row["row"] for row in runner.rows(job.id)] == [1, 2]
    assert sorted(row.set_row or 0 for row in store.list(set_name="long")) == [1, 2]
    assert all(row.finish_reason != "cancelled" for row in store.list())
    runner.close()
    again = JobRunner(tmp_path / "jobs")
    runs.register(again, lambda params, progress: tiny, lambda: store)
    again.resume(job.id)
    ended = again.wait(job.id, timeout=60)
    again.close()
    assert ended.state == "done"
    assert sorted(row.set_row or 0 for row in store.list(set_name="long")) == [1, 2, 3, 4, 5, 6]
    assert store.saves == 6, "a prompt was run twice"


def test_bad_runs_are_refused_or_fail_with_a_reason(runner: JobRunner) -> None:
    prompts = load_file(b"One?\n", name="x.txt").prompts
    for wrong, steers in (({"run": " "}, []), ({"sampling": Sampling(top_p=2)}, []), ({}, [Steer((), strength=1e9)])):
        with pytest.raises(InvalidInput):
            runs.start(runner, prompts, RunParameters(**{"run": "x", "sampling": SETTINGS, **wrong}), steers)
    with pytest.raises(InvalidInput):
        runs.start(runner, replace(prompts, rows=()), RunParameters(run="x", sampling=SETTINGS))
    job = runner.wait(
        runs.start(runner, prompts, RunParameters(run="x", sampling=Sampling()), [Steer((NeuronSide(99, 1),), strength=0.0)]).id, timeout=60
    )
    assert (job.state, "layers" in job.message) == ("failed", True)


def test_sweep(tiny: LoadedModel) -> None:
    found = sweep(tiny, "One?", [replace(STEER, strength=0.0)], [0.0, 0.5, 1.0, 1.0], sampling=SETTINGS, offset=2)
    assert [point.strength for point in found.points] == [0.0, 0.5, 1.0]
    baseline, run = run_trace(tiny, "One?", sampling=SETTINGS)
    assert found.token_id == baseline.answer_ids[2]
    assert found.position == len(baseline.prompt_ids) + 2
    assert found.baseline_probability == pytest.approx(float(np.exp(run.logprob_T[found.position])), rel=1e-4)
    for point in found.points:
        steered, _ = run_trace(tiny, "One?", sampling=SETTINGS, steers=(replace(STEER, strength=point.strength),))
        assert point.answer == steered.answer
        assert point.differs == (steered.answer_ids != baseline.answer_ids)
    assert found.table().shape[0] == 3
    noop = sweep(tiny, "One?", [Steer(STEER.neurons, "scale", 1.0)], [1.0, 0.0], sampling=SETTINGS).points
    assert (noop[0].kl, noop[0].differs) == (0.0, False)
    assert noop[1].kl > 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"strengths": []},
        {"strengths": [float("nan")]},
        {"steers": []},
        {"offset": -1},
        {"offset": 600},
        {"token_id": 10**6},
        {"strengths": [1e9]},
    ],
)
def test_bad_sweeps(tiny: LoadedModel, wrong: dict) -> None:
    arguments = {"steers": [STEER], "strengths": [1.0], "sampling": SETTINGS} | wrong
    steers, strengths = arguments.pop("steers"), arguments.pop("strengths")
    with pytest.raises((InvalidInput, InvalidSteer)):
        sweep(tiny, "One?", steers, strengths, **arguments)


def test_sweep_can_be_stopped(tiny: LoadedModel) -> None:
    def stop(done: int, total: int | None, message: str) -> None:
        if message == "answering":
            raise Cancelled

    with pytest.raises(Cancelled):
        sweep(tiny, "One?", [STEER], [0.0, 1.0], sampling=SETTINGS, progress=stop)


def test_forced_divergence_is_the_full_kl(tiny: LoadedModel) -> None:
    record, run = run_trace(tiny, "One?", sampling=SETTINGS)
    ids = record.token_ids
    found = forced_divergence(tiny, ids, (STEER,), prompt_tokens=len(record.prompt_ids))
    assert found.kl_T.shape == (len(ids),)
    np.testing.assert_allclose(found.probability_T[1:], np.exp(run.logprob_T[1:]), rtol=1e-4)
    back = forced_divergence(tiny, ids, (), base=(STEER,), prompt_tokens=len(record.prompt_ids))
    assert np.array_equal(back.probability_T, found.steered_probability_T)
    none = forced_divergence(tiny, ids, (), prompt_tokens=len(record.prompt_ids))
    assert none.kl_T.max() < 1e-6
    with torch.no_grad():
        logp = tiny.model(torch.tensor([ids])).logits[0].log_softmax(-1)
    steered, _ = run_trace(tiny, "One?", sampling=SETTINGS, steers=(STEER,))
    assert float(logp[3, ids[4]].exp()) == pytest.approx(float(found.probability_T[4]), rel=1e-4)
    assert found.kl_T[1:].min() >= 0
    assert found.kl_T.max() > 0.01
    assert steered.steers == (STEER,)


def test_a_switched_off_steer_stays_off_in_a_sweep(tiny: LoadedModel) -> None:
    other = Steer((NeuronSide(1, 5),), "set", 1.0, values=(30.0,))
    alone = sweep(tiny, "One?", [STEER], [0.5, 1.0], sampling=SETTINGS)
    assert sweep(tiny, "One?", [STEER, replace(other, enabled=False)], [0.5, 1.0], sampling=SETTINGS) == alone
    assert sweep(tiny, "One?", [STEER, other], [0.5, 1.0], sampling=SETTINGS).points != alone.points
    with pytest.raises(InvalidInput, match="switched off"):
        sweep(tiny, "One?", [replace(STEER, enabled=False)], [1.0], sampling=SETTINGS)


@pytest.mark.slow
@pytest.mark.parametrize("known", [True, False])
def test_a_run_is_not_gone_on_with_under_other_weights(tmp_path: Path, tiny: LoadedModel, known: bool) -> None:
    """The same name, other weights: told by the hash that the run was begun with, else by its first trace's."""
    store = StopsAfterTwo(tmp_path / "traces", examples=None)
    other = replace(tiny, ref=replace(tiny.ref, weights_hash="0" * 64))
    prompts = load_file("\n".join(f"Question {n}?" for n in range(1, 7)).encode(), name="x.txt").prompts
    runner = JobRunner(tmp_path / "jobs")
    runs.register(runner, lambda params, progress: tiny, lambda: store)
    store.stop = lambda: runner.cancel(runner.list()[0].id)
    job = runs.start(runner, prompts, RunParameters(run="long", weights=tiny.ref.weights_hash if known else "", sampling=SETTINGS))
    assert runner.wait(job.id, timeout=60).state == "cancelled"
    runner.close()
    again = JobRunner(tmp_path / "jobs")
    runs.register(again, lambda params, progress: other, lambda: store)
    again.resume(job.id)
    ended = again.wait(job.id, timeout=60)
    again.close()
    assert ended.state == "failed"
    assert "other weights" in ended.message
    assert store.saves == 2
