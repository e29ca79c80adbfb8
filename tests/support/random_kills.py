"""Changes that are killed at any moment, not only at named steps: `python -m tests.support.random_kills NAME BEFORE AFTER TRIES SEED`.

Prints {"tries", "old", "new"}; ends with a traceback where a home is neither.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

from neurons.storage import job_files
from tests.support.changes import CHANGES, check
from tests.support.tally import within

ROWS = "job rows"


def _child(home: Path, name: str, acknowledged: int) -> None:
    if name != ROWS:
        CHANGES[name](home)
        return
    folder = home / "jobs"
    folder.mkdir(exist_ok=True)
    for number in range(200):
        job_files.append_row(folder, {"row": number, "text": "x" * 200})
        os.write(acknowledged, number.to_bytes(4, "big"))


def _state(home: Path, name: str, heard: bytes) -> str:
    if name != ROWS:
        return check(home, name)
    folder = home / "jobs"
    if not folder.exists():
        assert not heard
        return "old"
    job_files.mend_rows(folder)
    job_files.append_row(folder, {"row": "after"})
    rows = [row["row"] for row in job_files.read_rows(folder)]
    assert rows[-1] == "after"
    assert rows[:-1] == list(range(len(rows) - 1))
    assert len(rows) - 1 >= len(heard) // 4, "an acknowledged row is gone"
    return "new" if len(rows) == 201 else "old"


def attempt(before: Path, home: Path, name: str, after: float | None) -> tuple[str, float]:
    """Do the change in a process that is killed `after` so many seconds (None: never). How the home is then, and how long it took."""
    shutil.copytree(before, home, symlinks=True)
    reading, writing = os.pipe()
    begun = time.perf_counter()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            _child(home, name, writing)
        finally:
            os._exit(0)
    os.close(writing)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    heard = b""
    while part := os.read(reading, 1 << 16):
        heard += part
    os.close(reading)
    os.waitpid(child, 0)
    seconds = time.perf_counter() - begun
    state = _state(home, name, heard)
    shutil.rmtree(home)
    return state, seconds


def main(name: str, before: Path, after: Path, tries: int, seed: int) -> None:
    rng = random.Random(f"{name} {seed}")
    state, seconds = attempt(before, after / "whole", name, None)
    assert state == "new"
    counts = {"old": 0, "new": 0}
    for number in within(tries):
        state, _ = attempt(before, after / str(number), name, rng.uniform(0, 1.15 * seconds))
        counts[state] += 1
    print(json.dumps({"tries": sum(counts.values()), **counts}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
