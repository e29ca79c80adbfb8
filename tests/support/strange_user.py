"""Commands run as a user whom the system does not know, and who may write only where anybody may: what root itself never meets."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UNKNOWN = 54_321


@functools.cache
def _namespace() -> tuple[str, ...] | None:
    """The words before a command that make it run so; None where this system does not allow it."""
    words = ("unshare", "--user", f"--map-user={UNKNOWN}")
    if shutil.which("unshare") is None or subprocess.run([*words, "true"], capture_output=True, check=False).returncode != 0:
        return None
    return words


def strange_user() -> tuple[str, ...]:
    """Those words; the test is skipped where there are none."""
    words = _namespace()
    if words is None:
        pytest.skip("this system gives no user namespaces")
    return words


def command(*words: str, before: tuple[str, ...] = (), unset: tuple[str, ...] = (), **given: str) -> subprocess.CompletedProcess[bytes]:
    """Run `neuronscope WORDS` in a folder that is not the clone, with an environment that was changed."""
    return subprocess.run(
        [*before, sys.executable, "-m", "neurons.cli.start", *words],
        cwd="/",
        env=environment(unset, given),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=240,
        check=False,
    )


def environment(unset: tuple[str, ...], given: Mapping[str, str]) -> dict[str, str]:
    """The environment of a command, this clone first on its path."""
    kept = {name: value for name, value in os.environ.items() if name not in unset}
    return {**kept, "PYTHONPATH": str(ROOT), **given}
