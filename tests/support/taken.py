"""What counts as an answer to strange input: done, or an error of ours in a sentence, soon."""

from __future__ import annotations

import time
from collections.abc import Callable

from neurons.core.errors import NeuronscopeError

SLOWEST = 20.0
"""Seconds of processor time one input may take: other work on the machine does not count."""


tried = 0
"""How many inputs were taken so far."""


def taken(work: Callable[[], object]) -> bool:
    """Do it: an error of ours is an answer, any other is a failure, and so is a long time. Whether it was done."""
    global tried
    tried += 1
    begun, said = time.process_time(), ""
    try:
        work()
    except NeuronscopeError as error:
        said = str(error)
        said.encode("utf-8", "backslashreplace")
        assert 0 < len(said) < 3000
    assert time.process_time() - begun < SLOWEST
    return not said
