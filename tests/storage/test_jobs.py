"""Background jobs: progress, errors by row, cancelling, and what a restart leaves."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from neurons.core.errors import InvalidInput, ModelError, NotFound, StoreError
from neurons.storage.jobs import JobContext, JobRunner


@pytest.fixture
def runner(tmp_path: Path):
    made = JobRunner(tmp_path / "jobs")
    yield made
    made.close()


def count(context: JobContext) -> dict[str, Any]:
    """Do every row of 1..n that is not done; odd rows over 100 fail."""
    finished = {row["row"] for row in context.rows}
    total = context.params["n"]
    for number in range(1, total + 1):
        context.progress(number - 1, total, f"row {number}")
        if number in finished:
            continue
        bad = number in context.params.get("bad", ())
        context.add_row({"row": number, "error": "bad row"} if bad else {"row": number, "value": number * 2})
    context.progress(total, total, "finished")
    return {"counted": total}


def test_runs_to_the_end(runner: JobRunner) -> None:
    runner.register("count", count)
    job = runner.wait(runner.start("count", {"n": 5, "bad": [2]}, title="Count").id, timeout=20)
    assert (job.state, job.done, job.total, job.errors, job.result) == ("done", 5, 5, 1, {"counted": 5})
    assert [row["row"] for row in runner.rows(job.id)] == [1, 2, 3, 4, 5]
    assert runner.errors(job.id) == ({"row": 2, "error": "bad row"},)
    assert [found.id for found in runner.list("count")] == [job.id]
    assert runner.list("other") == ()
    with pytest.raises(InvalidInput, match="done"):
        runner.resume(job.id)
    runner.delete(job.id)
    with pytest.raises(NotFound):
        runner.get(job.id)
    assert runner.list() == ()
    assert runner.restore(job.id) == job
    assert len(runner.rows(job.id)) == 5
    for other in ("0" * 12, "../x"):
        with pytest.raises(NotFound):
            runner.restore(other)


def test_a_damaged_job_can_be_deleted(runner: JobRunner) -> None:
    runner.register("count", count)
    job = runner.wait(runner.start("count", {"n": 1}, title="Count").id, timeout=20)
    (runner.folder / job.id / "state.json").write_text("{")
    with pytest.raises(StoreError, match="delete it"):
        runner.get(job.id)
    runner.delete(job.id)
    with pytest.raises(NotFound):
        runner.get(job.id)


def test_cancel_then_resume(runner: JobRunner) -> None:
    reached, release = threading.Event(), threading.Event()

    def slow(context: JobContext) -> None:
        for number in range(1, 6):
            if number not in {row["row"] for row in context.rows}:
                context.add_row({"row": number, "value": 1})
            if number == 2 and not release.is_set():
                reached.set()
                release.wait(20)
                while True:
                    context.progress(2, 5, "waiting to be stopped")
        context.progress(5, 5, "all")

    runner.register("slow", slow)
    job = runner.start("slow", {}, title="Slow")
    assert reached.wait(20)
    assert runner.get(job.id).state == "running"
    with pytest.raises(InvalidInput, match="running"):
        runner.delete(job.id)
    runner.cancel(job.id)
    release.set()
    stopped = runner.wait(job.id, timeout=20)
    assert (stopped.state, len(runner.rows(job.id))) == ("cancelled", 2)
    runner.resume(job.id)
    ended = runner.wait(job.id, timeout=20)
    assert (ended.state, len(runner.rows(job.id))) == ("done", 5)


def test_failures_say_why(runner: JobRunner) -> None:
    def refuse(context: JobContext) -> None:
        raise ModelError("no memory; use the CPU")

    def stumble(context: JobContext) -> None:
        raise ZeroDivisionError("oops")

    runner.register("refuse", refuse)
    runner.register("stumble", stumble)
    first = runner.wait(runner.start("refuse", {}, title="x").id, timeout=20)
    second = runner.wait(runner.start("stumble", {}, title="x").id, timeout=20)
    assert (first.state, first.message) == ("failed", "no memory; use the CPU")
    assert (second.state, second.message) == ("failed", "unexpected ZeroDivisionError: oops")
    with pytest.raises(InvalidInput):
        runner.start("unknown", {}, title="x")
    with pytest.raises(InvalidInput, match="JSON"):
        runner.start("refuse", {"x": object()}, title="x")


def test_eta_and_message(runner: JobRunner) -> None:
    seen: list[float | None] = []

    def work(context: JobContext) -> None:
        for number in range(4):
            context.progress(number, 4, f"step {number}")
            seen.append(context.job.eta_seconds)

    runner.register("work", work)
    runner.wait(runner.start("work", {}, title="x").id, timeout=20)
    assert seen[0] is None
    assert all(eta is not None and eta >= 0 for eta in seen[1:])


_OTHER = """
import sys, time
from pathlib import Path
from neurons.storage.jobs import JobRunner
runner = JobRunner(Path(sys.argv[1]))
def forever(context):
    context.add_row({"row": 1, "value": 1})
    (context._folder / "rows.jsonl").open("a").write('{"row": 2, "val')
    print(context.job.id, flush=True)
    while True:
        context.progress(1, 3, "working")
        time.sleep(0.05)
runner.register("count", forever)
runner.start("count", {"n": 3}, title="Count")
time.sleep(1000)
"""


def test_killed_process_leaves_an_interrupted_job_that_resumes(tmp_path: Path, runner: JobRunner) -> None:
    runner.register("count", count)
    command = [sys.executable, "-c", _OTHER, str(runner.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as other:
        assert other.stdout is not None
        job_id = other.stdout.readline().strip()
        assert runner.get(job_id).active
        with pytest.raises(InvalidInput):
            runner.resume(job_id)
        other.send_signal(signal.SIGKILL)
    assert runner.get(job_id).state == "interrupted"
    assert runner.list()[0].state == "interrupted"
    runner.resume(job_id)
    job = runner.wait(job_id, timeout=20)
    assert (job.state, job.errors) == ("done", 0)
    assert [row["row"] for row in runner.rows(job_id)] == [1, 2, 3]
    assert runner.rows(job_id)[0] == {"row": 1, "value": 1}


def test_close_interrupts(tmp_path: Path) -> None:
    runner = JobRunner(tmp_path / "jobs")
    started = threading.Event()

    def endless(context: JobContext) -> None:
        started.set()
        while True:
            context.progress(0, None, "going on")

    runner.register("endless", endless)
    running = runner.start("endless", {}, title="x")
    waiting = runner.start("endless", {}, title="y")
    assert started.wait(20)
    runner.close()
    again = JobRunner(tmp_path / "jobs")
    try:
        assert {again.get(job.id).state for job in (running, waiting)} == {"interrupted"}
    finally:
        again.close()


def test_damaged_job_is_left_out(runner: JobRunner) -> None:
    runner.register("count", count)
    job = runner.wait(runner.start("count", {"n": 1}, title="x").id, timeout=20)
    (runner.folder / job.id / "state.json").write_text(json.dumps({"surprise": 1}))
    assert runner.list() == ()
