"""How much of a torture is done: a little in `make test`, thousands of tries in `make torture`, which adds up what each part tried."""

from __future__ import annotations

import json
import os
from pathlib import Path

LONG = bool(os.environ.get("NEURONSCOPE_TORTURE"))
TALLY_VARIABLE = "NEURONSCOPE_TALLY"


def size(short: int, long: int) -> int:
    """How many tries: `short` in `make test`, `long` in `make torture`."""
    return long if LONG else short


def tally(part: str, tries: int, failures: int = 0) -> None:
    """Add to the table of `make torture`. A failure also fails its test."""
    if path := os.environ.get(TALLY_VARIABLE):
        with Path(path).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"part": part, "tries": tries, "failures": failures}) + "\n")
