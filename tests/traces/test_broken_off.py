"""Changes that are broken off: by a kill before each step, by a disk that refuses one call. All of it is done, or none."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from neurons.core.errors import NeuronscopeError
from tests.support.changes import CHANGES, build, check
from tests.support.faults import Disk, failing_at, watched

ROOT = Path(__file__).parents[2]
STEPS = int(os.environ.get("NEURONSCOPE_FAULT_STEPS", "7"))
"""Steps of each change that are tried; 1000 tries all."""


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("before") / "home"
    home.mkdir()
    build(home)
    return home


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_a_kill_at_any_step_leaves_all_or_none(before: Path, tmp_path: Path, name: str) -> None:
    command = [sys.executable, "-m", "tests.support.changes", name, str(before), str(tmp_path), str(max(1, 63 // STEPS))]
    subprocess.run(command, cwd=ROOT, check=True, timeout=300)
    homes = sorted(tmp_path.iterdir(), key=lambda path: int(path.name))
    found = [check(home, name) for home in homes]
    assert found[0] == "old"
    assert found[-1] == "new"
    assert found == sorted(found, reverse=True), "done, then undone again"


def steps_of(home: Path, name: str) -> int:
    counter = Disk(lambda step, kind: None)
    with watched(counter):
        CHANGES[name](home)
    return counter.steps


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_a_disk_that_refuses_one_call_is_told_and_harms_nothing(before: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(before, tmp_path / "whole", symlinks=True)
    total = steps_of(tmp_path / "whole", name)
    assert check(tmp_path / "whole", name) == "new"
    for step in range(1, total + 1, max(1, total // STEPS)):
        home = tmp_path / str(step)
        shutil.copytree(before, home, symlinks=True)
        refused = False
        try:
            with watched(failing_at(step, errno.EIO if step % 2 else errno.ENOSPC)):
                CHANGES[name](home)
        except NeuronscopeError:
            refused = True
        state = check(home, name)
        assert refused or state == "new", f"step {step} failed without a word"
        if state == "old":
            CHANGES[name](home)
            assert check(home, name) == "new", f"after step {step} the next attempt does not work"
        shutil.rmtree(home)
