"""Background jobs: progress, errors by row, cancelling, and what a restart leaves."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neurons.core.errors import InvalidInput, ModelError, NotFound, StoreError
from neurons.storage import job_files
from neurons.storage.job_files import read_payload
from neurons.storage.jobs import JobContext, JobRunner
from neurons.storage.sealed import write_sealed


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
    assert second.state == "failed"
    assert "not foreseen (ZeroDivisionError: oops)" in second.message
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


_REFUSING_DISK = """
import resource, signal, sys, threading, time
from pathlib import Path
from neurons.core.errors import StoreError
from neurons.storage.jobs import JobRunner

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def disk(full):  # no file may grow: writing fails as on a full disk, opening and renaming do not
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (0 if full else hard, hard))

runner = JobRunner(Path(sys.argv[1]))
reached, go = threading.Event(), threading.Event()
def count(context):
    for number in range(3):
        context.progress(number, 3, "counting")
        if context.params["hold"] and number == 1 and not go.is_set():
            reached.set()
            go.wait()
    return {"counted": 3}
def save(context):
    context.add_row({"row": 1})
runner.register("count", count)
runner.register("save", save)
first = runner.start("count", {"hold": True}, title="in the middle when the disk fills")
writes = runner.start("save", {}, title="must write while the disk is full")
reached.wait()
disk(full=True)
go.set()
ended = runner.wait(first.id, timeout=60)
assert (ended.state, ended.result) == ("done", {"counted": 3}), ended
broken = runner.wait(writes.id, timeout=60)
assert broken.state == "failed" and "free some disk space" in broken.message, broken
for act in (lambda: runner.start("count", {"hold": False}, title="x"), lambda: runner.resume(writes.id)):
    try:
        act()
    except StoreError as error:
        assert "space" in str(error), error
    else:
        raise AssertionError("a full disk was not told")
assert len(runner.list()) == 2, "what could not be begun leaves nothing"
disk(full=False)
later = runner.wait(runner.start("count", {"hold": False}, title="after it").id, timeout=60)
assert later.state == "done", later
assert runner.wait(runner.resume(writes.id).id, timeout=60).state == "done"
deadline = time.monotonic() + 60
while runner._unwritten and time.monotonic() < deadline:
    time.sleep(0.05)
again = JobRunner(Path(sys.argv[1]))
assert {again.get(job.id).state for job in (first, writes, later)} == {"done"}
runner.close(), again.close()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no limit on file sizes there to stand in for a full disk")
def test_a_full_disk_for_a_moment_ends_no_other_job(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _REFUSING_DISK, str(tmp_path / "jobs")]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=200, check=False)
    assert ended.returncode == 0, ended.stderr


def test_nothing_that_a_worker_does_ends_its_thread(runner: JobRunner) -> None:
    def leave(context: JobContext) -> None:
        raise SystemExit(3)

    def run_out(context: JobContext) -> None:
        raise MemoryError

    def unkeepable(context: JobContext) -> dict[str, Any]:
        return {"value": float("nan")}

    def half_a_character(context: JobContext) -> None:
        raise ModelError("\ud83d is half an emoji")

    said = {}
    for worker in (leave, run_out, unkeepable, half_a_character, count):
        runner.register(worker.__name__, worker)
        job = runner.wait(runner.start(worker.__name__, {"n": 1}, title="x").id, timeout=20)
        said[worker.__name__] = (job.state, job.message)
    assert said.pop("count") == ("done", "done")
    assert {state for state, _ in said.values()} == {"failed"}
    assert "not foreseen (SystemExit: 3)" in said["leave"][1]
    assert "MemoryError" in said["run_out"][1]
    assert "JSON" in said["unkeepable"][1]
    assert "half an emoji" in said["half_a_character"][1]


def test_jobs_of_older_versions_without_checksums_are_read(runner: JobRunner) -> None:
    runner.register("count", count)
    job = runner.wait(runner.start("count", {"n": 2}, title="x", payload={"rows": [1]}).id, timeout=20)
    folder = runner.folder / job.id
    for name in ("job.json", "state.json", "payload.json"):
        value = json.loads((folder / name).read_text())
        del value["sha256"]
        (folder / name).write_text(json.dumps(value["payload"] if name == "payload.json" else value))
    assert runner.get(job.id) == job
    assert read_payload(folder) == {"rows": [1]}
    (folder / "payload.json").write_text("[1, 2]")
    assert read_payload(folder) == [1, 2]


@pytest.mark.parametrize("name", ["job.json", "state.json", "payload.json"])
def test_a_changed_bit_of_a_job_is_noticed(runner: JobRunner, name: str) -> None:
    runner.register("count", count)
    job = runner.wait(runner.start("count", {"n": 1}, title="x", payload={"rows": [1]}).id, timeout=20)
    file = runner.folder / job.id / name
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 1
    file.write_bytes(data)
    read = (lambda: read_payload(file.parent)) if name == "payload.json" else (lambda: runner.get(job.id))
    with pytest.raises(StoreError):
        read()


