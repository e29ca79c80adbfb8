"""Long work that is killed at any step or moment goes on, and ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.long_work import WORKS
from tests.support.tally import size, tally

ROOT = Path(__file__).parents[2]
TRIES = size(4, 200)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("name", WORKS)
def test_what_was_killed_goes_on_and_ends_the_same(tmp_path: Path, name: str) -> None:
    seed = os.environ.get("NEURONSCOPE_SEED", "0")
    command = [sys.executable, "-m", "tests.support.long_work", name, str(tmp_path), str(TRIES), seed]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {"tries": TRIES, "killed": TRIES}
    tally(f"kill and go on: {name}", found["tries"], int(done.returncode != 0))
    assert done.returncode == 0, done.stderr[-3000:]
    assert found["killed"] >= found["tries"] // 2
