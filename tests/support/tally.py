"""How much of a torture is done: a little in `make test`, thousands of tries in `make torture`, which adds up what each part tried."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

LONG = bool(os.environ.get("NEURONSCOPE_TORTURE"))
TALLY_VARIABLE = "NEURONSCOPE_TALLY"
UNTIL_VARIABLE = "NEURONSCOPE_TEST_UNTIL"
"""When the test that runs now should have ended, in seconds since 1970; tests/support/budget.py sets it."""


def size(short: int, long: int) -> int:
    """How many tries: `short` in `make test`, `long` in `make torture`."""
    return long if LONG else short


def out_of_time() -> bool:
    """Whether the test has used its share of its part's time: it ends with what it has tried by then."""
    return time.time() > float(os.environ.get(UNTIL_VARIABLE, "inf"))


def within(tries: int) -> Iterator[int]:
    """0, 1, ... below `tries`, at least 0, and fewer where the time is out: a slow machine tries less, and the table says how much."""
    for number in range(tries):
        if number and out_of_time():
            return
        yield number


def tally(part: str, tries: int, failures: int = 0) -> None:
    """Add to the table of `make torture`. A failure also fails its test."""
    if path := os.environ.get(TALLY_VARIABLE):
        with Path(path).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"part": part, "tries": tries, "failures": failures}) + "\n")