@pytest.mark.parametrize("damage", [(b'"payload"', b'"pa{load"'), (b'"sha256"', b'"sha2u6"'), (b'"rows"', b'"rowt"')])
def test_a_payload_whose_names_were_changed_is_not_taken_for_an_old_one(runner: JobRunner, damage: tuple[bytes, bytes]) -> None:
    runner.register("count", count)
    job = runner.wait(runner.start("count", {"n": 1}, title="x", payload={"rows": [1]}).id, timeout=20)
    file = runner.folder / job.id / "payload.json"
    file.write_bytes(file.read_bytes().replace(*damage))
    with pytest.raises(StoreError):
        runner.payload(job.id)


def test_damaged_job_is_left_out(runner: JobRunner) -> None:
    runner.register("count", count)
    job = runner.wait(runner.start("count", {"n": 1}, title="x").id, timeout=20)
    (runner.folder / job.id / "state.json").write_text(json.dumps({"surprise": 1}))
    assert runner.list() == ()


@pytest.mark.parametrize(("name", "change"), [("job.json", {"id": "0" * 12}), ("job.json", {"params": 3}), ("state.json", {"state": "x"})])
def test_a_job_that_says_what_cannot_be_is_damaged_and_can_be_deleted(runner: JobRunner, name: str, change: dict[str, object]) -> None:
    """A job that was listed under another id could never be deleted."""
    runner.register("count", count)
    job = runner.wait(runner.start("count", {"n": 1}, title="x").id, timeout=20)
    file = runner.folder / job.id / name
    value = json.loads(file.read_text())
    del value["sha256"]
    write_sealed(file, {**value, **change})
    with pytest.raises(StoreError):
        runner.get(job.id)
    assert runner.list() == ()
    runner.delete(job.id)
    assert not (runner.folder / job.id).exists()


def test_rows_that_are_no_rows_are_left_out(runner: JobRunner) -> None:
    runner.register("count", count)
    job = runner.wait(runner.start("count", {"n": 2}, title="x").id, timeout=20)
    with (runner.folder / job.id / "rows.jsonl").open("a") as stream:
        stream.write('[1]\n{"row": [1]}\n{"row": {}}\n{"row": null}\n{"ro\n')
    assert [row["row"] for row in runner.rows(job.id)] == [1, 2]


def test_a_job_that_ends_while_it_is_asked_for_is_not_interrupted(runner: JobRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its state was read as running, and its lock was free a moment later."""
    runner.register("count", count)
    job = runner.wait(runner.start("count", {"n": 1}, title="x").id, timeout=20)
    read, looks = job_files.read_job, []

    def behind(folder: Path) -> job_files.Job:
        looks.append(folder)
        return replace(read(folder), state="running") if len(looks) == 1 else read(folder)

    monkeypatch.setattr(job_files, "read_job", behind)
    assert runner.get(job.id).state == "done"


def rows_file(runner: JobRunner, rows: int = 4) -> tuple[str, Path]:
    """A job that is done, and the file of its rows."""
    runner.register("count", count)
    job = runner.wait(runner.start("count", {"n": rows}, title="x").id, timeout=20)
    return job.id, runner.folder / job.id / "rows.jsonl"


@pytest.mark.slow
def test_no_changed_bit_of_a_row_is_read_as_data(runner: JobRunner) -> None:
    job_id, file = rows_file(runner, 2)
    data, expected = file.read_bytes(), runner.rows(job_id)
    assert "sha256" not in expected[0]
    for place in range(0, len(data) * 8, 5):
        spoiled = bytearray(data)
        spoiled[place // 8] ^= 1 << place % 8
        file.write_bytes(bytes(spoiled))
        found = runner.rows(job_id)
        values = [{"row": row["row"], "value": row["value"]} for row in found if row.keys() >= {"row", "value"}]
        assert all(row in expected for row in values), (place, values)
        lost = len(expected) - len(values)
        job = runner.get(job_id)
        assert (job.errors > 0) == bool(lost), (place, job)  # a changed line end makes one line of two
        assert ("changed on disk" in job.message) == bool(lost), (place, job)


def test_a_row_that_a_crash_cut_off_is_no_damage(runner: JobRunner) -> None:
    job_id, file = rows_file(runner)
    file.write_bytes(file.read_bytes()[:-9])
    job = replace(job_files.read_job(file.parent), lines=0)
    assert job_files.damaged_rows(file.parent, replace(job, state="interrupted")) == 0
    assert job_files.damaged_rows(file.parent, job) == 1
    job_files.mend_rows(file.parent)
    job_files.append_row(file.parent, {"row": "after"})
    assert [row["row"] for row in runner.rows(job_id)] == [1, 2, 3, "after"]
    assert job_files.damaged_rows(file.parent, job) == 0
    file.unlink()
    assert "are gone: 4" in runner.get(job_id).message


def test_rows_of_older_versions_have_no_checksum(runner: JobRunner) -> None:
    job_id, file = rows_file(runner)
    expected = runner.rows(job_id)
    file.write_text("".join(json.dumps(row) + "\n" for row in expected) + '{"row": 3, "val\n')
    assert runner.rows(job_id) == expected
    assert runner.get(job_id).message == "done"


def test_a_payload_file_that_is_whole_and_holds_none_says_so(runner: JobRunner) -> None:
    runner.register("count", count)
    job = runner.wait(runner.start("count", {"n": 1}, title="x", payload={"rows": [1]}).id, timeout=20)
    write_sealed(runner.folder / job.id / "payload.json", {"other": 1})
    with pytest.raises(StoreError, match="lost its payload; start it again"):
        runner.payload(job.id)
