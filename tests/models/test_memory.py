"""Freed memory stays: a new thread's large blocks come without page faults."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_PROBE = """
import resource, sys, threading
import numpy as np
from neurons.models.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory() and keep_freed_memory()
def work():
    for _ in range(4):
        blocks = [np.ones(2_000_000, np.float32) for _ in range(8)]
        del blocks
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.skipif(sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="other C libraries have their own ways")
def test_blocks_of_a_new_thread_are_there_already() -> None:
    faults = {
        how: int(subprocess.run([sys.executable, "-c", _PROBE, how], check=True, capture_output=True, text=True).stdout)
        for how in ("keep", "as it is")
    }
    assert faults["keep"] < 2_000 < faults["as it is"]  # 64 MB are 16,000 pages
