"""When an answer to one of a tour's questions counts as right."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from neurons.core.types import Message
from neurons.prompts.sets import PromptRow, PromptSet
from neurons.prompts.values import Expected


def given(number: str) -> Expected:
    """The answer gives the number: repeating it from the question does not count."""
    return Expected((rf"\b(?:is|are|answer|equals):?\s+{re.escape(number)}(?!\.?\d)",), "regex")


def prompt_set(rows: Sequence[Mapping[str, Any]]) -> PromptSet:
    """A tour's variants of its question ("prompt", "right"), each with what its answer should give."""
    found = (PromptRow(n, (Message("user", row["prompt"]),), expected=given(row["right"])) for n, row in enumerate(rows, 1))
    return PromptSet(tuple(found), source="a tour", asked="the questions of the tour, each with its own right answer")
