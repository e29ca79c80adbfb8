"""Kills at any moment: what was done is done whole, or not at all; an acknowledged row of a job is never gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.changes import CHANGES, build
from tests.support.random_kills import ROWS
from tests.support.tally import size, tally

ROOT = Path(__file__).parents[2]
TRIES = size(3, 200)


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("before") / "home"
    home.mkdir()
    build(home)
    return home


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [*CHANGES, ROWS])
def test_a_kill_at_any_moment_leaves_all_or_none(before: Path, tmp_path: Path, name: str) -> None:
    seed = os.environ.get("NEURONSCOPE_SEED", "0")
    command = [sys.executable, "-m", "tests.support.random_kills", name, str(before), str(tmp_path), str(TRIES), seed]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {"tries": TRIES}
    tally(f"kill at random: {name}", found["tries"], int(done.returncode != 0))
    assert done.returncode == 0, done.stderr[-3000:]
